//! Ctrl-Z, fg and a new size of the terminal.

use std::io;
use std::os::fd::AsFd as _;

use crate::signal::{self, SIGCONT, SIGTSTP, SIGWINCH, Signals};
use crate::wait::{IN, Key, Ready, Set};

/// Readable once the terminal or its shell has sent one of these signals.
pub struct Job {
    /// `None`: the shell does not stop its jobs.
    stop: Option<Signals>,
    resume: Signals,
    resize: Signals,
}

pub struct Keys {
    stop: Key,
    resume: Key,
    resize: Key,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Nothing,
    /// The user wants to stop this process.
    Stop,
    /// This process was stopped, and goes on.
    Resumed,
    /// The terminal has another size.
    Resized,
}

impl Job {
    /// Catches the signals from now on.
    pub fn new() -> io::Result<Self> {
        let stops = !signal::is_ignored(SIGTSTP);
        let stop = stops.then(|| Signals::catch(&[], &[SIGTSTP]));
        Ok(Self {
            stop: stop.transpose()?,
            resume: Signals::catch(&[], &[SIGCONT])?,
            resize: Signals::catch(&[], &[SIGWINCH])?,
        })
    }

    pub fn watch<'a>(&'a self, set: &mut Set<'a>) -> Keys {
        Keys {
            stop: set.add(self.stop.as_ref().map(|stop| stop.as_fd()), IN),
            resume: set.add(self.resume.as_fd(), IN),
            resize: set.add(self.resize.as_fd(), IN),
        }
    }

    /// The most important of what has happened. The rest is told by the next wait.
    pub fn happened(&self, keys: &Keys, ready: &Ready) -> Happened {
        let stop = self.stop.as_ref();
        if ready[keys.stop] && stop.is_some_and(Signals::arrived) {
            Happened::Stop
        } else if ready[keys.resume] && self.resume.arrived() {
            Happened::Resumed
        } else if ready[keys.resize] && self.resize.arrived() {
            Happened::Resized
        } else {
            Happened::Nothing
        }
    }
}
