//! A socket of the server, which answers from the very address that a datagram was sent to.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use socket2::SockRef;

use super::headers;
use crate::net::multicast::Group;
use crate::net::socket::{self, SocketArgs};
use crate::server::busy_poll::BusyPoll;
use crate::wait::poll;

/// Who sends, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// By which of the server's sockets.
    pub inlet: usize,
    pub address: SocketAddr,
    /// The address of ours that answers leave from. `None`: the system chooses it, as the socket is
    /// bound to one address, or to a group.
    pub local: Option<SocketAddr>,
}

impl Peer {
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// A datagram, save for its payload.
pub struct Received {
    pub size: usize,
    pub source: SocketAddr,
    /// The address of ours that an answer is to leave from, as in [`Peer`].
    pub local: Option<SocketAddr>,
    /// The hop limit of an answer, one less than that of the datagram, as if this server were a
    /// router on its way, or the usual one if that is lower; 0: no answer may leave. `None`: the
    /// usual one, as nobody counts.
    pub hops_left: Option<u8>,
}

pub struct Inlet {
    socket: UdpSocket,
    pub local: SocketAddr,
    /// Whether more than payload and source is received.
    reads_headers: bool,
    /// Whether calls wait.
    blocks: bool,
    busy_poll: BusyPoll,
    /// The hop limit that its datagrams have if nothing else is said.
    usual_hops: u8,
    /// The hop limit that they have now.
    hops: Cell<u8>,
}

impl Inlet {
    /// With `counts_hops` an answer is one hop further on the way of its question.
    pub fn open(
        address: SocketAddr,
        options: &SocketArgs,
        groups: &[Group],
        counts_hops: bool,
    ) -> io::Result<Self> {
        let destination = address.ip().is_unspecified();
        let counts_hops = counts_hops && !address.ip().is_multicast();
        let socket = socket::udp_server(address, options, groups, |socket| {
            headers::ask(socket, address.is_ipv4(), destination, counts_hops)
        })?;
        let local = socket.local_addr()?;
        let usual_hops = match local {
            SocketAddr::V4(_) => socket.ttl()?,
            SocketAddr::V6(_) => SockRef::from(&socket).unicast_hops_v6()?,
        };
        let usual_hops = u8::try_from(usual_hops).unwrap_or(u8::MAX);
        Ok(Self {
            socket,
            local,
            reads_headers: destination || counts_hops,
            blocks: false,
            busy_poll: BusyPoll::default(),
            usual_hops,
            hops: Cell::new(usual_hops),
        })
    }

    /// With a limit, calls wait for so long; without, they do not wait.
    pub fn set_patience(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.blocks = limit.is_some();
        self.socket.set_nonblocking(!self.blocks)?;
        self.socket.set_read_timeout(limit)?;
        self.socket.set_write_timeout(limit)
    }

    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut receive = |flags| {
            if self.reads_headers {
                headers::receive(&self.socket, buffer, self.local.port(), flags)
            } else {
                headers::receive_without(&self.socket, buffer, flags)
            }
        };
        let (size, source, headers) = if self.blocks {
            self.busy_poll.receive(receive)?
        } else {
            receive(RecvFlags::DONTWAIT)?
        };
        let left = |limit: u8| limit.saturating_sub(1).min(self.usual_hops);
        Ok(Received {
            size,
            source,
            local: headers.local,
            hops_left: headers.hop_limit.map(left),
        })
    }

    /// Sends an answer, with `hops` as its hop limit. Where the system has no room it waits a moment
    /// for it, as a socket that blocks would; all other clients wait as well.
    pub fn send(&self, payload: &[u8], peer: &Peer, hops: Option<u8>) -> io::Result<usize> {
        const PATIENCE: Duration = Duration::from_millis(10);
        self.limit_hops(hops.unwrap_or(self.usual_hops))?;
        let send = || match peer.local {
            Some(local) => headers::send(&self.socket, payload, peer.address, local),
            None => self.socket.send_to(payload, peer.address),
        };
        match send() {
            // One that blocks has waited for as long already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.blocks => {
                poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(PATIENCE))?;
                send()
            }
            result => result,
        }
    }

    /// From now on. Most clients are as far away as the last, and that costs less than to say it
    /// with each datagram.
    fn limit_hops(&self, hops: u8) -> io::Result<()> {
        if self.hops.get() == hops {
            return Ok(());
        }
        if self.local.is_ipv4() {
            self.socket.set_ttl(hops.into())?;
        } else {
            SockRef::from(&self.socket).set_unicast_hops_v6(hops.into())?;
        }
        // Not before: after a failure the next answer has to try again.
        self.hops.set(hops);
        Ok(())
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
