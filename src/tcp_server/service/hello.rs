//! Greets, and answers every message X with `Hello, X!` until `exit` or the end of input.

use std::time::Duration;

use clap::ValueEnum;

use crate::escape;
use crate::memory;
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::units::{duration, size};

#[derive(Clone, Debug, clap::Args)]
pub struct HelloArgs {
    /// Greet with TEXT (escapes: \r \n \t \0 \\ \xHH) [default: Welcome!]
    #[arg(long, value_name = "TEXT", value_parser = escape::unescape, allow_hyphen_values = true)]
    welcome: Option<Bytes>,
    /// Wait TIME before every answer [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    delay: Option<Duration>,
    /// Choose what one message is [default: auto]
    #[arg(long, value_name = "FRAMING")]
    framing: Option<Framing>,
    /// Answer no message longer than SIZE [default: 64k]
    #[arg(long, value_name = "SIZE", value_parser = message_size)]
    max_message: Option<usize>,
}

/// The bytes of `--welcome`. `Option<Vec<_>>` is another thing to clap.
type Bytes = Vec<u8>;

/// The size of the longest message. It has to fit into memory, together with its answer.
fn message_size(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 30;
    match size(text)? {
        size if size <= MOST => Ok(size),
        _ => Err(format!("'{text}' is too large; at most 1G is possible")),
    }
}

/// What one message is. TCP has no boundaries between messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Framing {
    /// Every read; after the first newline, every line
    Auto,
    /// Every line
    Line,
    /// Every read
    Read,
}

/// Most connections send no more than this at a time. Memory for more is given back.
const SMALL: usize = 512;

/// Blocks until the peer says `exit`, ends its input, or goes away.
// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection, args: &HelloArgs) -> Result<(), Ended> {
    connection.write_all(args.welcome.as_deref().unwrap_or(b"Welcome!"))?;
    let mut messages = Messages::new(
        args.framing.unwrap_or(Framing::Auto),
        args.max_message.unwrap_or(64 << 10),
    );
    let mut answers = Answers {
        connection,
        delay: args.delay.unwrap_or_default(),
        pending: Vec::new(),
    };
    let mut small = [0; SMALL];
    let mut large = Vec::new();
    loop {
        let read = read(connection, &mut small, &mut large)?;
        let has_ended = read.is_empty();
        let says_exit = messages.push(read, |text, end| answers.add(text, end));
        // The answers to the messages before `exit`, or before one that is too long, are sent.
        answers.flush()?;
        if says_exit? || has_ended {
            return Ok(());
        }
    }
}

/// Reads what has arrived; nothing is the end of the peer's input. `large` has memory only while the
/// peer sends more than `small` holds.
fn read<'a>(
    connection: &Connection,
    small: &'a mut [u8; SMALL],
    large: &'a mut Vec<u8>,
) -> Result<&'a [u8], Ended> {
    /// The longest message without a newline.
    const MOST: usize = 64 << 10;
    let count = connection.read(small)?;
    if count < SMALL {
        *large = Vec::new();
        return Ok(&small[..count]);
    }
    memory::reserve(large, MOST - large.len()).map_err(Ended::Failed)?;
    large.resize(MOST, 0);
    large[..count].copy_from_slice(small);
    let more = connection.try_read(&mut large[count..])?;
    Ok(&large[..count + more.unwrap_or(0)])
}

/// Collects the answers to messages that arrived together, so that they leave together.
struct Answers<'a> {
    connection: &'a Connection,
    delay: Duration,
    pending: Vec<u8>,
}

impl Answers<'_> {
    fn add(&mut self, text: &[u8], end: &[u8]) -> Result<(), Ended> {
        /// Answers may be longer than their messages.
        const MOST: usize = 64 << 10;
        if !self.delay.is_zero() {
            self.connection.pause(self.delay)?;
        }
        for part in [b"Hello, ", text, b"!", end] {
            memory::append(&mut self.pending, part).map_err(Ended::Failed)?;
        }
        if !self.delay.is_zero() || self.pending.len() >= MOST {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        self.connection.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

/// Cuts the bytes of each read into messages.
struct Messages {
    /// `Auto` becomes `Line` with the first newline.
    framing: Framing,
    max_message: usize,
    /// The start of a line, no longer than a message and half an end of line.
    partial: Vec<u8>,
}

impl Messages {
    fn new(framing: Framing, max_message: usize) -> Self {
        Self {
            framing,
            max_message,
            partial: Vec::new(),
        }
    }

    /// Gives `answer` each message that one read completes, and its end of line. Returns whether a
    /// message is `exit`; what follows it is ignored. An empty read is the end of input: it completes a
    /// last line.
    fn push(
        &mut self,
        read: &[u8],
        mut answer: impl FnMut(&[u8], &[u8]) -> Result<(), Ended>,
    ) -> Result<bool, Ended> {
        if read.is_empty() {
            let last = std::mem::take(&mut self.partial);
            return Ok(!last.is_empty() && self.message(&last, b"", &mut answer)?);
        }
        if self.framing == Framing::Auto && read.contains(&b'\n') {
            self.framing = Framing::Line;
        }
        if self.framing != Framing::Line {
            return self.message(read, b"", &mut answer);
        }
        for piece in read.split_inclusive(|&byte| byte == b'\n') {
            memory::append(&mut self.partial, piece).map_err(Ended::Failed)?;
            let (text, end): (&[u8], &[u8]) = match &self.partial[..] {
                [text @ .., b'\r', b'\n'] => (text, b"\r\n"),
                [text @ .., b'\n'] => (text, b"\n"),
                // A newline may follow.
                [text @ .., b'\r'] | text => {
                    self.check(text)?;
                    break;
                }
            };
            if self.message(text, end, &mut answer)? {
                return Ok(true);
            }
            self.partial.clear();
        }
        self.partial.shrink_to(SMALL);
        Ok(false)
    }

    fn check(&self, text: &[u8]) -> Result<(), Ended> {
        if text.len() > self.max_message {
            return Err(Ended::TooLong(self.max_message));
        }
        Ok(())
    }

    fn message(
        &self,
        text: &[u8],
        end: &[u8],
        answer: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Ended>,
    ) -> Result<bool, Ended> {
        self.check(text)?;
        let says_exit = matches!(text, b"exit" | b"exit\n" | b"exit\r\n");
        if !says_exit {
            answer(text, end)?;
        }
        Ok(says_exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All answers to `reads`, a space after each; `.` where the messages ended the connection.
    fn answers(framing: Framing, max_message: usize, reads: &[&[u8]]) -> String {
        let mut messages = Messages::new(framing, max_message);
        let mut output = Vec::new();
        let mut add = |text: &[u8], end: &[u8]| {
            output.extend([text, b"!", end, b" "].concat());
            Ok(())
        };
        let mut last = "";
        for read in reads {
            match messages.push(read, &mut add) {
                Ok(false) => {}
                Ok(true) => last = ".",
                Err(_) => last = "too long",
            }
            if !last.is_empty() {
                break;
            }
        }
        if last.is_empty() {
            last = match messages.push(b"", &mut add) {
                Ok(false) => "",
                Ok(true) => ".",
                Err(_) => "too long",
            };
        }
        String::from_utf8(output).unwrap() + last
    }

    #[test]
    fn reads_are_messages_until_the_first_newline_and_lines_from_then_on() {
        let auto = |reads: &[&[u8]]| answers(Framing::Auto, 64, reads);
        assert_eq!(
            auto(&[b"Michael", b"Tracy", b"exit", b"lost"]),
            "Michael! Tracy! ."
        );
        assert_eq!(auto(&[b"a\nb\nexit\n"]), "a!\n b!\n .");
        assert_eq!(
            auto(&[b"Michael", b"a\nb", b"c\n", b"d", b"e"]),
            "Michael! a!\n bc!\n de! "
        );
        assert_eq!(
            auto(&[b"a\r", b"b\r", b"\n", b"c\r", b"\n"]),
            "a\r! b\r! !\n c!\r\n "
        );
        assert_eq!(auto(&[b"\n\r\n"]), "!\n !\r\n ");
        assert_eq!(auto(&[b"exit\r\n"]), ".");
        assert_eq!(auto(&[b"\nex", b"it"]), "!\n .");
        assert_eq!(auto(&[b"exit now\n"]), "exit now!\n ");
    }

    #[test]
    fn line_framing_waits_for_the_end_of_the_line() {
        let line = |reads: &[&[u8]]| answers(Framing::Line, 64, reads);
        assert_eq!(line(&[b"Mic", b"hael\n"]), "Michael!\n ");
        assert_eq!(line(&[b"Mic", b"hael"]), "Michael! ");
    }

    #[test]
    fn read_framing_keeps_newlines_in_the_message() {
        let read = |reads: &[&[u8]]| answers(Framing::Read, 64, reads);
        assert_eq!(read(&[b"a\nb", b"c\n"]), "a\nb! c\n! ");
        assert_eq!(read(&[b"exit\n"]), ".");
    }

    #[test]
    fn a_message_may_be_as_long_as_allowed_and_no_longer() {
        let line = |reads: &[&[u8]]| answers(Framing::Line, 3, reads);
        assert_eq!(line(&[b"abc\r\n"]), "abc!\r\n ");
        assert_eq!(line(&[b"ab", b"c\r", b"\n"]), "abc!\r\n ");
        assert_eq!(line(&[b"a\nabcd\n"]), "a!\n too long");
        assert_eq!(line(&[b"abcd"]), "too long");
        assert_eq!(line(&[b"ab", b"cd"]), "too long");
        assert_eq!(line(&[b"abc\rd"]), "too long");
        // The end of input makes a return a part of the last line.
        assert_eq!(line(&[b"abc\r"]), "too long");
        assert_eq!(answers(Framing::Read, 3, &[b"abcd"]), "too long");
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_are_cut(
            text in "[a\r\n]{0,12}", cuts in proptest::collection::vec(1_usize..5, 0..12)
        ) {
            let mut reads = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                if !rest.is_empty() {
                    let (read, after) = rest.split_at(cut.min(rest.len()));
                    reads.push(read);
                    rest = after;
                }
            }
            reads.push(rest);
            let whole = answers(Framing::Line, 5, &[text.as_bytes()]);
            prop_assert_eq!(answers(Framing::Line, 5, &reads), whole);
        }
    }
}
