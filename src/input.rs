//! Standard input: how it is read, and what it means that it cannot be read. `-C` makes newlines of its
//! own.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Once;

use rustix::io::Errno;

use crate::exit::{Exit, Failure, Worst, cause};
use crate::wait::if_ready;

/// What it is called in messages.
pub const NAME: &str = "standard input";

/// Reads once. 0 is the end; `None`: nothing is there yet. Blocks unless poll(2) said that it is
/// ready.
pub fn read(buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    let result = rustix::io::read(io::stdin().as_fd(), buffer).map_err(io::Error::from);
    if_ready(absent_is_end(result)).map_err(|error| unreadable(NAME, &error))
}

/// As [`read`]. A failure is logged, is added to `worst`, and counts as the end.
pub fn read_or_end(buffer: &mut [u8], worst: &mut Worst) -> Option<usize> {
    read(buffer).unwrap_or_else(|failure| {
        tracing::error!("{failure}");
        worst.add(failure.exit);
        Some(0)
    })
}

/// As [`read_or_end`], for one datagram: at most as many bytes as `buffer` has, newlines by `crlf`
/// included. An empty one is the end.
pub fn read_datagram<'a>(
    buffer: &'a mut [u8],
    crlf: Option<&mut Crlf>,
    worst: &mut Worst,
) -> Option<Cow<'a, [u8]>> {
    let Some(crlf) = crlf else {
        let count = read_or_end(buffer, worst)?;
        return Some(Cow::Borrowed(&buffer[..count]));
    };
    let half = buffer.len() / 2;
    let count = read_or_end(&mut buffer[..half], worst)?;
    let mut payload = Vec::with_capacity(2 * count);
    crlf.push(&buffer[..count], &mut payload);
    Some(Cow::Owned(payload))
}

/// Makes an end of a read that failed because there is no input: it is closed or only open for writing
/// (nohup(1)), or it is a terminal whose shell has ended. Says so, once.
pub fn absent_is_end(result: io::Result<usize>) -> io::Result<usize> {
    static TOLD: Once = Once::new();
    let error = match result {
        Err(error) if is_absence(&error) => error,
        result => return result,
    };
    TOLD.call_once(|| {
        let cause = cause(&error);
        tracing::warn!("could not read {NAME}: {cause}; it counts as ended");
    });
    Ok(0)
}

fn is_absence(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::BADF) => true,
        // Of a file or a device this is a fault of the disk.
        Some(Errno::IO) => io::stdin().is_terminal(),
        _ => false,
    }
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
