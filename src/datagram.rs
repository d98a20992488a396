//! What holds for every datagram: how large it may be, and how it is sent without being lost on the
//! way out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::duplex::poll;

/// The most bytes that any datagram carries: a larger one is cut silently by recv(2).
pub const BUFFER: usize = 65_536;

/// The most bytes that a datagram to anybody carries: what `largest` is over IPv6.
pub const LARGEST: usize = 65_527;

/// The most bytes that a datagram to `address` carries: 65,535 less the headers that the length
/// field counts, which are UDP's eight bytes and over IPv4 the twenty of IP.
pub fn largest(address: &SocketAddr) -> usize {
    match address {
        SocketAddr::V4(_) => LARGEST - 20,
        SocketAddr::V6(_) => LARGEST,
    }
}

/// Sends on a connected socket that does not block; while the system has no room it waits, for at
/// most `patience`. Returns when the call that sent it began.
pub fn send_when_room(
    socket: &UdpSocket,
    patience: Duration,
    payload: &[u8],
) -> io::Result<Instant> {
    /// A full queue of a network device (ENOBUFS) is nothing that poll(2) could wait for.
    const NAP: Duration = Duration::from_millis(1);
    let mut until = None;
    loop {
        let began = Instant::now();
        let Err(error) = socket.send(payload) else {
            return Ok(began);
        };
        let full = error.kind() == io::ErrorKind::WouldBlock;
        if !full && Errno::from_io_error(&error) != Some(Errno::NOBUFS) {
            return Err(error);
        }
        let now = Instant::now();
        if now >= *until.get_or_insert(now + patience) {
            return Err(error);
        }
        let mut room = [PollFd::new(socket, PollFlags::OUT)];
        poll(if full { &mut room } else { &mut [] }, Some(NAP))?;
    }
}
