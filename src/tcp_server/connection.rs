//! One accepted connection, and the limits it lives under.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv};

use super::scheduling::Scheduling;
use crate::exit::{Exit, Failure, blame, cause};
use crate::net::stream::Stream;
use crate::relay::duplex::Duplex;
use crate::relay::{Broken, Rules, Traffic, relay};
use crate::server::busy_poll::BusyPoll;
use crate::wait::{Deadline, GONE, IN, wait_for};

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
    stream: Arc<Stream>,
    /// What the thread that reads is to follow, if anything.
    scheduling: Option<Arc<Scheduling>>,
    idle_timeout: Option<Duration>,
    /// When the session has to end.
    session: Deadline,
    torn: Cell<bool>,
    received: Cell<u64>,
    sent: Cell<u64>,
    busy_poll: BusyPoll,
}

impl Connection {
    pub fn new(
        number: u64,
        stream: Arc<Stream>,
        scheduling: Option<Arc<Scheduling>>,
        idle_timeout: Option<Duration>,
        max_session: Option<Duration>,
    ) -> Self {
        let session = Deadline::within(max_session);
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

    pub fn stream(&self) -> &Arc<Stream> {
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
            deadline: self.session,
            ..rules.clone()
        };
        let (traffic, result) = relay(local, remote, &rules);
        self.count_received(traffic.received);
        self.count_sent(traffic.sent);
        result.map_err(|broken| match broken {
            Broken::Receive(error) | Broken::Send(error) => Ended::Failed(error),
            Broken::Local(fault) => Ended::Near(fault.failure(name, name)),
            Broken::Idle(time) => Ended::Idle(time),
            Broken::Deadline(time) => Ended::Session(time),
        })
    }

    /// Reads what has arrived; 0 is the end of the peer's input.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Ended> {
        if let Some(scheduling) = &self.scheduling {
            scheduling.follow();
        }
        let count = self.within_limits(Stream::set_read_timeout, |stream| {
            self.busy_poll
                .receive(|flags| stream.receive(buffer, flags))
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
            let count = self.within_limits(Stream::set_write_timeout, |stream| {
                stream.send(bytes, SendFlags::empty())
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
        self.stream.reset_on_close();
        self.torn.set(true);
    }

    pub fn count_received(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    pub fn count_sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    /// When the session has to end, for what cannot be ended from outside.
    pub fn session_limit(&self) -> Deadline {
        self.session
    }

    /// Does nothing for `time`, or until the peer has gone away.
    pub fn pause(&self, time: Duration) -> Result<(), Ended> {
        let end = Deadline::after(time);
        let wake = self.session.min(end);
        while !wake.has_passed() {
            let is_gone = wait_for(self.stream.as_fd(), GONE, wake);
            if is_gone.map_err(Ended::Failed)? {
                return Ok(());
            }
        }
        if wake == end {
            Ok(())
        } else {
            Err(Ended::Session(self.session.length()))
        }
    }

    /// When the connection reaches a limit if nothing moves from now on.
    pub fn limit(&self) -> Deadline {
        Deadline::within(self.idle_timeout).min(self.session)
    }

    /// Fails if a [`Self::limit`] has passed.
    pub fn check(&self, limit: Deadline) -> Result<(), Ended> {
        match limit {
            _ if !limit.has_passed() => Ok(()),
            _ if limit == self.session => Err(Ended::Session(limit.length())),
            _ => Err(Ended::Idle(limit.length())),
        }
    }

    fn within_limits(
        &self,
        set_timeout: impl Fn(&Stream, Option<Duration>) -> io::Result<()>,
        mut call: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Result<usize, Ended> {
        let limit = self.limit();
        loop {
            // Before the call: a peer that always has more makes every call succeed.
            self.check(limit)?;
            if let Some(left) = limit.left() {
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
        let end = Deadline::after(MOST);
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // A larger one would be touched by the thread of every connection to come.
        let mut scratch = [0; 1024];
        loop {
            if end.has_passed() || wait_for(self.stream.as_fd(), IN, end).is_err() {
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
