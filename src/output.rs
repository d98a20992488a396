//! Standard output: lines and reports that have reached the kernel when a function returns, and ways
//! to write without blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FileType, OFlags};
use rustix::io::retry_on_intr;

use crate::escape::TerminalEscape;
use crate::exit::{Exit, Failure};
use crate::wait::{Deadline, GONE, Key, OUT, Set, is_wait, wait_for};

/// What it is called in messages.
pub const NAME: &str = "standard output";

/// Whether a peer's control characters must be escaped: on a terminal, unless `raw`.
pub fn escapes(raw: bool) -> bool {
    !raw && io::stdout().is_terminal()
}

/// Whether the terminal that shows standard output and messages is in the middle of a line.
static LINE_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Notes what standard output has shown last, if a terminal shows it among the messages.
pub fn shown(bytes: &[u8]) {
    static IS_SHARED: OnceLock<bool> = OnceLock::new();
    if let Some(last) = bytes.last()
        && *IS_SHARED.get_or_init(shares_terminal)
    {
        LINE_IS_OPEN.store(*last != b'\n', Ordering::Relaxed);
    }
}

/// Whether standard output and standard error are one terminal.
fn shares_terminal() -> bool {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).ok().map(|status| status.st_rdev);
    stdout.is_terminal() && stderr.is_terminal() && device(stdout.as_fd()) == device(stderr.as_fd())
}

/// Whether a status line stands below the line that is open.
static HAS_STATUS: AtomicBool = AtomicBool::new(false);

/// How many messages have closed an open line.
static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

/// From now on a message erases what stands below an open line.
pub fn show_status() {
    HAS_STATUS.store(true, Ordering::Relaxed);
}

/// How many messages were written where a line was open.
pub fn interruptions() -> usize {
    INTERRUPTIONS.load(Ordering::Relaxed)
}

/// Whether the terminal that shows messages too is in the middle of a line of data.
pub fn line_is_open() -> bool {
    LINE_IS_OPEN.load(Ordering::Relaxed)
}

/// What a message has to begin with. It is told once: then the message has ended the line.
pub fn close_line() -> &'static [u8] {
    if !LINE_IS_OPEN.load(Ordering::Relaxed) || !LINE_IS_OPEN.swap(false, Ordering::Relaxed) {
        return b"";
    }
    INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
    if HAS_STATUS.load(Ordering::Relaxed) {
        b"\x1b[J\n"
    } else {
        b"\n"
    }
}

/// Writes `bytes` and nothing else, at once. Blocks until standard output has taken them.
pub fn write_once(bytes: &[u8]) -> Result<(), Failure> {
    let stdout = io::stdout();
    let mut rest = bytes;
    while !rest.is_empty() {
        match retry_on_intr(|| rustix::io::write(&stdout, rest)).map_err(io::Error::from) {
            Ok(count) => rest = &rest[count..],
            Err(error) if is_wait(&error) => {
                wait_for(stdout.as_fd(), OUT, Deadline::NEVER)?;
            }
            Err(error) => return Err(Failure::of_output(NAME, &error)),
        }
    }
    shown(bytes);
    Ok(())
}

/// Appends what a peer sent, whole, to `text`.
fn show(bytes: &[u8], escaped: bool, text: &mut Vec<u8>) {
    if escaped {
        let mut escape = TerminalEscape::default();
        escape.push(bytes, text);
        escape.finish(text);
    } else {
        text.extend_from_slice(bytes);
    }
}

/// Tells when the reader of standard output has left. poll(2) shows it only for a pipe.
pub struct ReaderWatch(Option<io::Stdout>);

impl ReaderWatch {
    pub fn new() -> io::Result<Self> {
        let stdout = io::stdout();
        Ok(Self((kind()? == FileType::Fifo).then_some(stdout)))
    }

    /// What to wait for with [`crate::wait::GONE`]. `None`: standard output is no pipe.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// What it means that the reader has left.
    pub fn left() -> Failure {
        Failure::of_output(NAME, &io::ErrorKind::BrokenPipe.into())
    }
}

fn kind() -> io::Result<FileType> {
    let status = rustix::fs::fstat(io::stdout())?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

/// Opens a pipe or a terminal once more, as non-blocking: other programs share the flags of the
/// inherited descriptor. Fails where there is no Linux `/proc`, and for one of another user.
pub fn reopen(fd: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A copy of standard output for [`write_ready`]. A terminal is opened once more if possible: poll(2)
/// calls one ready that takes less than it is given. A write would block until it has taken all.
pub fn open() -> io::Result<OwnedFd> {
    let stdout = io::stdout();
    let reopened = stdout.is_terminal().then(|| reopen(stdout.as_fd()));
    match reopened {
        Some(Ok(terminal)) => Ok(terminal.into()),
        _ => stdout.as_fd().try_clone_to_owned(),
    }
}

/// Writes as much as an inherited descriptor, which may be a blocking one, takes without blocking.
/// `WouldBlock`: it takes nothing.
pub fn write_ready(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    /// pipe(7): a pipe that polls as writable takes this much, and more might block.
    const PIPE_ATOM: usize = 4096;
    if !wait_for(fd, OUT, Deadline::now())? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_ATOM)])?)
}

/// Standard output without blocking: bytes wait here until it has room.
pub struct Queue {
    stdout: OwnedFd,
    reader: ReaderWatch,
    /// Whether a write may block. One to a file or to `/dev/null` does not.
    may_block: bool,
    escapes: bool,
    unwritten: Vec<u8>,
}

impl Queue {
    /// On a terminal control characters are escaped, unless `raw`.
    pub fn open(raw: bool) -> io::Result<Self> {
        let stdout = open()?;
        Ok(Self {
            reader: ReaderWatch::new()?,
            may_block: matches!(kind()?, FileType::Fifo | FileType::Socket) || stdout.is_terminal(),
            escapes: escapes(raw),
            unwritten: Vec::new(),
            stdout,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.unwritten.len()
    }

    /// Adds what a peer sent, whole, and writes as much as standard output takes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.push_between("", bytes, "")
    }

    /// As [`Self::push`], between two texts of our own, which nothing escapes.
    pub fn push_between(&mut self, start: &str, bytes: &[u8], end: &str) -> Result<(), Failure> {
        self.unwritten.extend_from_slice(start.as_bytes());
        show(bytes, self.escapes, &mut self.unwritten);
        self.unwritten.extend_from_slice(end.as_bytes());
        self.write()
    }

    /// Adds standard output: for room if bytes wait, otherwise for the reader of a pipe to leave.
    pub fn watch<'a>(&'a self, set: &mut Set<'a>) -> Key {
        if self.is_empty() {
            set.add(self.reader.fd(), GONE)
        } else {
            set.add(self.stdout.as_fd(), OUT)
        }
    }

    /// Call this once the key of [`Self::watch`] is ready. It writes, or fails as the reader has left.
    pub fn go_on(&mut self) -> Result<(), Failure> {
        if self.is_empty() {
            return Err(ReaderWatch::left());
        }
        self.write()
    }

    /// Blocks until all is written, or fails at `limit`.
    pub fn flush(&mut self, limit: Deadline) -> Result<(), Failure> {
        while !self.is_empty() {
            if limit.has_passed() {
                let message = format!("{NAME} took no more data in time");
                return Err(Failure::new(Exit::Timeout, message));
            }
            wait_for(self.stdout.as_fd(), OUT, limit)?;
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        while !self.unwritten.is_empty() {
            let fd = self.stdout.as_fd();
            let written = if self.may_block {
                write_ready(fd, &self.unwritten)
            } else {
                rustix::io::write(fd, &self.unwritten).map_err(io::Error::from)
            };
            match written {
                Ok(count) => {
                    shown(&self.unwritten[..count]);
                    self.unwritten.drain(..count);
                }
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(Failure::of_output(NAME, &error)),
            }
        }
        Ok(())
    }
}
