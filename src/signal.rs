//! Signals as something that poll(2) can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// Readable once SIGINT or SIGTERM has arrived. A second one ends the process at once, by that
/// signal.
pub struct Stop(UnixStream);

impl Stop {
    /// From now on the two signals no longer end the process by themselves.
    pub fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal passes the first line, and arms it by the second.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&seen))?;
            signal_hook::flag::register(signal, Arc::clone(&seen))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self(receiver))
    }

    /// Whether a signal has arrived since this was last asked.
    pub fn arrived(&self) -> bool {
        has_byte(&self.0)
    }
}

/// Readable once SIGHUP has arrived.
pub struct Reload {
    receiver: UnixStream,
    /// Kept open: a pipe without a writer would be readable.
    _sender: UnixStream,
}

impl Reload {
    /// With `wanted` SIGHUP no longer ends the process; without, it never arrives here.
    pub fn install(wanted: bool) -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        if wanted {
            signal_hook::low_level::pipe::register(SIGHUP, sender.try_clone()?)?;
        }
        Ok(Self {
            receiver,
            _sender: sender,
        })
    }

    /// Whether the signal has arrived since this was last asked.
    pub fn arrived(&self) -> bool {
        has_byte(&self.receiver)
    }
}

/// Readable once a child may have ended.
pub struct Children {
    receiver: UnixStream,
    /// Kept open: a pipe without a writer would be readable.
    _sender: UnixStream,
}

impl Children {
    pub fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, sender.try_clone()?)?;
        Ok(Self {
            receiver,
            _sender: sender,
        })
    }

    /// Whether one may have ended since this was last asked.
    pub fn may_have_ended(&self) -> bool {
        has_byte(&self.receiver)
    }
}

/// What the person in front of a client that measures can tell it. Readable once SIGINT or SIGQUIT
/// has arrived; a second SIGINT ends the process at once, by that signal.
pub struct Attention {
    receiver: UnixStream,
    interrupted: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    resumed: Arc<AtomicBool>,
}

impl Attention {
    pub fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let attention = Self {
            receiver,
            interrupted: Arc::default(),
            asked: Arc::default(),
            resumed: Arc::default(),
        };
        let interrupted = &attention.interrupted;
        // The order matters: the first signal passes the first line, and arms it by the second.
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(interrupted))?;
        signal_hook::flag::register(SIGINT, Arc::clone(interrupted))?;
        signal_hook::flag::register(SIGQUIT, Arc::clone(&attention.asked))?;
        signal_hook::flag::register(SIGCONT, Arc::clone(&attention.resumed))?;
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(attention)
    }

    /// Whether SIGINT has arrived.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Whether SIGQUIT has arrived since this was last asked.
    pub fn asked(&self) -> bool {
        while has_byte(&self.receiver) {}
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Whether this process was stopped, and goes on, since this was last asked.
    pub fn resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::Relaxed)
    }
}

impl AsFd for Attention {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

fn has_byte(mut pipe: &UnixStream) -> bool {
    matches!(pipe.read(&mut [0; 8]), Ok(count) if count > 0)
}

impl AsFd for Reload {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
