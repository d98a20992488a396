//! Standard input of everything but a stream session, and the newlines that `-C` makes of its own.

use std::io;
use std::os::fd::AsFd as _;

use crate::exit::{Exit, Failure};
use crate::wait::if_ready;

/// What it is called in messages.
pub const NAME: &str = "standard input";

/// Reads once. 0 is the end; `None`: nothing is there yet. Blocks unless poll(2) said that it is
/// ready.
pub fn read(buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    let result = rustix::io::read(io::stdin().as_fd(), buffer).map_err(io::Error::from);
    if_ready(result).map_err(|error| unreadable(NAME, &error))
}

/// A failed read of `name`.
pub fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::of(Exit::Local, format_args!("could not read {name}"), error)
}

/// Makes `\r\n` of `\n`. An existing `\r\n` stays, also where two reads share it.
#[derive(Debug, Default)]
pub struct Crlf {
    /// The last byte was `\r`.
    after_return: bool,
}

impl Crlf {
    /// Appends `input` to `output`, which grows to twice its length at most.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        for &byte in input {
            if byte == b'\n' && !self.after_return {
                output.push(b'\r');
            }
            output.push(byte);
            self.after_return = byte == b'\r';
        }
    }
}
