//! What the pings of both clients share: the numbers, and what is printed.
//!
//! A client sends probes and finds answers its own way. It counts each [`Answer`] into a
//! [`statistics::Statistics`] and hands it to a [`report::Report`], which prints it.

pub mod report;
pub mod statistics;
pub mod text;

use std::time::Duration;

/// An answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Kind,
    pub number: u64,
    /// From when the probe was sent.
    pub time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first answer, in time.
    Reply,
    /// The first answer, too late: the probe is lost all the same.
    Late,
    /// Another answer.
    Duplicate,
}
