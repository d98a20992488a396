//! The socket of a UDP client.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::net::{headers, path_mtu};
use crate::ping::Arrival;
use crate::tap::{DatagramTap, Direction, Ends};
use crate::wait::{Deadline, OUT, Set};

/// How long a datagram may wait for room in the kernel.
const PATIENCE: Duration = Duration::from_secs(2);

/// poll(2) cannot wait for room in the queue of a network device (ENOBUFS): send again after this.
const NAP: Duration = Duration::from_millis(1);

/// A non-blocking client socket. Connected to one peer, so it also reports ICMP errors. For a group
/// it is unconnected, since any member may answer.
pub struct ClientSocket {
    pub(super) socket: UdpSocket,
    pub address: SocketAddr,
    /// Where its datagrams leave from.
    pub(super) local: SocketAddr,
    pub is_group: bool,
    pub(super) watch: Rc<DatagramTap>,
}

impl ClientSocket {
    /// Sends `payload`. Blocks while the kernel has no room for it, for [`PATIENCE`] at most. Returns
    /// the time before the call that sent it.
    pub fn send(&self, payload: &[u8]) -> io::Result<Instant> {
        let mut began = Instant::now();
        let end = Deadline::since(began, PATIENCE);
        loop {
            let result = if self.is_group {
                self.socket.send_to(payload, self.address)
            } else {
                self.socket.send(payload)
            };
            let Err(error) = result else {
                self.note(Direction::Sent, self.address, payload);
                return Ok(began);
            };
            let is_full = error.kind() == io::ErrorKind::WouldBlock;
            let may_pass = is_full || Errno::from_io_error(&error) == Some(Errno::NOBUFS);
            if !may_pass || end.has_passed() {
                return Err(error);
            }
            let mut set = Set::new();
            set.add(is_full.then(|| self.as_fd()), OUT);
            set.wait(Deadline::after(NAP))?;
            began = Instant::now();
        }
    }

    /// Receives a datagram: its length and its source.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, source) = if self.is_group {
            self.socket.recv_from(buffer)?
        } else {
            (self.socket.recv(buffer)?, self.address)
        };
        self.note(Direction::Received, source, &buffer[..count]);
        Ok((count, source))
    }

    /// Writes down a datagram to or from `remote`.
    fn note(&self, direction: Direction, remote: SocketAddr, payload: &[u8]) {
        if !self.watch.is_wanted() {
            return;
        }
        let mut local = self.local;
        // The first send binds a socket that is unconnected.
        if local.port() == 0
            && let Ok(bound) = self.socket.local_addr()
        {
            local.set_port(bound.port());
        }
        let ends = Ends::new(local, remote);
        self.watch.passed(ends, direction, payload);
    }

    /// Makes [`Self::receive_with_hop_limit`] tell hop limits from now on, if the system can.
    pub fn ask_for_hop_limit(&self) {
        // Answers are of use without their hop limits.
        let _ = headers::ask(&self.socket, self.address.is_ipv4(), false, true);
    }

    /// As [`Self::receive`], with the hop limit of the datagram.
    pub fn receive_with_hop_limit(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let (size, source, headers) =
            headers::receive(&self.socket, buffer, 0, RecvFlags::empty())?;
        let source = if self.is_group { source } else { self.address };
        self.note(Direction::Received, source, &buffer[..size]);
        Ok(Arrival {
            source: Some(source),
            size,
            hop_limit: headers.hop_limit,
            handshake: None,
        })
    }

    /// Makes datagrams leave in one piece from now on. Linux only.
    pub fn forbid_fragments(&self) -> io::Result<()> {
        path_mtu::forbid_fragments(&self.socket, &self.address)
    }

    /// See [`path_mtu::believed`]. `None`: the system does not tell it.
    pub fn path_mtu(&self) -> Option<usize> {
        path_mtu::believed(&self.socket, &self.address).ok()
    }

    /// The ICMP error that has arrived since the last call.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
