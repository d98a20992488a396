//! Why a connection did not end well: in words, and as an exit code.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::exit::{Exit, Failure, blame, cause};
use crate::proxy::header::{Missing, PATIENCE};
use crate::units::told;

/// Why a connection did not end well.
#[derive(Debug)]
pub enum Ended {
    Failed(io::Error),
    /// The local end of the session failed, or could not be opened.
    Local(Failure),
    /// Nothing moved in either direction for this long.
    Idle(Duration),
    /// It was open for this long, which is `--max-session`.
    Session(Duration),
    /// A message is longer than this many bytes.
    TooLong(usize),
    /// There is no TLS with this client, and why.
    Handshake(String),
    /// There was no PROXY header.
    Header(Missing),
    /// The program that served it ended and failed: its name and exit status.
    Program(String),
    /// The program that served it was killed: its name and the signal.
    Killed(String),
    /// The peer did not read, and its backlog of this many bytes was full.
    Slow(usize),
}

impl Ended {
    /// Whether the peer sees an end and no reset.
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(error) => blame(error),
            Self::Local(failure) => failure.exit,
            Self::Idle(_) | Self::Session(_) | Self::Header(Missing::Late) => Exit::Timeout,
            Self::TooLong(_)
            | Self::Handshake(_)
            | Self::Header(Missing::Malformed | Missing::Gone)
            | Self::Slow(_)
            | Self::Program(_)
            | Self::Killed(_) => Exit::Network,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&cause(error)),
            Self::Local(failure) => failure.fmt(f),
            Self::Idle(time) => write!(f, "no data for {} (--idle-timeout)", told(*time)),
            Self::Session(time) => write!(f, "open for {} (--max-session)", told(*time)),
            Self::Header(Missing::Late) => {
                write!(f, "no PROXY header within {PATIENCE:?} (--accept-proxy)")
            }
            Self::Header(Missing::Malformed) => {
                f.write_str("what it sent is no PROXY header (--accept-proxy)")
            }
            Self::Header(Missing::Gone) => {
                f.write_str("it ended before its PROXY header (--accept-proxy)")
            }
            Self::Program(why) | Self::Killed(why) | Self::Handshake(why) => f.write_str(why),
            Self::Slow(bytes) => {
                write!(
                    f,
                    "it did not read, and its backlog of {bytes} bytes was full"
                )
            }
            Self::TooLong(most) => {
                let unit = if *most == 1 { "byte" } else { "bytes" };
                write!(f, "a message is longer than {most} {unit} (--max-message)")
            }
        }
    }
}
