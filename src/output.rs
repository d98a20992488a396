//! Standard output of everything that is not a stream: what is written has arrived when a function
//! here returns.

use std::io::{self, IsTerminal, Write};

use crate::escape::TerminalEscape;
use crate::exit::Failure;

/// What it is called in messages.
pub const NAME: &str = "standard output";

/// Whether bytes from a peer have to be made harmless before they are printed.
pub fn escapes(raw: bool) -> bool {
    !raw && io::stdout().is_terminal()
}

/// Writes `bytes` and nothing else, at once.
pub fn write_once(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::of_output(NAME, &error))
}

/// Writes what a peer sent and a newline; on a terminal (`escaped`) without control characters.
pub fn write_answer(answer: &[u8], escaped: bool) -> Result<(), Failure> {
    let mut line = Vec::with_capacity(answer.len() + 1);
    if escaped {
        let mut escape = TerminalEscape::default();
        escape.push(answer, &mut line);
        escape.finish(&mut line);
    } else {
        line.extend_from_slice(answer);
    }
    line.push(b'\n');
    write_once(&line)
}
