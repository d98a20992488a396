//! Runs a program for every peer: what the peer sends is its input, and what it prints goes back.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::process::Signal;

use super::guard::Guard;
use super::refusal::Refusal;
use super::socket::Peer;
use crate::exit::{Exit, Failure};
use crate::memory;
use crate::net::datagram::{LARGEST, largest};
use crate::server::host::{host, is_loopback, share};
use crate::server::program::{Ends, GRACE, Program, Running};
use crate::signal::{SIGCHLD, Signals};
use crate::wait::{Deadline, GONE, IN, Key, OUT, Ready, Set};

/// All programs. One thread serves them, and waits for none of them.
pub struct Programs {
    pub program: Program,
    idle_timeout: Duration,
    max_peers: u32,
    children: Signals,
    child_ended: Key,
    sessions: HashMap<Peer, Session>,
    /// Programs that have been told to end.
    leaving: Vec<Leaving>,
    buffer: Vec<u8>,
}

/// A program that a peer talks to.
struct Session {
    /// Its standard input is `None` once the program reads no more, or is to get no more. Its standard
    /// output is `None` once it prints no more; it may go on reading.
    running: Running,
    input: Key,
    output: Key,
    /// The rest of a datagram, if the program's input has taken only its beginning.
    rest: Vec<u8>,
    /// The hop limit of answers, by the peer's last datagram.
    hops: Option<u8>,
    /// The number of bytes that the program may print before the peer sends again.
    unasked: usize,
    /// When the program is idle. Only datagrams move it: a forged peer sends one, however much the
    /// program prints.
    idle: Deadline,
    started: Instant,
}

/// The address of a peer can be forged. A program that prints without end must not flood it.
const MOST_UNASKED: usize = 1 << 20;

/// A program that has been told to end.
struct Leaving {
    peer: Peer,
    running: Running,
    kill_at: Deadline,
}

impl Programs {
    pub fn new(program: Program, idle_timeout: Duration, max_peers: u32) -> io::Result<Self> {
        Ok(Self {
            program,
            idle_timeout,
            max_peers,
            children: Signals::catch(&[], &[SIGCHLD])?,
            child_ended: Key::ABSENT,
            sessions: HashMap::new(),
            leaving: Vec::new(),
            buffer: vec![0; LARGEST],
        })
    }

    /// Adds the descriptors that [`Self::serve`] serves. Returns when it has something to do even if
    /// none is ready.
    pub fn watch<'a>(&'a mut self, set: &mut Set<'a>) -> Deadline {
        /// No descriptor tells that the last process of a group has ended.
        const LOOK_AGAIN: Duration = Duration::from_millis(20);
        self.child_ended = set.add(self.children.as_fd(), IN);
        let look_again = (!self.leaving.is_empty()).then_some(LOOK_AGAIN);
        let mut deadline = Deadline::within(look_again);
        for session in self.sessions.values_mut() {
            deadline = deadline.min(session.idle);
            session.watch(set);
        }
        deadline
    }

    /// Gives a datagram to the program of its peer, and starts one if there is none.
    pub fn take(&mut self, payload: &[u8], peer: Peer, hops: Option<u8>, guard: &mut Guard) {
        if !self.sessions.contains_key(&peer) {
            if let Some(refusal) = self.refusal(&peer) {
                return guard.refuse(refusal, peer.address);
            }
            match self.start(&peer, guard) {
                Ok(session) => self.sessions.insert(peer, session),
                Err(error) => {
                    let what = format!("could not run {} for {}", self.program, peer.address);
                    return guard.fail(what, &error);
                }
            };
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.hops = hops;
            session.unasked = MOST_UNASKED;
            if session.give(payload) {
                session.idle = Deadline::after(self.idle_timeout);
            } else {
                guard.refuse(Refusal::NotTaken, peer.address);
            }
        }
    }

    /// Why no program is started for `peer`.
    fn refusal(&self, peer: &Peer) -> Option<Refusal> {
        if self.sessions.len() + self.leaving.len() >= self.max_peers as usize {
            return Some(Refusal::Full);
        }
        let leaving = self.leaving.iter().map(|leaving| &leaving.peer);
        let peers = self.sessions.keys().chain(leaving);
        // Addresses can be forged, and one host must not shut out all others.
        let own = host(peer.address.ip());
        let same = peers.filter(|other| host(other.address.ip()) == own);
        let most = share(self.max_peers) as usize;
        (!is_loopback(peer.address.ip()) && same.count() >= most).then_some(Refusal::Crowd)
    }

    fn start(&self, peer: &Peer, guard: &Guard) -> io::Result<Session> {
        let source = peer.address;
        let ends = Ends {
            protocol: "UDP",
            remote: source,
            local: peer.local.unwrap_or(guard.sockets[peer.socket].local),
        };
        let running = self.program.start(&ends, Stdio::piped(), Stdio::piped())?;
        if let (Some(stdin), Some(stdout)) = (&running.child.stdin, &running.child.stdout) {
            rustix::io::ioctl_fionbio(stdin, true)?;
            rustix::io::ioctl_fionbio(stdout, true)?;
        }
        let pid = running.child.id();
        tracing::info!(event = "start", peer = %source, pid, "Started {} for {source}.", self.program);
        Ok(Session {
            running,
            input: Key::ABSENT,
            output: Key::ABSENT,
            rest: Vec::new(),
            hops: None,
            unasked: MOST_UNASKED,
            idle: Deadline::after(self.idle_timeout),
            started: Instant::now(),
        })
    }

    /// Sends what the programs print, goes on writing to them, and ends those that are idle.
    pub fn serve(&mut self, ready: &Ready, guard: &mut Guard) {
        /// A pipe holds a mebibyte at most, which is so many reads.
        const MOST_LEFT: usize = 17;
        let child_ended = ready[self.child_ended] && self.children.arrived();
        let now = Instant::now();
        let mut over = Vec::new();
        for (peer, session) in &mut self.sessions {
            if ready[session.output] {
                session.send(&mut self.buffer, peer, guard);
            }
            if ready[session.input] {
                session.go_on();
            }
            if child_ended && session.running.has_ended() {
                // What it printed last. Programs that it has left behind may print without end.
                let mut left = 0..MOST_LEFT;
                while left.next().is_some() && session.send(&mut self.buffer, peer, guard) {}
                let status = session.running.child.try_wait().ok().flatten();
                let failed = status.filter(|status| !status.success());
                let reason = failed.map(|status| format!("it ended with {status}"));
                over.push((*peer, reason.unwrap_or_else(|| "it ended".to_owned())));
            } else if session.idle.has_passed_at(now) {
                over.push((*peer, "idle".to_owned()));
            }
        }
        for (peer, reason) in over {
            self.leave(peer, &reason, Deadline::since(now, GRACE));
        }
        self.leaving.retain_mut(|leaving| {
            let is_left = !leaving.running.is_gone();
            if is_left && leaving.kill_at.has_passed_at(now) {
                leaving.running.signal(Signal::KILL);
            }
            is_left
        });
    }

    /// Tells a program and its process group to end. At `kill_at` they are killed.
    fn leave(&mut self, peer: Peer, reason: &str, kill_at: Deadline) {
        let Some(session) = self.sessions.remove(&peer) else {
            return;
        };
        let source = peer.address;
        let mut running = session.running;
        tracing::info!(
            event = "end",
            peer = %source,
            pid = running.child.id(),
            reason,
            duration_ms = u64::try_from(session.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "Ended {} for {source}: {reason}.",
            self.program
        );
        (running.child.stdin, running.child.stdout) = (None, None);
        running.signal(Signal::TERM);
        self.leaving.push(Leaving {
            peer,
            running,
            kill_at,
        });
    }

    /// Closes the input of all programs and sends what they still print. At `limit` it ends those that
    /// run, which is an error. Blocks until all are gone.
    pub fn finish(&mut self, limit: Deadline, guard: &mut Guard) -> Result<(), Failure> {
        let running = self.sessions.len();
        if running > 0 {
            tracing::info!(
                event = "drain",
                running,
                "Waiting for {running} program(s) to end..."
            );
        }
        let mut ended = 0;
        while !self.sessions.is_empty() || !self.leaving.is_empty() {
            if limit.has_passed() && !self.sessions.is_empty() {
                ended = self.sessions.len();
                for peer in self.sessions.keys().copied().collect::<Vec<_>>() {
                    self.leave(peer, "the server ends", Deadline::after(GRACE));
                }
            }
            for session in self.sessions.values_mut() {
                if session.rest.is_empty() {
                    session.running.child.stdin = None;
                }
            }
            let all_told = self.sessions.is_empty();
            let limit = if all_told { Deadline::NEVER } else { limit };
            let mut set = Set::new();
            let deadline = self.watch(&mut set).min(limit);
            let ready = set.wait(deadline)?;
            self.serve(&ready, guard);
        }
        let were = match ended {
            0 => return Ok(()),
            1 => "program that was",
            _ => "programs that were",
        };
        let time = limit.length();
        let message =
            format!("ended {ended} {were} still running after {time:?} (--drain-timeout)");
        Err(Failure::new(Exit::Timeout, message))
    }
}

impl Session {
    fn watch<'a>(&'a mut self, set: &mut Set<'a>) {
        let child = &self.running.child;
        self.output = set.add(child.stdout.as_ref().map(AsFd::as_fd), IN);
        // Room for the rest of a datagram. Without a rest, only that the program reads no more.
        let events = if self.rest.is_empty() { GONE } else { OUT };
        self.input = set.add(child.stdin.as_ref().map(AsFd::as_fd), events);
    }

    /// Gives a datagram to the program, whole or not at all; whether it has been taken.
    fn give(&mut self, payload: &[u8]) -> bool {
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

    /// The program's input is ready: for the rest of a datagram, or because it reads no more.
    fn go_on(&mut self) {
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
    fn send(&mut self, buffer: &mut [u8], peer: &Peer, guard: &mut Guard) -> bool {
        let Some(stdout) = &self.running.child.stdout else {
            return false;
        };
        let source = peer.address;
        let buffer = &mut buffer[..largest(&source)];
        match retry_on_intr(|| rustix::io::read(stdout, &mut *buffer)) {
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.running.child.stdout = None;
                false
            }
            Ok(count) => {
                let rest = self.unasked.checked_sub(count);
                if rest.is_none() && !is_loopback(source.ip()) {
                    guard.refuse(Refusal::Unheard, source);
                } else if guard.is_over_rate(source) {
                    guard.refuse(Refusal::Rate, source);
                } else {
                    self.unasked = rest.unwrap_or_default();
                    guard.send(&buffer[..count], peer, self.hops);
                }
                true
            }
        }
    }
}
