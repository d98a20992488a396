//! The sockets towards one target: the current one, and those of earlier datagrams.
//!
//! They follow no rules of their own: the exchange says when a fresh one is due.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use super::ledger::{MEMORY, Port};
use crate::exit::{Exit, Failure, blame};
use crate::udp_client::socket::Link;
use crate::udp_client::target::Route;
use crate::wait::{IN, Key, Set};

pub struct Sockets<'a> {
    pub route: Route<'a>,
    /// The addresses that may answer, the current one first. After the first answer only one is left.
    candidates: VecDeque<SocketAddr>,
    current: Option<(Port, Link)>,
    /// Those that answers may still come to, oldest first.
    retired: VecDeque<(Port, Link)>,
    /// How many have been opened. With `--source-port` it stays 0: they share one port.
    opened: usize,
    /// A datagram was sent from another port than the first.
    pub has_moved: bool,
}

impl<'a> Sockets<'a> {
    /// Opens none yet.
    pub fn new(route: Route<'a>) -> Self {
        Self {
            candidates: route.addresses.iter().copied().collect(),
            route,
            current: None,
            retired: VecDeque::new(),
            opened: 0,
            has_moved: false,
        }
    }

    /// The address that is asked now.
    pub fn address(&self) -> SocketAddr {
        self.candidates[0]
    }

    /// How many addresses may answer.
    pub fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// The port of the current socket.
    pub fn port(&self) -> Option<Port> {
        self.current.as_ref().map(|(port, _)| *port)
    }

    /// The current socket, opened if need be. The inner error is the network's, the outer one is
    /// this machine's.
    pub fn current(&mut self) -> Result<io::Result<&(Port, Link)>, Failure> {
        let current = match self.current.take() {
            Some(current) => current,
            None => match self.open() {
                Ok(opened) => opened,
                Err(error) if blame(&error) == Exit::Network => return Ok(Err(error)),
                Err(error) => return Err(self.route.failure(Exit::Local, self.address(), &error)),
            },
        };
        Ok(Ok(self.current.insert(current)))
    }

    fn open(&mut self) -> io::Result<(Port, Link)> {
        let peer = self.address();
        let link = self.route.open(peer)?;
        if !self.route.has_source_port() {
            self.opened += 1;
        }
        let number = self.opened;
        Ok((Port { peer, number }, link))
    }

    /// The next datagram is sent from a fresh port, unless the user has named one.
    pub fn replace(&mut self) {
        if !self.route.has_source_port() {
            self.has_moved = true;
            self.retire();
        }
    }

    /// Goes on to the next address, after the last to the first, as long as several may answer.
    pub fn advance(&mut self) {
        if self.candidates.len() > 1 {
            self.candidates.rotate_left(1);
            self.retire();
        }
    }

    /// An answer has come to `port`: no other address is asked any more.
    pub fn settle(&mut self, port: Port) {
        self.candidates.retain(|address| *address == port.peer);
        if let Some(index) = self.retired.iter().position(|(of, _)| *of == port) {
            let answering = self.retired.remove(index);
            self.retire();
            self.current = answering;
        }
    }

    fn retire(&mut self) {
        // A given port can be bound only once: its socket is closed.
        if let Some(current) = self.current.take()
            && !self.route.has_source_port()
        {
            self.retired.push_back(current);
            if self.retired.len() > MEMORY {
                self.retired.pop_front();
            }
        }
    }

    /// Closes the current socket.
    pub fn close(&mut self) {
        self.current = None;
    }

    /// Adds all of them to `set`.
    pub fn add_to<'s>(&'s self, set: &mut Set<'s>) -> Vec<(Port, Key)> {
        let all = self.retired.iter().chain(&self.current);
        all.map(|(port, link)| (*port, set.add(link.as_fd(), IN)))
            .collect()
    }

    /// Takes a datagram that has arrived at `port`: its length, and where it is from.
    pub fn receive(&self, port: Port, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut all = self.retired.iter().chain(&self.current);
        match all.find(|(of, _)| *of == port) {
            Some((_, link)) => link.receive(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
