//! Standard output as a terminal: its size, and which bars it can show.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

/// From low to high.
pub type Bars = [char; 8];

const BLOCKS: Bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: Bars = ['_', '.', ':', '-', '=', '*', '#', '@'];

/// The bars that standard output can show. `None`: it is no terminal.
pub fn bars() -> Option<Bars> {
    let bars = if shows_utf8() { BLOCKS } else { ASCII };
    io::stdout().is_terminal().then_some(bars)
}

/// How many columns and lines standard output has now.
pub fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stdout());
    let size = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    match size {
        // A terminal that does not tell its size has the usual one.
        (0, _) | (_, 0) => (80, 24),
        (columns, lines) => (columns.into(), lines.into()),
    }
}

/// Whether the locale's characters are those of UTF-8: locale(7).
fn shows_utf8() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let mut values = variables.filter_map(std::env::var_os);
    let locale = values.find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
