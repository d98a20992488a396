//! Who has connected to a server, and where a connection leads to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use super::unix::UnixName;

/// One end of a stream, as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Inet(SocketAddr),
    Unix(UnixName),
}

impl Endpoint {
    pub(super) fn of(address: &SockAddr) -> Option<Self> {
        let inet = address.as_socket().map(Self::Inet);
        inet.or_else(|| UnixName::of(address).map(Self::Unix))
    }

    /// `None`: it is a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(name) => name.fmt(f),
        }
    }
}

/// The client of a connection that a server has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Inet(SocketAddr),
    /// The process that has connected to a Unix socket. `None`: the system does not tell.
    Unix(Option<Process>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub uid: u32,
}

impl Peer {
    /// An IPv4-mapped address counts as IPv4. `None`: the peer is on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip().to_canonical()),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(Some(Process { pid, uid })) => write!(f, "unix (pid {pid}, uid {uid})"),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}
