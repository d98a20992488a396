//! What an exchange sends: the arguments, or standard input cut into datagrams.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use crate::escape::{beginning, unescape};
use crate::exit::Failure;
use crate::input;
use crate::net::datagram::{LARGEST, payload_size};
use crate::wait::{Deadline, IN, wait_for};

/// What is sent, beside DATA, and how standard input is cut.
#[derive(clap::Args)]
pub struct InputArgs {
    /// Send TEXT as a datagram
    ///
    /// Escapes: \r \n \t \0 \\ \xHH. May be repeated. DATA is sent first. Standard input is not read.
    #[arg(long, value_name = "TEXT", value_parser = unescape, allow_hyphen_values = true)]
    send: Vec<Bytes>,
    /// Send all of standard input as one datagram
    ///
    /// The answer is printed as it is, without a newline.
    #[arg(long, conflicts_with_all = ["chunk"])]
    whole: bool,
    /// Split standard input by SIZE, not by line
    #[arg(long, value_name = "SIZE", value_parser = payload_size)]
    chunk: Option<usize>,
}

/// The bytes of one `--send`. `Vec<Vec<_>>` is another thing to clap.
type Bytes = Vec<u8>;

/// One datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Counted from 1.
    pub number: u64,
    /// Cut to [`LARGEST`] bytes, which no datagram exceeds.
    pub bytes: Vec<u8>,
    /// The bytes before the cut.
    pub size: u64,
}

impl Payload {
    /// The payload in quotes. A long one is cut, so that the cause of a message stays on the screen.
    pub fn text(&self) -> String {
        let most = if self.bytes.len() > 64 { 16 } else { 64 };
        beginning(&self.bytes, most)
    }
}

/// The name of a datagram in messages.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "datagram {}, {}", self.number, self.text())
    }
}

/// All datagrams of one run, in order.
pub struct Payloads {
    cutter: Cutter,
    /// Standard input may hold more.
    is_reading: bool,
    buffer: Vec<u8>,
}

impl Payloads {
    /// `data` and `--send`, or standard input where there is neither.
    pub fn new(data: &[OsString], args: &InputArgs) -> Result<Self, Failure> {
        let cut = match (args.whole, args.chunk) {
            (true, _) => Cut::Whole,
            (false, Some(size)) => Cut::Chunks(size),
            (false, None) => Cut::Lines,
        };
        let is_reading = data.is_empty() && args.send.is_empty();
        if !is_reading && cut != Cut::Lines {
            let message = "--whole and --chunk cut standard input, which is not read when DATA or \
                --send is given";
            return Err(Failure::usage(message));
        }
        let mut cutter = Cutter::new(cut);
        let words = data.iter().map(|word| word.as_bytes());
        for datagram in words.chain(args.send.iter().map(Vec::as_slice)) {
            cutter.add(datagram);
            cutter.complete();
        }
        Ok(Self {
            cutter,
            is_reading,
            buffer: vec![0; if is_reading { 64 << 10 } else { 0 }],
        })
    }

    /// Whether all of standard input is one datagram.
    pub fn is_whole(&self) -> bool {
        self.cutter.cut == Cut::Whole
    }

    /// The next complete datagram.
    pub fn next(&mut self) -> Option<Rc<Payload>> {
        self.cutter.complete.pop_front()
    }

    /// Whether `next` has nothing before a `read`.
    pub fn wants_input(&self) -> bool {
        self.is_reading && self.cutter.complete.is_empty()
    }

    /// Reads standard input once. Blocks unless it is ready.
    pub fn read(&mut self) -> Result<(), Failure> {
        if let Some(count) = input::read(&mut self.buffer)? {
            self.cutter.push(&self.buffer[..count]);
            if count == 0 {
                self.cutter.finish();
                self.is_reading = false;
            }
        }
        Ok(())
    }

    /// Blocks until the next datagram is complete. `None` is the end, or `limit` has passed.
    pub fn wait(&mut self, limit: Deadline) -> Result<Option<Rc<Payload>>, Failure> {
        while self.wants_input() && !limit.has_passed() {
            if wait_for(io::stdin().as_fd(), IN, limit)? {
                self.read()?;
            }
        }
        Ok(self.next())
    }
}

/// Where a stream of bytes is cut into datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// At every newline, which is not sent. Nothing after the last newline is no datagram.
    Lines,
    /// After so many bytes. The last one may be shorter, and is never empty.
    Chunks(usize),
    /// Nowhere: there is exactly one datagram.
    Whole,
}

/// Cuts a stream that arrives in pieces of any length.
struct Cutter {
    cut: Cut,
    complete: VecDeque<Rc<Payload>>,
    /// The number of the last complete one.
    number: u64,
    /// The beginning of the next one, and its size so far.
    bytes: Vec<u8>,
    size: u64,
}

impl Cutter {
    fn new(cut: Cut) -> Self {
        Self {
            cut,
            complete: VecDeque::new(),
            number: 0,
            bytes: Vec::new(),
            size: 0,
        }
    }

    fn push(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let (taken, skipped, is_complete) = match self.cut {
                Cut::Lines => match input.iter().position(|&byte| byte == b'\n') {
                    Some(at) => (at, 1, true),
                    None => (input.len(), 0, false),
                },
                Cut::Chunks(size) => {
                    let taken = input.len().min(size - self.bytes.len());
                    (taken, 0, self.bytes.len() + taken == size)
                }
                Cut::Whole => (input.len(), 0, false),
            };
            self.add(&input[..taken]);
            if is_complete {
                self.complete();
            }
            input = &input[taken + skipped..];
        }
    }

    /// The stream has ended.
    fn finish(&mut self) {
        if self.size > 0 || self.cut == Cut::Whole {
            self.complete();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LARGEST - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.size += bytes.len() as u64;
    }

    fn complete(&mut self) {
        self.number += 1;
        self.complete.push_back(Rc::new(Payload {
            number: self.number,
            bytes: mem::take(&mut self.bytes),
            size: mem::take(&mut self.size),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The datagrams of `pieces`, each with its size.
    fn cut(cut: Cut, pieces: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut cutter = Cutter::new(cut);
        for piece in pieces {
            cutter.push(piece);
        }
        cutter.finish();
        let numbers = cutter.complete.iter().map(|payload| payload.number);
        assert!(numbers.eq(1..=cutter.complete.len() as u64));
        let datagrams = cutter.complete.iter();
        datagrams
            .map(|payload| (payload.bytes.clone(), payload.size))
            .collect()
    }

    fn bytes(datagrams: Vec<(Vec<u8>, u64)>) -> Vec<Vec<u8>> {
        datagrams.into_iter().map(|(bytes, _)| bytes).collect()
    }

    #[test]
    fn every_line_is_a_datagram_and_an_empty_line_is_an_empty_one() {
        let lines = bytes(cut(Cut::Lines, &[b"a\n\nb\r\nc"]));
        assert_eq!(lines, [b"a".as_slice(), b"", b"b\r", b"c"]);
        assert_eq!(bytes(cut(Cut::Lines, &[b"a\n"])), [b"a"]);
        assert!(cut(Cut::Lines, &[]).is_empty());
    }

    #[test]
    fn all_chunks_but_the_last_are_full_and_none_is_empty() {
        let chunks = bytes(cut(Cut::Chunks(2), &[b"abc", b"de"]));
        assert_eq!(chunks, [b"ab".as_slice(), b"cd", b"e"]);
        assert_eq!(bytes(cut(Cut::Chunks(2), &[b"ab"])), [b"ab"]);
        assert!(cut(Cut::Chunks(2), &[]).is_empty());
    }

    #[test]
    fn the_whole_of_nothing_is_one_empty_datagram() {
        assert_eq!(cut(Cut::Whole, &[]), [(Vec::new(), 0)]);
        assert_eq!(bytes(cut(Cut::Whole, &[b"a\n", b"b\n"])), [b"a\nb\n"]);
    }

    #[test]
    fn what_cannot_be_sent_is_counted_but_not_kept() {
        let long = vec![b'x'; LARGEST + 1];
        let lines = cut(Cut::Lines, &[&long, &long, b"\nshort\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].0.len(), LARGEST);
        assert_eq!(lines[0].1, 2 * (LARGEST as u64 + 1));
        assert_eq!(lines[1], (b"short".to_vec(), 5));
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..60),
            ends in proptest::collection::vec(0_usize..60, 0..6),
            size in 1_usize..9,
        ) {
            let mut ends: Vec<usize> = ends.into_iter().map(|end| end.min(input.len())).collect();
            ends.sort_unstable();
            let mut start = 0;
            let mut pieces = Vec::new();
            for end in ends.into_iter().chain([input.len()]) {
                pieces.push(&input[start..end]);
                start = end;
            }
            for how in [Cut::Lines, Cut::Chunks(size), Cut::Whole] {
                prop_assert_eq!(cut(how, &pieces), cut(how, &[&input]));
            }
        }

        #[test]
        fn nothing_is_lost_and_nothing_is_added(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60), size in 1_usize..9) {
            prop_assert_eq!(bytes(cut(Cut::Chunks(size), &[&input])).concat(), input.clone());
            let mut joined = bytes(cut(Cut::Lines, &[&input])).join(&b'\n');
            if input.ends_with(b"\n") {
                joined.push(b'\n');
            }
            prop_assert_eq!(joined, input);
        }
    }
}
