//! Standard input: read at once, and what it means that it cannot be read.

use std::io;
use std::os::fd::AsFd as _;

use crate::exit::{Exit, Failure};
use crate::wait::is_wait;

/// What it is called in messages.
pub const NAME: &str = "standard input";

/// Reads what there is. 0 is the end; `None`: there is nothing yet. Blocks only where nothing is
/// ready and the descriptor blocks.
pub fn read(buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    match rustix::io::read(io::stdin().as_fd(), buffer).map_err(io::Error::from) {
        Ok(count) => Ok(Some(count)),
        Err(error) if is_wait(&error) => Ok(None),
        Err(error) => Err(unreadable(NAME, &error)),
    }
}

/// A failed read of `name`.
pub fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::of(Exit::Local, format_args!("could not read {name}"), error)
}
