//! What a ping waits for besides its socket: the user, the reader of its output, and the time.

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
    stdout: output::Reader,
    /// Whether standard input is a terminal at which Enter may be pressed.
    has_keyboard: bool,
    pub alarm: Alarm,
}

/// Why a wait has ended, if not by the alarm.
pub struct Woken {
    /// Something has arrived, or an error: at this time at the latest.
    pub arrived: Option<Instant>,
    /// The user wants statistics.
    pub asked: bool,
}

impl Console {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            signals: Signals::catch(&[SIGINT], &[SIGQUIT])?,
            stdout: output::Reader::new()?,
            has_keyboard: io::stdin().is_terminal(),
            alarm: Alarm::new(),
        })
    }

    /// Blocks until the alarm, or until something happens. An error when the reader of standard
    /// output has left.
    pub fn wait(&mut self, socket: &ClientSocket) -> Result<Woken, Failure> {
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
            return Err(output::Reader::left());
        }
        let arrived = ready[socket].then_some(now);
        let asked = ready[signal] && self.signals.arrived() && !self.signals.is_ending();
        Ok(Woken {
            arrived,
            asked: (ready[keyboard] && self.entered()) || asked,
        })
    }

    /// Whether Enter was pressed.
    fn entered(&mut self) -> bool {
        let count = rustix::io::read(io::stdin(), &mut [0; 256]);
        self.has_keyboard = count.is_ok_and(|count| count > 0);
        self.has_keyboard
    }
}

/// Whether what is typed there is for this process: to read anything else would stop it (SIGTTIN).
/// A terminal that is not the session's has no foreground.
fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}
