//! Compares received bytes with expected ones, and shows both.

use std::fmt::Write as _;

/// Whether `text` matches `pattern`. In the pattern `{N}` stands for a number, which may have a
/// fraction, and `{*}` for anything within a line.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Without placeholders one comparison is enough. The text may be megabytes long.
    if pattern == text {
        return true;
    }
    let is_placeholder = |window: &[u8]| matches!(window, b"{N}" | b"{*}");
    let Some(at) = pattern.windows(3).position(is_placeholder) else {
        return false;
    };
    let Some(text) = text.strip_prefix(&pattern[..at]) else {
        return false;
    };
    let rest = &pattern[at + 3..];
    let (least, most) = if pattern[at + 1] == b'N' {
        let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        (1, text.iter().take_while(is_number).count())
    } else {
        (0, text.iter().take_while(|&&byte| byte != b'\n').count())
    };
    (least..=most).any(|length| matches(rest, &text[length..]))
}

/// The bytes in the lines of a dump that begin with `head`, or that follow a line that does.
pub fn bytes_of_dump(dump: &str, head: &str) -> Vec<u8> {
    let mut is_wanted = false;
    let lines = dump.lines().filter(|line| {
        if line.starts_with('#') {
            is_wanted = line.starts_with(head);
            return false;
        }
        is_wanted || line.starts_with(head)
    });
    let digits = lines.map(|line| line.get(24..63).unwrap_or_default());
    let digits: String = digits.flat_map(str::split_whitespace).collect();
    let bytes = digits.as_bytes().chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `bytes` on one line. Many bytes are shortened in the middle.
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 2000;
    if bytes.len() <= MOST {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let mut text = String::new();
    let (front, back) = (&bytes[..MOST / 2], &bytes[bytes.len() - MOST / 2..]);
    let _ = write!(
        text,
        "\"{}\" ... \"{}\" ({} bytes)",
        front.escape_ascii(),
        back.escape_ascii(),
        bytes.len()
    );
    text
}

/// Pseudo-random bytes, the same on every run, so that a failure can be repeated.
pub fn random_bytes(count: usize) -> Vec<u8> {
    // xorshift64*, eight bytes at a time.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
