//! A program that a peer talks to, and the pipes to and from it.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::{Errno, ioctl_fionread, retry_on_intr};

use super::allowance::Allowance;
use crate::memory;
use crate::net::datagram::largest;
use crate::server::program::Running;
use crate::udp_server::guard::Guard;
use crate::udp_server::refusal::Refusal;
use crate::udp_server::socket::Peer;
use crate::wait::{Deadline, GONE, IN, Key, OUT, Set};

/// A program that a peer talks to.
pub struct Session {
    /// Its standard input is `None` once the program reads no more, or is to get no more. Its standard
    /// output is `None` once it prints no more; it may go on reading.
    pub running: Running,
    pub input: Key,
    pub output: Key,
    /// The rest of a datagram, if the program's input has taken only its beginning.
    rest: Vec<u8>,
    /// The hop limit of answers, by the peer's last datagram.
    pub hops: Option<u8>,
    pub allowance: Allowance,
    pub excess: Excess,
    /// When the program is idle. Only datagrams move it: a forged peer sends one, however much the
    /// program prints.
    pub idle: Deadline,
    pub started: Instant,
}

/// What happens to output above the allowance.
pub enum Excess {
    /// There is none yet.
    Absent,
    /// It waits in the pipe for the next datagram of the peer.
    Waits,
    /// No datagram will come: it is read so that the program can end. This counts its bytes.
    Dropped(u64),
}

impl Session {
    /// Of a program that has just started, and is idle at `idle`.
    pub fn new(running: Running, idle: Deadline) -> Self {
        Self {
            running,
            input: Key::ABSENT,
            output: Key::ABSENT,
            rest: Vec::new(),
            hops: None,
            allowance: Allowance::default(),
            excess: Excess::Absent,
            idle,
            started: Instant::now(),
        }
    }

    pub fn watch<'a>(&'a mut self, set: &mut Set<'a>) {
        let child = &self.running.child;
        let stdout = child.stdout.as_ref().map(AsFd::as_fd);
        let waits = matches!(self.excess, Excess::Waits);
        self.output = set.add(stdout.filter(|_| !waits), IN);
        // Room for the rest of a datagram. Without a rest, only that the program reads no more.
        let events = if self.rest.is_empty() { GONE } else { OUT };
        self.input = set.add(child.stdin.as_ref().map(AsFd::as_fd), events);
    }

    /// Gives a datagram to the program, whole or not at all; whether it has been taken.
    pub fn give(&mut self, payload: &[u8]) -> bool {
        // pipe(7): of more than PIPE_BUF bytes, a pipe may take a part.
        let mut rest = Vec::new();
        if !self.rest.is_empty() || memory::reserve(&mut rest, payload.len()).is_err() {
            return false;
        }
        let taken = self.write(payload);
        if let Some(count) = taken.filter(|&count| count < payload.len()) {
            rest.extend_from_slice(&payload[count..]);
            self.rest = rest;
        }
        taken.is_some()
    }

    /// Closes the program's input, unless the rest of a datagram is still to be written.
    pub fn end_input(&mut self) {
        if self.rest.is_empty() {
            self.running.child.stdin = None;
        }
    }

    /// The program's input is ready: for the rest of a datagram, or because it reads no more.
    pub fn go_on(&mut self) {
        let mut rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            self.running.child.stdin = None;
        }
        let count = self.write(&rest).unwrap_or_default();
        // A program that reads no more has lost the rest.
        if self.running.child.stdin.is_some() {
            rest.drain(..count);
            self.rest = rest;
        }
    }

    /// How much the program's input has taken. `None`: it has no room, or is closed.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let stdin = self.running.child.stdin.as_ref()?;
        match retry_on_intr(|| rustix::io::write(stdin, bytes)) {
            Ok(count) => Some(count),
            Err(error) => {
                if error != Errno::AGAIN {
                    self.running.child.stdin = None;
                }
                None
            }
        }
    }

    /// Sends what one read of the program's output gives, as one datagram; whether there was any.
    pub fn send(&mut self, buffer: &mut [u8], peer: &Peer, guard: &mut Guard) -> bool {
        let Some(stdout) = &self.running.child.stdout else {
            return false;
        };
        let source = peer.address;
        let most = match (self.allowance.left(), &self.excess) {
            (0, Excess::Dropped(_)) => buffer.len(),
            (0, _) => {
                if ioctl_fionread(stdout).is_ok_and(|count| count > 0) {
                    self.excess = Excess::Waits;
                    guard.refuse(Refusal::Unheard, source);
                } else {
                    // Without a byte, the end made it readable.
                    self.running.child.stdout = None;
                }
                return false;
            }
            (left, _) => left.min(largest(&source)),
        };
        let buffer = &mut buffer[..most];
        match retry_on_intr(|| rustix::io::read(stdout, &mut *buffer)) {
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.running.child.stdout = None;
                false
            }
            Ok(count) => {
                self.pass(&buffer[..count], peer, guard);
                true
            }
        }
    }

    fn pass(&mut self, output: &[u8], peer: &Peer, guard: &mut Guard) {
        if self.allowance.left() == 0 {
            if let Excess::Dropped(bytes) = &mut self.excess {
                *bytes += output.len() as u64;
            }
            guard.refuse(Refusal::Unheard, peer.address);
        } else if guard.is_over_rate(peer.address) {
            guard.refuse(Refusal::Rate, peer.address);
        } else {
            self.allowance.spend(output.len());
            guard.send(output, peer, self.hops);
        }
    }

    /// How many bytes the program has printed above its allowance.
    pub fn unsent(&self) -> u64 {
        let dropped = match self.excess {
            Excess::Dropped(bytes) => bytes,
            Excess::Absent | Excess::Waits => 0,
        };
        let stdout = self.running.child.stdout.as_ref();
        let waits = stdout.filter(|_| self.allowance.left() == 0);
        dropped
            + waits
                .and_then(|stdout| ioctl_fionread(stdout).ok())
                .unwrap_or_default()
    }
}
