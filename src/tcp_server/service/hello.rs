//! Greets, and answers every message X with `Hello, X!` until `exit` or the end of input.

use std::time::Duration;

use clap::ValueEnum;

use crate::tcp_server::connection::{Connection, Ended};
use crate::units::{duration, size};

#[derive(Clone, Debug, clap::Args)]
pub struct HelloArgs {
    /// Greet with TEXT [default: Welcome!]
    #[arg(long, value_name = "TEXT")]
    welcome: Option<String>,
    /// Wait TIME before every answer [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    delay: Option<Duration>,
    /// Choose what one message is [default: auto]
    #[arg(long, value_name = "FRAMING")]
    framing: Option<Framing>,
    /// Answer no message longer than SIZE [default: 64k]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_message: Option<usize>,
}

impl HelloArgs {
    /// Each option, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--welcome", self.welcome.is_some()),
            ("--delay", self.delay.is_some()),
            ("--framing", self.framing.is_some()),
            ("--max-message", self.max_message.is_some()),
        ]
    }
}

/// What one message is, where TCP keeps nothing apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Framing {
    /// Every read; after the first newline, every line
    Auto,
    /// Every line
    Line,
    /// Every read
    Read,
}

/// Blocks until the peer says `exit`, ends its input, or goes away.
#[inline(never)]
pub fn handle(connection: &Connection, args: &HelloArgs) -> Result<(), Ended> {
    let welcome = args.welcome.as_deref().unwrap_or("Welcome!");
    connection.write_all(welcome.as_bytes())?;
    let mut messages = Messages::new(
        args.framing.unwrap_or(Framing::Auto),
        args.max_message.unwrap_or(64 << 10),
    );
    let mut answers = Answers {
        connection,
        delay: args.delay.unwrap_or_default(),
        pending: Vec::new(),
    };
    let mut inbox = Inbox::default();
    loop {
        let read = inbox.read(connection)?;
        let flow = match read {
            [] => messages.end(|text, end| answers.add(text, end)),
            _ => messages.push(read, |text, end| answers.add(text, end)),
        };
        let ended = read.is_empty();
        // What was received before the end is answered, whatever the end is.
        answers.flush()?;
        if flow? == Flow::Exit || ended {
            return Ok(());
        }
    }
}

/// What is read at once. Most connections wait most of the time, and few send much: room for much is
/// taken only once it is needed, and given back.
struct Inbox {
    start: [u8; Self::START],
    whole: Vec<u8>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            start: [0; Self::START],
            whole: Vec::new(),
        }
    }
}

impl Inbox {
    const START: usize = 512;

    /// The most that one read takes, and so the longest message without a newline.
    const READ: usize = 64 << 10;

    /// Reads what has arrived; nothing is the end of the peer's input.
    fn read(&mut self, connection: &Connection) -> Result<&[u8], Ended> {
        let count = connection.read(&mut self.start)?;
        if count < Self::START {
            self.whole = Vec::new();
            return Ok(&self.start[..count]);
        }
        self.whole.resize(Self::READ, 0);
        self.whole[..count].copy_from_slice(&self.start);
        let more = connection.read_on(&mut self.whole[count..])?;
        Ok(&self.whole[..count + more])
    }
}

/// Answers on their way: those to messages that arrived together leave together.
struct Answers<'a> {
    connection: &'a Connection,
    delay: Duration,
    pending: Vec<u8>,
}

impl Answers<'_> {
    fn add(&mut self, text: &[u8], end: &[u8]) -> Result<(), Ended> {
        /// Many short messages in one read have longer answers.
        const MOST: usize = 64 << 10;
        if !self.delay.is_zero() {
            self.connection.pause(self.delay)?;
        }
        for part in [b"Hello, ", text, b"!", end] {
            self.pending.extend_from_slice(part);
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

#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Exit,
}

/// Cuts what is read into messages.
struct Messages {
    framing: Framing,
    max_message: usize,
    /// Whether a newline has come.
    lines: bool,
    /// A line whose end has not been read; never longer than a message and a carriage return.
    partial: Vec<u8>,
}

impl Messages {
    fn new(framing: Framing, max_message: usize) -> Self {
        Self {
            framing,
            max_message,
            lines: framing == Framing::Line,
            partial: Vec::new(),
        }
    }

    /// Gives every message that one read completes to `answer`: its text, and the end of line that
    /// is not part of it.
    fn push(
        &mut self,
        read: &[u8],
        mut answer: impl FnMut(&[u8], &[u8]) -> Result<(), Ended>,
    ) -> Result<Flow, Ended> {
        self.lines |= self.framing == Framing::Auto && read.contains(&b'\n');
        if !self.lines {
            return self.message(read, b"", &mut answer);
        }
        for piece in read.split_inclusive(|&byte| byte == b'\n') {
            // Nothing is kept beyond what may still become a message with its end of line.
            let length = self.partial.len() + piece.len();
            if length > self.max_message + 2 {
                return Err(Ended::TooLong(self.max_message));
            }
            if !piece.ends_with(b"\n") {
                self.partial.extend_from_slice(piece);
                let text = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
                if text.len() > self.max_message {
                    return Err(Ended::TooLong(self.max_message));
                }
                break;
            }
            let joined;
            let line = if self.partial.is_empty() {
                piece
            } else {
                self.partial.extend_from_slice(piece);
                joined = std::mem::take(&mut self.partial);
                &joined
            };
            let (text, end): (&[u8], &[u8]) = match line {
                [text @ .., b'\r', b'\n'] => (text, b"\r\n"),
                [text @ .., _] => (text, b"\n"),
                [] => continue,
            };
            let flow = self.message(text, end, &mut answer);
            if flow? == Flow::Exit {
                return Ok(Flow::Exit);
            }
        }
        Ok(Flow::Next)
    }

    /// The input has ended: an incomplete last line is a message too.
    fn end(
        &mut self,
        mut answer: impl FnMut(&[u8], &[u8]) -> Result<(), Ended>,
    ) -> Result<Flow, Ended> {
        match std::mem::take(&mut self.partial) {
            partial if partial.is_empty() => Ok(Flow::Next),
            partial => self.message(&partial, b"", &mut answer),
        }
    }

    fn message(
        &self,
        text: &[u8],
        end: &[u8],
        answer: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Ended>,
    ) -> Result<Flow, Ended> {
        if text.len() > self.max_message {
            return Err(Ended::TooLong(self.max_message));
        }
        if matches!(text, b"exit" | b"exit\n" | b"exit\r\n") {
            return Ok(Flow::Exit);
        }
        answer(text, end).map(|()| Flow::Next)
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
                Ok(Flow::Next) => {}
                Ok(Flow::Exit) => last = ".",
                Err(_) => last = "too long",
            }
            if !last.is_empty() {
                break;
            }
        }
        if last.is_empty() {
            last = match messages.end(&mut add) {
                Ok(Flow::Next) => "",
                Ok(Flow::Exit) => ".",
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
