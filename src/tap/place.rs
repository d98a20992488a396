//! Where a tap writes: a file or standard error. Nothing here blocks.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

use crate::exit::{Exit, Failure};
use crate::stderr::Dumps;
use crate::terminal::has_colour;
use crate::wait::{IN, OUT, PollFlags, Waker, if_ready, lock};

/// All sessions share it. It takes a piece whole, so pieces of two sessions never mix.
pub enum Place {
    File(TapFile),
    Stderr(Dumps),
}

impl Place {
    /// Its name in messages.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::File(file) => file.path.to_string_lossy(),
            Self::Stderr(_) => "the dump to standard error".into(),
        }
    }

    /// A failed write.
    pub fn failure(&self, error: &io::Error) -> Failure {
        let sentence = format!("could not write {}", self.name());
        Failure::of(Exit::Local, sentence, error)
    }

    /// Takes `piece`, or nothing of it. Returns its number, by which [`Self::has_written`] knows it.
    pub fn put(&self, piece: &[u8]) -> io::Result<Option<u64>> {
        match self {
            Self::File(file) => file.put(piece),
            Self::Stderr(dumps) => dumps.put(piece),
        }
    }

    /// Whether the piece has been written.
    pub fn has_written(&self, number: u64) -> bool {
        match self {
            Self::File(file) => file.has_written(number),
            Self::Stderr(dumps) => dumps.has_written(number),
        }
    }

    /// As [`Self::has_written`], after writing what can be written. Fails if a piece could not be.
    pub fn write_on(&self, number: u64) -> io::Result<bool> {
        match self {
            Self::File(file) => {
                if let Some(opened) = file.file()? {
                    lock(&file.state).write_rest(opened)?;
                }
            }
            Self::Stderr(dumps) => dumps.check()?,
        }
        Ok(self.has_written(number))
    }

    /// What to wait for before the next call.
    pub fn room(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::File(file) => file.room(),
            Self::Stderr(dumps) => (dumps.idle.as_fd(), IN),
        }
    }

    /// Empties it, if it is a file.
    pub fn empty(&self) -> io::Result<()> {
        match self {
            Self::File(TapFile {
                file: Opened::At(file),
                is_file: true,
                ..
            }) => file.set_len(0),
            _ => Ok(()),
        }
    }

    /// Whether it is a file that keeps what it has.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(file) if file.is_file)
    }

    /// Every piece is blocks from now on, none of which a file keeps in part. `first` comes before them:
    /// at once, or as soon as a named pipe has a reader.
    pub fn begin_blocks(&self, first: Vec<u8>) -> io::Result<()> {
        if let Self::File(file) = self {
            let mut state = lock(&file.state);
            state.keeps_whole = file.is_file;
            state.rest = first;
        }
        self.write_on(0).map(drop)
    }

    /// Whether it is a terminal that shows them.
    pub fn has_colours(&self) -> bool {
        match self {
            Self::File(file) => match &file.file {
                Opened::At(file) => has_colour(file),
                Opened::WithReader { .. } => false,
            },
            Self::Stderr(_) => has_colour(&io::stderr()),
        }
    }

    /// Whether both write to one file.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.id().is_some_and(|id| other.id() == Some(id))
    }

    fn id(&self) -> Option<Id> {
        match self {
            Self::File(file) => file.id,
            Self::Stderr(_) => {
                let stderr = io::stderr().as_fd().try_clone_to_owned().ok()?;
                id(&File::from(stderr).metadata().ok()?)
            }
        }
    }
}

/// The device and the number of a file.
type Id = (u64, u64);

/// Devices have none: `/dev/null` may be named twice.
fn id(metadata: &Metadata) -> Option<Id> {
    let is_file = metadata.is_file() || metadata.file_type().is_fifo();
    is_file.then(|| (metadata.dev(), metadata.ino()))
}

/// A file, which every write appends to.
pub struct TapFile {
    path: PathBuf,
    file: Opened,
    is_file: bool,
    id: Option<Id>,
    state: Mutex<State>,
}

enum Opened {
    At(File),
    /// A named pipe (fifo(7)): as soon as it has a reader.
    WithReader {
        file: Arc<OnceLock<io::Result<File>>>,
        /// Readable from then on.
        opened: Arc<Waker>,
    },
}

#[derive(Default)]
struct State {
    /// What is left of the last piece.
    rest: Vec<u8>,
    /// How many pieces were taken.
    taken: u64,
    /// A piece that the file does not take whole leaves nothing in it.
    keeps_whole: bool,
}

impl State {
    /// Writes what `file` takes; whether that is all. What the file refuses is lost.
    fn write_rest(&mut self, file: &File) -> io::Result<bool> {
        let mut rest = mem::take(&mut self.rest);
        rest.drain(..self.write(file, &rest)?);
        self.rest = rest;
        Ok(self.rest.is_empty())
    }

    /// Writes as much as `file` takes without blocking. Returns how much.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let mut count = 0;
        let result = write_now(file, bytes, &mut count);
        if result.is_err() && self.keeps_whole {
            // What follows half a block could not be read.
            let size = file.metadata()?.len();
            file.set_len(size.saturating_sub(count as u64))?;
        }
        result.map(|()| count)
    }
}

impl TapFile {
    /// Opens or creates the file, and changes nothing in it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let error = match open(path, OFlags::NONBLOCK) {
            Ok(file) => {
                let metadata = file.metadata()?;
                return Ok(Self::new(path, Opened::At(file), &metadata));
            }
            Err(error) => error,
        };
        // Of a named pipe: nobody has opened it for reading.
        let is_alone = Errno::from_io_error(&error) == Some(Errno::NXIO);
        match path.metadata() {
            Ok(metadata) if is_alone && metadata.file_type().is_fifo() => {
                Ok(Self::new(path, open_with_reader(path)?, &metadata))
            }
            _ => Err(error),
        }
    }

    fn new(path: &Path, file: Opened, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            file,
            is_file: metadata.is_file(),
            id: id(metadata),
            state: Mutex::default(),
        }
    }

    /// `None`: not yet.
    fn file(&self) -> io::Result<Option<&File>> {
        match &self.file {
            Opened::At(file) => Ok(Some(file)),
            Opened::WithReader { file, .. } => match file.get() {
                None => Ok(None),
                Some(Ok(file)) => Ok(Some(file)),
                Some(Err(error)) => Err(copy(error)),
            },
        }
    }

    fn put(&self, piece: &[u8]) -> io::Result<Option<u64>> {
        let Some(file) = self.file()? else {
            return Ok(None);
        };
        let mut state = lock(&self.state);
        if !state.write_rest(file)? {
            return Ok(None);
        }
        let count = state.write(file, piece)?;
        state.rest = piece[count..].to_vec();
        state.taken += 1;
        Ok(Some(state.taken))
    }

    fn has_written(&self, number: u64) -> bool {
        let state = lock(&self.state);
        state.taken > number || state.rest.is_empty()
    }

    fn room(&self) -> (BorrowedFd<'_>, PollFlags) {
        match (&self.file, self.file()) {
            (Opened::At(file), _) | (_, Ok(Some(file))) => (file.as_fd(), OUT),
            (Opened::WithReader { opened, .. }, _) => (opened.as_fd(), IN),
        }
    }
}

/// Writes as much as `file` takes without blocking, and counts it.
fn write_now(file: &File, bytes: &[u8], count: &mut usize) -> io::Result<()> {
    while *count < bytes.len() {
        let written = retry_on_intr(|| rustix::io::write(file, &bytes[*count..]));
        match if_ready(written.map_err(Into::into))? {
            Some(more) => *count += more,
            None => break,
        }
    }
    Ok(())
}

/// A file that only the user reads.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    const MODE: u32 = 0o600;
    let flags = flags | OFlags::NOCTTY;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Opens a named pipe as soon as it has a reader. poll(2) cannot wait for that, so a thread does. The
/// thread ends with the program.
fn open_with_reader(path: &Path) -> io::Result<Opened> {
    let (file, opened) = (Arc::new(OnceLock::new()), Arc::new(Waker::new()?));
    let (result, waker, path) = (Arc::clone(&file), Arc::clone(&opened), path.to_owned());
    thread::Builder::new()
        .name("named pipe".to_owned())
        .spawn(move || {
            let file = open(&path, OFlags::empty()).and_then(|file| {
                rustix::io::ioctl_fionbio(&file, true)?;
                Ok(file)
            });
            // This thread alone sets it.
            let _ = result.set(file);
            waker.wake();
        })?;
    Ok(Opened::WithReader { file, opened })
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}
