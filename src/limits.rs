//! The resource limits of this process (getrlimit(2)).

use std::io;

use rustix::process::{Resource, Rlimit};

/// The soft and the hard limit. A sandbox may refuse to tell them.
#[cfg(target_os = "linux")]
pub fn of(resource: Resource) -> io::Result<Rlimit> {
    use nix::sys::resource::{RLIM_INFINITY, Resource as Name, getrlimit};

    // rustix panics where the call fails.
    let name = match resource {
        Resource::As => Name::RLIMIT_AS,
        Resource::Data => Name::RLIMIT_DATA,
        Resource::Fsize => Name::RLIMIT_FSIZE,
        Resource::Nofile => Name::RLIMIT_NOFILE,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let (current, maximum) = getrlimit(name)?;
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    Ok(Rlimit {
        current: finite(current),
        maximum: finite(maximum),
    })
}

/// Elsewhere the call cannot fail.
#[cfg(not(target_os = "linux"))]
pub fn of(resource: Resource) -> io::Result<Rlimit> {
    Ok(rustix::process::getrlimit(resource))
}
