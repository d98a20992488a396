//! Signals as something that poll(2) can wait for.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::wait::Waker;

/// Readable once SIGINT or SIGTERM has arrived. A second one ends the process at once, by that
/// signal.
pub struct Stop {
    waker: Waker,
    seen: Arc<AtomicBool>,
}

impl Stop {
    /// From now on the two signals no longer end the process by themselves.
    pub fn install() -> io::Result<Self> {
        let waker = Waker::new()?;
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            end_at_second(signal, &seen)?;
            signal_hook::low_level::pipe::register(signal, waker.sender()?)?;
        }
        Ok(Self { waker, seen })
    }

    /// Whether a signal has arrived since this was last asked.
    pub fn arrived(&self) -> bool {
        self.waker.clear()
    }

    /// Whether a signal has ever arrived; costs no system call.
    pub fn has_come(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }
}

/// Readable once SIGHUP has arrived.
pub struct Reload(Waker);

impl Reload {
    /// With `wanted` SIGHUP no longer ends the process; without, it never arrives here.
    pub fn install(wanted: bool) -> io::Result<Self> {
        let waker = Waker::new()?;
        if wanted {
            signal_hook::low_level::pipe::register(SIGHUP, waker.sender()?)?;
        }
        Ok(Self(waker))
    }

    /// Whether the signal has arrived since this was last asked.
    pub fn arrived(&self) -> bool {
        self.0.clear()
    }
}

/// Readable once a child may have ended.
pub struct Children(Waker);

impl Children {
    pub fn install() -> io::Result<Self> {
        let waker = Waker::new()?;
        signal_hook::low_level::pipe::register(SIGCHLD, waker.sender()?)?;
        Ok(Self(waker))
    }

    /// Whether one may have ended since this was last asked.
    pub fn may_have_ended(&self) -> bool {
        self.0.clear()
    }
}

/// Readable once SIGINT has arrived; a second one ends the process at once, by that signal.
pub struct Interrupt {
    waker: Waker,
    seen: Arc<AtomicBool>,
}

impl Interrupt {
    pub fn install() -> io::Result<Self> {
        let waker = Waker::new()?;
        let seen = Arc::default();
        end_at_second(SIGINT, &seen)?;
        signal_hook::low_level::pipe::register(SIGINT, waker.sender()?)?;
        Ok(Self { waker, seen })
    }

    /// Whether the signal has ever arrived; costs no system call.
    pub fn has_come(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends the process as if SIGINT had not been caught: a shell then ends its loop too.
    pub fn end() -> io::Result<()> {
        signal_hook::low_level::emulate_default_handler(SIGINT)
    }
}

/// What the person in front of a client that measures can tell it. Readable once SIGINT or SIGQUIT
/// has arrived; a second SIGINT ends the process at once, by that signal.
pub struct Attention {
    waker: Waker,
    interrupted: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Attention {
    pub fn install() -> io::Result<Self> {
        let waker = Waker::new()?;
        let attention = Self {
            waker,
            interrupted: Arc::default(),
            asked: Arc::default(),
        };
        end_at_second(SIGINT, &attention.interrupted)?;
        signal_hook::flag::register(SIGQUIT, Arc::clone(&attention.asked))?;
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::low_level::pipe::register(signal, attention.waker.sender()?)?;
        }
        Ok(attention)
    }

    /// Whether SIGINT has arrived.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Whether SIGQUIT has arrived since this was last asked.
    pub fn asked(&self) -> bool {
        self.waker.clear();
        self.asked.swap(false, Ordering::Relaxed)
    }
}

/// The first `signal` only sets `seen`; a second one ends the process at once, by that signal.
fn end_at_second(signal: c_int, seen: &Arc<AtomicBool>) -> io::Result<()> {
    // The order matters: the first signal passes the first line, and arms it by the second.
    signal_hook::flag::register_conditional_default(signal, Arc::clone(seen))?;
    signal_hook::flag::register(signal, Arc::clone(seen))?;
    Ok(())
}

impl AsFd for Attention {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

impl AsFd for Reload {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
