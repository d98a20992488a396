//! Watches what passes in a session: as a hex dump for people, as a record of the bytes.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::exit::{Exit, Failure, cause};

#[derive(Clone, Debug, clap::Args)]
pub struct TapArgs {
    /// Hex-dump traffic to FILE [default: standard error]
    #[arg(short = 'x', long, value_name = "FILE", num_args = 0..=1, value_parser = file())]
    #[expect(clippy::option_option, reason = "absent, without a file, with a file")]
    pub hex_dump: Option<Option<PathBuf>>,
    /// Save traffic, both directions, to FILE
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub record: Option<PathBuf>,
}

/// A name of a file. `-` is standard output elsewhere, which here is for data alone.
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

/// Where bytes go, seen from here.
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

/// The files that everything is written to, opened once for all sessions.
pub struct Taps {
    dump: Option<Mutex<Out>>,
    record: Option<Mutex<File>>,
    /// Several sessions share the files, so that every record says which it belongs to.
    numbered: bool,
}

enum Out {
    File(File),
    Stderr,
}

/// Watches one session.
#[derive(Clone)]
pub struct Tap {
    taps: Arc<Taps>,
    session: u64,
    offsets: [u64; 2],
}

impl TapArgs {
    /// Creates the files; `None` when nothing is to be watched. With `numbered` every record carries
    /// the number of its session.
    pub fn open(&self, numbered: bool) -> Result<Option<Arc<Taps>>, Failure> {
        let create = |path: &PathBuf| {
            File::create(path).map_err(|error| {
                Failure::new(
                    Exit::Local,
                    format!("could not create {}: {}", path.display(), cause(&error)),
                )
            })
        };
        let dump = match &self.hex_dump {
            None => None,
            Some(None) => Some(Mutex::new(Out::Stderr)),
            Some(Some(path)) => Some(Mutex::new(Out::File(create(path)?))),
        };
        let record = self
            .record
            .as_ref()
            .map(create)
            .transpose()?
            .map(Mutex::new);
        let wanted = dump.is_some() || record.is_some();
        Ok(wanted.then(|| {
            Arc::new(Taps {
                dump,
                record,
                numbered,
            })
        }))
    }
}

impl Taps {
    pub fn session(self: &Arc<Self>, session: u64) -> Tap {
        Tap {
            taps: Arc::clone(self),
            session,
            offsets: [0; 2],
        }
    }
}

impl Tap {
    /// Writes down what has passed, at once and in one piece.
    pub fn passed(&mut self, direction: Direction, bytes: &[u8]) -> io::Result<()> {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let offset = &mut self.offsets[direction as usize];
        let session = self.taps.numbered.then_some(self.session);
        if let Some(dump) = &self.taps.dump {
            let text = hex_dump(session, direction, since_epoch, *offset, bytes);
            match &mut *dump.lock().unwrap_or_else(PoisonError::into_inner) {
                Out::File(file) => file.write_all(text.as_bytes())?,
                // As for messages, there is nowhere left to say that it is closed.
                Out::Stderr => drop(io::stderr().lock().write_all(text.as_bytes())),
            }
        }
        if let Some(record) = &self.taps.record {
            let mut file = record.lock().unwrap_or_else(PoisonError::into_inner);
            match session {
                None => file.write_all(bytes)?,
                Some(session) => {
                    let time = clock(since_epoch);
                    let sign = direction.sign();
                    let mut piece =
                        format!("#{session} {sign} {time} {}\n", bytes.len()).into_bytes();
                    piece.extend_from_slice(bytes);
                    piece.push(b'\n');
                    file.write_all(&piece)?;
                }
            }
        }
        *offset += bytes.len() as u64;
        Ok(())
    }
}

/// Watches datagrams, which are sent where an error could only be the network's: one of its own is
/// kept for whoever asks.
pub struct Watch {
    tap: RefCell<Option<Tap>>,
    error: RefCell<Option<io::Error>>,
}

impl Watch {
    pub fn new(taps: Option<Arc<Taps>>) -> Self {
        Self {
            tap: RefCell::new(taps.map(|taps| taps.session(1))),
            error: RefCell::default(),
        }
    }

    pub fn passed(&self, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &mut *self.tap.borrow_mut()
            && let Err(error) = tap.passed(direction, bytes)
        {
            self.error.replace(Some(error));
        }
    }

    /// Whether everything could be written down so far.
    pub fn check(&self) -> Result<(), Failure> {
        match self.error.take() {
            None => Ok(()),
            Some(error) => Err(failure(&error)),
        }
    }
}

/// What it means that a session could not be written down.
pub fn failure(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Local,
        format!("could not write the dump or the record: {}", cause(error)),
    )
}

/// Sixteen bytes a line, as `xxd` shows them, behind session, direction and time.
fn hex_dump(
    session: Option<u64>,
    direction: Direction,
    since_epoch: Duration,
    offset: u64,
    bytes: &[u8],
) -> String {
    const WIDTH: usize = 16;
    let mut head = String::new();
    if let Some(session) = session {
        let _ = write!(head, "#{session} ");
    }
    let _ = write!(head, "{} {}", direction.sign(), clock(since_epoch));
    let mut text = String::with_capacity((bytes.len() / WIDTH + 1) * 100);
    let mut at = offset;
    if bytes.is_empty() {
        // An empty datagram is one too.
        let _ = writeln!(text, "{head} {at:08x}:");
    }
    for line in bytes.chunks(WIDTH) {
        let _ = write!(text, "{head} {at:08x}: ");
        for index in 0..WIDTH {
            let _ = match line.get(index) {
                Some(byte) => write!(text, "{byte:02x}"),
                None => write!(text, "  "),
            };
            if index % 2 == 1 {
                text.push(' ');
            }
        }
        text.push(' ');
        text.extend(line.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        }));
        text.push('\n');
        at += line.len() as u64;
    }
    text
}

/// The time of day, in UTC and to the microsecond.
fn clock(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:06}Z",
        since_epoch.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: Duration = Duration::from_micros(86_400_000_000 + 3_723_000_045);

    #[test]
    fn a_dump_says_all_of_a_byte_that_passed() {
        assert_eq!(
            hex_dump(None, Direction::Sent, TIME, 0x10, b"GET / HTTP/1.1\r\n\x1b"),
            "> 01:02:03.000045Z 00000010: 4745 5420 2f20 4854 5450 2f31 2e31 0d0a  GET / HTTP/1.1..\n\
             > 01:02:03.000045Z 00000020: 1b                                       .\n"
        );
        assert_eq!(
            hex_dump(Some(7), Direction::Received, TIME, 0, b"ab"),
            "#7 < 01:02:03.000045Z 00000000: 6162                                     ab\n"
        );
        assert_eq!(
            hex_dump(None, Direction::Sent, TIME, 0, b""),
            "> 01:02:03.000045Z 00000000:\n"
        );
    }

    proptest! {
        #[test]
        fn a_dump_can_be_turned_back(bytes: Vec<u8>) {
            let text = hex_dump(Some(1), Direction::Sent, TIME, 0, &bytes);
            let digits: String = text
                .lines()
                .filter_map(|line| line.split_once(": ")?.1.get(..40))
                .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
                .collect();
            let back: Vec<u8> = (0..digits.len() / 2)
                .map(|index| u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).unwrap())
                .collect();
            prop_assert_eq!(back, bytes);
        }
    }
}
