//! What stops a server: signals. The programs that it runs do not outlive it.

use std::ffi::c_int;
use std::io;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::program::Program;
use crate::exit::{Exit, Failure, OrFail as _};
use crate::output;
use crate::signal::{self, Arrivals, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use crate::stderr;
use crate::terminal::is_at_terminal;
use crate::wait::{Waker, lock};

/// Stops the server when SIGINT, SIGTERM or, if it reads no lists again, SIGHUP arrives. The first
/// makes this readable. The second ends the process, after all connections and programs. Dropping this
/// kills all programs.
pub struct Stop {
    first: Arc<First>,
    program: Option<Program>,
}

/// Whether the first signal has arrived.
struct First {
    has_arrived: AtomicBool,
    waker: Waker,
    /// Locked while the second ends the process. The end of the programs may end the server's work
    /// too. Then the process must not exit with a code.
    ending: Mutex<()>,
}

impl Stop {
    /// Catches the signals, in a thread of its own. With a program it also catches those that end the
    /// process at once. That thread calls `at_the_end` before it ends the process.
    pub fn catch(
        rereads_lists: bool,
        program: Option<&Program>,
        at_the_end: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        Self::start(rereads_lists, program, at_the_end)
            .or_fail(Exit::Local, || "could not catch signals")
    }

    fn start(
        rereads_lists: bool,
        program: Option<&Program>,
        at_the_end: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let first = Arc::new(First {
            has_arrived: AtomicBool::new(false),
            waker: Waker::new()?,
            ending: Mutex::new(()),
        });
        let stop = Self {
            first: Arc::clone(&first),
            program: program.cloned(),
        };
        let mut ending = vec![SIGINT, SIGTERM];
        // nohup(1) makes the server ignore it.
        if !rereads_lists && !signal::is_ignored(SIGHUP) {
            ending.push(SIGHUP);
        }
        let mut at_once = Vec::new();
        if program.is_some() {
            at_once.push(SIGQUIT);
            at_once.extend(signal::DEADLY);
            at_once.retain(|signal| !signal::is_ignored(*signal));
        }
        let mut arrivals = Arrivals::catch(&[ending.as_slice(), &at_once].concat())?;
        let program = program.cloned();
        let live = move || {
            for signal in iter::repeat_with(|| arrivals.wait()).flatten() {
                if at_once.contains(&signal) || first.has_arrived() {
                    let _ending = lock(&first.ending);
                    at_the_end();
                    end(signal, program.as_ref());
                }
                if signal == SIGINT && is_at_terminal() {
                    // The terminal shows what was typed.
                    output::shown(b"^C");
                }
                first.arrives();
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(live)?;
        Ok(stop)
    }

    /// Whether a signal has arrived. Makes no system call.
    pub fn has_arrived(&self) -> bool {
        self.first.has_arrived()
    }
}

impl First {
    fn has_arrived(&self) -> bool {
        self.has_arrived.load(Ordering::Relaxed)
    }

    fn arrives(&self) {
        self.has_arrived.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

/// Readable once the first signal has arrived, for ever.
impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.first.waker.as_fd()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let _ending = lock(&self.first.ending);
        if self.has_arrived() {
            // The shell's prompt does not stand behind `^C`.
            stderr::end_line();
        }
        if let Some(program) = &self.program {
            program.kill_all();
        }
    }
}

/// Kills all programs and ends the process by `signal`, whatever other threads do.
fn end(signal: c_int, program: Option<&Program>) {
    if let Some(program) = program {
        program.kill_all();
    }
    // It returns only for a signal that ends nothing.
    let _ = signal::end_by(signal);
}
