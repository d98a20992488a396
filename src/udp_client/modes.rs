//! What `udp-client` can be asked to do, and which options do something then.

use super::Args;
use crate::exit::Failure;
use crate::usage::{Mode, Rows, Typed};

/// Sends datagrams and prints their answers.
const EXCHANGE: Mode = Mode(&[]);
const NO_WAIT: Mode = Mode(&["--no-wait"]);
const RELAY: Mode = Mode(&["--relay"]);
const CHECK: Mode = Mode(&["-z"]);
const MTU: Mode = Mode(&["--mtu"]);
const PING: Mode = Mode(&["--ping", "-c", "-i"]);

const ALL: &[Mode] = &[EXCHANGE, NO_WAIT, RELAY, CHECK, MTU, PING];

pub const OPTIONS: &Rows = &[
    (&["help", "version", "verbose", "quiet", "log_format"], ALL),
    (&["words", "ipv4", "ipv6", "numeric"], ALL),
    (&["source", "source_port", "interface", "ttl", "dscp"], ALL),
    (&["recv_buffer", "send_buffer", "reuse_port"], ALL),
    (&["broadcast", "multicast_ttl", "multicast_interface"], ALL),
    (&["no_multicast_loop"], ALL),
    (&["hex_dump", "record", "append"], ALL),
    (&["timeout"], &[EXCHANGE, CHECK, MTU, PING]),
    (&["deadline"], &[EXCHANGE, NO_WAIT, RELAY, MTU, PING]),
    (&["retries", "all"], &[EXCHANGE]),
    (&["raw"], &[EXCHANGE, RELAY]),
    (&["send", "whole", "chunk"], &[EXCHANGE, NO_WAIT]),
    (&["json"], &[EXCHANGE, CHECK, MTU, PING]),
    (&["no_wait"], &[NO_WAIT]),
    (
        &["relay", "crlf", "wait_after_eof", "idle_timeout"],
        &[RELAY],
    ),
    (&["check"], &[CHECK]),
    (&["mtu"], &[MTU]),
    (&["dont_fragment"], &[PING]),
    (&["ping", "count", "interval", "size", "max_loss"], &[PING]),
    (
        &[
            "timestamp",
            "report_missing",
            "live",
            "audible",
            "adaptive",
            "flood",
        ],
        &[PING],
    ),
];

impl Args {
    /// Refuses options that do nothing in this combination.
    pub fn check_options(&self, typed: &Typed) -> Result<(), Failure> {
        typed.check(self.mode(), OPTIONS)?;
        typed.exclude_with(&["live", "audible"], ("quiet", "-q"))
    }

    fn mode(&self) -> Mode {
        if self.mtu {
            MTU
        } else if self.ping.is_wanted() {
            PING
        } else if self.check {
            CHECK
        } else if self.relay.relay {
            RELAY
        } else if self.exchange.no_wait {
            NO_WAIT
        } else {
            EXCHANGE
        }
    }
}
