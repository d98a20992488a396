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
mod splice;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::units::Patience;
use crate::wait::{Deadline, GONE, Key, PollFlags, Set};
use duplex::{Duplex, Fault, Reader, Readiness, WhenClosed, Writer};
use splice::{Channel, MUCH};

/// When a session ends that would not end by itself.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long local input may be silent after the remote has ended.
    pub half_close_wait: Patience,
    /// How long the remote may take to end after local input has ended; reaching it is no error.
    pub wait_after_eof: Option<Duration>,
    /// How long nothing may move in either direction.
    pub idle_timeout: Option<Duration>,
    /// The end of everything, whatever is under way.
    pub deadline: Deadline,
}

impl Rules {
    /// Each direction goes on to its own end, however long that takes.
    pub const PATIENT: Self = Self {
        half_close_wait: Patience::Forever,
        wait_after_eof: None,
        idle_timeout: None,
        deadline: Deadline::NEVER,
    };
}

/// Why a session did not come to its end.
#[derive(Debug)]
pub enum Broken {
    /// Local input could not be read.
    Input(io::Error),
    /// Local output could not be written.
    Output(io::Error),
    /// The remote took only so many bytes, and then no more.
    Send {
        error: io::Error,
        sent: u64,
    },
    /// The remote did not end but broke off; what of the bytes sent it took is not known.
    Receive {
        error: io::Error,
        sent: u64,
    },
    /// What watches the session could not write it down.
    Tap(io::Error),
    /// Nothing moved for the idle timeout.
    Idle,
    Deadline,
}

/// How many bytes were written, in either direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub sent: u64,
    pub received: u64,
    pub first_received: Option<Instant>,
}

/// Joins `local` and `remote` until both directions have ended. Both are closed when it returns.
/// `traffic` is how far it got, however it ends.
pub fn relay(
    local: Duplex,
    remote: Duplex,
    rules: &Rules,
    traffic: &mut Traffic,
) -> Result<(), Broken> {
    let now = Instant::now();
    let mut session = Session {
        outgoing: Pump::new(local.reader, remote.writer),
        incoming: Pump::new(remote.reader, local.writer),
        outgoing_end: None,
        incoming_end: None,
        undelivered: None,
        output_lost: None,
        last_sent: now,
        last_move: now,
        first_received: None,
    };
    let result = session.run(rules);
    *traffic = Traffic {
        sent: session.outgoing.written,
        received: session.incoming.written,
        first_received: session.first_received,
    };
    result
}

struct Session {
    outgoing: Pump,
    incoming: Pump,
    outgoing_end: Option<Instant>,
    incoming_end: Option<Instant>,
    /// Why the outgoing direction ended early; reported once the incoming one has ended.
    undelivered: Option<io::Error>,
    /// Why the incoming direction ended early; reported once the outgoing one has ended.
    output_lost: Option<io::Error>,
    last_sent: Instant,
    last_move: Instant,
    first_received: Option<Instant>,
}

struct Limits {
    /// The session is over, and that is no error.
    end: Deadline,
    idle: Deadline,
}

/// What can go on after a wait.
#[expect(clippy::struct_excessive_bools, reason = "each comes true by itself")]
struct Ready {
    outgoing: bool,
    incoming: bool,
    /// The reader of local output has gone away, though nothing is there to be written.
    output_closed: bool,
    /// Nothing can be sent any more, though nothing is there to be sent.
    remote_gone: bool,
}

impl Session {
    fn run(&mut self, rules: &Rules) -> Result<(), Broken> {
        loop {
            if self.incoming_end.is_some() {
                if let Some(error) = self
                    .undelivered
                    .take()
                    .or_else(|| self.outgoing.writer.take_error())
                {
                    return Err(Broken::Send {
                        error,
                        sent: self.outgoing.written,
                    });
                }
                if self.outgoing_end.is_some() {
                    return self
                        .output_lost
                        .take()
                        .map_or(Ok(()), |error| Err(Broken::Output(error)));
                }
            }
            let limits = self.limits(rules);
            if limits.end.has_passed() {
                // Reaching it does not make up for bytes that were lost before.
                let sent = self.outgoing.written;
                let lost = self.undelivered.take();
                return lost.map_or(Ok(()), |error| Err(Broken::Send { error, sent }));
            }
            if limits.idle.has_passed() {
                return Err(Broken::Idle);
            }
            if rules.deadline.has_passed() {
                return Err(Broken::Deadline);
            }
            let first = limits.end.min(limits.idle).min(rules.deadline);
            let ready = self.wait(first).map_err(Broken::Input)?;
            if ready.outgoing {
                self.send(rules)?;
            } else if ready.remote_gone {
                return Err(Broken::Send {
                    error: (self.outgoing.writer.take_error())
                        .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
                    sent: self.outgoing.written,
                });
            } else if ready.output_closed {
                self.output_failed(io::ErrorKind::BrokenPipe.into())?;
            }
            if ready.incoming {
                self.receive()?;
            }
        }
    }

    /// The limits that are reached if nothing moves from now on.
    fn limits(&self, rules: &Rules) -> Limits {
        let half_closed = match (self.incoming_end, rules.half_close_wait) {
            // Bytes on their way to a peer that takes its time are no silence.
            (Some(end), Patience::For(silence)) if !self.outgoing.is_writing() => {
                Deadline::since(end.max(self.last_sent), silence)
            }
            _ => Deadline::NEVER,
        };
        let after_eof = match (self.outgoing_end, rules.wait_after_eof) {
            (Some(end), Some(wait)) => Deadline::since(end, wait),
            _ => Deadline::NEVER,
        };
        let idle = rules.idle_timeout;
        Limits {
            end: half_closed.min(after_eof),
            idle: idle.map_or(Deadline::NEVER, |time| {
                Deadline::since(self.last_move, time)
            }),
        }
    }

    /// Waits until a direction can go on, or until `limit`.
    fn wait(&self, limit: Deadline) -> io::Result<Ready> {
        let outgoing = self.outgoing.wants();
        let incoming = self.incoming.wants();
        let at_once = matches!(outgoing, Want::Nothing) || matches!(incoming, Want::Nothing);
        // Errors are reported for every descriptor, also where no event is asked for.
        let output = match &incoming {
            Want::Event(_, PollFlags::IN) => self.incoming.writer.pipe(),
            _ => None,
        };
        // While the remote still sends, its going away shows there.
        let remote = match &outgoing {
            Want::Event(_, PollFlags::OUT) => None,
            _ if self.incoming_end.is_some() && self.outgoing_end.is_none() => {
                self.outgoing.writer.fd()
            }
            _ => None,
        };
        let mut set = Set::new();
        let [outgoing_key, incoming_key] = [&outgoing, &incoming].map(|want| match want {
            Want::Event(fd, events) => set.add(*fd, *events),
            Want::Nothing | Want::Forever => Key::ABSENT,
        });
        let output = set.add(output, GONE);
        let remote = set.add(remote, GONE);
        let ready = set.wait(if at_once { Deadline::now() } else { limit })?;
        Ok(Ready {
            outgoing: matches!(outgoing, Want::Nothing) || ready[outgoing_key],
            incoming: matches!(incoming, Want::Nothing) || ready[incoming_key],
            output_closed: ready[output],
            remote_gone: ready[remote],
        })
    }

    fn send(&mut self, rules: &Rules) -> Result<(), Broken> {
        match self.outgoing.step() {
            Ok(Step::Waiting) => {}
            Ok(Step::Moved) => {
                self.last_move = Instant::now();
                self.last_sent = self.last_move;
            }
            Ok(Step::Ended) => {
                self.outgoing_end = Some(Instant::now());
                if !self.incoming.ended
                    && let Some(error) = self.incoming.writer.broken_off()
                {
                    self.output_failed(error)?;
                }
                // After a failure its receiver must not take for complete what may be cut short.
                if self.outgoing.reader.finishes && self.output_lost.is_none() {
                    self.outgoing.writer.finish();
                    if let Some(most) = self.reset_may_take(rules) {
                        self.undelivered = self.outgoing.writer.wait_until_taken(most);
                    }
                }
            }
            Err(Fault::Read(error)) => return Err(Broken::Input(error)),
            Err(Fault::Tap(error)) => return Err(Broken::Tap(error)),
            Err(Fault::Write(error)) => {
                // As in `Writer::broken_off`, the reset may have been lost.
                let is_reset =
                    error.kind() == io::ErrorKind::BrokenPipe && self.incoming_end.is_none();
                self.sending_failed(if is_reset {
                    Errno::CONNRESET.into()
                } else {
                    error
                });
            }
        }
        Ok(())
    }

    /// How long to wait for a reset: it may answer what was sent after the remote had ended, and would
    /// be lost after our own end.
    fn reset_may_take(&self, rules: &Rules) -> Option<Duration> {
        let sent_late = self.incoming_end.is_some_and(|end| self.last_sent > end);
        let Patience::For(most) = rules.half_close_wait else {
            return None;
        };
        let left = rules.deadline.left();
        sent_late.then(|| left.map_or(most, |left| most.min(left)))
    }

    fn receive(&mut self) -> Result<(), Broken> {
        match self.incoming.step() {
            Ok(Step::Waiting) => {}
            Ok(Step::Moved) => {
                self.last_move = Instant::now();
                self.first_received.get_or_insert(self.last_move);
            }
            Ok(Step::Ended) => {
                self.incoming_end = Some(Instant::now());
                if !self.outgoing.ended
                    && let Some(error) = self.outgoing.writer.broken_off()
                {
                    self.sending_failed(error);
                }
                if self.incoming.reader.finishes && self.undelivered.is_none() {
                    self.incoming.writer.finish();
                }
            }
            Err(Fault::Write(error)) => self.output_failed(error)?,
            Err(Fault::Tap(error)) => return Err(Broken::Tap(error)),
            // After a reset the write that met it knows more: there was something left to send.
            Err(Fault::Read(error)) => {
                let sent = self.outgoing.written;
                return Err(match self.undelivered.take() {
                    Some(error) => Broken::Send { error, sent },
                    None => Broken::Receive { error, sent },
                });
            }
        }
        Ok(())
    }

    fn sending_failed(&mut self, error: io::Error) {
        self.outgoing.ended = true;
        self.outgoing_end = Some(Instant::now());
        self.undelivered = Some(error);
    }

    fn output_failed(&mut self, error: io::Error) -> Result<(), Broken> {
        match self.incoming.writer.closed_by(&error) {
            WhenClosed::Fails => return Err(Broken::Output(error)),
            WhenClosed::Discards => {}
            WhenClosed::FailsAtTheEnd => {
                self.incoming.ended = true;
                self.incoming_end = Some(Instant::now());
                self.output_lost = Some(error);
            }
        }
        self.incoming.drop_pending();
        Ok(())
    }
}

/// One direction: bytes from `reader` to `writer`, at most one buffer of them under way.
struct Pump {
    reader: Reader,
    writer: Writer,
    buffer: Vec<u8>,
    encoded: Vec<u8>,
    passage: Passage,
    /// What of `buffer`, or of `encoded` where there is an encoding, is still to be written.
    pending: Range<usize>,
    /// `reader` has bytes that `writer` did not take.
    stalled: bool,
    reader_ended: bool,
    /// The reader has ended and all it delivered has been written, or can never be.
    ended: bool,
    written: u64,
}

/// What bytes pass through in place of a buffer. It opens once much came at a time: a session of
/// few bytes needs no pipe.
enum Passage {
    Closed,
    Open(Channel),
    /// The writer does not take what comes in this way.
    Refused,
}

enum Step {
    Moved,
    Waiting,
    Ended,
}

/// What a pump waits for.
enum Want<'a> {
    /// It can go on at once.
    Nothing,
    Event(BorrowedFd<'a>, PollFlags),
    Forever,
}

impl Pump {
    fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            reader,
            writer,
            buffer: Vec::new(),
            encoded: Vec::new(),
            passage: Passage::Closed,
            pending: 0..0,
            stalled: false,
            reader_ended: false,
            ended: false,
            written: 0,
        }
    }

    /// Gives up what has been read and not been written.
    fn drop_pending(&mut self) {
        self.pending = 0..0;
        self.passage = Passage::Closed;
        self.stalled = false;
    }

    fn is_writing(&self) -> bool {
        let passing = matches!(&self.passage, Passage::Open(channel) if !channel.is_empty());
        self.stalled || passing || !self.pending.is_empty()
    }

    fn wants(&self) -> Want<'_> {
        if self.ended {
            Want::Forever
        } else if self.is_writing() {
            self.writer
                .fd()
                .map_or(Want::Nothing, |fd| Want::Event(fd, PollFlags::OUT))
        } else {
            match self.reader.readiness() {
                Readiness::Now => Want::Nothing,
                Readiness::Poll(fd) => Want::Event(fd, PollFlags::IN),
            }
        }
    }

    /// Moves what goes without waiting.
    fn step(&mut self) -> Result<Step, Fault> {
        if self.pending.is_empty() {
            match self.reader.splice_to(&self.writer) {
                Some(Ok(count)) => {
                    self.stalled = false;
                    self.written += count as u64;
                    return Ok(Step::Moved);
                }
                Some(Err(fault)) if fault.is_wait() => {
                    // Whichever of the two was ready, it must be the other that is not.
                    self.stalled = !self.stalled;
                    if self.stalled || !self.reader.reads_past_urgent_data() {
                        return Ok(Step::Waiting);
                    }
                    // splice(2) stops before an urgent byte for ever, and poll(2) calls it readable.
                }
                Some(Err(fault)) => return Err(fault),
                None => self.stalled = false,
            }
            if let Some(step) = self.pass()? {
                return Ok(step);
            }
        }
        if self.pending.is_empty() {
            match self.read() {
                Err(fault) if fault.is_wait() => return Ok(Step::Waiting),
                result => result?,
            }
        }
        let much = self.pending.len() >= MUCH;
        while !self.pending.is_empty() {
            let bytes = if self.writer.is_plain() {
                &self.buffer
            } else {
                &self.encoded
            };
            let bytes = &bytes[self.pending.clone()];
            match self.writer.write(bytes).map_err(Fault::Write) {
                Ok(count) => {
                    self.writer.note(&bytes[..count])?;
                    self.pending.start += count;
                    self.written += count as u64;
                }
                Err(fault) if fault.is_wait() => return Ok(Step::Moved),
                Err(fault) => return Err(fault),
            }
        }
        if much
            && matches!(self.passage, Passage::Closed)
            && let Some(channel) = self.reader.channel_to(&self.writer)
        {
            self.passage = Passage::Open(channel);
            self.buffer = Vec::new();
        }
        self.ended = self.reader_ended;
        Ok(if self.ended { Step::Ended } else { Step::Moved })
    }

    /// Moves what goes through the channel; `None` where there is none, and where `read` has to go on:
    /// at the end of the reader, and where it stops before an urgent byte.
    fn pass(&mut self) -> Result<Option<Step>, Fault> {
        let Passage::Open(channel) = &mut self.passage else {
            return Ok(None);
        };
        let mut step = Step::Waiting;
        if channel.is_empty() {
            match self.reader.fill(channel) {
                Ok(0) => return Ok(None),
                Ok(_) => step = Step::Moved,
                // Nothing, or an urgent byte, which only `read` goes past.
                Err(fault) if fault.is_wait() => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        while !channel.is_empty() {
            match self
                .writer
                .drain(channel)
                .map(|result| result.map_err(Fault::Write))
            {
                Some(Ok(count)) => {
                    self.written += count as u64;
                    step = Step::Moved;
                }
                Some(Err(fault)) if fault.is_wait() => break,
                Some(Err(fault)) => return Err(fault),
                // As with a file that is open for appending.
                None => {
                    let passage = std::mem::replace(&mut self.passage, Passage::Refused);
                    if let Passage::Open(channel) = passage {
                        self.buffer = channel.take().map_err(Fault::Read)?;
                        self.pending = 0..self.buffer.len();
                        let size = self.reader.most_at_once().max(self.buffer.len());
                        self.buffer.resize(size, 0);
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some(step))
    }

    /// Reads once, and makes what it read pending.
    fn read(&mut self) -> Result<(), Fault> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; self.reader.most_at_once()];
        }
        let count = self.reader.read(&mut self.buffer).map_err(Fault::Read)?;
        if count > 0 {
            self.reader.note(&self.buffer[..count])?;
        }
        self.reader_ended = count == 0;
        self.pending = 0..count;
        if !self.writer.is_plain() {
            self.encoded.clear();
            self.writer.encode(&self.buffer[..count], &mut self.encoded);
            if self.reader_ended {
                self.writer.encode_end(&mut self.encoded);
            }
            self.pending = 0..self.encoded.len();
        }
        Ok(())
    }
}
