//! What a terminal can do, and which processes it belongs to.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// Whether the terminal neither moves its cursor where it is told to nor knows colours.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Whether text for `stream` has colours: on a terminal that knows them, unless the user wants none.
pub fn has_colour(stream: &impl IsTerminal) -> bool {
    let no_colour = std::env::var_os("NO_COLOR");
    stream.is_terminal() && no_colour.is_none_or(|value| value.is_empty()) && !is_dumb()
}

/// Whether this process may use the terminal at `stream`. In the background a read would stop it
/// (SIGTTIN, tty(4)). What is no terminal, or one of another session, has no foreground.
pub fn is_in_foreground(stream: impl AsFd) -> bool {
    tcgetpgrp(stream).map_or(true, |group| group == getpgrp())
}

/// Whether a person types at the terminal that shows messages: standard input and standard error are one.
pub fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
