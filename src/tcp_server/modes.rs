//! The services of `tcp-server`, and which options do something for each.

use super::Args;
use crate::exit::Failure;
use crate::net::options::OF_IP;
use crate::tls;
use crate::usage::{Mode, Rows, Typed};

pub const HELLO: Mode = Mode(&["--service hello"]);
pub const ECHO: Mode = Mode(&["--service echo"]);
pub const DISCARD: Mode = Mode(&["--service discard"]);
pub const CHARGEN: Mode = Mode(&["--service chargen"]);
pub const STDIO: Mode = Mode(&["-l", "--service stdio"]);
pub const BROKER: Mode = Mode(&["--service broker"]);
pub const CHAT: Mode = Mode(&["--service chat"]);
pub const EXEC: Mode = Mode(&["-e", "--sh-exec"]);
pub const FORWARD: Mode = Mode(&["--forward"]);

const ALL: &[Mode] = &[
    HELLO, ECHO, DISCARD, CHARGEN, STDIO, BROKER, CHAT, EXEC, FORWARD,
];

pub const OPTIONS: &Rows = &[
    (&["help", "version", "verbose", "quiet", "log_format"], ALL),
    (
        &[
            "place",
            "port",
            "bind",
            "print_port",
            "ipv4",
            "ipv6",
            "numeric",
        ],
        ALL,
    ),
    (
        &["interface", "ttl", "dscp", "recv_buffer", "send_buffer"],
        ALL,
    ),
    (&["reuse_port", "mss", "keepalive", "backlog"], ALL),
    (&["unix_mode"], ALL),
    (&["allow", "deny", "idle_timeout", "max_session"], ALL),
    (&["once", "accept_timeout", "drain_timeout"], ALL),
    (
        &["max_connections", "max_connections_per_ip"],
        &[HELLO, ECHO, DISCARD, CHARGEN, BROKER, CHAT, EXEC, FORWARD],
    ),
    (&["service"], ALL),
    (&["exec", "sh_exec"], &[EXEC]),
    (&["forward", "proxy"], &[FORWARD]),
    (&["send_proxy", "send_proxy_from"], &[FORWARD]),
    (&["accept_proxy"], ALL),
    (&["tls", "tls_cert", "tls_key", "tls_name"], ALL),
    (&["tls_alpn", "tls_min", "tls_allow_cut"], ALL),
    (&["tls_client_ca"], ALL),
    (&["forward_tls", "forward_tls_name"], &[FORWARD]),
    (&["forward_tls_ca", "forward_tls_insecure"], &[FORWARD]),
    (&["welcome", "delay", "framing", "max_message"], &[HELLO]),
    (&["crlf", "send_only", "recv_only"], &[STDIO, EXEC]),
    (&["hex_dump", "record", "append"], ALL),
    (&["raw", "no_shutdown", "half_close_wait"], &[STDIO]),
    (&["wait_after_eof"], &[STDIO]),
    (
        &["max_rate", "progress", "expected"],
        &[STDIO, EXEC, FORWARD],
    ),
    (&["stdio"], &[STDIO, EXEC]),
    (&["keep_open"], ALL),
];

impl Args {
    /// Refuses options that do nothing with the service that is asked for.
    pub fn check_options(&self, typed: &Typed) -> Result<(), Failure> {
        let mode = self.service.mode();
        typed.check(mode, OPTIONS)?;
        tls::check_options(typed, false)?;
        if self.listen.is_systemd() {
            typed.exclude(OF_IP, "--bind systemd")?;
            let others = ["recv_buffer", "send_buffer", "backlog", "unix_mode"];
            typed.exclude(&others, "--bind systemd")?;
        } else if self.listen.is_unix_only() {
            typed.exclude(OF_IP, "a Unix socket")?;
            let others = ["print_port", "max_connections_per_ip", "allow", "deny"];
            typed.exclude(&others, "a Unix socket")?;
        }
        if self.unix_mode.is_some() && !self.listen.has_unix_file() {
            return Err(Failure::usage("--unix-mode needs --bind unix:PATH"));
        }
        if mode != STDIO {
            typed.require("keep_open", ("stdio", "-l"))?;
        }
        let limits = &self.limits;
        match limits.max_connections_per_ip {
            Some(per_ip) if per_ip > limits.max_connections => {
                let most = limits.max_connections;
                return Err(Failure::usage(format!(
                    "--max-connections-per-ip {per_ip} does nothing: -m is {most}"
                )));
            }
            _ => {}
        }
        if self.service.stdio && !self.limits.keep_open {
            typed.exclude(&["max_connections", "max_connections_per_ip"], "-l")?;
        }
        Ok(())
    }
}
