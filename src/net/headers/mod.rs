//! The headers of datagrams: where one was sent to, its hop limit, and where an answer comes from.
//! Only Linux tells them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use rustix::net::{RecvFlags, recvfrom};

#[cfg(target_os = "linux")]
pub use linux::{ask, receive, send};
#[cfg(not(target_os = "linux"))]
pub use other::{ask, receive, send};

/// The headers of a received datagram. `None`: not asked for, not told, or of no use.
#[derive(Default)]
pub struct Headers {
    /// Our address that an answer should come from.
    pub local: Option<SocketAddr>,
    /// Where it was sent to: that address, a group, or a broadcast address.
    pub destination: Option<IpAddr>,
    /// The hop limit (IPv4: time to live) as it arrived.
    pub hop_limit: Option<u8>,
}

/// As `receive`, without headers.
pub fn receive_without(
    socket: &UdpSocket,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, SocketAddr, Headers)> {
    let (_, size, source) = recvfrom(socket, buffer, flags)?;
    let source = source.ok_or(io::ErrorKind::InvalidData)?;
    Ok((size, source.try_into()?, Headers::default()))
}
