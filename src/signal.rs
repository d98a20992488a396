//! Signals as something that poll(2) can wait for.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::stderr;
use crate::wait::Waker;

/// The signals that this process catches. Readable once one has arrived, until [`Self::arrived`].
pub struct Signals {
    waker: Waker,
    is_ending: Arc<AtomicBool>,
}

impl Signals {
    /// Catches the signals of both lists. After one of `ending`, the next of them ends the process at
    /// once, as if it were not caught.
    pub fn catch(ending: &[c_int], others: &[c_int]) -> io::Result<Self> {
        let waker = Waker::new()?;
        let is_ending = Arc::new(AtomicBool::new(false));
        for &signal in ending {
            // These run in this order: the first signal finds the flag unset, then sets it.
            flag::register_conditional_default(signal, Arc::clone(&is_ending))?;
            flag::register(signal, Arc::clone(&is_ending))?;
        }
        for &signal in ending.iter().chain(others) {
            low_level::pipe::register(signal, waker.sender()?)?;
        }
        Ok(Self { waker, is_ending })
    }

    /// Whether a signal has arrived since this was last asked.
    pub fn arrived(&self) -> bool {
        self.waker.clear()
    }

    /// Whether one of the ending signals has ever arrived. Makes no system call.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

/// Ends the process as if SIGINT had not been caught: a shell then ends its loop too.
pub fn end_by_interrupt() -> io::Result<()> {
    stderr::finish();
    low_level::emulate_default_handler(SIGINT)
}
