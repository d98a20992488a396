//! What `tcp-client` can be asked to do, and which options do something then.

use super::{Args, http};
use crate::exit::Failure;
use crate::net::options::OF_IP;
use crate::net::unix::UnixName;
use crate::tls;
use crate::usage::{Mode, Rows, Typed};

/// Joins the connection to standard input and output.
const TALK: Mode = Mode(&[]);
const SEND: Mode = Mode(&["--send"]);
/// A URL chooses it too.
const GET: Mode = Mode(&["--get"]);
const CHECK: Mode = Mode(&["-z"]);
const PING: Mode = Mode(&["--ping", "-c", "-i"]);

const ALL: &[Mode] = &[TALK, SEND, GET, CHECK, PING];

pub const OPTIONS: &Rows = &[
    (&["help", "version", "verbose", "quiet", "log_format"], ALL),
    (&["target", "deadline", "ipv4", "ipv6", "numeric"], ALL),
    (&["source", "source_port", "interface", "ttl", "dscp"], ALL),
    (&["recv_buffer", "send_buffer", "mss", "keepalive"], ALL),
    (&["reuse_port", "limit"], ALL),
    (&["connect_timeout"], &[TALK, SEND, GET, CHECK]),
    (&["retry", "retry_delay"], &[TALK, SEND, GET, CHECK]),
    (&["proxy"], ALL),
    (&["send_proxy", "send_proxy_from"], &[TALK, SEND, GET]),
    (&["send"], &[SEND]),
    (&["get"], &[GET]),
    (&["interactive", "recv_only", "half_close_wait"], &[TALK]),
    (&["crlf", "send_only", "no_shutdown"], &[TALK, SEND]),
    (&["lockstep", "line_delay"], &[TALK, SEND]),
    (&["raw", "wait_after_eof"], &[TALK, SEND, GET]),
    (&["hex_dump", "record", "append"], &[TALK, SEND, GET]),
    (&["idle_timeout", "timing", "max_rate"], &[TALK, SEND, GET]),
    (&["progress"], &[TALK, SEND, GET, CHECK]),
    (&["expected"], &[TALK, SEND, GET]),
    (&["tls", "tls_ca", "tls_pin", "tls_insecure"], ALL),
    (&["tls_cert", "tls_key", "tls_alpn", "tls_min"], ALL),
    (&["tls_name"], ALL),
    (&["tls_save_chain", "tls_allow_cut"], &[TALK, SEND, GET]),
    (&["tls_expiry"], &[CHECK, PING]),
    (&["check"], &[CHECK, PING]),
    (&["parallel", "wait"], &[CHECK]),
    (
        &["ping", "count", "interval", "timeout", "max_loss"],
        &[PING],
    ),
    (&["timestamp", "report_missing", "live", "audible"], &[PING]),
    (&["json"], &[CHECK, PING]),
];

impl Args {
    /// Refuses options that do nothing in this combination.
    pub fn check_options(&self, typed: &Typed) -> Result<(), Failure> {
        typed.check(self.mode(), OPTIONS)?;
        tls::check_options(typed, self.url().is_some_and(http::is_https))?;
        typed.exclude_with(&["live", "audible"], ("quiet", "-q"))?;
        let mut targets = self.target.iter();
        if !self.target.is_empty() && targets.all(|word| UnixName::read(word).is_some()) {
            typed.exclude(OF_IP, "a Unix socket")?;
            typed.exclude(&["proxy", "send_proxy_from"], "a Unix socket")?;
        }
        if self.check.is_repeated() {
            return Ok(());
        }
        typed.require("retry_delay", ("retry", "--retry"))
    }

    fn mode(&self) -> Mode {
        if self.check.ping.is_wanted() {
            PING
        } else if self.check.is_wanted() {
            CHECK
        } else if self.get.is_some() || self.url().is_some() {
            GET
        } else if !self.send.is_empty() {
            SEND
        } else {
            TALK
        }
    }
}
