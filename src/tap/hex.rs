//! The hex dump of `-x`: 80 columns, each line with its direction, time and offset.

use std::fmt::Write as _;
use std::time::Duration;

use super::Direction;
use super::raw::clock;

/// The lines of one piece, whose first byte is the byte `offset` of its direction. An empty datagram
/// has a line too.
pub fn dump(
    direction: Direction,
    since_epoch: Duration,
    offset: u64,
    bytes: &[u8],
    has_colours: bool,
) -> String {
    const WIDTH: usize = 16;
    const EMPTY: &[u8] = &[];
    let (colour, plain) = match (has_colours, direction) {
        (false, _) => ("", ""),
        (true, Direction::Sent) => ("\x1b[32m", "\x1b[0m"),
        (true, Direction::Received) => ("\x1b[36m", "\x1b[0m"),
    };
    let head = format!("{colour}{} {}Z", direction.sign(), clock(since_epoch, 3));
    let mut text = String::with_capacity((bytes.len() / WIDTH + 1) * 96);
    let lines = bytes.chunks(WIDTH).chain(bytes.is_empty().then_some(EMPTY));
    for (line, at) in lines.zip((offset..).step_by(WIDTH)) {
        let _ = write!(text, "{head} {at:07x}");
        if !line.is_empty() {
            hex(line, WIDTH, &mut text);
            text.push(' ');
        }
        text.extend(line.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        }));
        text.push_str(plain);
        text.push('\n');
    }
    text
}

/// Two bytes a group, and blanks up to `width` bytes.
fn hex(line: &[u8], width: usize, text: &mut String) {
    for index in 0..width {
        if index % 2 == 0 {
            text.push(' ');
        }
        match line.get(index) {
            Some(byte) => text.extend([byte >> 4, byte & 15].map(digit)),
            None => text.push_str("  "),
        }
    }
}

/// The hexadecimal digit of `half` a byte. `{:02x}` takes five times as long.
fn digit(half: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(half)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: Duration = Duration::from_micros(86_400_000_000 + 3_723_004_567);

    #[test]
    fn a_line_says_all_of_its_bytes_in_80_columns() {
        let bytes = b"GET / HTTP/1.1\r\n\x1b";
        let text = dump(Direction::Sent, TIME, 0x10, bytes, false);
        assert_eq!(
            text,
            "> 01:02:03.004Z 0000010 4745 5420 2f20 4854 5450 2f31 2e31 0d0a GET / HTTP/1.1..\n\
             > 01:02:03.004Z 0000020 1b                                      .\n"
        );
        assert!(text.lines().all(|line| line.len() <= 80));
        assert_eq!(
            dump(Direction::Received, TIME, 0, b"", false),
            "< 01:02:03.004Z 0000000\n"
        );
    }

    #[test]
    fn each_direction_has_its_colour() {
        let colours = |direction| dump(direction, TIME, 0, b"", true);
        let (sent, received) = (colours(Direction::Sent), colours(Direction::Received));
        assert_eq!(sent, "\x1b[32m> 01:02:03.004Z 0000000\x1b[0m\n");
        assert_eq!(received, "\x1b[36m< 01:02:03.004Z 0000000\x1b[0m\n");
    }

    proptest! {
        #[test]
        fn a_dump_can_be_turned_back(bytes: Vec<u8>) {
            let text = dump(Direction::Sent, TIME, 0, &bytes, false);
            let digits: String = text
                .lines()
                .filter_map(|line| line.get(23..63))
                .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
                .collect();
            let back: Vec<u8> = (0..digits.len() / 2)
                .map(|index| u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).unwrap())
                .collect();
            prop_assert_eq!(back, bytes);
        }
    }
}
