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
            if is_process_1() {
                let ended = code(signal);
                flag::register_conditional_shutdown(signal, ended, Arc::clone(&is_ending))?;
            } else {
                flag::register_conditional_default(signal, Arc::clone(&is_ending))?;
            }
            flag::register(signal, Arc::clone(&is_ending))?;
        }
        for &signal in ending.iter().chain(others) {
            low_level::pipe::register(signal, waker.sender()?)?;
            for (_, ends) in ENDS_PROCESS_1.iter().filter(|(other, _)| *other == signal) {
                ends.store(false, Ordering::Relaxed);
            }
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

/// The signals that end process 1, each until [`Signals::catch`] catches it.
static ENDS_PROCESS_1: [(c_int, AtomicBool); 2] = [
    (SIGINT, AtomicBool::new(true)),
    (SIGTERM, AtomicBool::new(true)),
];

/// Lets SIGINT and SIGTERM end this process if it is process 1 of a container. The kernel gives such
/// a process no signal whose action is the default (`pid_namespaces(7)`).
pub fn obey_as_process_1() -> io::Result<()> {
    if is_process_1() {
        for (signal, ends) in &ENDS_PROCESS_1 {
            flag::register_conditional_shutdown(*signal, code(*signal), ends)?;
        }
    }
    Ok(())
}

/// Ends the process as if SIGINT had not been caught: a shell then ends its loop too.
pub fn end_by_interrupt() -> io::Result<()> {
    stderr::finish();
    if is_process_1() {
        low_level::exit(code(SIGINT));
    }
    low_level::emulate_default_handler(SIGINT)
}

fn is_process_1() -> bool {
    rustix::process::getpid().is_init()
}

/// The exit code of a program that `signal` ended, as a shell tells it.
fn code(signal: c_int) -> c_int {
    128 + signal
}
