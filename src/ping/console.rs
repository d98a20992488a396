//! Waits for answers, and meanwhile for the user, standard output and the time.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use crate::exit::{Exit, Failure};
use crate::output::{self, Queue};
use crate::signal::{SIGINT, SIGQUIT, Signals};
use crate::terminal::is_in_foreground;
use crate::wait::{Deadline, IN, Ready, Set};

/// How long the end waits for standard output once the user or the deadline has ended the ping.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most bytes that wait for standard output. No probe is sent until it has taken some of them.
const BACKLOG: usize = 1 << 20;

/// What a ping waits for besides its answers.
pub struct Console {
    signals: Signals,
    /// The lines of the report. They hold up neither a probe nor an answer.
    stdout: Queue,
    /// Standard input is a terminal, and has not ended: Enter asks for statistics.
    has_keyboard: bool,
    alarm: Alarm,
    deadline: Deadline,
}

/// What has ended a wait.
pub struct Woken {
    /// What of the answers is ready.
    pub ready: Ready,
    pub at: Instant,
    /// The user asks for statistics.
    pub asks: bool,
}

impl Console {
    /// Catches SIGINT and SIGQUIT from now on.
    pub fn new(deadline: Deadline) -> Result<Self, Failure> {
        Ok(Self {
            signals: Signals::catch(&[SIGINT], &[SIGQUIT])?,
            // A ping prints nothing that a peer sends, and its dots need the backspace.
            stdout: Queue::open(true)?,
            has_keyboard: io::stdin().is_terminal(),
            alarm: Alarm::new(),
            deadline,
        })
    }

    /// Whether the user or the deadline ends the ping.
    pub fn is_over(&self) -> bool {
        self.signals.is_ending() || self.deadline.has_passed()
    }

    pub fn is_past_deadline(&self) -> bool {
        self.deadline.has_passed()
    }

    /// Whether standard output is so far behind that no probe may be sent.
    pub fn is_behind(&self) -> bool {
        self.stdout.len() > BACKLOG
    }

    /// Prints `text`, now or as soon as standard output takes it.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.stdout.push(text.as_bytes())
    }

    /// Makes the next wait end at `at`, or earlier.
    pub fn set_alarm(&mut self, at: Instant) -> io::Result<()> {
        self.end_wait_at(Deadline::since(at, Duration::ZERO))
    }

    /// As [`Self::set_alarm`].
    pub fn end_wait_at(&mut self, limit: Deadline) -> io::Result<()> {
        self.alarm.set(limit.min(self.deadline))
    }

    /// Blocks until the alarm, or until something happens, to `answers` or else. Fails when the reader
    /// of standard output has left.
    pub fn wait(&mut self, answers: Set<'_>) -> Result<Woken, Failure> {
        let stdin = io::stdin();
        let listens = self.has_keyboard && is_in_foreground(io::stdin());
        let mut set = answers;
        let signal = set.add(self.signals.as_fd(), IN);
        let keyboard = set.add(listens.then(|| stdin.as_fd()), IN);
        let output = self.stdout.watch(&mut set);
        let ready = self.alarm.wait(set)?;
        let at = Instant::now();
        if ready[output] {
            self.stdout.go_on()?;
        }
        let mut asks = ready[signal] && self.signals.arrived() && !self.signals.is_ending();
        if ready[keyboard] {
            // After the end of input, the terminal is ready for ever.
            let count = rustix::io::read(stdin, &mut [0; 256]);
            self.has_keyboard = count.is_ok_and(|count| count > 0);
            asks |= self.has_keyboard;
        }
        Ok(Woken { ready, at, asks })
    }

    /// Blocks until one of `answers` is ready, until `limit`, or until [`Self::is_over`].
    pub fn wait_until(&self, answers: Set<'_>, limit: Deadline) -> io::Result<Ready> {
        let mut set = answers;
        set.add(self.signals.as_fd(), IN);
        set.wait(limit.min(self.deadline))
    }

    /// Blocks until standard output has taken all that was printed. Fails if it takes nothing for
    /// [`PATIENCE`] after SIGINT or the deadline.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let mut limit = Deadline::NEVER;
        while !self.stdout.is_empty() {
            if limit.has_passed() {
                let message = format!("could not write {}: nothing reads it", output::NAME);
                return Err(Failure::new(Exit::Local, message));
            }
            if limit == Deadline::NEVER && self.is_over() {
                limit = Deadline::after(PATIENCE);
            }
            let mut set = Set::new();
            let output = self.stdout.watch(&mut set);
            let signals = (!self.signals.is_ending()).then(|| self.signals.as_fd());
            let signal = set.add(signals, IN);
            let wake = if limit == Deadline::NEVER {
                self.deadline
            } else {
                limit
            };
            let ready = set.wait(wake)?;
            if ready[signal] {
                self.signals.arrived();
            }
            if ready[output] {
                self.stdout.go_on()?;
            }
        }
        Ok(())
    }
}
