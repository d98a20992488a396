//! One connection that is served: reads and writes within its limits.

mod record;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use super::LimitArgs;
use super::ended::Ended;
use crate::exit::Failure;
use crate::net::backlog::unacknowledged;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::proxy::header::{self, Ends as NamedEnds, PATIENCE};
use crate::relay::duplex::{Duplex, Fault};
use crate::relay::{Broken, Rules, relay};
use crate::server::busy_poll::BusyPoll;
use crate::server::program::Ends;
use crate::tap::{Direction, End, Tap};
use crate::tls::{Acceptor, Session};
use crate::wait::{Deadline, GONE, IN, Key, OUT, PollFlags, Set, if_ready, wait_for};

/// How long a peer may take to acknowledge what was sent to it before its connection is reset.
pub const ACKNOWLEDGEMENT: Duration = Duration::from_millis(500);

/// A connection that is served within `--idle-timeout` and `--max-session`. Services know only this,
/// and not its stream.
pub struct Connection {
    /// The first connection of a server is 1.
    pub number: u64,
    /// What its PROXY header says.
    named: Option<NamedEnds>,
    peer: Peer,
    stream: Arc<Stream>,
    /// When `--max-session` ends it.
    pub session_end: Deadline,
    idle_timeout: Option<Duration>,
    received: Cell<u64>,
    sent: Cell<u64>,
    busy_poll: BusyPoll,
    tap: Option<RefCell<Tap>>,
    /// What encrypts it.
    tls: Option<Rc<Session>>,
}

impl Connection {
    /// `stream` blocks. `tap` records what passes.
    pub fn new(
        number: u64,
        stream: Arc<Stream>,
        peer: Peer,
        limits: &LimitArgs,
        tap: Option<Tap>,
    ) -> Self {
        Self {
            tap: tap.map(RefCell::new),
            tls: None,
            named: None,
            number,
            peer,
            stream,
            session_end: Deadline::within(limits.max_session),
            idle_timeout: limits.idle_timeout,
            received: Cell::new(0),
            sent: Cell::new(0),
            busy_poll: BusyPoll::default(),
        }
    }

    /// Takes the PROXY header, which names the peer. Blocks until it is there, within the limits.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn read_header(&mut self) -> Result<Peer, Ended> {
        let limit = Deadline::after(PATIENCE).min(self.session_end);
        self.named = header::read(&self.stream, limit).map_err(Ended::Header)?;
        if let Some(ends) = self.named {
            self.peer = Peer::Inet(ends.source);
        }
        Ok(self.peer)
    }

    /// The client and the address that it connected to: those of its PROXY header, if there was one.
    pub fn named_ends(&self) -> Option<NamedEnds> {
        let Peer::Inet(source) = self.peer else {
            return None;
        };
        self.named.or_else(|| {
            let destination = self.stream.local().ok().flatten()?.inet()?;
            Some((source, destination).into())
        })
    }

    /// Shakes hands: from then on all is encrypted, and the stream does not block. Blocks until the
    /// client has agreed, within the limits.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn encrypt(&mut self, acceptor: &Acceptor) -> Result<(), Ended> {
        let limit = self.limit();
        let shaken = acceptor.shake_hands(Arc::clone(&self.stream) as _, limit);
        let session = match shaken {
            Ok(session) => session,
            Err(Some(why)) => return Err(Ended::Handshake(why)),
            Err(None) => return self.check(limit),
        };
        self.tls = Some(Rc::new(session));
        Ok(())
    }

    /// Whom the certificate of the peer names, if it has presented one.
    pub fn subject(&self) -> Option<String> {
        self.tls.as_ref()?.subject()
    }

    /// The addresses of both ends.
    pub fn ends(&self) -> io::Result<Ends> {
        Ok(Ends {
            protocol: match self.peer {
                Peer::Inet(_) => "TCP",
                Peer::Unix(_) => "UNIX",
            },
            remote: self.peer,
            tls_subject: self.subject(),
            local: self.stream.local()?,
        })
    }

    /// The connection as one end of a session. Its stream is non-blocking from then on.
    pub fn duplex(&self) -> Result<Duplex, Ended> {
        let mut duplex = match &self.tls {
            Some(session) => Duplex::of_session(Rc::clone(session)),
            None => Duplex::of_socket(Arc::clone(&self.stream) as _).map_err(Ended::Failed)?,
        };
        if let Some(tap) = &self.tap {
            duplex.record(&tap.borrow());
        }
        Ok(duplex)
    }

    /// Joins `local` to `remote`, which is this connection, within its limits. `failure` says what a
    /// fault of `local` means.
    pub fn relay(
        &self,
        local: Duplex,
        remote: Duplex,
        rules: Rules,
        failure: impl FnOnce(&Fault) -> Failure,
    ) -> Result<(), Ended> {
        let rules = Rules {
            queued: unacknowledged,
            idle_timeout: self.idle_timeout,
            deadline: self.session_end,
            ..rules
        };
        let (traffic, result) = relay(local, remote, &rules);
        self.received.update(|total| total + traffic.received);
        self.sent.update(|total| total + traffic.sent);
        result.map_err(|broken| match broken {
            Broken::Receive(error) | Broken::Send(error) => Ended::Failed(error),
            Broken::Local(fault) => Ended::Local(failure(&fault)),
            Broken::Idle(time) => Ended::Idle(time),
            Broken::Deadline(time) => Ended::Session(time),
        })
    }

    /// Reads what has arrived; 0 is the end of the peer's data. Blocks until there is something.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Ended> {
        let read = match &self.tls {
            Some(session) => self.await_session(session, IN, || session.read(buffer)),
            None => self.within_limits(Stream::set_read_timeout, |stream| {
                self.busy_poll
                    .receive(|flags| stream.receive(buffer, flags))
            }),
        };
        let read = self.moved(Direction::Received, buffer, read.map(Some))?;
        Ok(read.unwrap_or(0))
    }

    /// Writes all of `bytes`. Blocks until the system has taken them all.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let written = match &self.tls {
                Some(session) => self.await_session(session, OUT, || session.write(bytes)),
                None => self.within_limits(Stream::set_write_timeout, |stream| {
                    stream.send(bytes, SendFlags::empty())
                }),
            };
            let written = self.moved(Direction::Sent, bytes, written.map(Some))?;
            bytes = &bytes[written.unwrap_or(0)..];
        }
        while let Some(session) = self.tls.as_ref().filter(|tls| tls.is_flushing()) {
            self.await_session(session, OUT, || {
                let has_moved = session.flush()?;
                has_moved.then_some(()).ok_or(ErrorKind::WouldBlock.into())
            })?;
        }
        Ok(())
    }

    /// Repeats `call` until it need not wait for the socket, within the limits.
    fn await_session<T>(
        &self,
        session: &Session,
        wants: PollFlags,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Result<T, Ended> {
        let limit = self.limit();
        loop {
            self.check(limit)?;
            if let Some(result) = if_ready(call()).map_err(Ended::Failed)? {
                return Ok(result);
            }
            let mut set = Set::new();
            set.add(self.stream.as_fd(), session.waits_for(wants));
            set.wait(limit).map_err(Ended::Failed)?;
        }
    }

    /// Reads what has arrived; 0 is the end of the peer's data. `None`: nothing has arrived.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Ended> {
        let received = match &self.tls {
            Some(session) => session.read(buffer),
            None => self.stream.receive(buffer, RecvFlags::DONTWAIT),
        };
        let received = if_ready(received).map_err(Ended::Failed);
        self.moved(Direction::Received, buffer, received)
    }

    /// Writes as much of `bytes` as the system takes now. `None`: it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        let sent = match &self.tls {
            Some(session) => session.write(bytes),
            None => self.stream.send(bytes, SendFlags::DONTWAIT),
        };
        let sent = if_ready(sent).map_err(Ended::Failed);
        self.moved(Direction::Sent, bytes, sent)
    }

    /// Adds the connection to `set`, for [`Self::try_read`] (`IN`) and [`Self::try_write`] (`OUT`).
    /// For neither, it is not added: a peer that has gone away would end every wait.
    pub fn add_to<'a>(&'a self, set: &mut Set<'a>, wants: PollFlags) -> Key {
        let Some(session) = &self.tls else {
            return set.add((!wants.is_empty()).then(|| self.stream.as_fd()), wants);
        };
        // A write that fails is seen by the next read or write.
        let _ = session.flush();
        let events = session.waits_for(wants);
        let key = set.add((!events.is_empty()).then(|| self.stream.as_fd()), events);
        if wants.contains(IN) && session.is_ready() {
            set.is_ready(key, IN);
        }
        key
    }

    /// The bytes received and the bytes sent.
    pub fn traffic(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// When the connection reaches its first limit, if nothing moves from now on.
    pub fn limit(&self) -> Deadline {
        Deadline::within(self.idle_timeout).min(self.session_end)
    }

    /// Fails if a [`Self::limit`] has passed.
    pub fn check(&self, limit: Deadline) -> Result<(), Ended> {
        match limit {
            _ if !limit.has_passed() => Ok(()),
            _ if limit == self.session_end => Err(Ended::Session(limit.length())),
            _ => Err(Ended::Idle(limit.length())),
        }
    }

    /// Blocks for `time`, or until the peer has gone away.
    pub fn pause(&self, time: Duration) -> Result<(), Ended> {
        let end = Deadline::after(time);
        while !self.is_gone_by(end.min(self.session_end))? && !end.has_passed() {
            self.check(self.session_end)?;
        }
        Ok(())
    }

    /// Blocks until the peer has gone away or `deadline` has passed; whether it has gone away. A
    /// signal ends the wait early.
    pub fn is_gone_by(&self, deadline: Deadline) -> Result<bool, Ended> {
        wait_for(self.stream.as_fd(), GONE, deadline).map_err(Ended::Failed)
    }

    fn within_limits(
        &self,
        set_timeout: impl Fn(&Stream, Option<Duration>) -> io::Result<()>,
        mut call: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Result<usize, Ended> {
        let limit = self.limit();
        loop {
            // Before the call: with a peer that never stops sending, every call succeeds.
            self.check(limit)?;
            if let Some(left) = limit.left() {
                // Zero means no timeout (socket(7)).
                set_timeout(&self.stream, Some(left.max(Duration::from_micros(1))))
                    .map_err(Ended::Failed)?;
            }
            // With a timeout, SIGSTOP and SIGCONT interrupt the call (signal(7)).
            if let Some(count) = if_ready(call(&self.stream)).map_err(Ended::Failed)? {
                return Ok(count);
            }
        }
    }

    /// Ends our data: the peer sees that, and can still send.
    pub fn finish(&self) -> io::Result<()> {
        self.note_end(Direction::Sent, End::Fin);
        match &self.tls {
            Some(session) => session.finish(),
            None => self.stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends our data and waits for the peer's end, for a second at most. Closing with unread data of
    /// the peer would reset the connection (RFC 1122, section 4.2.2.13). The peer might lose the last
    /// answer. A peer that goes on sending is [broken off](Self::break_off): nobody takes its data.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn close_gently(&self) {
        const MOST_TIME: Duration = Duration::from_secs(1);
        /// What may have been on the way when the peer saw our end.
        const MOST_BYTES: usize = 1 << 20;
        let end = Deadline::after(MOST_TIME);
        if let Some(session) = &self.tls {
            self.note_end(Direction::Sent, End::Fin);
            if !session.close(end, MOST_BYTES) {
                self.break_off();
            }
            return;
        }
        if self.finish().is_err() {
            return;
        }
        let mut dropped = 0;
        // Stack budget: see pool.
        let mut scratch = [0; 1024];
        while !end.has_passed() && wait_for(self.stream.as_fd(), IN, end).is_ok() {
            match if_ready(self.stream.receive(&mut scratch, RecvFlags::DONTWAIT)) {
                Ok(Some(0)) => return self.note_end(Direction::Received, End::Fin),
                Err(_) => return,
                Ok(count) => dropped += count.unwrap_or(0),
            }
            if dropped > MOST_BYTES {
                return self.break_off();
            }
        }
    }

    /// Makes closing reset the connection: the peer does not take its data for complete, and sees that
    /// not all of its own was taken. First blocks until the peer has acknowledged what was sent, for
    /// half a second at most.
    pub fn break_off(&self) {
        let limit = Deadline::after(ACKNOWLEDGEMENT);
        let _ = self.stream.await_acknowledgement(limit);
        self.note_end(Direction::Sent, End::Reset);
        self.stream.reset_on_close();
    }
}
