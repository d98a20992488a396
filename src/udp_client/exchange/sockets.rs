//! The sockets towards one target: the current one, and those of earlier datagrams.
//!
//! They follow no rules of their own: the exchange says when a fresh one is due.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Instant;

use super::ledger::{MEMORY, Port};
use super::payloads::Payload;
use crate::exit::{Exit, Failure, blame};
use crate::net::datagram::largest;
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::wait::{IN, Key, Set};

pub struct Sockets<'a> {
    pub target: Target<'a>,
    /// The addresses that may answer, the current one first. After an answer only its own is left.
    pub candidates: VecDeque<SocketAddr>,
    current: Option<(Port, ClientSocket)>,
    /// Those that answers may still come to, oldest first.
    retired: VecDeque<(Port, ClientSocket)>,
    /// How many ports have been used. With `--source-port` it stays 0.
    opened: usize,
    /// A datagram was sent from another port than the first.
    pub has_moved: bool,
}

impl<'a> Sockets<'a> {
    /// Opens none yet.
    pub fn new(target: Target<'a>) -> Self {
        Self {
            candidates: target.addresses.iter().copied().collect(),
            target,
            current: None,
            retired: VecDeque::new(),
            opened: 0,
            has_moved: false,
        }
    }

    /// The address that is sent to.
    pub fn address(&self) -> SocketAddr {
        self.candidates[0]
    }

    /// The port of the current socket.
    pub fn port(&self) -> Option<Port> {
        self.current.as_ref().map(|(port, _)| *port)
    }

    /// Sends from the current socket, opened if need be. Returns its port, and the time. The outer
    /// error is this machine's, and will not pass.
    pub fn send(&mut self, payload: &Payload) -> Result<io::Result<(Port, Instant)>, Failure> {
        let peer = self.address();
        let (size, largest) = (payload.size, largest(&peer));
        if size > largest as u64 {
            let family = if peer.is_ipv4() { "IPv4" } else { "IPv6" };
            return Ok(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "it has {size} bytes, and a datagram over {family} carries {largest} at most"
                ),
            )));
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => match self.open(peer) {
                Ok(opened) => opened,
                Err(error) if blame(&error) == Exit::Network => return Ok(Err(error)),
                Err(error) => return Err(self.target.failure(peer, &error)),
            },
        };
        let (port, socket) = self.current.insert(current);
        Ok(socket.send(&payload.bytes).map(|at| (*port, at)))
    }

    fn open(&mut self, peer: SocketAddr) -> io::Result<(Port, ClientSocket)> {
        let socket = self.target.open(peer)?;
        self.opened += usize::from(!self.target.has_source_port());
        let number = self.opened;
        Ok((Port { peer, number }, socket))
    }

    /// What the network has said since of what was sent from the current socket.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let current = self.current.as_ref();
        current.map_or(Ok(None), |(_, socket)| socket.take_error())
    }

    /// Lets the next datagram be sent from a fresh port, unless the user has named one.
    pub fn replace(&mut self) {
        if !self.target.has_source_port() {
            self.has_moved = true;
            self.retire();
        }
    }

    /// Goes on to the next address, after the last to the first, while several may answer.
    pub fn advance(&mut self) {
        if self.candidates.len() > 1 {
            self.candidates.rotate_left(1);
            self.retire();
        }
    }

    /// An answer has come to `port`: its address is the only one from now on.
    pub fn settle(&mut self, port: Port) {
        self.candidates.retain(|address| *address == port.peer);
        if let Some(index) = self.retired.iter().position(|(of, _)| *of == port) {
            let answering = self.retired.remove(index);
            self.retire();
            self.current = answering;
        }
    }

    fn retire(&mut self) {
        let retired = self.current.take();
        // A port that the user has named can be bound only once: its socket is closed.
        self.retired
            .extend(retired.filter(|_| !self.target.has_source_port()));
        if self.retired.len() > MEMORY {
            self.retired.pop_front();
        }
    }

    /// Closes the current socket.
    pub fn close(&mut self) {
        self.current = None;
    }

    /// Adds all sockets to `set`.
    pub fn add_to<'s>(&'s self, set: &mut Set<'s>) -> Vec<(Port, Key)> {
        let all = self.retired.iter().chain(&self.current);
        all.map(|(port, socket)| (*port, set.add(socket.as_fd(), IN)))
            .collect()
    }

    /// Takes a datagram that has arrived at `port`. Returns its length and its source.
    pub fn receive(&self, port: Port, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut all = self.retired.iter().chain(&self.current);
        match all.find(|(of, _)| *of == port) {
            Some((_, socket)) => socket.receive(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
