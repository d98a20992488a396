//! Joins the server to standard input and output, as netcat's `-lu` does.

use std::io;
use std::os::fd::AsFd;

use super::guard::Guard;
use super::socket::Peer;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::net::datagram::{LARGEST, largest};
use crate::net::pacing::Pacing;
use crate::output::Queue;
use crate::wait::{Deadline, IN, Key, Ready, Set};

/// Prints what any peer sends, and sends standard input to the first of them.
pub struct Stdio {
    /// The peer that gets standard input, and how fast.
    peer: Option<(Peer, Pacing)>,
    /// Until when it gets nothing, so that it is not overrun.
    hold: Option<Deadline>,
    /// `None` after its end.
    stdin: Option<io::Stdin>,
    stdout: Queue,
    buffer: Vec<u8>,
    input: Key,
    output: Key,
}

impl Stdio {
    /// With `raw` a terminal gets control characters as they are.
    pub fn new(raw: bool) -> Result<Self, Failure> {
        Ok(Self {
            peer: None,
            hold: None,
            stdin: Some(io::stdin()),
            stdout: Queue::open(raw)?,
            buffer: vec![0; LARGEST],
            input: Key::ABSENT,
            output: Key::ABSENT,
        })
    }

    /// Whether another datagram can be taken.
    pub fn has_room(&self) -> bool {
        self.stdout.is_empty()
    }

    /// Adds the descriptors that [`Self::serve`] serves. Returns when it has something to do even if
    /// none is ready.
    pub fn watch<'a>(&'a mut self, set: &mut Set<'a>) -> Deadline {
        // Without a peer there is nobody to send to.
        let may_send = self.peer.is_some() && self.hold.is_none();
        let stdin = self.stdin.as_ref().filter(|_| may_send);
        self.input = set.add(stdin.map(AsFd::as_fd), IN);
        self.output = self.stdout.watch(set);
        self.hold.unwrap_or(Deadline::NEVER)
    }

    /// Prints a datagram. The first peer that may be sent to gets standard input from now on.
    pub fn take(&mut self, payload: &[u8], peer: Peer, guard: &mut Guard) -> Result<(), Failure> {
        if self.peer.is_none() && guard.lets_send_to(peer.address) {
            let source = peer.address;
            tracing::info!(event = "talk", peer = %source, "Talking to {source}.");
            self.peer = Some((peer, Pacing::new(source)));
        }
        self.stdout.push(payload)
    }

    /// Goes on printing, and sends what is on standard input as one datagram.
    pub fn serve(&mut self, ready: &Ready, guard: &mut Guard) -> Result<(), Failure> {
        if ready[self.output] {
            self.stdout.go_on()?;
        }
        let Some((peer, pacing)) = &mut self.peer else {
            return Ok(());
        };
        if ready[self.input] {
            let buffer = &mut self.buffer[..largest(&peer.address)];
            match input::read(buffer)? {
                Some(0) => self.stdin = None,
                Some(count) => {
                    guard.send(&buffer[..count], peer, None);
                    pacing.sent(count);
                    self.hold = pacing.hold(peer.address);
                }
                None => {}
            }
        } else if self.hold.is_some_and(Deadline::has_passed) {
            self.hold = pacing.hold(peer.address);
        }
        Ok(())
    }

    /// Blocks until everything is printed, or fails at `limit`.
    pub fn finish(&mut self, limit: Deadline) -> Result<(), Failure> {
        self.stdout.flush(limit)
    }

    /// Fails if the peer had no room for all that it was sent.
    pub fn result(&self) -> Result<(), Failure> {
        let pacing = self.peer.as_ref().map(|(_, pacing)| pacing);
        match pacing.and_then(|pacing| pacing.lost(|peer| peer.to_string())) {
            Some(lost) => Err(Failure::new(Exit::Network, lost)),
            None => Ok(()),
        }
    }
}
