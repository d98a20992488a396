//! Writes down the bytes of a session: as a hex dump (`-x`) or as they are (`--record`).
//!
//! `hex` and `raw` make the pieces, `place` has the files. Nothing here blocks unless it says so: a file
//! that takes nothing, as a pipe that nobody reads, holds up the session that writes to it and no other.

mod hex;
mod place;
mod raw;

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::exit::{Exit, Failure, OrFail as _};
use crate::net::address::HostPort;
use crate::signal::is_ending;
use crate::stderr::Dumps;
use crate::wait::{Deadline, PollFlags, lock, wait_for};
use place::{Place, TapFile};

#[derive(Clone, Debug, clap::Args)]
pub struct TapArgs {
    /// Hex-dump traffic to FILE or standard error
    ///
    /// Each line has the direction, the time in UTC, the offset and 16 bytes.
    #[arg(short = 'x', long, value_name = "FILE", num_args = 0..=1, value_parser = file())]
    #[expect(clippy::option_option, reason = "absent, without a file, with a file")]
    pub hex_dump: Option<Option<PathBuf>>,
    /// Save traffic, both directions, to FILE
    ///
    /// The bytes are as they passed. A server that serves several peers at once writes a line with
    /// number, direction, time and length before each piece.
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub record: Option<PathBuf>,
    /// Keep what the files of -x and --record have
    #[arg(long)]
    append: bool,
}

/// The name of a file. `-`, which elsewhere is standard output, is refused.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.as_os_str() == "-" {
            let reason = "standard output is for what the peer sends; -x without FILE dumps to \
                standard error, and ./- is a file of that name";
            return Err(reason);
        }
        Ok(path)
    })
}

/// The way of bytes, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Sent,
    Received,
}

impl Direction {
    fn sign(self) -> char {
        match self {
            Self::Sent => '>',
            Self::Received => '<',
        }
    }
}

/// The files, which all sessions share.
pub struct Taps {
    /// For the hex dump, and whether it has colours.
    dump: Option<(Place, bool)>,
    record: Option<Place>,
}

impl TapArgs {
    /// Refuses what can be refused before anything is opened. Call it once the words of the command
    /// line are in their places.
    pub fn check(&self) -> Result<(), Failure> {
        let dump = self.hex_dump.as_ref().and_then(Option::as_ref);
        if let Some(path) = dump.filter(|path| is_address(path)) {
            return Err(Failure::usage(format!(
                "could not dump to {0}: it reads as HOST:PORT; a proxy is --proxy, and ./{0} is a \
                 file of that name",
                path.display()
            )));
        }
        if dump.is_some() && dump == self.record.as_ref() {
            return Err(one_file());
        }
        let has_file = dump.is_some() || self.record.is_some();
        if self.append && !has_file {
            return Err(Failure::usage("--append needs -x FILE or --record"));
        }
        Ok(())
    }

    /// Opens the files, and empties them without `--append`. `None`: none are wanted.
    pub fn open(&self) -> Result<Option<Arc<Taps>>, Failure> {
        let open = |path: &PathBuf| {
            let file = TapFile::open(path);
            file.map(Place::File)
                .or_fail(Exit::Local, || format!("could not open {}", path.display()))
        };
        let dump = match &self.hex_dump {
            None => None,
            Some(None) => Some(Place::Stderr(Dumps::open()?)),
            Some(Some(path)) => Some(open(path)?),
        };
        let record = self.record.as_ref().map(open).transpose()?;
        if let (Some(dump), Some(record)) = (&dump, &record)
            && dump.is_same_as(record)
        {
            return Err(one_file());
        }
        for place in dump.iter().chain(&record).filter(|_| !self.append) {
            place.empty().map_err(|error| failure(&error))?;
        }
        let is_wanted = dump.is_some() || record.is_some();
        let taps = Taps {
            dump: dump.map(|place| {
                let has_colours = place.has_colours();
                (place, has_colours)
            }),
            record,
        };
        Ok(is_wanted.then(|| Arc::new(taps)))
    }
}

fn one_file() -> Failure {
    Failure::usage("could not write one file twice: -x and --record need different files")
}

/// Whether `path` reads as `HOST:PORT`: netcat's `-x` names a proxy.
fn is_address(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|path| path.parse::<HostPort>().is_ok())
}

impl Taps {
    /// A session of its own. With a `number`, every piece carries it.
    pub fn session(self: &Arc<Self>, number: Option<u64>) -> Tap {
        Tap::new(self.outbox(), number)
    }

    /// For several sessions that wait for the files together.
    pub fn outbox(self: &Arc<Self>) -> Arc<Outbox> {
        Arc::new(Outbox {
            taps: Arc::clone(self),
            owed: Mutex::default(),
        })
    }
}

/// What the files have not taken yet.
pub struct Outbox {
    taps: Arc<Taps>,
    /// For the dump, and for the record.
    owed: Mutex<[Owed; 2]>,
}

#[derive(Default)]
struct Owed {
    bytes: Vec<u8>,
    /// The number of the piece that was taken last.
    taken: u64,
}

impl Outbox {
    fn places(&self) -> [Option<&Place>; 2] {
        let dump = self.taps.dump.as_ref().map(|(place, _)| place);
        [dump, self.taps.record.as_ref()]
    }

    /// Gives the files what they take; whether all has reached the system. What a file refuses is lost.
    pub fn flush(&self) -> io::Result<bool> {
        let mut is_all = true;
        let mut owed = lock(&self.owed);
        for (place, owed) in self.places().into_iter().zip(&mut *owed) {
            let Some(place) = place else { continue };
            if !owed.bytes.is_empty() {
                let put = place.put(&owed.bytes);
                if !matches!(put, Ok(None)) {
                    owed.bytes.clear();
                }
                if let Some(number) = put? {
                    owed.taken = number;
                }
            }
            is_all &= owed.bytes.is_empty() && place.write_on(owed.taken)?;
        }
        Ok(is_all)
    }

    /// How many bytes wait for the files.
    pub fn waiting(&self) -> usize {
        lock(&self.owed).iter().map(|owed| owed.bytes.len()).sum()
    }

    /// What to wait for before [`Self::flush`]. `None`: all has reached the system.
    pub fn room(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let owed = lock(&self.owed);
        let mut places = self.places().into_iter().zip(&*owed);
        places.find_map(|(place, owed)| {
            let place = place?;
            let is_written = owed.bytes.is_empty() && place.has_written(owed.taken);
            (!is_written).then(|| place.room())
        })
    }

    /// Blocks until all has reached the system, or until `limit`, or a signal; whether it has.
    pub fn wait(&self, limit: Deadline) -> io::Result<bool> {
        if !self.flush()?
            && let Some((fd, events)) = self.room()
        {
            wait_for(fd, events, limit)?;
        }
        self.flush()
    }
}

/// Records one session.
#[derive(Clone)]
pub struct Tap {
    pub outbox: Arc<Outbox>,
    number: Option<u64>,
    offsets: [u64; 2],
}

impl Tap {
    /// With a `number`, every piece carries it.
    pub fn new(outbox: Arc<Outbox>, number: Option<u64>) -> Self {
        Self {
            outbox,
            number,
            offsets: [0; 2],
        }
    }

    /// Writes down one piece; whether it has reached the system. If not, it waits in the outbox.
    pub fn passed(&mut self, direction: Direction, bytes: &[u8]) -> io::Result<bool> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since_epoch.unwrap_or_default();
        let head = self
            .number
            .map(|number| raw::head(number, direction, time, bytes.len()));
        let head = head.unwrap_or_default();
        let offset = &mut self.offsets[direction as usize];
        let taps = &self.outbox.taps;
        let mut owed = lock(&self.outbox.owed);
        let [dump, record] = &mut *owed;
        if let Some((_, has_colours)) = &taps.dump {
            dump.bytes.extend_from_slice(head.as_bytes());
            let lines = hex::dump(direction, time, *offset, bytes, *has_colours);
            dump.bytes.extend_from_slice(lines.as_bytes());
        }
        if taps.record.is_some() {
            record.bytes.extend_from_slice(head.as_bytes());
            record.bytes.extend_from_slice(bytes);
            if self.number.is_some() {
                record.bytes.push(b'\n');
            }
        }
        drop(owed);
        *offset += bytes.len() as u64;
        self.outbox.flush()
    }

    /// Counts bytes that are not written down.
    pub fn skipped(&mut self, direction: Direction, bytes: &[u8]) {
        self.offsets[direction as usize] += bytes.len() as u64;
    }
}

/// A tap for the datagrams of a client. A failed write is kept until `check`. So sending and receiving
/// fail only for reasons of the network.
pub struct DatagramTap {
    tap: Option<RefCell<Tap>>,
    limit: Deadline,
    error: RefCell<Option<io::Error>>,
}

impl DatagramTap {
    /// At `limit` nothing waits for the files any more.
    pub fn new(taps: Option<&Arc<Taps>>, limit: Deadline) -> Self {
        Self {
            tap: taps.map(|taps| RefCell::new(taps.session(None))),
            limit,
            error: RefCell::default(),
        }
    }

    /// Blocks for [`SLICE`] at most, if [`MOST_WAITING`] bytes wait for the files.
    pub fn passed(&self, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            let mut tap = tap.borrow_mut();
            let mut result = tap.passed(direction, bytes);
            if matches!(result, Ok(false)) && tap.outbox.waiting() > MOST_WAITING {
                result = tap.outbox.wait(self.limit.min(Deadline::after(SLICE)));
            }
            if let Err(error) = result {
                self.error.replace(Some(error));
            }
        }
    }

    /// Fails if a datagram could not be written down.
    pub fn check(&self) -> Result<(), Failure> {
        self.error
            .take()
            .map_or(Ok(()), |error| Err(failure(&error)))
    }

    /// Blocks until all is written down. Fails if it is not by the limit, or once a signal ends the
    /// program.
    pub fn finish(&self) -> Result<(), Failure> {
        self.check()?;
        let Some(tap) = &self.tap else {
            return Ok(());
        };
        let outbox = &tap.borrow().outbox;
        loop {
            // A signal may come just before the wait.
            let slice = Deadline::after(SLICE).min(self.limit);
            match outbox.wait(slice) {
                Ok(true) => return Ok(()),
                Ok(false) if self.limit.has_passed() || is_ending() => return Err(late()),
                Ok(false) => {}
                Err(error) => return Err(failure(&error)),
            }
        }
    }
}

/// How many bytes of datagrams may wait for the files.
pub const MOST_WAITING: usize = 1 << 20;

/// How long a wait for the files may keep a signal from being seen.
const SLICE: Duration = Duration::from_millis(100);

/// A failed write of what passed.
pub fn failure(error: &io::Error) -> Failure {
    let sentence = "could not write the dump or the record";
    Failure::of(Exit::Local, sentence, error)
}

/// The files have not taken all in time.
pub fn late() -> Failure {
    let message = "could not write the dump or the record: it was not taken in time";
    Failure::new(Exit::Timeout, message)
}
