//! Runs a program for every peer: what the peer sends is its input, what it prints goes back.

use std::collections::HashMap;
use std::io;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::Signal;

use super::guard::Desk;
use super::limit::Source;
use super::refusal::Refusal;
use super::socket::{Inlet, Peer};
use crate::net::datagram::{LARGEST, largest};
use crate::server::program::{Ends, GRACE, Program, Running};
use crate::signal::Children;
use crate::wait::{self, poll};

/// All programs, served by one thread that never waits for any of them.
pub struct Programs {
    program: Program,
    idle_timeout: Duration,
    max_peers: usize,
    children: Children,
    sessions: HashMap<Peer, Session>,
    /// Programs that have been told to end.
    leaving: Vec<Leaving>,
    buffer: Vec<u8>,
}

struct Session {
    running: Running,
    /// `None`: the program reads no more, or is to get no more.
    stdin: Option<ChildStdin>,
    /// `None`: it prints no more. It may go on reading.
    stdout: Option<ChildStdout>,
    /// What is left of a datagram of which the program's input has taken the beginning.
    rest: Vec<u8>,
    /// The hop limit of answers, after the last datagram of the peer.
    hops: Option<u8>,
    /// How many bytes the program may still send before the peer is heard again.
    unasked: usize,
    /// When the last datagram of the peer came. What the program says is no sign of life of a peer
    /// that may never have been there.
    last: Instant,
    started: Instant,
}

/// The peer may be forged, and a program that prints without end a flood for whoever has its
/// address. On loopback there is nobody to be flooded.
const MOST_UNASKED: usize = 1 << 20;

struct Leaving {
    peer: Peer,
    running: Running,
    kill_at: Instant,
}

impl Programs {
    pub fn new(program: Program, idle_timeout: Duration, max_peers: usize) -> io::Result<Self> {
        Ok(Self {
            program,
            idle_timeout,
            max_peers,
            children: Children::install()?,
            sessions: HashMap::new(),
            leaving: Vec::new(),
            buffer: vec![0; LARGEST],
        })
    }

    /// What `serve` has to be told of, in that order.
    pub fn descriptors(&self) -> Vec<PollFd<'_>> {
        let mut descriptors = vec![PollFd::new(&self.children, PollFlags::IN)];
        for session in self.sessions.values() {
            descriptors.extend(session.output());
            descriptors.extend(session.input());
        }
        descriptors
    }

    /// When `serve` has something to do even if nothing is ready.
    pub fn wake(&self) -> Option<Instant> {
        /// Nothing says when the last process of a group has ended.
        const LOOK_AGAIN: Duration = Duration::from_millis(20);
        let sessions = self.sessions.values();
        let idle = sessions.filter_map(|session| session.last.checked_add(self.idle_timeout));
        let look_again = (!self.leaving.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
        idle.chain(look_again).min()
    }

    /// Gives a datagram to the program of its peer, which is started if there is none.
    pub fn take(
        &mut self,
        payload: &[u8],
        peer: Peer,
        hops: Option<u8>,
        inlet: &Inlet,
        desk: &mut Desk,
    ) {
        if !self.sessions.contains_key(&peer) {
            if let Some(refusal) = self.refusal(&peer) {
                return desk.refuse(refusal, peer.address);
            }
            match self.start(&peer, inlet) {
                Ok(session) => self.sessions.insert(peer, session),
                Err(error) => {
                    let what = format!("could not run {} for {}", self.program, peer.address);
                    return desk.fail(&what, &error);
                }
            };
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.hops = hops;
            session.unasked = MOST_UNASKED;
            if session.give(payload) {
                session.last = Instant::now();
            } else {
                desk.refuse(Refusal::NotTaken, peer.address);
            }
        }
    }

    /// Why `peer`, which has no program, gets none.
    fn refusal(&self, peer: &Peer) -> Option<Refusal> {
        if self.sessions.len() + self.leaving.len() >= self.max_peers {
            return Some(Refusal::Full);
        }
        let leaving = self.leaving.iter().map(|leaving| &leaving.peer);
        let peers = self.sessions.keys().chain(leaving);
        // The address of a peer can be forged; and a single host must not shut out all others.
        let host = Source::of(peer.address.ip());
        let same = peers.filter(|other| Source::of(other.address.ip()) == host);
        let most = self.max_peers - self.max_peers / 4;
        (!peer.is_loopback() && same.count() >= most).then_some(Refusal::Crowd)
    }

    fn start(&self, peer: &Peer, inlet: &Inlet) -> io::Result<Session> {
        let source = peer.address;
        let ends = Ends {
            protocol: "UDP",
            remote: source,
            local: peer.local.unwrap_or(inlet.local),
        };
        let mut running = self
            .program
            .start(Some(ends), Stdio::piped(), Stdio::piped())?;
        let stdin = running.child.stdin.take();
        let stdout = running.child.stdout.take();
        if let (Some(stdin), Some(stdout)) = (&stdin, &stdout) {
            rustix::io::ioctl_fionbio(stdin, true)?;
            rustix::io::ioctl_fionbio(stdout, true)?;
        }
        let pid = running.child.id();
        tracing::info!(event = "start", peer = %source, pid, "Started {} for {source}.", self.program);
        let now = Instant::now();
        Ok(Session {
            running,
            stdin,
            stdout,
            rest: Vec::new(),
            hops: None,
            unasked: MOST_UNASKED,
            last: now,
            started: now,
        })
    }

    /// After poll(2): sends what the programs print, goes on writing, and ends those that are idle.
    pub fn serve(&mut self, ready: &[bool], inlets: &[Inlet], desk: &mut Desk) {
        /// A pipe holds a mebibyte at most, and that is so many reads.
        const MOST_LEFT: usize = 17;
        let mut ready = ready.iter().copied();
        let ended = ready.next().unwrap_or_default() && self.children.may_have_ended();
        for (peer, session) in &mut self.sessions {
            let (has_output, has_input) = (session.output().is_some(), session.input().is_some());
            if has_output && ready.next().unwrap_or_default() {
                session.send(&mut self.buffer, peer, &inlets[peer.inlet], desk);
            }
            if has_input && ready.next().unwrap_or_default() {
                session.go_on();
            }
        }
        let now = Instant::now();
        let mut over = Vec::new();
        for (peer, session) in &mut self.sessions {
            // Whatever wait(2) has to complain of, there is no such program any more.
            if ended && session.running.has_ended() {
                // What it printed before it ended; what it left behind may go on for ever.
                let mut turns = 0..MOST_LEFT;
                while turns.next().is_some()
                    && session.send(&mut self.buffer, peer, &inlets[peer.inlet], desk)
                {
                }
                let status = session.running.child.try_wait().ok().flatten();
                let failed = status.filter(|status| !status.success());
                let reason = failed.map(|status| format!("it ended with {status}"));
                over.push((*peer, reason.unwrap_or_else(|| "it ended".to_owned())));
            } else if now.saturating_duration_since(session.last) >= self.idle_timeout {
                over.push((*peer, "idle".to_owned()));
            }
        }
        for (peer, reason) in over {
            self.leave(peer, &reason, now + GRACE);
        }
        self.leaving.retain_mut(|leaving| !leaving.is_over(now));
    }

    /// Tells a program to end, with all that it has started; at `kill_at` it is killed.
    fn leave(&mut self, peer: Peer, reason: &str, kill_at: Instant) {
        let Some(session) = self.sessions.remove(&peer) else {
            return;
        };
        let Session {
            mut running,
            started,
            ..
        } = session;
        let source = peer.address;
        tracing::info!(
            event = "end",
            peer = %source,
            pid = running.child.id(),
            reason,
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "Ended {} for {source}: {reason}.",
            self.program
        );
        running.signal(Signal::TERM);
        self.leaving.push(Leaving {
            peer,
            running,
            kill_at,
        });
    }

    /// Closes the input of all programs, so that those end that wait for more, and what they still
    /// print is sent. The others are ended after half of the time, and killed at `limit`.
    pub fn finish(&mut self, limit: Instant, inlets: &[Inlet], desk: &mut Desk) -> io::Result<()> {
        let now = Instant::now();
        let half = now + limit.saturating_duration_since(now) / 2;
        let running = self.sessions.len();
        if running > 0 {
            tracing::info!(
                event = "drain",
                running,
                "Waiting for {running} program(s) to end..."
            );
        }
        for leaving in &mut self.leaving {
            leaving.kill_at = leaving.kill_at.min(limit);
        }
        while !self.sessions.is_empty() || !self.leaving.is_empty() {
            let now = Instant::now();
            if now >= half {
                let peers: Vec<Peer> = self.sessions.keys().copied().collect();
                for peer in peers {
                    self.leave(peer, "the server ends", limit);
                }
            }
            for session in self.sessions.values_mut() {
                if session.rest.is_empty() {
                    session.stdin = None;
                }
            }
            let wake = self.wake().into_iter();
            let wake = wake
                .chain((!self.sessions.is_empty()).then_some(half))
                .min();
            let mut descriptors = self.descriptors();
            poll(
                &mut descriptors,
                wake.map(|at| at.saturating_duration_since(now)),
            )?;
            let ready: Vec<bool> = wait::ready(&descriptors).collect();
            self.serve(&ready, inlets, desk);
        }
        Ok(())
    }
}

impl Session {
    fn output(&self) -> Option<PollFd<'_>> {
        let stdout = self.stdout.as_ref()?;
        Some(PollFd::new(stdout, PollFlags::IN))
    }

    /// Room for the rest of a datagram; without one, only that nobody reads any more.
    fn input(&self) -> Option<PollFd<'_>> {
        let flags = if self.rest.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let stdin = self.stdin.as_ref()?;
        Some(PollFd::new(stdin, flags))
    }

    /// Gives a datagram to the program, whole or not at all; whether it has been taken.
    fn give(&mut self, payload: &[u8]) -> bool {
        if !self.rest.is_empty() {
            return false;
        }
        match self.write(payload) {
            // pipe(7): of more than 4096 bytes it may take a part.
            Some(count) => {
                self.rest = payload[count..].to_vec();
                true
            }
            None => false,
        }
    }

    /// Goes on with a datagram; if there is none, nobody reads any more.
    fn go_on(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            self.stdin = None;
        } else {
            let count = self.write(&rest).unwrap_or_default();
            // To a program that reads no more, all of it is lost.
            if self.stdin.is_some() {
                self.rest = rest[count..].to_vec();
            }
        }
    }

    /// How much the program's input has taken; `None`: it has no room, or is closed.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let stdin = self.stdin.as_ref()?;
        match retry_on_intr(|| rustix::io::write(stdin, bytes)) {
            Ok(count) => Some(count),
            Err(error) => {
                if error != Errno::AGAIN {
                    self.stdin = None;
                }
                None
            }
        }
    }

    /// Sends what the program has printed, as one datagram; `false`: there is nothing.
    fn send(&mut self, buffer: &mut [u8], peer: &Peer, inlet: &Inlet, desk: &mut Desk) -> bool {
        let Some(stdout) = &self.stdout else {
            return false;
        };
        let buffer = &mut buffer[..largest(&peer.address)];
        match retry_on_intr(|| rustix::io::read(stdout, &mut *buffer)) {
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.stdout = None;
                false
            }
            Ok(count) => {
                let rest = self.unasked.checked_sub(count);
                if rest.is_none() && !peer.is_loopback() {
                    desk.refuse(Refusal::Unheard, peer.address);
                } else if let Some(refusal) = desk.of_rate(peer.address) {
                    desk.refuse(refusal, peer.address);
                } else {
                    self.unasked = rest.unwrap_or_default();
                    desk.send(inlet, &buffer[..count], peer, self.hops);
                }
                true
            }
        }
    }
}

impl Leaving {
    /// Whether nothing is left to be waited for; kills what has not ended in time.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.running.is_gone() {
            return true;
        }
        if now >= self.kill_at {
            self.running.signal(Signal::KILL);
        }
        false
    }
}
