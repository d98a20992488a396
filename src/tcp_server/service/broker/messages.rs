//! What the others get of what a member sends: its bytes, or lines with its name.

use std::io;

use super::Kind;
use crate::escape::Harmless;
use crate::memory;
use crate::tcp_server::ended::Ended;

/// The most that is sent to others at a time, and the longest line of a chat.
pub const READ: usize = 64 << 10;

/// Turns what a member sends into what the others get.
pub struct Messages {
    kind: Kind,
    /// Who sends, in a chat.
    name: String,
    /// The start of a line of a chat.
    partial: Vec<u8>,
}

impl Messages {
    pub fn new(kind: Kind, name: String) -> Self {
        Self {
            kind,
            name,
            partial: Vec::new(),
        }
    }

    /// What the others get for one read. An empty read is the end of input.
    pub fn push(&mut self, read: &[u8]) -> Result<Vec<u8>, Ended> {
        if self.kind == Kind::Bytes {
            return memory::copy(read).map_err(Ended::Failed);
        }
        let mut message = Vec::new();
        memory::append(&mut self.partial, read).map_err(Ended::Failed)?;
        let mut input = std::mem::take(&mut self.partial);
        let mut end = 0;
        for line in input.split_inclusive(|&byte| byte == b'\n') {
            if line.ends_with(b"\n") || read.is_empty() {
                end += line.len();
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                self.say(line, &mut message).map_err(Ended::Failed)?;
            }
        }
        input.drain(..end);
        if !input.is_empty() {
            self.partial = input;
        }
        if self.partial.len() > READ {
            return Err(Ended::TooLong(READ));
        }
        Ok(message)
    }

    /// Appends a line with the name of who says it.
    fn say(&self, line: &[u8], message: &mut Vec<u8>) -> io::Result<()> {
        /// The escape of a byte is `\xHH`.
        const LONGEST: usize = 4;
        /// So that few bytes are escaped at a time, which takes memory that must not run out.
        const PIECE: usize = 512;
        memory::append(message, format!("<{}> ", self.name).as_bytes())?;
        let mut escape = Harmless::default();
        for (index, part) in line.split(|&byte| byte == b'\r').enumerate() {
            if index > 0 {
                // It would move the cursor back over the name.
                memory::append(message, b"\\x0d")?;
            }
            for piece in part.chunks(PIECE) {
                memory::reserve(message, (piece.len() + LONGEST) * LONGEST)?;
                escape.push(piece, message);
            }
            memory::reserve(message, LONGEST * LONGEST)?;
            escape.finish(message);
        }
        memory::append(message, b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chat_sends_lines_with_names_and_without_control() {
        let mut messages = Messages::new(Kind::Chat, "user3".to_owned());
        let mut push = |read: &[u8]| String::from_utf8(messages.push(read).unwrap()).unwrap();
        assert_eq!(push(b"hel"), "");
        assert_eq!(push(b"lo\nyou\r\nthe"), "<user3> hello\n<user3> you\n");
        assert_eq!(push(b"re\x1b[2J\rx\n"), "<user3> there\\x1b[2J\\x0dx\n");
        assert_eq!(push(b"last"), "");
        assert_eq!(push(b""), "<user3> last\n");
        assert_eq!(push(b""), "");
    }

    #[test]
    fn a_line_of_a_chat_is_bounded() {
        let mut messages = Messages::new(Kind::Chat, "user1".to_owned());
        assert!(messages.push(&vec![b'a'; READ]).is_ok());
        assert!(matches!(messages.push(b"a"), Err(Ended::TooLong(READ))));
    }

    #[test]
    fn a_broker_passes_bytes_as_they_are() {
        let mut messages = Messages::new(Kind::Bytes, String::new());
        assert_eq!(messages.push(b"\0\xff\n").unwrap(), b"\0\xff\n");
    }

    /// What the others get of `reads`, and of the end of input.
    fn heard(kind: Kind, reads: &[&[u8]]) -> Vec<u8> {
        let mut messages = Messages::new(kind, "user1".to_owned());
        let mut heard = Vec::new();
        for read in reads.iter().filter(|read| !read.is_empty()) {
            heard.extend(messages.push(read).unwrap());
        }
        heard.extend(messages.push(b"").unwrap());
        heard
    }

    proptest! {
        #[test]
        fn what_the_others_get_does_not_depend_on_how_it_is_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..60),
            cut: prop::sample::Index,
        ) {
            let (one, other) = bytes.split_at(cut.index(bytes.len() + 1));
            for kind in [Kind::Chat, Kind::Bytes] {
                prop_assert_eq!(heard(kind, &[one, other]), heard(kind, &[&bytes]));
            }
            prop_assert_eq!(heard(Kind::Bytes, &[one, other]), bytes);
        }

        #[test]
        fn a_member_cannot_speak_as_another(bytes: Vec<u8>) {
            let heard = String::from_utf8_lossy(&heard(Kind::Chat, &[&bytes])).into_owned();
            for line in heard.split_terminator('\n') {
                prop_assert!(line.starts_with("<user1> "), "{line}");
                prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
            }
        }
    }
}
