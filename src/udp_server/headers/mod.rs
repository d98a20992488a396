//! What the headers of a datagram say, and which address an answer is sent from. Only Linux tells.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::{RecvFlags, recvfrom};

#[cfg(target_os = "linux")]
pub use linux::{ask, receive, send};
#[cfg(not(target_os = "linux"))]
pub use other::{ask, receive, send};

/// What is known of a datagram that has been received; `None`: it was not asked for, or the system
/// does not tell, or it says nothing of use.
#[derive(Default)]
pub struct Headers {
    /// The address of ours that an answer should come from.
    pub local: Option<SocketAddr>,
    /// The hop limit (IPv4: time to live) as it arrived.
    pub hop_limit: Option<u8>,
}

/// As `receive`, of a socket that was not asked for anything.
pub fn receive_without(
    socket: &UdpSocket,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, SocketAddr, Headers)> {
    let (_, size, source) = recvfrom(socket, buffer, flags)?;
    let source = source.ok_or(io::ErrorKind::InvalidData)?;
    Ok((size, source.try_into()?, Headers::default()))
}
