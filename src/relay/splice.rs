//! Bytes from one descriptor to another without a copy through this process: between a pipe and a
//! socket, from a file to a socket, and through a pipe of our own from a socket to anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that is moved at once, and how much a pipe holds that carries much data.
#[cfg(target_os = "linux")]
const MOST: usize = 1 << 20;

/// A full pipe of the default size; who moves this much at once will move more.
pub const MUCH: usize = 64 << 10;

/// Moves what is there, up to a mebibyte, and returns how much; 0 is the end of `from`.
/// `WouldBlock` says that `from` has nothing or that `to` takes nothing; one of the two is a pipe,
/// and a socket must be non-blocking (splice(2)).
#[cfg(target_os = "linux")]
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, MOST, flags)?)
}

/// Only Linux can.
#[cfg(not(target_os = "linux"))]
pub fn splice(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `splice`, from a file to a socket. What is changed in the file before the peer has taken it may
/// be sent as changed.
#[cfg(target_os = "linux")]
pub fn send_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(to, from, None, MOST)?)
}

/// Other systems have other calls for it.
#[cfg(not(target_os = "linux"))]
pub fn send_file(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Lets `pipe` hold as much as is moved at once, if the system permits it.
#[cfg(target_os = "linux")]
pub fn enlarge(pipe: BorrowedFd<'_>) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < MOST) {
        // A user has only so many pages for pipes (pipe(7)); as it is, it works too.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, MOST);
    }
}

/// The size is not to be chosen.
#[cfg(not(target_os = "linux"))]
pub fn enlarge(_pipe: BorrowedFd<'_>) {}

#[cfg(target_os = "linux")]
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Of no use without `splice`.
#[cfg(not(target_os = "linux"))]
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many channels are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A pipe between a socket and what takes its bytes.
pub struct Channel {
    reader: OwnedFd,
    writer: OwnedFd,
    filled: usize,
    _place: Place,
}

/// One of the places for channels.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        /// Each costs two descriptors, which connections need too, and up to a mebibyte; pipe(7)
        /// gives one user 64 MiB.
        const MOST_OPEN: usize = 32;
        let place = Self;
        (OPEN.fetch_add(1, Ordering::Relaxed) < MOST_OPEN).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Channel {
    /// `None` where there are enough already, or the system gives no more.
    pub fn open() -> Option<Self> {
        let place = Place::take()?;
        let (reader, writer) = pipe().ok()?;
        enlarge(writer.as_fd());
        Some(Self {
            reader,
            writer,
            filled: 0,
            _place: place,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes what a socket has, once the channel is empty; 0 is the end.
    pub fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let count = splice(from, self.writer.as_fd())?;
        self.filled += count;
        Ok(count)
    }

    /// Gives as much as `to` takes.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let count = splice(self.reader.as_fd(), to)?;
        self.filled -= count;
        Ok(count)
    }

    /// Gives back what is in it, for a writer that nothing can be spliced to.
    pub fn take(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.filled];
        let mut taken = 0;
        while taken < bytes.len() {
            taken += rustix::io::read(&self.reader, &mut bytes[taken..])?;
        }
        Ok(bytes)
    }
}
