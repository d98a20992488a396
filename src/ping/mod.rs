//! What the pings of both clients share: when probes are sent, statistics and output.
//!
//! Each client sends its own probes and finds their answers. [`schedule`] says when a probe is sent.
//! [`console`] waits for answers, the user and standard output. The client tells a
//! [`session::Session`] each [`Answer`], which counts and prints it.

mod alarm;
mod clock;
pub mod console;
pub mod destination;
mod events;
mod findings;
mod histogram;
mod live;
pub mod options;
mod order;
mod outages;
pub mod report;
pub mod schedule;
mod screen;
pub mod session;
mod statistics;
pub mod text;

use std::net::SocketAddr;
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

/// What has come as an answer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// `None`: it has no address that is known here.
    pub source: Option<SocketAddr>,
    /// The size of the payload in bytes.
    pub size: usize,
    /// The hop limit (IPv4: time to live) as it arrived. `None`: the system does not tell it.
    pub hop_limit: Option<u8>,
    /// How long the handshake of TLS took, of the time of the answer. `None`: there was none.
    pub handshake: Option<Duration>,
}
