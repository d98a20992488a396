//! Moves the bytes of a session both ways, each direction to its own end.
//!
//! - When the local reader ends, the remote writer is finished (half-close), and receiving goes on
//!   until the remote ends, or for `wait_after_eof`.
//! - When the remote ends, what it sent has been written. If local input has ended as well, that is
//!   the end. While it is open, what it delivers is still sent, until it has been silent for
//!   `half_close_wait`.
//! - Bytes that could not be delivered are an error, and so is a reset; what was received before is
//!   written first.
//!
//! One thread does it all: it waits for either direction in poll(2), and never in a read or a
//! write. So limits are exact, neither direction holds up the other, and nothing is left running at
//! the end.

pub mod duplex;
pub mod options;
mod pump;
mod splice;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::units::Patience;
use crate::wait::{Deadline, GONE, Key, Set, pause};
use duplex::{Duplex, Fault, Reader, WhenClosed, Writer, is_gone};
use pump::Pump;
use splice::Step;

/// When a session ends that would not end by itself.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Sent in place of local input that ends without a byte. The sending side then stays open.
    pub instead_of_no_input: Option<Vec<u8>>,
    /// How long local input may be silent after the end of the remote.
    pub half_close_wait: Patience,
    /// How long the remote may take to end after local input has ended. Reaching it is no error.
    pub wait_after_eof: Option<Duration>,
    /// How long nothing may move in either direction.
    pub idle_timeout: Option<Duration>,
    pub deadline: Deadline,
}

impl Rules {
    /// Each direction goes on to its own end, however long that takes.
    pub const PATIENT: Self = Self {
        instead_of_no_input: None,
        half_close_wait: Patience::Forever,
        wait_after_eof: None,
        idle_timeout: None,
        deadline: Deadline::NEVER,
    };
}

/// Why a session did not come to its end.
#[derive(Debug)]
pub enum Broken {
    /// The local end could not be read or written, or the tap could not.
    Local(Fault),
    /// The remote did not take all bytes.
    Send(io::Error),
    /// The remote broke off. How many of the bytes sent it took is not known.
    Receive(io::Error),
    /// Nothing moved for this long.
    Idle(Duration),
    /// The session took this long.
    Deadline(Duration),
}

/// How many bytes were written in either direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub sent: u64,
    pub received: u64,
    pub first_received: Option<Instant>,
}

/// Joins `local` and `remote` until both directions have ended. Both are closed when it returns.
/// `traffic` tells what was written, also after an error.
pub fn relay(
    local: Duplex,
    remote: Duplex,
    rules: &Rules,
    traffic: &mut Traffic,
) -> Result<(), Broken> {
    let mut session = Session {
        rules,
        outgoing: Direction::new(local.reader, remote.writer),
        incoming: Direction::new(remote.reader, local.writer),
    };
    let result = session.run();
    *traffic = Traffic {
        sent: session.outgoing.pump.written,
        received: session.incoming.pump.written,
        first_received: session.incoming.first_move,
    };
    result
}

/// One direction of a session.
struct Direction {
    pump: Pump,
    first_move: Option<Instant>,
    /// When bytes moved last, or the session began.
    last_move: Instant,
    /// When the direction ended.
    end: Option<Instant>,
    /// Why it ended early. It is reported when the other direction has ended.
    failure: Option<io::Error>,
}

impl Direction {
    fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            pump: Pump::new(reader, writer),
            first_move: None,
            last_move: Instant::now(),
            end: None,
            failure: None,
        }
    }

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    fn end(&mut self, failure: Option<io::Error>) {
        self.end = Some(Instant::now());
        self.failure = failure;
    }

    /// How the connection that is written to broke, if it did while bytes were still to come.
    fn reset(&self) -> Option<io::Error> {
        let is_open = !self.has_ended();
        is_open.then(|| self.pump.writer.take_error()).flatten()
    }

    /// Whether the reader has ended, and all that it delivered is written.
    fn step(&mut self) -> Result<bool, Fault> {
        let step = self.pump.step()?;
        if let Step::Moved(_) = step {
            self.last_move = Instant::now();
            self.first_move.get_or_insert(self.last_move);
        }
        Ok(step == Step::End)
    }

    /// Adds what the next step waits for. `None`: it need not wait.
    fn wait_in<'a>(&'a self, set: &mut Set<'a>) -> Option<Key> {
        if self.has_ended() {
            return Some(Key::ABSENT);
        }
        let (fd, events) = self.pump.waits_for()?;
        Some(set.add(fd, events))
    }
}

struct Session<'a> {
    rules: &'a Rules,
    /// From the local end to the remote.
    outgoing: Direction,
    incoming: Direction,
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), Broken> {
        loop {
            let (end, idle, deadline) = (self.end(), self.idle(), self.rules.deadline);
            if end.has_passed() || self.outgoing.has_ended() && self.incoming.has_ended() {
                break;
            }
            if idle.has_passed() {
                return Err(Broken::Idle(idle.length()));
            }
            if deadline.has_passed() {
                return Err(Broken::Deadline(deadline.length()));
            }
            self.advance(end.min(idle).min(deadline))?;
        }
        self.await_acknowledgement().map_err(wait_failed)?;
        self.result()
    }

    /// When the session is over if nothing moves from now on.
    fn end(&self) -> Deadline {
        let half_close = match (self.incoming.end, self.rules.half_close_wait) {
            // A peer that takes its time to read is no silence of the input.
            (Some(end), Patience::For(silence)) if !self.outgoing.pump.is_writing() => {
                Deadline::since(end.max(self.outgoing.last_move), silence)
            }
            _ => Deadline::NEVER,
        };
        match (self.outgoing.end, self.rules.wait_after_eof) {
            (Some(end), Some(wait)) => half_close.min(Deadline::since(end, wait)),
            _ => half_close,
        }
    }

    fn idle(&self) -> Deadline {
        let last_move = self.outgoing.last_move.max(self.incoming.last_move);
        let time = self.rules.idle_timeout;
        time.map_or(Deadline::NEVER, |time| Deadline::since(last_move, time))
    }

    /// Waits until a direction can go on, or until `limit`, and moves what can be moved.
    fn advance(&mut self, limit: Deadline) -> Result<(), Broken> {
        let is_receiving = !self.incoming.has_ended();
        let is_sending = !self.outgoing.has_ended();
        let mut set = Set::new();
        let outgoing = self.outgoing.wait_in(&mut set);
        let incoming = self.incoming.wait_in(&mut set);
        // Nothing has to be written for poll(2) to show that the reader of a pipe has gone, or that
        // a remote which has ended was reset.
        let output = self.incoming.pump.writer.pipe();
        let output = set.add(output.filter(|_| is_receiving), GONE);
        let remote = self.outgoing.pump.writer.fd();
        let remote = set.add(remote.filter(|_| is_sending && !is_receiving), GONE);
        let is_at_once = outgoing.is_none() || incoming.is_none();
        let limit = if is_at_once { Deadline::now() } else { limit };
        let ready = set.wait(limit).map_err(wait_failed)?;
        let is_ready = |key: Option<Key>| key.is_none_or(|key| ready[key]);
        // What input has delivered is sent first.
        if is_ready(outgoing) {
            self.send()?;
        } else if ready[remote] {
            let error = self.outgoing.reset();
            self.outgoing
                .end(error.or(Some(ErrorKind::BrokenPipe.into())));
        } else if ready[output] {
            self.output_failed(ErrorKind::BrokenPipe.into())?;
        }
        if is_ready(incoming) {
            self.receive()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Broken> {
        match self.outgoing.step() {
            Ok(false) => {}
            Ok(true) => self.input_ended()?,
            Err(Fault::Write(error)) => {
                // EPIPE from a remote that has not ended: it was reset.
                let is_reset = error.kind() == ErrorKind::BrokenPipe && !self.incoming.has_ended();
                let reset = self.outgoing.reset().filter(|_| is_reset);
                self.outgoing.end(reset.or(Some(error)));
            }
            Err(fault) => return Err(Broken::Local(fault)),
        }
        Ok(())
    }

    fn input_ended(&mut self) -> Result<(), Broken> {
        let pump = &mut self.outgoing.pump;
        if let (Some(bytes), 0) = (&self.rules.instead_of_no_input, pump.written) {
            pump.read_from(Reader::bytes(bytes.clone()).without_finish());
            return Ok(());
        }
        self.outgoing.end(None);
        if let Some(error) = self.incoming.reset() {
            self.output_failed(error)?;
        }
        // After a failure the remote must not take for complete what may be cut short.
        if self.outgoing.pump.reader.finishes && self.incoming.failure.is_none() {
            self.outgoing.pump.writer.finish();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Broken> {
        match self.incoming.step() {
            Ok(false) => {}
            Ok(true) => self.remote_ended(),
            Err(Fault::Write(error)) => self.output_failed(error)?,
            Err(Fault::Read(error)) => match self.outgoing.failure.take() {
                // The write met the reset first: there was more to send.
                Some(error) => return Err(Broken::Send(error)),
                None => return Err(Broken::Receive(error)),
            },
            Err(fault @ Fault::Tap(_)) => return Err(Broken::Local(fault)),
        }
        Ok(())
    }

    fn remote_ended(&mut self) {
        self.incoming.end(None);
        if let Some(error) = self.outgoing.reset() {
            self.outgoing.end(Some(error));
        }
        // As in `input_ended`.
        if self.incoming.pump.reader.finishes && self.outgoing.failure.is_none() {
            self.incoming.pump.writer.finish();
        }
    }

    /// Local output takes no more bytes.
    fn output_failed(&mut self, error: io::Error) -> Result<(), Broken> {
        match self.incoming.pump.writer.when_closed {
            WhenClosed::Discards if is_gone(&error) => self.incoming.pump.discard(),
            WhenClosed::FailsAtTheEnd if is_gone(&error) => self.incoming.end(Some(error)),
            _ => return Err(Broken::Local(Fault::Write(error))),
        }
        Ok(())
    }

    /// Waits until the remote has acknowledged our end or reset the connection, for `half_close_wait`
    /// at most. Only bytes that were sent after its end are worth that: it may answer them with a
    /// reset.
    fn await_acknowledgement(&self) -> io::Result<()> {
        /// poll(2) cannot tell: a connection that has ended stays readable.
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        let is_late = |end| self.outgoing.last_move > end;
        let limit = match self.rules.half_close_wait {
            Patience::For(most) if self.incoming.end.is_some_and(is_late) => Deadline::after(most),
            _ => return Ok(()),
        };
        let limit = limit.min(self.rules.deadline);
        while self.outgoing.pump.writer.is_closing() && !limit.has_passed() {
            pause(limit.min(Deadline::after(LOOK_AGAIN)))?;
        }
        Ok(())
    }

    /// How the session ended.
    fn result(&mut self) -> Result<(), Broken> {
        let mut sending = self.outgoing.failure.take();
        if self.incoming.has_ended() {
            sending = sending.or_else(|| self.outgoing.pump.writer.take_error());
        }
        match (sending, self.incoming.failure.take()) {
            (Some(error), _) => Err(Broken::Send(error)),
            (None, Some(error)) => Err(Broken::Local(Fault::Write(error))),
            (None, None) => Ok(()),
        }
    }
}

fn wait_failed(error: io::Error) -> Broken {
    Broken::Local(Fault::Read(error))
}
