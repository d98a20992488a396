//! Waits for answers, and meanwhile for the user, the reader of standard output and the time.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::alarm::Alarm;
use crate::exit::Failure;
use crate::output;
use crate::signal::{SIGINT, SIGQUIT, Signals};
use crate::udp_client::socket::ClientSocket;
use crate::wait::{GONE, IN, Set};

/// What a ping waits for besides its socket.
pub struct Console {
    pub signals: Signals,
    stdout: output::ReaderWatch,
    /// Standard input is a terminal, and has not ended: Enter asks for statistics.
    has_keyboard: bool,
    pub alarm: Alarm,
}

impl Console {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            signals: Signals::catch(&[SIGINT], &[SIGQUIT])?,
            stdout: output::ReaderWatch::new()?,
            has_keyboard: io::stdin().is_terminal(),
            alarm: Alarm::new(),
        })
    }

    /// Blocks until the alarm, or until something happens. Returns when something had arrived, if so,
    /// and whether the user asks for statistics. Fails when the reader of standard output has left.
    pub fn wait(&mut self, socket: &ClientSocket) -> Result<(Option<Instant>, bool), Failure> {
        let stdin = io::stdin();
        let listens = self.has_keyboard && is_foreground(stdin.as_fd());
        let mut set = Set::new();
        let socket = set.add(socket.as_fd(), IN);
        let signal = set.add(self.signals.as_fd(), IN);
        let keyboard = set.add(listens.then(|| stdin.as_fd()), IN);
        let output = set.add(self.stdout.fd(), GONE);
        let ready = self.alarm.wait(set)?;
        let now = Instant::now();
        if ready[output] {
            return Err(output::ReaderWatch::left());
        }
        let mut asks = ready[signal] && self.signals.arrived() && !self.signals.is_ending();
        if ready[keyboard] {
            // After the end of input, the terminal is ready for ever.
            let count = rustix::io::read(stdin, &mut [0; 256]);
            self.has_keyboard = count.is_ok_and(|count| count > 0);
            asks |= self.has_keyboard;
        }
        Ok((ready[socket].then_some(now), asks))
    }
}

/// Whether this process may read from `terminal`. In the background it would be stopped (SIGTTIN).
/// A terminal of another session has no foreground.
fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}
