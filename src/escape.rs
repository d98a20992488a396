//! Escapes: those that `--send` understands, and those that make a peer's bytes harmless to show.

use std::fmt::Write as _;
use std::io::Write as _;

/// The bytes of a `--send` TEXT: `\r \n \t \0 \\ \xHH` are escapes, all else stands for itself.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let mut letters = escape.chars();
        match letters.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits = escape
                    .get(1..3)
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(byte.ok_or_else(|| {
                    format!("'\\x' in '{text}' needs two hexadecimal digits, as in \\x1b")
                })?);
                letters.nth(1);
            }
            Some(other) => {
                return Err(format!(
                    "'\\{other}' in '{text}' is not known; write \\r \\n \\t \\0 \\\\ or \\xHH"
                ));
            }
            None => {
                return Err(format!(
                    "'{text}' ends in a single '\\'; write \\\\ for one"
                ));
            }
        }
        rest = letters.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Makes bytes harmless on a terminal. Control characters (C0, DEL and C1) other than newline,
/// carriage return and tab, and bytes that are not UTF-8, become `\xHH`. The input may be cut
/// anywhere between two calls.
#[derive(Debug, Default)]
pub struct TerminalEscape {
    /// The start of an unfinished character, at most three bytes.
    partial: Vec<u8>,
}

impl TerminalEscape {
    /// Appends the harmless form of `input` to `output`. An unfinished character at the end waits.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let joined;
        let input = if self.partial.is_empty() {
            input
        } else {
            self.partial.extend_from_slice(input);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            show(chunk.valid(), output);
            let wrong = chunk.invalid();
            let may_go_on =
                std::str::from_utf8(wrong).is_err_and(|error| error.error_len().is_none());
            if may_go_on && chunks.peek().is_none() {
                self.partial = wrong.to_vec();
            } else {
                show_bytes(wrong, output);
            }
        }
    }

    /// Ends the input: appends an unfinished character.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        show_bytes(&std::mem::take(&mut self.partial), output);
    }
}

/// A peer's bytes in quotes, for one line of a message. Cut to 64 bytes.
pub fn quoted(bytes: &[u8]) -> String {
    beginning(bytes, 64)
}

/// As [`quoted`], cut to `most` bytes.
pub fn beginning(bytes: &[u8], most: usize) -> String {
    let (shown, dots) = if bytes.len() > most {
        (&bytes[..most], "...")
    } else {
        (bytes, "")
    };
    let mut text = String::from("\"");
    for chunk in shown.utf8_chunks() {
        // escape_debug keeps letters of any script and escapes what could move the cursor.
        let _ = write!(text, "{}", chunk.valid().escape_debug());
        let _ = write!(text, "{}", chunk.invalid().escape_ascii());
    }
    text + dots + "\""
}

fn show(text: &str, output: &mut Vec<u8>) {
    let is_escaped = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let mut rest = text;
    while let Some(at) = rest.find(is_escaped) {
        output.extend_from_slice(&rest.as_bytes()[..at]);
        let length = rest[at..].chars().next().map_or(1, char::len_utf8);
        show_bytes(&rest.as_bytes()[at..at + length], output);
        rest = &rest[at + length..];
    }
    output.extend_from_slice(rest.as_bytes());
}

fn show_bytes(bytes: &[u8], output: &mut Vec<u8>) {
    for byte in bytes {
        // Writing to a Vec cannot fail.
        let _ = write!(output, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut output = Vec::new();
        let mut escape = TerminalEscape::default();
        for piece in pieces {
            escape.push(piece, &mut output);
        }
        escape.finish(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn send_understands_its_escapes() {
        assert_eq!(
            unescape("a\\r\\n\\t\\0\\\\\\x1B\\xff").unwrap(),
            b"a\r\n\t\0\\\x1b\xff"
        );
        assert_eq!(unescape("naïve €").unwrap(), "naïve €".as_bytes());
        for text in [
            "\\", "a\\q", "\\x", "\\x1", "\\xg1", "\\x+1", "\\x1€", "\\€",
        ] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_terminal_is_shown_text_and_no_control() {
        assert_eq!(
            shown(&[b"a\x1b[2J\r\n\tb\x07\x7f\0"]),
            "a\\x1b[2J\r\n\tb\\x07\\x7f\\x00"
        );
        assert_eq!(shown(&["größe 漢字".as_bytes()]), "größe 漢字");
        assert_eq!(
            shown(&[b"\xc2\x9b31m \xff\x80"]),
            "\\xc2\\x9b31m \\xff\\x80"
        );
    }

    #[test]
    fn a_character_may_be_cut_between_two_reads() {
        assert_eq!(shown(&[b"\xe6", b"\xbc", b"\xa2"]), "漢");
        assert_eq!(shown(&[b"\xc2", b"\x9b"]), "\\xc2\\x9b");
        assert_eq!(shown(&[b"a\xe6\xbc"]), "a\\xe6\\xbc");
    }

    #[test]
    fn a_quotation_is_one_line() {
        assert_eq!(
            quoted(b"a\nb\x1b\xff\"\xc3\xa4"),
            "\"a\\nb\\u{1b}\\xff\\\"ä\""
        );
        assert_eq!(quoted(&[b'x'; 65]), format!("\"{}...\"", "x".repeat(64)));
    }

    proptest! {
        #[test]
        fn cutting_does_not_change_what_is_shown(bytes: Vec<u8>, cut in 0_usize..64) {
            let cut = cut.min(bytes.len());
            let whole = shown(&[&bytes]);
            prop_assert!(!whole.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')));
            prop_assert_eq!(shown(&[&bytes[..cut], &bytes[cut..]]), whole);
        }

        #[test]
        fn text_without_control_is_shown_as_it_is(text in "[^\\p{Cc}]*") {
            prop_assert_eq!(shown(&[text.as_bytes()]), text);
        }

        #[test]
        fn any_escape_is_answered_without_a_panic(text in "(\\\\|x|[0-9a-f]|\\PC)*") {
            let _ = unescape(&text);
        }
    }
}
