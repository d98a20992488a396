//! A socket of the server. An answer leaves from the address that the datagram was sent to.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::RecvFlags;

use crate::net::headers;
use crate::net::multicast::Group;
use crate::net::options::SocketArgs;
use crate::net::socket;
use crate::server::busy_poll::BusyPoll;

/// The longest that a call blocks: a receive without a datagram, or a send without room.
const PATIENCE: Duration = Duration::from_millis(10);

/// The hops that most answers have if hops are counted: datagrams of this machine arrive with 64, those
/// of others with fewer or, from some systems, more.
const COUNTED_HOPS: u8 = 63;

/// The receive buffer that a socket asks for: room for a burst while the server is busy.
pub const ROOM: usize = 4 << 20;

/// One end of a conversation: who sends, and to which of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The index of the server's socket.
    pub socket: usize,
    pub address: SocketAddr,
    /// Our address, from which answers leave. `None`: the system chooses it, as the socket is bound
    /// to one address or to a group.
    pub local: Option<SocketAddr>,
}

/// A datagram without its payload.
pub struct Received {
    /// The length of the payload in bytes.
    pub size: usize,
    pub source: SocketAddr,
    /// As in [`Peer`].
    pub local: Option<SocketAddr>,
    /// Where it was sent to. `None`: to the address of the socket.
    pub destination: Option<IpAddr>,
    /// The hop limit of an answer; 0: none may leave. As at a router, it is one less than that of the
    /// datagram, but not above the usual one. `None`: the usual one.
    pub hops_left: Option<u8>,
}

pub struct ServerSocket {
    socket: UdpSocket,
    pub local: SocketAddr,
    /// The size of the receive buffer.
    pub room: usize,
    /// Whether anything but payload and source is received.
    reads_headers: bool,
    busy_poll: BusyPoll,
    /// The most hops that an answer may have.
    most_hops: u8,
    /// The hop limit of answers that are sent without one.
    usual_hops: u8,
}

impl ServerSocket {
    /// Binds a socket to `address` and joins those of `groups` that suit it. With `counts_hops` the
    /// hop limit of an answer is lower than that of its datagram.
    pub fn open(
        address: SocketAddr,
        options: &SocketArgs,
        groups: &[Group],
        counts_hops: bool,
    ) -> io::Result<Self> {
        let destination = address.ip().is_unspecified();
        let counts_hops = counts_hops && !address.ip().is_multicast();
        let (socket, room) = socket::udp_server(address, options, groups, ROOM, |socket| {
            headers::ask(socket, address.is_ipv4(), destination, counts_hops)
        })?;
        Self::of(socket, room, destination, counts_hops)
    }

    /// A socket that another program has bound.
    pub fn inherited(
        socket: UdpSocket,
        options: &SocketArgs,
        counts_hops: bool,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let destination = address.ip().is_unspecified();
        let (socket, room) = socket::inherited_udp_server(socket, options, ROOM, |socket| {
            headers::ask(socket, address.is_ipv4(), destination, counts_hops)
        })?;
        Self::of(socket, room, destination, counts_hops)
    }

    fn of(
        socket: UdpSocket,
        room: usize,
        destination: bool,
        counts_hops: bool,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let local = socket.local_addr()?;
        let most_hops = socket::hop_limit(&socket, &local)?;
        // An answer with the hop limit of its socket needs no control message.
        let usual_hops = if counts_hops {
            most_hops.min(COUNTED_HOPS)
        } else {
            most_hops
        };
        socket::set_hop_limit(&socket, &local, usual_hops)?;
        Ok(Self {
            socket,
            local,
            room,
            reads_headers: destination || counts_hops,
            busy_poll: BusyPoll::default(),
            most_hops,
            usual_hops,
        })
    }

    /// Receives a datagram, cut to `buffer`. If there is none the error is `WouldBlock`: at once, or
    /// with `waits` after [`PATIENCE`]. A signal ends the wait.
    pub fn receive(&self, buffer: &mut [u8], waits: bool) -> io::Result<Received> {
        let mut receive = |flags| {
            if self.reads_headers {
                headers::receive(&self.socket, buffer, self.local.port(), flags)
            } else {
                headers::receive_without(&self.socket, buffer, flags)
            }
        };
        let (size, source, headers) = if waits {
            self.busy_poll.receive(receive)?
        } else {
            receive(RecvFlags::DONTWAIT)?
        };
        let left = |limit: u8| limit.saturating_sub(1).min(self.most_hops);
        Ok(Received {
            size,
            source,
            local: headers.local,
            destination: headers.destination,
            hops_left: headers.hop_limit.map(left),
        })
    }

    /// Sends `payload` with the hop limit `hops`, or the usual one. Blocks for [`PATIENCE`] at most;
    /// meanwhile no other peer is served.
    pub fn send(&self, payload: &[u8], peer: &Peer, hops: Option<u8>) -> io::Result<usize> {
        let hops = hops.filter(|hops| *hops != self.usual_hops);
        headers::send(&self.socket, payload, peer.address, peer.local, hops)
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
