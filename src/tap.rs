//! Writes down the bytes of a session: as a hex dump (`-x`) or as they are (`--record`).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::exit::{Exit, Failure, OrFail as _};
use crate::wait::lock;

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

/// The files, which all sessions share.
pub struct Taps {
    dump: Option<Mutex<Dump>>,
    record: Option<Mutex<File>>,
}

enum Dump {
    File(File),
    Stderr,
}

/// Records one session.
#[derive(Clone)]
pub struct Tap {
    taps: Arc<Taps>,
    number: Option<u64>,
    offsets: [u64; 2],
}

impl TapArgs {
    /// Creates the files. `None`: none are wanted.
    pub fn open(&self) -> Result<Option<Arc<Taps>>, Failure> {
        let create = |path: &PathBuf| {
            File::create(path).or_fail(Exit::Local, || {
                format!("could not create {}", path.display())
            })
        };
        let dump = match &self.hex_dump {
            None => None,
            Some(None) => Some(Dump::Stderr),
            Some(Some(path)) => Some(Dump::File(create(path)?)),
        };
        let record = self.record.as_ref().map(create).transpose()?;
        let is_wanted = dump.is_some() || record.is_some();
        let taps = Taps {
            dump: dump.map(Mutex::new),
            record: record.map(Mutex::new),
        };
        Ok(is_wanted.then(|| Arc::new(taps)))
    }
}

impl Taps {
    /// With a `number`, every piece carries it.
    pub fn session(self: &Arc<Self>, number: Option<u64>) -> Tap {
        Tap {
            taps: Arc::clone(self),
            number,
            offsets: [0; 2],
        }
    }
}

impl Tap {
    /// Writes down one piece.
    pub fn passed(&mut self, direction: Direction, bytes: &[u8]) -> io::Result<()> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let head = head(self.number, direction, since_epoch.unwrap_or_default());
        let offset = &mut self.offsets[direction as usize];
        if let Some(dump) = &self.taps.dump {
            let text = hex_dump(&head, *offset, bytes);
            match &mut *lock(dump) {
                Dump::File(file) => file.write_all(text.as_bytes())?,
                // Where standard error is closed, no message can say so.
                Dump::Stderr => drop(io::stderr().lock().write_all(text.as_bytes())),
            }
        }
        if let Some(record) = &self.taps.record {
            let mut file = lock(record);
            if self.number.is_some() {
                let head = format!("{head} {}\n", bytes.len());
                file.write_all(&[head.as_bytes(), bytes, b"\n"].concat())?;
            } else {
                file.write_all(bytes)?;
            }
        }
        *offset += bytes.len() as u64;
        Ok(())
    }
}

/// A tap for datagrams. A failed write is kept until `check`. So sending and receiving fail only for
/// reasons of the network.
pub struct DatagramTap {
    tap: RefCell<Option<Tap>>,
    error: RefCell<Option<io::Error>>,
}

impl DatagramTap {
    pub fn new(taps: Option<Arc<Taps>>) -> Self {
        Self {
            tap: RefCell::new(taps.map(|taps| taps.session(None))),
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

    /// Fails if a datagram could not be written down.
    pub fn check(&self) -> Result<(), Failure> {
        self.error
            .take()
            .map_or(Ok(()), |error| Err(failure(&error)))
    }
}

/// A failed write of what passed.
pub fn failure(error: &io::Error) -> Failure {
    let sentence = "could not write the dump or the record";
    Failure::of(Exit::Local, sentence, error)
}

/// The beginning of a piece: session, direction and time.
fn head(session: Option<u64>, direction: Direction, since_epoch: Duration) -> String {
    let session = session.map_or(String::new(), |number| format!("#{number} "));
    let sign = match direction {
        Direction::Sent => '>',
        Direction::Received => '<',
    };
    format!("{session}{sign} {}", clock(since_epoch))
}

/// `head` and sixteen bytes on each line, as xxd(1) shows them.
fn hex_dump(head: &str, offset: u64, bytes: &[u8]) -> String {
    const WIDTH: usize = 16;
    if bytes.is_empty() {
        // An empty datagram has a line too.
        return format!("{head} {offset:08x}:\n");
    }
    let mut text = String::with_capacity((bytes.len() / WIDTH + 1) * 100);
    for (line, at) in bytes.chunks(WIDTH).zip((offset..).step_by(WIDTH)) {
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
            hex_dump(
                &head(None, Direction::Sent, TIME),
                0x10,
                b"GET / HTTP/1.1\r\n\x1b"
            ),
            "> 01:02:03.000045Z 00000010: 4745 5420 2f20 4854 5450 2f31 2e31 0d0a  GET / HTTP/1.1..\n\
             > 01:02:03.000045Z 00000020: 1b                                       .\n"
        );
        assert_eq!(
            hex_dump(&head(Some(7), Direction::Received, TIME), 0, b"ab"),
            "#7 < 01:02:03.000045Z 00000000: 6162                                     ab\n"
        );
        assert_eq!(
            hex_dump(&head(None, Direction::Sent, TIME), 0, b""),
            "> 01:02:03.000045Z 00000000:\n"
        );
    }

    proptest! {
        #[test]
        fn a_dump_can_be_turned_back(bytes: Vec<u8>) {
            let text = hex_dump(&head(Some(1), Direction::Sent, TIME), 0, &bytes);
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
