//! Runs a program for every peer: what the peer sends is its input, and what it prints goes back.
//!
//! A session is one program and its two pipes; an allowance is what that program may send.

mod allowance;
mod session;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use session::{Excess, Session};

use super::guard::Guard;
use super::limit::Bucket;
use super::refusal::Refusal;
use super::socket::Peer;
use crate::exit::{Exit, Failure};
use crate::net::datagram::LARGEST;
use crate::server::host::{host, is_loopback, share};
use crate::server::program::{Ends, GRACE, Program, Running};
use crate::signal::{SIGCHLD, Signals};
use crate::units::told;
use crate::wait::{Deadline, IN, Key, Ready, Set};

/// All programs. One thread serves them, and waits for none of them.
pub struct Programs {
    pub program: Program,
    idle_timeout: Duration,
    max_peers: u32,
    /// Each token lets a new peer take the place of another. A host that forges many peers must not make
    /// this machine start programs without end.
    turnover: Bucket,
    children: Signals,
    child_ended: Key,
    sessions: HashMap<Peer, Session>,
    /// Programs that have been told to end.
    leaving: Vec<Leaving>,
    buffer: Vec<u8>,
}

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
            turnover: Bucket::full(Instant::now()),
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
                let replaced = self.replaceable(refusal, &peer);
                let Some(replaced) = replaced.filter(|_| self.may_replace()) else {
                    return guard.refuse(refusal, peer.address);
                };
                let reason = format!("{} takes its place (--max-peers)", peer.address);
                self.leave(replaced, &reason, Deadline::after(GRACE));
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
            let ip = peer.address.ip();
            let trusted = is_loopback(ip) || guard.gate.allows_by_name(ip);
            session.allowance.hear(payload.len(), trusted);
            session.excess = Excess::Absent;
            if session.give(payload) {
                session.idle = Deadline::after(self.idle_timeout);
            } else {
                guard.refuse(Refusal::NotTaken, peer.address);
            }
        }
    }

    /// Why no program is started for `peer`.
    fn refusal(&self, peer: &Peer) -> Option<Refusal> {
        let leaving = self.leaving.iter().map(|leaving| &leaving.peer);
        let peers = self.sessions.keys().chain(leaving);
        // Addresses can be forged, and one host must not shut out all others.
        let own = host(peer.address.ip());
        let same = peers.filter(|other| host(other.address.ip()) == own);
        let most = share(self.max_peers) as usize;
        if !is_loopback(peer.address.ip()) && same.count() >= most {
            return Some(Refusal::Crowd);
        }
        let running = self.sessions.len() + self.leaving.len();
        (running >= self.max_peers as usize).then_some(Refusal::Full)
    }

    /// The peer whose place a new `peer` gets if `refusal` stands in its way: the oldest of those that
    /// have sent a single datagram, which may be forged. A host that has its share loses a place of its
    /// own. The old program may end beside the new one, but few may do so at a time.
    fn replaceable(&self, refusal: Refusal, peer: &Peer) -> Option<Peer> {
        let own = host(peer.address.ip());
        let suits = |other: &Peer| refusal == Refusal::Full || host(other.address.ip()) == own;
        let peers = self.sessions.iter();
        let single = peers.filter(|(other, session)| !session.allowance.goes_on() && suits(other));
        let oldest = single.min_by_key(|(_, session)| session.started);
        oldest
            .filter(|_| self.leaving.len() <= self.max_peers as usize / 4)
            .map(|(other, _)| *other)
    }

    /// Whether one more place may change hands: all of them once a second at most.
    fn may_replace(&mut self) -> bool {
        let interval = Duration::from_secs(1) / self.max_peers;
        self.turnover.take(Instant::now(), interval)
    }

    fn start(&self, peer: &Peer, guard: &Guard) -> io::Result<Session> {
        let source = peer.address;
        let local = peer.local.unwrap_or(guard.sockets[peer.socket].local);
        let ends = Ends {
            protocol: "UDP",
            remote: source.into(),
            local: Some(local.into()),
            tls_subject: None,
        };
        let running = self.program.start(&ends, Stdio::piped(), Stdio::piped())?;
        if let (Some(stdin), Some(stdout)) = (&running.child.stdin, &running.child.stdout) {
            rustix::io::ioctl_fionbio(stdin, true)?;
            rustix::io::ioctl_fionbio(stdout, true)?;
        }
        let pid = running.child.id();
        tracing::info!(event = "start", peer = %source, pid, "Started {} for {source}.", self.program);
        Ok(Session::new(running, Deadline::after(self.idle_timeout)))
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
        let unsent = session.unsent();
        let more = match unsent {
            0 => String::new(),
            _ => format!("; {unsent} bytes that it printed were not sent"),
        };
        let mut running = session.running;
        tracing::info!(
            event = "end",
            peer = %source,
            pid = running.child.id(),
            reason,
            unsent,
            duration_ms = u64::try_from(session.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "Ended {} for {source}: {reason}{more}.",
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
        for session in self.sessions.values_mut() {
            session.excess = Excess::Dropped(0);
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
                session.end_input();
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
        let time = told(limit.length());
        let message = format!("ended {ended} {were} still running after {time} (--drain-timeout)");
        Err(Failure::new(Exit::Timeout, message))
    }
}
