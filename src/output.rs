//! Standard output, of everything but a stream session. What a function here writes has reached the
//! kernel when it returns.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::FileType;

use crate::escape::TerminalEscape;
use crate::exit::Failure;
use crate::wait::{Deadline, OUT, wait_for};

/// What it is called in messages.
pub const NAME: &str = "standard output";

/// Whether a peer's control characters must be escaped: on a terminal, unless `raw`.
pub fn escapes(raw: bool) -> bool {
    !raw && io::stdout().is_terminal()
}

/// Writes `bytes` and nothing else, at once.
pub fn write_once(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::of_output(NAME, &error))
}

/// Writes what a peer sent, then `end`. On a terminal (`escaped`) control characters are escaped.
pub fn write_answer(answer: &[u8], end: &[u8], escaped: bool) -> Result<(), Failure> {
    let mut text = Vec::with_capacity(answer.len() + end.len());
    if escaped {
        let mut escape = TerminalEscape::default();
        escape.push(answer, &mut text);
        escape.finish(&mut text);
    } else {
        text.extend_from_slice(answer);
    }
    text.extend_from_slice(end);
    write_once(&text)
}

/// Tells when the reader of standard output has left. poll(2) shows that of a pipe alone.
pub struct Reader(Option<OwnedFd>);

impl Reader {
    pub fn new() -> io::Result<Self> {
        let stdout = io::stdout();
        let mode = rustix::fs::fstat(&stdout)?.st_mode;
        let is_pipe = FileType::from_raw_mode(mode) == FileType::Fifo;
        let pipe = is_pipe.then(|| stdout.as_fd().try_clone_to_owned());
        Ok(Self(pipe.transpose()?))
    }

    /// What to wait for with [`crate::wait::GONE`]. `None`: standard output is no pipe.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(OwnedFd::as_fd)
    }

    /// What it means that the reader has left.
    pub fn left() -> Failure {
        Failure::of_output(NAME, &io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes to an inherited descriptor, which may block, what goes without waiting. `WouldBlock`:
/// nothing does.
pub fn write_ready(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    /// pipe(7): a pipe that polls as writable takes this much, and more might block.
    const PIPE_ATOM: usize = 4096;
    if !wait_for(fd, OUT, Deadline::now())? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_ATOM)])?)
}
