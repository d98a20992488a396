//! Escapes: those that `--send` understands, and those that make foreign bytes harmless to show. What
//! is hidden is defined once, for terminals, messages, JSON and chat.

use std::fmt::{self, Write as _};
use std::sync::Once;

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

/// Whether `c` is never shown as it is: C0, DEL, C1, a bidirectional override or isolate (UAX 9), or a
/// separator of lines or paragraphs. A terminal obeys such characters, or they forge what is read.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Gives `text` to `pass` in pieces, each with the hidden character that ends it, if one does.
fn split(
    text: &str,
    is_hidden: impl Fn(char) -> bool,
    mut pass: impl FnMut(&str, Option<char>) -> fmt::Result,
) -> fmt::Result {
    // Log lines take half of the time: nearly all of them are this plain.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return pass(text, None);
    }
    text.split_inclusive(&is_hidden).try_for_each(|piece| {
        let last = piece.chars().next_back().filter(|&c| is_hidden(c));
        pass(&piece[..piece.len() - last.map_or(0, char::len_utf8)], last)
    })
}

/// Writes text for one line of a message: newline, carriage return and tab too become `\n`, `\r` and
/// `\t`. A backslash stays, so what has been escaped may pass again.
pub struct OneLine<W>(pub W);

impl<W: fmt::Write> fmt::Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Self(writer) = self;
        split(text, is_hidden, |plain, hidden| {
            writer.write_str(plain)?;
            match hidden {
                None => Ok(()),
                Some('\n') => writer.write_str("\\n"),
                Some('\r') => writer.write_str("\\r"),
                Some('\t') => writer.write_str("\\t"),
                Some(c) => write_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), writer),
            }
        })
    }
}

/// Text for one line of a message: see [`OneLine`].
pub fn one_line(text: &str) -> String {
    let mut line = OneLine(String::with_capacity(text.len()));
    // Writing to a String cannot fail.
    let _ = line.write_str(text);
    line.0
}

/// JSON in which serde escaped only C0: the other hidden characters become `\uHHHH`, which means the
/// same.
pub fn json(text: String) -> String {
    // A newline ends an object. Within one, serde leaves no other C0.
    let is_hidden = |c| is_hidden(c) && c != '\n';
    if !text.contains(is_hidden) {
        return text;
    }
    let mut json = String::with_capacity(text.len());
    let _ = split(&text, is_hidden, |plain, hidden| {
        json.push_str(plain);
        hidden.map_or(Ok(()), |c| write!(json, "\\u{:04x}", u32::from(c)))
    });
    json
}

/// Makes a peer's bytes harmless: hidden characters other than newline, carriage return and tab, and
/// bytes that are not UTF-8, become `\xHH`. The input may be cut anywhere between two calls.
#[derive(Debug, Default)]
pub struct Harmless {
    /// The start of an unfinished character, at most three bytes.
    partial: Vec<u8>,
}

impl Harmless {
    /// Appends the harmless form of `input` to `output`. An unfinished character at the end waits.
    /// Returns whether anything was escaped.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        let joined;
        let input = if self.partial.is_empty() {
            input
        } else {
            self.partial.extend_from_slice(input);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut text = String::with_capacity(input.len());
        let mut is_escaped = false;
        let is_hidden = |c| is_hidden(c) && !matches!(c, '\n' | '\r' | '\t');
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            let _ = split(chunk.valid(), is_hidden, |plain, hidden| {
                text.push_str(plain);
                is_escaped |= hidden.is_some();
                hidden.map_or(Ok(()), |c| {
                    write_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text)
                })
            });
            let wrong = chunk.invalid();
            let may_go_on =
                std::str::from_utf8(wrong).is_err_and(|error| error.error_len().is_none());
            if may_go_on && chunks.peek().is_none() {
                self.partial = wrong.to_vec();
            } else {
                is_escaped |= !wrong.is_empty();
                let _ = write_bytes(wrong, &mut text);
            }
        }
        output.extend_from_slice(text.as_bytes());
        is_escaped
    }

    /// Ends the input: appends an unfinished character, and returns whether there was one.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> bool {
        let mut text = String::new();
        let partial = std::mem::take(&mut self.partial);
        let _ = write_bytes(&partial, &mut text);
        output.extend_from_slice(text.as_bytes());
        !partial.is_empty()
    }
}

/// [`Harmless`] for standard output on a terminal. One line tells the user when that first changes
/// anything.
#[derive(Debug, Default)]
pub struct TerminalEscape(Harmless);

impl TerminalEscape {
    /// As [`Harmless::push`].
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        tell_if(self.0.push(input, output));
    }

    /// As [`Harmless::finish`].
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        tell_if(self.0.finish(output));
    }
}

fn tell_if(is_escaped: bool) {
    static TOLD: Once = Once::new();
    if is_escaped {
        TOLD.call_once(|| {
            tracing::info!(
                "Control characters are shown as \\x1b; --raw prints them as they came."
            );
        });
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
        for plain in chunk.valid().split_inclusive(['\\', '"']) {
            let quote = plain.ends_with(['\\', '"']);
            let (plain, last) = plain.split_at(plain.len() - usize::from(quote));
            text.push_str(&one_line(plain));
            if quote {
                text.push('\\');
            }
            text.push_str(last);
        }
        let _ = write_bytes(chunk.invalid(), &mut text);
    }
    text + dots + "\""
}

fn write_bytes(bytes: &[u8], text: &mut impl fmt::Write) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(text, "\\x{byte:02x}"))
}

/// `bytes` in base64, with padding (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = [0, 1, 2].map(|index| u32::from(chunk.get(index).copied().unwrap_or(0)));
        let bits = group[0] << 16 | group[1] << 8 | group[2];
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index > chunk.len() {
                '='
            } else {
                letter.into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut output = Vec::new();
        let mut escape = Harmless::default();
        for piece in pieces {
            escape.push(piece, &mut output);
        }
        escape.finish(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
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
            "\"a\\nb\\x1b\\xff\\\"ä\""
        );
        assert_eq!(quoted(&[b'x'; 65]), format!("\"{}...\"", "x".repeat(64)));
    }

    /// The first and the last of each kind.
    const HIDDEN: [char; 9] = [
        '\u{1b}', '\u{7f}', '\u{9b}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{2028}',
        '\u{2029}',
    ];

    #[test]
    fn one_definition_says_what_is_hidden_everywhere() {
        for c in HIDDEN {
            let text = c.to_string();
            let mut bytes = String::new();
            write_bytes(text.as_bytes(), &mut bytes).unwrap();
            assert_eq!(shown(&[text.as_bytes()]), bytes);
            assert_eq!(one_line(&text), bytes);
            assert_eq!(quoted(text.as_bytes()), format!("\"{bytes}\""));
            let escaped = json(serde_json::Value::from(text).to_string());
            assert_eq!(escaped, format!("\"\\u{:04x}\"", u32::from(c)));
        }
        for c in ["\u{61c}", "\u{200b}", "\u{2027}", "\u{2065}", "é", "\\"] {
            assert_eq!(shown(&[c.as_bytes()]), c);
            assert_eq!(one_line(c), c);
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        let hidden = proptest::sample::select(HIDDEN.to_vec());
        proptest::collection::vec(prop_oneof![any::<char>(), hidden], 0..32)
            .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn cutting_does_not_change_what_is_shown(bytes: Vec<u8>, cut in 0_usize..64) {
            let cut = cut.min(bytes.len());
            let whole = shown(&[&bytes]);
            prop_assert!(!whole.chars().any(|c| is_hidden(c) && !matches!(c, '\n' | '\r' | '\t')));
            prop_assert_eq!(shown(&[&bytes[..cut], &bytes[cut..]]), whole);
        }

        #[test]
        fn text_without_control_is_shown_as_it_is(text in any_text()) {
            let plain: String = text.chars().filter(|&c| !is_hidden(c)).collect();
            prop_assert_eq!(&shown(&[plain.as_bytes()]), &plain);
            prop_assert_eq!(one_line(&plain), plain);
        }

        #[test]
        fn a_line_has_nothing_hidden_and_stays_when_escaped_again(text in any_text()) {
            let line = one_line(&text);
            prop_assert!(!line.contains(is_hidden));
            prop_assert_eq!(&one_line(&line), &line);
        }

        #[test]
        fn json_means_the_same_with_nothing_hidden(text in any_text()) {
            let value = serde_json::Value::from(text);
            let escaped = json(value.to_string());
            prop_assert!(!escaped.contains(is_hidden));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }

        #[test]
        fn a_quotation_can_be_sent(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let quoted = quoted(&bytes);
            prop_assert!(!quoted.contains(is_hidden));
            prop_assume!(!bytes.contains(&b'"'));
            prop_assert_eq!(unescape(&quoted[1..quoted.len() - 1]).unwrap(), bytes);
        }

        #[test]
        fn any_escape_is_answered_without_a_panic(text in "(\\\\|x|[0-9a-f]|\\PC)*") {
            let _ = unescape(&text);
        }
    }
}
