//! The process groups of all programs that run, so that they can be killed at once.

use std::collections::HashSet;
use std::io;
use std::process::Child;
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::lock;

/// Each program leads a group, which has its number.
#[derive(Debug, Default)]
pub struct Groups {
    /// No program starts any more. A thread locks it for reading while it starts one, so that
    /// [`Self::kill`] misses none.
    are_killed: RwLock<bool>,
    running: Mutex<HashSet<Pid>>,
}

impl Groups {
    /// Starts a program, unless all have been killed.
    pub fn start(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
        let are_killed = self
            .are_killed
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if *are_killed {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = start()?;
        lock(&self.running).insert(Pid::from_child(&child));
        Ok(child)
    }

    /// A group is gone. The kernel may give its number to another.
    pub fn remove(&self, group: Pid) {
        lock(&self.running).remove(&group);
    }

    /// Kills all groups. No program starts afterwards. Blocks while one is being started.
    pub fn kill(&self) {
        let are_killed = self.are_killed.write();
        *are_killed.unwrap_or_else(PoisonError::into_inner) = true;
        for group in &*lock(&self.running) {
            // No such process: the group is gone, as it should be.
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}
