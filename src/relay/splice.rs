//! Moves bytes without a copy through this process: splice(2), sendfile(2), and a pipe where splice(2)
//! needs one.

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::duplex::{Descriptor, Fault};

/// The most that one call moves, and the size of a pipe for bulk transfers.
const MOST: usize = 1 << 20;

/// One full default pipe (64 KiB). A read this large means a bulk transfer.
pub const BULK: usize = 64 << 10;

/// The result of one attempt to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// That many bytes were written. 0: bytes were read and wait for the writer.
    Moved(usize),
    ReaderNotReady,
    WriterNotReady,
    /// The reader has ended, and all its bytes are written.
    End,
    /// The kernel cannot do it with these two descriptors.
    Unsupported,
}

#[cfg(target_os = "linux")]
fn step(result: rustix::io::Result<usize>, not_ready: Step) -> io::Result<Step> {
    use rustix::io::Errno;
    match result {
        Ok(0) => Ok(Step::End),
        Ok(count) => Ok(Step::Moved(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(not_ready),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Step::Unsupported),
        Err(error) => Err(error.into()),
    }
}

/// splice(2): moves at most `most` bytes, and never more than [`MOST`]. One of the two is a pipe; a socket
/// must be non-blocking. EAGAIN does not tell which side is not ready: the result is then `not_ready`.
#[cfg(target_os = "linux")]
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize, not_ready: Step) -> io::Result<Step> {
    use rustix::pipe::{SpliceFlags, splice};
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let moved = splice(from, None, to, None, most.min(MOST), flags);
    step(moved, not_ready)
}

/// Only Linux has splice(2).
#[cfg(not(target_os = "linux"))]
pub fn splice(
    _from: impl AsFd,
    _to: impl AsFd,
    _most: usize,
    _not_ready: Step,
) -> io::Result<Step> {
    Ok(Step::Unsupported)
}

/// sendfile(2): moves at most `most` bytes, and never more than [`MOST`], from a file to a socket. A
/// change of the file before the peer has acknowledged the bytes may change what is sent.
#[cfg(target_os = "linux")]
pub fn send_file(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<Step> {
    step(
        rustix::fs::sendfile(to, from, None, most.min(MOST)),
        Step::WriterNotReady,
    )
}

/// The sendfile(2) of other systems differs.
#[cfg(not(target_os = "linux"))]
pub fn send_file(_from: impl AsFd, _to: impl AsFd, _most: usize) -> io::Result<Step> {
    Ok(Step::Unsupported)
}

/// Lets `pipe` hold as much as one call moves, if the kernel permits it.
#[cfg(target_os = "linux")]
pub fn enlarge(pipe: BorrowedFd<'_>) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < MOST) {
        // Fails when the pipes of the user have taken all their pages (pipe(7)).
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, MOST);
    }
}

/// Other systems choose the size.
#[cfg(not(target_os = "linux"))]
pub fn enlarge(_pipe: BorrowedFd<'_>) {}

/// How many channels are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A pipe of this process: splice(2) needs one between a socket and another socket or a file.
pub struct Channel {
    reader: PipeReader,
    writer: PipeWriter,
    filled: usize,
}

impl Channel {
    /// `None`: enough are open already, or the system opens no more.
    pub fn open() -> Option<Self> {
        /// Each takes two descriptors, which connections need too. It takes up to a mebibyte of the
        /// 64 that one user has for pipes (pipe(7)).
        const MOST_OPEN: usize = 32;
        let one_more = |open| (open < MOST_OPEN).then_some(open + 1);
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        let Ok((reader, writer)) = io::pipe() else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        enlarge(writer.as_fd());
        Some(Self {
            reader,
            writer,
            filled: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills the channel from a socket with up to `most` bytes if it is empty. Drains it until `to` takes
    /// no more. Adds to `written`.
    pub fn pass(
        &mut self,
        from: &Descriptor,
        to: &Descriptor,
        most: usize,
        written: &mut u64,
    ) -> Result<Step, Fault> {
        let was_empty = self.is_empty();
        if was_empty {
            match splice(from, &self.writer, most, Step::ReaderNotReady).map_err(Fault::Read)? {
                Step::Moved(count) => self.filled = count,
                step => return Ok(step),
            }
        }
        let mut moved = 0;
        while !self.is_empty() {
            match splice(&self.reader, to, MOST, Step::WriterNotReady).map_err(Fault::Write)? {
                Step::Moved(count) => {
                    self.filled -= count;
                    moved += count;
                    *written += count as u64;
                }
                Step::WriterNotReady if was_empty || moved > 0 => break,
                // A file that is open for appending is unsupported (splice(2)).
                step => return Ok(step),
            }
        }
        Ok(Step::Moved(moved))
    }

    /// Takes all bytes out, for a destination that is [`Step::Unsupported`].
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; std::mem::take(&mut self.filled)];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
