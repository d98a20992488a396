//! Standard error: log lines, which no thread ever waits for, and the dump of `-x`, which loses no byte.
//!
//! A line is written at once where that cannot block. Else it waits for the writer thread, which is
//! started when the first line has to wait. Lines and dumps keep their order.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::retry_on_intr;
use rustix::net::SendFlags;

use crate::output::{close_line, line_is_open, reopen, write_ready};
use crate::terminal::is_in_foreground;
use crate::units::grouped;
use crate::wait::{Deadline, OUT, Waker, lock, wait_for};

/// How many bytes of lines may wait. That bounds the memory.
const MOST_WAITING: usize = 256 << 10;

/// The longest that the end of the program waits for the last lines.
const FAREWELL: Duration = Duration::from_millis(100);

/// Set by the first write.
static STDERR: OnceLock<Stderr> = OnceLock::new();

struct Stderr {
    way: Way,
    state: Mutex<State>,
    /// There is something for the writer thread, or all has been written.
    changed: Condvar,
    /// Readable while all has been written. Only a dump needs it.
    idle: OnceLock<Waker>,
}

/// How bytes are written without blocking.
enum Way {
    /// A file or `/dev/null`: a write never waits for anybody.
    Write,
    Send,
    /// A pipe or a terminal, opened once more: other programs share the flags of the inherited one.
    Reopened(File),
    /// A pipe that cannot be opened once more.
    Poll,
    /// A terminal that cannot be opened once more: only the writer thread writes.
    Thread,
}

#[derive(Default)]
struct State {
    /// What the writer thread has to write.
    waiting: Vec<u8>,
    is_writing: bool,
    has_thread: bool,
    /// How many lines found no room. From the first of them until all is written, all are lost.
    lost: u64,
    /// How many dumps were taken.
    taken: u64,
    /// Why the last dump could not be written.
    failure: Option<io::Error>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.is_writing && self.lost == 0
    }
}

/// Writes a log line, or lets it wait. Never blocks. A line that finds no room is counted. A line that
/// standard error refuses is lost: there is nowhere left to say so. If the same terminal is in the
/// middle of a line of data, the log line begins on the next.
pub fn write_line(line: &[u8]) {
    let stderr = stderr();
    let mut state = lock(&stderr.state);
    let line = &*on_a_new_line(line);
    if state.is_idle() {
        let count = stderr.write_now(line).unwrap_or(line.len());
        if count < line.len() {
            stderr.let_wait(&mut state, &line[count..]);
        }
    } else if state.lost > 0 || state.waiting.len() + line.len() > MOST_WAITING {
        state.lost += 1;
    } else {
        stderr.let_wait(&mut state, line);
    }
}

/// `line` after what it needs before it: what erases the status, or ends the line of data that is open.
/// Call it with the state locked: nobody then draws the status in between.
fn on_a_new_line(line: &[u8]) -> Cow<'_, [u8]> {
    let start = if HAS_STATUS.swap(false, Ordering::Relaxed) {
        ERASE
    } else {
        close_line()
    };
    if start.is_empty() {
        Cow::from(line)
    } else {
        Cow::from([start, line].concat())
    }
}

/// Whether a status stands in the last line of the terminal.
static HAS_STATUS: AtomicBool = AtomicBool::new(false);

/// Erases the line of the cursor.
const ERASE: &[u8] = b"\r\x1b[K";

/// Draws `text` into the last line of the terminal, in place of the status before. Lines and data erase
/// it. It is left out while lines wait, data has not ended its line, or another program has the terminal.
pub fn show_status(text: &str) {
    if !is_in_foreground(io::stderr()) || line_is_open() {
        return;
    }
    let stderr = stderr();
    let mut state = lock(&stderr.state);
    if state.is_idle() {
        HAS_STATUS.store(true, Ordering::Relaxed);
        let status = [ERASE, text.as_bytes()].concat();
        let count = stderr.write_now(&status).unwrap_or(status.len());
        if count < status.len() {
            stderr.let_wait(&mut state, &status[count..]);
        }
    }
}

/// Erases the status: data follows on the same terminal.
pub fn erase_status() {
    if HAS_STATUS.swap(false, Ordering::Relaxed) {
        write_line(ERASE);
    }
}

/// The status stays as a line.
pub fn keep_status() {
    if HAS_STATUS.swap(false, Ordering::Relaxed) {
        write_line(b"\n");
    }
}

/// Ends the line of data in whose middle the terminal is, if it is.
pub fn end_line() {
    let end = close_line();
    if !end.is_empty() {
        write_line(end);
    }
}

/// Blocks until all lines are written, for [`FAREWELL`] at most. Call it at the end of the program.
pub fn finish() {
    if let Some(stderr) = STDERR.get() {
        let state = lock(&stderr.state);
        let _ = stderr
            .changed
            .wait_timeout_while(state, FAREWELL, |state| !state.is_idle());
    }
}

/// Standard error as a place for dumps.
#[derive(Clone, Copy)]
pub struct Dumps {
    stderr: &'static Stderr,
    /// Readable while the next dump can be taken.
    pub idle: &'static Waker,
}

impl Dumps {
    pub fn open() -> io::Result<Self> {
        let stderr = stderr();
        let waker = Waker::new()?;
        let state = lock(&stderr.state);
        let idle = stderr.idle.get_or_init(|| waker);
        if state.is_idle() {
            idle.wake();
        }
        drop(state);
        Ok(Self { stderr, idle })
    }

    /// Takes `dump` whole, or nothing of it. Never blocks. Returns its number. `None`: not yet.
    pub fn put(&self, dump: &[u8]) -> io::Result<Option<u64>> {
        let mut state = lock(&self.stderr.state);
        if !state.is_idle() {
            return Ok(None);
        }
        let lines = on_a_new_line(dump);
        let count = self.stderr.write_now(&lines)?;
        state.taken += 1;
        if count < lines.len() {
            self.stderr.let_wait(&mut state, &lines[count..]);
        }
        Ok(Some(state.taken))
    }

    /// Whether the dump with this number has been written.
    pub fn has_written(&self, number: u64) -> bool {
        let state = lock(&self.stderr.state);
        state.is_idle() || state.taken > number
    }

    /// Fails if a dump could not be written, once.
    pub fn check(&self) -> io::Result<()> {
        let failure = lock(&self.stderr.state).failure.take();
        failure.map_or(Ok(()), Err)
    }
}

fn stderr() -> &'static Stderr {
    STDERR.get_or_init(|| Stderr {
        way: Way::of_stderr(),
        state: Mutex::default(),
        changed: Condvar::new(),
        idle: OnceLock::new(),
    })
}

impl Way {
    fn of_stderr() -> Self {
        let stderr = io::stderr();
        let status = rustix::fs::fstat(&stderr);
        let kind = status.map(|status| FileType::from_raw_mode(status.st_mode));
        let is_terminal = kind == Ok(FileType::CharacterDevice) && stderr.is_terminal();
        match kind {
            Ok(FileType::Socket) => Self::Send,
            Ok(FileType::Fifo) => reopen(stderr.as_fd()).map_or(Self::Poll, Self::Reopened),
            _ if is_terminal => reopen(stderr.as_fd()).map_or(Self::Thread, Self::Reopened),
            _ => Self::Write,
        }
    }
}

impl Stderr {
    /// Writes as much as is taken without blocking.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.try_write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        match &self.way {
            Way::Write => Ok(retry_on_intr(|| rustix::io::write(&stderr, bytes))?),
            Way::Reopened(file) => Ok(retry_on_intr(|| rustix::io::write(file, bytes))?),
            Way::Send => {
                let flags = SendFlags::DONTWAIT;
                Ok(retry_on_intr(|| rustix::net::send(&stderr, bytes, flags))?)
            }
            Way::Poll => write_ready(stderr.as_fd(), bytes),
            Way::Thread => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn let_wait(&'static self, state: &mut State, bytes: &[u8]) {
        state.waiting.extend_from_slice(bytes);
        if let Some(idle) = self.idle.get() {
            idle.clear();
        }
        if !state.has_thread {
            // Without a thread the next line tries again to start one.
            let name = "standard error".to_owned();
            let thread = thread::Builder::new().name(name);
            state.has_thread = thread.spawn(|| self.write_waiting()).is_ok();
        }
        self.changed.notify_all();
    }

    /// The writer thread. It ends with the program.
    fn write_waiting(&self) {
        let mut state = lock(&self.state);
        loop {
            if !state.waiting.is_empty() {
                let bytes = mem::take(&mut state.waiting);
                state.is_writing = true;
                drop(state);
                let result = self.write_all(&bytes);
                state = lock(&self.state);
                state.is_writing = false;
                // Only a dump asks for it.
                state.failure = result.err().or(state.failure.take());
            } else if state.lost > 0 {
                let lost = mem::take(&mut state.lost);
                drop(state);
                let s = if lost == 1 { "" } else { "s" };
                tracing::error!(
                    event = "lost",
                    lines = lost,
                    "{} log line{s} lost",
                    grouped(lost)
                );
                state = lock(&self.state);
            } else {
                if let Some(idle) = self.idle.get() {
                    idle.wake();
                }
                self.changed.notify_all();
                let changed = self.changed.wait(state);
                state = changed.unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let stderr = io::stderr();
        while !bytes.is_empty() {
            wait_for(stderr.as_fd(), OUT, Deadline::NEVER)?;
            let result = match self.way {
                Way::Thread => {
                    retry_on_intr(|| rustix::io::write(&stderr, bytes)).map_err(Into::into)
                }
                _ => self.try_write(bytes),
            };
            match result {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
