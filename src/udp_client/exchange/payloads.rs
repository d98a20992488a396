//! What a UDP client sends: its arguments, or standard input cut into datagrams.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use crate::escape::beginning;
use crate::exit::Failure;
use crate::input;
use crate::net::datagram::LARGEST;
use crate::wait::{Deadline, IN, wait_for};

/// How standard input is cut.
#[derive(clap::Args)]
pub struct InputArgs {
    /// Send all of standard input as one datagram
    #[arg(long, conflicts_with_all = ["chunk"])]
    whole: bool,
    /// Split standard input by SIZE, not by line
    #[arg(long, value_name = "SIZE", value_parser = chunk)]
    chunk: Option<usize>,
}

fn chunk(text: &str) -> Result<usize, String> {
    match crate::units::size(text)? {
        size if size > LARGEST => Err(format!(
            "'{text}' is more than a datagram carries: 65507 bytes over IPv4, 65527 over IPv6"
        )),
        size => Ok(size),
    }
}

/// One datagram that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Counted from 1.
    pub number: u64,
    /// All of it, where it is not too large for any datagram; else its beginning.
    pub bytes: Vec<u8>,
    /// How many bytes it has.
    pub size: u64,
}

/// The name of a datagram in messages, with the beginning of a long one.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All of it, or so much that what happened to it is not far off, escapes and all.
        let most = if self.bytes.len() > 64 { 16 } else { 64 };
        let text = beginning(&self.bytes, most);
        write!(f, "datagram {}, {text}", self.number)
    }
}

/// All datagrams of one run, in order.
pub struct Payloads {
    source: Source,
    numbered: u64,
}

enum Source {
    Arguments(std::vec::IntoIter<OsString>),
    Input(Input),
}

/// What comes next.
pub enum Next {
    Payload(Rc<Payload>),
    /// Nothing until standard input is ready; then `read` goes on.
    Input,
    End,
}

impl Payloads {
    /// `data`, or standard input where there is none.
    pub fn new(data: Vec<OsString>, args: &InputArgs) -> Result<Self, Failure> {
        let cut = match (args.whole, args.chunk) {
            (true, _) => Some(Cut::Whole),
            (false, Some(size)) => Some(Cut::Chunks(size)),
            (false, None) => None,
        };
        if cut.is_some() && !data.is_empty() {
            let message = "--whole and --chunk cut standard input, which is not read when DATA is \
                given";
            return Err(Failure::local(message));
        }
        let source = if data.is_empty() {
            Source::Input(Input::new(cut.unwrap_or(Cut::Lines)))
        } else {
            Source::Arguments(data.into_iter())
        };
        Ok(Self {
            source,
            numbered: 0,
        })
    }

    /// Does not block.
    pub fn next(&mut self) -> Next {
        let (bytes, size) = match &mut self.source {
            Source::Arguments(words) => match words.next() {
                Some(word) => {
                    let bytes = word.into_vec();
                    let size = bytes.len() as u64;
                    (bytes, size)
                }
                None => return Next::End,
            },
            Source::Input(input) => match input.next() {
                Some(piece) => piece,
                None if input.ended => return Next::End,
                None => return Next::Input,
            },
        };
        self.numbered += 1;
        Next::Payload(Rc::new(Payload {
            number: self.numbered,
            bytes,
            size,
        }))
    }

    /// Reads standard input once; blocks unless that is ready.
    pub fn read(&mut self) -> Result<(), Failure> {
        match &mut self.source {
            Source::Input(input) => input.read(),
            Source::Arguments(_) => Ok(()),
        }
    }

    /// As `next`, but blocks until there is something; `None` is the end.
    pub fn wait(&mut self) -> Result<Option<Rc<Payload>>, Failure> {
        loop {
            match self.next() {
                Next::Payload(payload) => return Ok(Some(payload)),
                Next::End => return Ok(None),
                Next::Input => {
                    // It may have been made non-blocking by whom it is shared with.
                    wait_for(io::stdin().as_fd(), IN, Deadline::NEVER)?;
                    self.read()?;
                }
            }
        }
    }
}

/// Standard input on its way into datagrams.
struct Input {
    cutter: Cutter,
    buffer: Vec<u8>,
    unread: Range<usize>,
    ended: bool,
}

impl Input {
    fn new(cut: Cut) -> Self {
        Self {
            cutter: Cutter::new(cut),
            buffer: vec![0; 64 << 10],
            unread: 0..0,
            ended: false,
        }
    }

    fn next(&mut self) -> Option<(Vec<u8>, u64)> {
        let (taken, piece) = self.cutter.push(&self.buffer[self.unread.clone()]);
        self.unread.start += taken;
        if piece.is_none() && self.ended {
            return self.cutter.finish();
        }
        piece
    }

    /// Everything read before must have been taken by `next`.
    fn read(&mut self) -> Result<(), Failure> {
        if let Some(count) = input::read(&mut self.buffer)? {
            self.unread = 0..count;
            self.ended = count == 0;
        }
        Ok(())
    }
}

/// Where a stream of bytes is cut into datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// At every newline, which belongs to no datagram; nothing after the last one is no datagram.
    Lines,
    /// After so many bytes; the last one may be shorter, and is never empty.
    Chunks(usize),
    /// Nowhere: there is exactly one datagram.
    Whole,
}

/// Cuts a stream that arrives in pieces of any length. Holds one datagram at most, and of that no
/// more than can be sent.
struct Cutter {
    cut: Cut,
    bytes: Vec<u8>,
    size: u64,
    finished: bool,
}

impl Cutter {
    fn new(cut: Cut) -> Self {
        Self {
            cut,
            bytes: Vec::new(),
            size: 0,
            finished: false,
        }
    }

    /// Takes bytes up to the end of a datagram, or all: how many, and the datagram with its size,
    /// if it is complete.
    fn push(&mut self, input: &[u8]) -> (usize, Option<(Vec<u8>, u64)>) {
        let room = |size: usize| size.saturating_sub(usize::try_from(self.size).unwrap_or(size));
        let (taken, skipped, complete) = match self.cut {
            Cut::Lines => match input.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at, 1, true),
                None => (input.len(), 0, false),
            },
            Cut::Chunks(size) if input.len() >= room(size) => (room(size), 0, true),
            Cut::Chunks(_) | Cut::Whole => (input.len(), 0, false),
        };
        let kept = taken.min(LARGEST - self.bytes.len());
        self.bytes.extend_from_slice(&input[..kept]);
        self.size += taken as u64;
        (taken + skipped, complete.then(|| self.take()))
    }

    /// What is left at the end of the stream; nothing from then on.
    fn finish(&mut self) -> Option<(Vec<u8>, u64)> {
        let is_first = !std::mem::replace(&mut self.finished, true);
        (is_first && (self.size > 0 || self.cut == Cut::Whole)).then(|| self.take())
    }

    fn take(&mut self) -> (Vec<u8>, u64) {
        (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.size),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The datagrams of `pieces`, each with its size.
    fn cut(cut: Cut, pieces: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut cutter = Cutter::new(cut);
        let mut datagrams = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, datagram) = cutter.push(rest);
                rest = &rest[taken..];
                datagrams.extend(datagram);
            }
        }
        datagrams.extend(cutter.finish());
        assert_eq!(cutter.finish(), None);
        datagrams
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
    fn chunks_are_full_save_the_last_and_never_empty() {
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
