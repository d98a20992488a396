//! Without headers, the system chooses the source address of an answer, and hops are not counted.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::RecvFlags;

use super::Headers;

#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub fn ask(_: &impl AsFd, _is_ipv4: bool, _destination: bool, _hop_limit: bool) -> io::Result<()> {
    Ok(())
}

pub fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    _port: u16,
    flags: RecvFlags,
) -> io::Result<(usize, SocketAddr, Headers)> {
    super::receive_without(socket, buffer, flags)
}

pub fn send(
    socket: &UdpSocket,
    payload: &[u8],
    peer: SocketAddr,
    _local: Option<SocketAddr>,
    _hops: Option<u8>,
) -> io::Result<usize> {
    socket.send_to(payload, peer)
}
