//! A socket of a UDP client, and how a datagram is sent without being lost on the way out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::tap::{DatagramTap, Direction};
use crate::wait::poll;

/// A socket that does not block, and whom it talks to: one peer, of whom it hears alone, also that
/// nothing arrives there; or a group, any of whom may answer.
pub struct Link {
    socket: UdpSocket,
    address: SocketAddr,
    is_group: bool,
    watch: Rc<DatagramTap>,
}

impl Link {
    /// `socket` is connected to `address`, unless that is a group's.
    pub fn new(
        socket: UdpSocket,
        address: SocketAddr,
        is_group: bool,
        watch: Rc<DatagramTap>,
    ) -> Self {
        Self {
            socket,
            address,
            is_group,
            watch,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

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

/// Sends; while the system has no room it waits, for at most `patience`. Returns when the call that
/// sent it began.
pub fn send_when_room(link: &Link, patience: Duration, payload: &[u8]) -> io::Result<Instant> {
    /// A full queue of a network device (ENOBUFS) is nothing that poll(2) could wait for.
    const NAP: Duration = Duration::from_millis(1);
    let mut until = None;
    loop {
        let began = Instant::now();
        let Err(error) = link.send(payload) else {
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
        let mut room = [PollFd::new(link, PollFlags::OUT)];
        poll(if full { &mut room } else { &mut [] }, Some(NAP))?;
    }
}
