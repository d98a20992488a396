//! What the pings of both clients share: statistics and output.
//!
//! Each client sends its own probes and finds their answers. It counts every [`Answer`] in
//! [`statistics::Statistics`] and prints it with [`report::Report`].

pub mod report;
pub mod statistics;
pub mod text;

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Kind,
    pub number: u64,
    /// The round-trip time.
    pub time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first answer, in time.
    Reply,
    /// The first answer, after the time limit: the probe is lost nevertheless.
    Late,
    /// Another answer.
    Duplicate,
}
