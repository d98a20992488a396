//! One direction of a session: its pump, and what has become of it.

use std::io;
use std::time::{Duration, Instant};

use super::Rules;
use super::duplex::{Fault, Reader, Writer};
use super::pump::Pump;
use super::rate::Rate;
use super::splice::Step;
use crate::wait::{Deadline, IN, Key, OUT, Set, wait_for};

pub struct Direction {
    pub pump: Pump,
    pub first_move: Option<Instant>,
    /// When bytes moved last. At first the start of the session.
    pub last_move: Instant,
    pub end: Option<Instant>,
    /// Why the direction ended early. The session reports it when both have ended.
    pub failure: Option<Fault>,
    rate: Option<Rate>,
}

impl Direction {
    pub fn new(reader: Reader, writer: Writer, rules: &Rules) -> Self {
        Self {
            rate: rules.max_rate.map(Rate::new),
            pump: Pump::new(reader, writer),
            first_move: None,
            last_move: Instant::now(),
            end: None,
            failure: None,
        }
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub fn end(&mut self, failure: Option<Fault>) {
        self.end = Some(Instant::now());
        self.failure = failure;
    }

    /// Ends it because of `error`. If it had ended already, it failed none the less.
    pub fn fail(&mut self, error: io::Error) {
        self.end.get_or_insert_with(Instant::now);
        self.failure.get_or_insert(Fault::Write(error));
    }

    /// How the connection that is written to broke. `None`: it did not, or this direction has ended.
    pub fn reset(&self) -> Option<io::Error> {
        let is_open = !self.has_ended();
        is_open.then(|| self.pump.writer.take_error()).flatten()
    }

    /// Moves bytes. Returns whether that was the last of them.
    pub fn step(&mut self) -> Result<bool, Fault> {
        let before = self.pump.written;
        let allows = |rate: &Rate| rate.allows(Instant::now());
        let step = self
            .pump
            .step(self.rate.as_ref().map_or(usize::MAX, allows))?;
        if let Step::Moved(_) = step {
            self.last_move = Instant::now();
            self.first_move.get_or_insert(self.last_move);
        }
        if let Some(rate) = &mut self.rate {
            rate.took(self.pump.written - before, Instant::now());
        }
        Ok(step == Step::End)
    }

    /// Whether there is something to be read now. This process may have been stopped meanwhile.
    pub fn is_readable(&self) -> bool {
        let fd = self.pump.reader.fd();
        // An error of poll(2) comes back in the next wait.
        fd.is_none_or(|fd| wait_for(fd, IN, Deadline::now()).unwrap_or(true))
    }

    /// Sends the end that TLS tells.
    pub fn flush(&self) {
        // It fails if the connection is over, which a read shows.
        let _ = self.pump.writer.flush();
    }

    /// Until when it may move nothing. `None`: it may.
    pub fn paused_until(&self) -> Option<Deadline> {
        let is_reading = !self.has_ended() && !self.pump.is_writing();
        let due = self.rate.as_ref().filter(|_| is_reading)?.due();
        (!due.has_passed()).then_some(due)
    }

    /// Since when nothing has moved, though it might. At first the start of the session.
    pub fn silent_since(&self) -> Instant {
        let may_move_at = self.rate.as_ref().map(Rate::due_at);
        may_move_at.map_or(self.last_move, |at| self.last_move.max(at))
    }

    /// When the next step is due though poll(2) reports nothing: only a write tells that a Unix peer
    /// whose buffer is full has stopped reading.
    pub fn retry_at(&self) -> Deadline {
        const PAUSE: Duration = Duration::from_millis(500);
        if !self.has_ended() && self.paused_until().is_none() && self.pump.is_writing() {
            return Deadline::after(PAUSE);
        }
        Deadline::NEVER
    }

    /// Adds what the next step waits for. `None`: the step is due at once.
    pub fn wait_in<'a>(&'a self, set: &mut Set<'a>) -> Option<Key> {
        if self.has_ended() {
            let writer = &self.pump.writer;
            return Some(set.add(writer.fd().filter(|_| writer.is_flushing()), OUT));
        }
        if self.paused_until().is_some() {
            return Some(Key::ABSENT);
        }
        let (fd, events) = self.pump.waits_for()?;
        Some(set.add(fd, events))
    }
}
