//! The services of `udp-server`, and which options do something for each.

use super::{Args, Service};
use crate::exit::Failure;
use crate::net::options::OF_IP;
use crate::usage::{Mode, Rows, Typed};

const HELLO: Mode = Mode(&["--service hello"]);
const ECHO: Mode = Mode(&["--service echo"]);
const DISCARD: Mode = Mode(&["--service discard"]);
const STDIO: Mode = Mode(&["-l", "--service stdio"]);
const EXEC: Mode = Mode(&["-e", "--sh-exec"]);

const ALL: &[Mode] = &[HELLO, ECHO, DISCARD, STDIO, EXEC];

pub const OPTIONS: &Rows = &[
    (&["help", "version", "verbose", "quiet", "log_format"], ALL),
    (&["place", "port", "bind", "print_port", "join"], ALL),
    (&["ipv4", "ipv6", "numeric", "interface", "ttl"], ALL),
    (&["dscp", "recv_buffer", "send_buffer", "reuse_port"], ALL),
    (&["service", "allow", "deny", "drain_timeout"], ALL),
    (&["hex_dump", "record", "append"], ALL),
    (&["rate_limit"], &[HELLO, ECHO, EXEC]),
    (&["stdio", "keep_open", "lines", "json"], &[STDIO]),
    (&["crlf", "raw"], &[STDIO]),
    (&["idle_timeout"], &[STDIO, EXEC]),
    (&["exec", "sh_exec", "max_peers"], &[EXEC]),
];

impl Args {
    /// Refuses options that do nothing with the service that is asked for.
    pub fn check_options(&self, typed: &Typed) -> Result<(), Failure> {
        let mode = match self.service() {
            _ if self.runs_program() => EXEC,
            Service::Hello => HELLO,
            Service::Echo => ECHO,
            Service::Discard => DISCARD,
            Service::Stdio => STDIO,
        };
        typed.check(mode, OPTIONS)?;
        if self.listen.is_systemd() {
            typed.exclude(OF_IP, "--bind systemd")?;
            typed.exclude(&["recv_buffer", "send_buffer", "join"], "--bind systemd")?;
        }
        Ok(())
    }
}
