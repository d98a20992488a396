//! Names to addresses, within a time limit.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure, cause};
use crate::net::address::is_numeric;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ResolveArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Resolve no names: addresses only
    #[arg(hide_short_help = true, short, long)]
    numeric: bool,
}

/// A point in time by which something has to be done, and how long that was from the start.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    pub at: Instant,
    pub after: Duration,
}

impl TimeLimit {
    pub fn after(after: Duration) -> Self {
        Self {
            at: Instant::now() + after,
            after,
        }
    }

    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

impl ResolveArgs {
    /// Whether `address` is of a family that is wanted.
    pub fn allows(&self, address: &SocketAddr) -> bool {
        if address.is_ipv4() {
            !self.ipv6
        } else {
            !self.ipv4
        }
    }

    /// All addresses of `host` that the options allow, in the system's order (RFC 6724); never
    /// none. A zone (`%eth0`) is kept. Blocks until `limit`; without one, as long as the system's
    /// resolver does.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        limit: Option<TimeLimit>,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let numeric = is_numeric(host);
        if self.numeric && !numeric {
            let message =
                format!("could not resolve {host}: it is a name, and -n allows addresses only");
            return Err(Failure::new(Exit::Local, message).into());
        }
        let found = match limit {
            // Nothing is asked for an address, so nothing blocks.
            Some(limit) if !numeric => lookup_until(host, port, limit)?,
            _ => lookup(host, port),
        };
        let failed = |cause: String| {
            Failure::new(Exit::Resolve, format!("could not resolve {host}: {cause}"))
        };
        let found = found.map_err(|error| failed(cause(&error)))?;
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.len());
        for address in found {
            if self.allows(&address) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let family = if self.ipv6 { "IPv6" } else { "IPv4" };
            return Err(failed(format!("it has no {family} address")).into());
        }
        Ok(addresses)
    }
}

fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// getaddrinfo(3) cannot be interrupted: a thread waits for it, and is left behind when the time is
/// up.
fn lookup_until(
    host: &str,
    port: u16,
    limit: TimeLimit,
) -> Result<io::Result<Vec<SocketAddr>>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    let spawned = thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            // The receiver is gone when the time was up.
            let _ = sender.send(lookup(&name, port));
        });
    if let Err(error) = spawned {
        return Ok(Err(error));
    }
    match receiver.recv_timeout(limit.remaining()) {
        Ok(found) => Ok(found),
        Err(RecvTimeoutError::Disconnected) => Ok(Err(io::Error::other(
            "the resolver ended without an answer",
        ))),
        Err(RecvTimeoutError::Timeout) => {
            let message = format!(
                "could not resolve {host}: no answer within {:?}",
                limit.after
            );
            Err(Failure::new(Exit::Timeout, message))
        }
    }
}
