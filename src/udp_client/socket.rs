//! A socket of a UDP client, and how a datagram is sent without being lost on the way out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::tap::{Direction, Watch};
use crate::wait::{Deadline, OUT, Set};

/// A socket that does not block, and whom it talks to: one peer, of whom it hears alone, also that
/// nothing arrives there; or a group, any of whom may answer.
pub struct Link {
    /// Connected to `address`, unless that is a group's.
    pub(super) socket: UdpSocket,
    pub address: SocketAddr,
    pub(super) is_group: bool,
    pub(super) watch: Rc<Watch>,
}

impl Link {
    pub fn is_group(&self) -> bool {
        self.is_group
    }

    fn send(&self, payload: &[u8]) -> io::Result<()> {
        if self.is_group {
            self.socket.send_to(payload, self.address)?;
        } else {
            self.socket.send(payload)?;
        }
        self.watch.passed(Direction::Sent, payload);
        Ok(())
    }

    /// A datagram, if there is one, and where it is from.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, source) = if self.is_group {
            self.socket.recv_from(buffer)?
        } else {
            (self.socket.recv(buffer)?, self.address)
        };
        self.watch.passed(Direction::Received, &buffer[..count]);
        Ok((count, source))
    }

    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How long to wait for the kernel to have room for a datagram.
pub const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// Sends `payload`. Blocks while the kernel has no room for it, for at most `patience`. Returns when
/// the call that sent it began.
pub fn send_when_room(link: &Link, patience: Duration, payload: &[u8]) -> io::Result<Instant> {
    /// poll(2) cannot wait for the queue of a network device (ENOBUFS).
    const NAP: Duration = Duration::from_millis(1);
    let mut end = None;
    loop {
        let began = Instant::now();
        let Err(error) = link.send(payload) else {
            return Ok(began);
        };
        let is_full = error.kind() == io::ErrorKind::WouldBlock;
        if !is_full && Errno::from_io_error(&error) != Some(Errno::NOBUFS) {
            return Err(error);
        }
        let end = *end.get_or_insert_with(|| Deadline::since(began, patience));
        if end.has_passed() {
            return Err(error);
        }
        let mut set = Set::new();
        set.add(is_full.then(|| link.as_fd()), OUT);
        set.wait(Deadline::after(NAP))?;
    }
}
