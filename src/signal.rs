//! Signals as something that poll(2) can wait for.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::Resource;
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
pub use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::{flag, low_level};

use crate::limits;
use crate::stderr;
use crate::wait::{Deadline, IN, Waker, wait_for};

/// One of the ending signals has arrived.
static ENDING: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether a caught signal has told this process to end. Makes no system call.
pub fn is_ending() -> bool {
    ENDING
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

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
        let ending_at_all = ENDING.get_or_init(Arc::default);
        for &signal in ending {
            // These run in this order: the first signal finds the flag unset, then sets it.
            if is_process_1() {
                let ended = code(signal);
                flag::register_conditional_shutdown(signal, ended, Arc::clone(&is_ending))?;
            } else {
                flag::register_conditional_default(signal, Arc::clone(&is_ending))?;
            }
            flag::register(signal, Arc::clone(&is_ending))?;
            flag::register(signal, Arc::clone(ending_at_all))?;
        }
        for &signal in ending.iter().chain(others) {
            low_level::pipe::register(signal, waker.sender()?)?;
            spare_process_1(signal);
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

/// The signals that end process 1, each until it is caught.
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

/// Lets a write beyond the limit of a file's size (setrlimit(2)) fail. By default SIGXFSZ ends the process,
/// and peers would take that for an end of their sessions.
pub fn survive_file_size_limit() -> io::Result<()> {
    if limits::of(Resource::Fsize).is_ok_and(|limit| limit.current.is_none()) {
        return Ok(());
    }
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// `signal` is caught: it no longer ends process 1.
fn spare_process_1(signal: c_int) {
    for (_, ends) in ENDS_PROCESS_1.iter().filter(|(other, _)| *other == signal) {
        ends.store(false, Ordering::Relaxed);
    }
}

/// The signals of a thread that does nothing but wait for them.
pub struct Arrivals(SignalDelivery<UnixStream, SignalOnly>);

impl Arrivals {
    pub fn catch(signals: &[c_int]) -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        let arrivals = SignalDelivery::with_pipe(receiver, sender, SignalOnly, signals)?;
        signals.iter().copied().for_each(spare_process_1);
        Ok(Self(arrivals))
    }

    /// Blocks until signals arrive, and returns them. Of the same signal twice at once it may tell only
    /// one.
    // signal-hook's own wait panics if a read fails.
    pub fn wait(&mut self) -> Vec<c_int> {
        /// Where the system cannot wait.
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        loop {
            if wait_for(self.0.get_read().as_fd(), IN, Deadline::NEVER).is_err() {
                thread::sleep(LOOK_AGAIN);
            }
            let arrived: Vec<c_int> = self.0.pending().collect();
            if !arrived.is_empty() {
                return arrived;
            }
        }
    }
}

/// By default these end a process, without asking it to stop. They are sent from outside.
pub const DEADLY: [c_int; 7] = [
    SIGABRT, SIGALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
];

/// Whether the process was started so that it ignores `signal`, and has not caught it since.
#[cfg(target_os = "linux")]
pub fn is_ignored(signal: c_int) -> bool {
    // proc(5): bit 0 is signal 1.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Elsewhere only `unsafe` code could tell.
#[cfg(not(target_os = "linux"))]
pub fn is_ignored(_signal: c_int) -> bool {
    false
}

/// Ends the process as if `signal` had not been caught: a shell then ends its loop too. Process 1 of a
/// container cannot die of a signal: it exits with the code that a shell would show.
pub fn end_by(signal: c_int) -> io::Result<()> {
    stderr::finish();
    if is_process_1() {
        low_level::exit(code(signal));
    }
    low_level::emulate_default_handler(signal)
}

/// Stops the process, as SIGTSTP does that is not caught. Returns once it goes on.
pub fn stop() -> io::Result<()> {
    low_level::emulate_default_handler(SIGTSTP)
}

fn is_process_1() -> bool {
    rustix::process::getpid().is_init()
}

/// The exit code of a program that `signal` ended, as a shell tells it.
fn code(signal: c_int) -> c_int {
    128 + signal
}
