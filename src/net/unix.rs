//! Unix sockets (unix(7)): their names, and the file of one that listens.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::wait::{Deadline, pause};

/// The name of a Unix socket, typed as `unix:PATH` or `unix:@NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixName {
    /// A file. A relative path begins at the working directory.
    Path(PathBuf),
    /// In the abstract namespace, without the `@`. Linux has it.
    Abstract(String),
}

/// What a typed name begins with.
const PREFIX: &str = "unix:";

impl UnixName {
    /// Reads `text`. `None`: it is no name of a Unix socket.
    pub fn read(text: &str) -> Option<Result<Self, String>> {
        /// One less than `sun_path` has (unix(7)).
        const MOST: usize = 107;
        let name = text.strip_prefix(PREFIX)?;
        let bare = name.strip_prefix('@');
        let length = bare.unwrap_or(name).len();
        Some(match bare {
            _ if length == 0 => Err(format!("'{text}' names no socket; write unix:PATH")),
            _ if length > MOST => Err(format!(
                "'{text}' is too long: it has {length} bytes, and a Unix socket takes {MOST}"
            )),
            Some(_) if !cfg!(target_os = "linux") => Err(format!(
                "'{text}' is an abstract name, which only Linux has; write unix:PATH"
            )),
            Some(bare) => Ok(Self::Abstract(bare.to_owned())),
            None => Ok(Self::Path(name.into())),
        })
    }

    pub(super) fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Path(path) => SockAddr::unix(path),
            Self::Abstract(name) => SockAddr::unix(format!("\0{name}")),
        }
    }

    /// The name that `address` has. `None`: it has none.
    pub(super) fn of(address: &SockAddr) -> Option<Self> {
        let abstract_name = address.as_abstract_namespace();
        let abstract_name = abstract_name.map(String::from_utf8_lossy);
        abstract_name
            .map(|name| Self::Abstract(name.into_owned()))
            .or_else(|| Some(Self::Path(address.as_pathname()?.to_owned())))
    }

    /// Whether both lead to one socket.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let id = |name: &Self| match name {
            Self::Path(path) => Some(Id::of(&fs::metadata(path).ok()?)),
            Self::Abstract(_) => None,
        };
        self == other || id(self).is_some_and(|own| id(other) == Some(own))
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{PREFIX}{}", path.display()),
            Self::Abstract(name) => write!(f, "{PREFIX}@{name}"),
        }
    }
}

/// Sends one datagram to the Unix socket of `name`: a path, or `@` and an abstract name.
pub fn notify(name: &OsStr, text: &str) -> io::Result<()> {
    let name = match name.as_bytes().strip_prefix(b"@") {
        Some(bare) => [b"\0", bare].concat(),
        None => name.as_bytes().to_vec(),
    };
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let address = SockAddr::unix(OsStr::from_bytes(&name))?;
    socket.send_to(text.as_bytes(), &address).map(drop)
}

/// The device and the number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id(u64, u64);

impl Id {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// The file of a socket that listens. Dropping this removes the file, unless another has taken its
/// place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: Id,
}

impl SocketFile {
    /// Binds `socket` to `path`, and sets the `mode` of the file. A file on which nobody listens any
    /// more is taken over; nothing else is touched. `listen` makes it listen.
    ///
    /// Of several processes that do so at once one succeeds: each locks the folder meanwhile.
    pub(super) fn bind(
        socket: &Socket,
        path: &Path,
        mode: u32,
        listen: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        // The kernel drops the lock when this is closed.
        let _lock = lock_folder(path);
        remove_stale(path)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = Self {
            path: path.to_owned(),
            id: Id::of(&fs::symlink_metadata(path)?),
        };
        // Nobody can connect to a socket that does not listen yet.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        listen(socket)?;
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _lock = lock_folder(&self.path);
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| Id::of(&now) == self.id) {
            // Where the folder permits it no more, the file stays, and is stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Locks the folder of `path`. Where it cannot be read, or another process holds the lock for longer
/// than a second, this goes on without.
fn lock_folder(path: &Path) -> Option<File> {
    /// Far longer than another server needs.
    const MOST: Duration = Duration::from_secs(1);
    /// flock(2) has no time limit.
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let folder = path.parent()?;
    let here = folder.as_os_str().is_empty();
    let folder = File::open(if here { Path::new(".") } else { folder }).ok()?;
    let limit = Deadline::after(MOST);
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN | Errno::INTR) if !limit.has_passed() => {
                pause(Deadline::after(LOOK_AGAIN)).ok()?;
            }
            Err(_) => return None,
        }
    }
}

/// Removes the file of a socket on which nobody listens. Fails if `path` is anything else that exists.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.file_type().is_socket() {
        let message = "there is a file of this name, which is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    // The kernel tells a socket of the wrong type that there is one, and the server does not notice.
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_107_bytes_at_most() {
        let longest = "x".repeat(107);
        for name in [longest.clone(), format!("@{longest}")] {
            let read = UnixName::read(&format!("unix:{name}")).unwrap().unwrap();
            assert_eq!(read.to_string(), format!("unix:{name}"));
            assert_eq!(UnixName::of(&read.address().unwrap()), Some(read));
        }
        for name in [format!("{longest}x"), format!("@{longest}x")] {
            let error = UnixName::read(&format!("unix:{name}"))
                .unwrap()
                .unwrap_err();
            assert!(error.contains("108 bytes"), "{error}");
        }
    }

    #[test]
    fn what_names_no_socket_is_refused() {
        for text in ["unix:", "unix:@"] {
            assert!(UnixName::read(text).unwrap().is_err(), "{text}");
        }
        for text in ["/x", "UNIX:/x", "localhost:80", ""] {
            assert_eq!(UnixName::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_is_read_back(text in "(unix:)?@?\\PC{0,120}") {
            if let Some(Ok(name)) = UnixName::read(&text) {
                prop_assert_eq!(name.to_string(), text);
                prop_assert_eq!(UnixName::of(&name.address().unwrap()), Some(name));
            }
        }
    }
}
