//! One accepted connection, and the limits it lives under.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::scheduling::Scheduling;
use crate::exit::{Exit, Failure, blame, cause};
use crate::net::resolve::TimeLimit;
use crate::net::socket::reset_when_closed;
use crate::relay::duplex::Duplex;
use crate::relay::{Broken, Rules, Traffic, relay};
use crate::server::busy_poll::BusyPoll;
use crate::tap;
use crate::wait::poll;

/// Why a connection ended otherwise than by its service.
#[derive(Debug)]
pub enum Ended {
    Failed(io::Error),
    /// The near end of a session could not be read or written, or not be had at all.
    Near(Failure),
    /// Nothing moved in either direction for so long.
    Idle(Duration),
    /// It was open for as long as one may be.
    Session(Duration),
    /// A message is longer than so many bytes.
    TooLong(usize),
    /// A program has served it, and has said by its exit status that something was wrong.
    Program(String),
    /// It did not read, and so many bytes were waiting for it.
    Slow(usize),
}

impl Ended {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(error) => blame(error),
            Self::Near(failure) => failure.exit,
            Self::Idle(_) | Self::Session(_) => Exit::Timeout,
            Self::TooLong(_) | Self::Slow(_) | Self::Program(_) => Exit::Network,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&cause(error)),
            Self::Near(failure) => failure.fmt(f),
            Self::Idle(time) => write!(f, "nothing moved for {time:?}"),
            Self::Session(time) => write!(f, "it was open for {time:?}"),
            Self::Program(status) => f.write_str(status),
            Self::Slow(bytes) => {
                write!(f, "it did not read, and {bytes} bytes were waiting for it")
            }
            Self::TooLong(most) => write!(f, "a message is longer than {most} bytes"),
        }
    }
}

/// A connection that blocks, but never beyond its limits.
pub struct Connection {
    /// The first connection of a server is 1.
    pub number: u64,
    stream: Arc<TcpStream>,
    /// What the thread that reads is to follow, if anything.
    scheduling: Option<Arc<Scheduling>>,
    idle_timeout: Option<Duration>,
    /// When the session has to end, and how long that is from its start.
    session: Option<(Instant, Duration)>,
    torn: Cell<bool>,
    received: Cell<u64>,
    sent: Cell<u64>,
    busy_poll: BusyPoll,
}

impl Connection {
    pub fn new(
        number: u64,
        stream: Arc<TcpStream>,
        scheduling: Option<Arc<Scheduling>>,
        idle_timeout: Option<Duration>,
        max_session: Option<Duration>,
    ) -> Self {
        let session = max_session.map(|time| (Instant::now() + time, time));
        Self {
            number,
            stream,
            scheduling,
            idle_timeout,
            session,
            torn: Cell::new(false),
            received: Cell::new(0),
            sent: Cell::new(0),
            busy_poll: BusyPoll::default(),
        }
    }

    pub fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Joins `local` to `remote`, which is this connection, within its limits. `name` is what `local`
    /// is called in messages.
    pub fn relay(
        &self,
        name: &str,
        local: Duplex,
        remote: Duplex,
        rules: &Rules,
    ) -> Result<(), Ended> {
        let rules = Rules {
            idle_timeout: self.idle_timeout,
            deadline: self.session.map(|(end, _)| end),
            ..rules.clone()
        };
        let mut traffic = Traffic::default();
        let result = relay(local, remote, &rules, &mut traffic);
        self.count_received(traffic.received);
        self.count_sent(traffic.sent);
        result.map_err(|broken| match broken {
            Broken::Receive { error, .. } | Broken::Send { error, .. } => Ended::Failed(error),
            Broken::Input(error) => {
                let message = format!("could not read {name}: {}", cause(&error));
                Ended::Near(Failure::new(Exit::Local, message))
            }
            Broken::Output(error) => Ended::Near(Failure::of_output(name, &error)),
            Broken::Tap(error) => Ended::Near(tap::failure(&error)),
            Broken::Idle => Ended::Idle(self.idle_timeout.unwrap_or_default()),
            Broken::Deadline => {
                Ended::Session(self.session.map_or(Duration::ZERO, |(_, time)| time))
            }
        })
    }

    /// Reads what has arrived; 0 is the end of the peer's input.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Ended> {
        if let Some(scheduling) = &self.scheduling {
            scheduling.follow();
        }
        let count = self.within_limits(TcpStream::set_read_timeout, |stream| {
            self.busy_poll.receive(|flags| {
                let (_, count) = recv(stream, &mut *buffer, flags)?;
                Ok(count)
            })
        })?;
        self.count_received(count as u64);
        Ok(count)
    }

    /// Reads what else has arrived, without waiting. 0 tells nothing: an end is seen by `read`.
    pub fn read_on(&self, buffer: &mut [u8]) -> Result<usize, Ended> {
        match recv(&self.stream, buffer, RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                self.count_received(count as u64);
                Ok(count)
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(0),
            Err(error) => Err(Ended::Failed(error.into())),
        }
    }

    /// Writes all of `bytes`.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let count = self.within_limits(TcpStream::set_write_timeout, |mut stream| {
                stream.write(bytes)
            })?;
            self.count_sent(count as u64);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// How many bytes the peer has sent, and how many it has been sent.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.sent.get(),
            received: self.received.get(),
            first_received: None,
        }
    }

    /// The peer is to see that the connection has been broken off, when it is closed.
    pub fn tear(&self) {
        reset_when_closed(&self.stream);
        self.torn.set(true);
    }

    pub fn count_received(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    pub fn count_sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    /// When the session has to end, for what cannot be ended from outside.
    pub fn session_limit(&self) -> Option<TimeLimit> {
        self.session.map(|(at, after)| TimeLimit { at, after })
    }

    /// Does nothing for `time`, or until the peer has gone away.
    pub fn pause(&self, time: Duration) -> Result<(), Ended> {
        let end = Instant::now() + time;
        let wake = self
            .session
            .map_or(end, |(session_end, _)| end.min(session_end));
        loop {
            let left = wake.saturating_duration_since(Instant::now());
            let mut descriptors = [PollFd::new(&*self.stream, PollFlags::empty())];
            poll(&mut descriptors, Some(left)).map_err(Ended::Failed)?;
            if !descriptors[0].revents().is_empty() {
                return Ok(());
            }
            if Instant::now() >= wake {
                return match self.session {
                    Some((session_end, most)) if session_end <= end => Err(Ended::Session(most)),
                    _ => Ok(()),
                };
            }
        }
    }

    /// The limit that is reached next if nothing moves from now on, and what reaching it means.
    pub fn next_limit(&self) -> Option<(Instant, Ended)> {
        let idle = self
            .idle_timeout
            .map(|time| (Instant::now() + time, Ended::Idle(time)));
        let session = self.session.map(|(end, time)| (end, Ended::Session(time)));
        idle.into_iter().chain(session).min_by_key(|(at, _)| *at)
    }

    fn within_limits(
        &self,
        set_timeout: impl Fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Result<usize, Ended> {
        let mut limit = self.next_limit();
        loop {
            // Before the call: a peer that always has more makes every call succeed.
            if let Some((_, ended)) = limit.take_if(|(at, _)| *at <= Instant::now()) {
                return Err(ended);
            }
            if let Some((at, _)) = &limit {
                let left = at.saturating_duration_since(Instant::now());
                // Zero is no timeout at all, to the system.
                set_timeout(&self.stream, Some(left.max(Duration::from_micros(1))))
                    .map_err(Ended::Failed)?;
            }
            match call(&self.stream) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // With a timeout, SIGSTOP and SIGCONT interrupt a call (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Failed(error)),
            }
        }
    }

    /// Lets the peer read the last answer: closing with its bytes unread would reset the connection
    /// and may destroy what it has not read yet (RFC 1122, section 4.2.2.13). Blocks until the peer
    /// has ended, for a second at most.
    #[inline(never)]
    pub fn close_gently(&self) {
        const MOST: Duration = Duration::from_secs(1);
        if self.torn.get() {
            return;
        }
        let end = Instant::now() + MOST;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // A larger one would be touched by the thread of every connection to come.
        let mut scratch = [0; 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut readable = [PollFd::new(&*self.stream, PollFlags::IN)];
            if left.is_zero() || poll(&mut readable, Some(left)).is_err() {
                return;
            }
            match recv(&self.stream, &mut scratch, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return,
                Err(error) if error != Errno::INTR && error != Errno::WOULDBLOCK => return,
                _ => {}
            }
        }
    }
}
