//! The pages of `-h` and `--help`: groups in one order for all subcommands, and what `-h` shows.

use clap::{Arg, ArgAction, Command};

/// Headings, each with its options by their ids. An option that a subcommand lacks is skipped.
type Groups = [(&'static str, &'static [&'static str])];

const ADDRESS: (&str, &[&str]) = (
    "Address",
    &[
        "place",
        "port",
        "bind",
        "unix_mode",
        "print_port",
        "join",
        "backlog",
        "ipv4",
        "ipv6",
        "numeric",
    ],
);
const ENDING: (&str, &[&str]) = (
    "Ending and time limits",
    &[
        "once",
        "limit",
        "connect_timeout",
        "retry",
        "retry_delay",
        "timeout",
        "retries",
        "idle_timeout",
        "deadline",
        "half_close_wait",
        "wait_after_eof",
        "accept_timeout",
        "max_session",
        "drain_timeout",
    ],
);
const WATCHING: (&str, &[&str]) = (
    "Watching",
    &[
        "hex_dump", "record", "append", "timing", "progress", "expected", "raw",
    ],
);
const SOCKET: (&str, &[&str]) = (
    "Socket",
    &[
        "source",
        "source_port",
        "interface",
        "ttl",
        "dscp",
        "recv_buffer",
        "send_buffer",
        "mss",
        "keepalive",
        "reuse_port",
        "broadcast",
        "multicast_ttl",
        "multicast_interface",
        "no_multicast_loop",
    ],
);
const TLS: (&str, &[&str]) = (
    "TLS and proxy",
    &[
        "proxy",
        "send_proxy",
        "send_proxy_from",
        "accept_proxy",
        "tls",
        "tls_ca",
        "tls_pin",
        "tls_insecure",
        "tls_name",
        "tls_cert",
        "tls_key",
        "tls_client_ca",
        "tls_alpn",
        "tls_min",
        "tls_save_chain",
        "tls_expiry",
        "tls_allow_cut",
        "forward_tls",
        "forward_tls_name",
        "forward_tls_ca",
        "forward_tls_insecure",
    ],
);
const MESSAGES: (&str, &[&str]) = (
    "Messages",
    &["verbose", "quiet", "log_format", "help", "version"],
);

pub const CLIENT: &Groups = &[
    ADDRESS,
    (
        "What to send",
        &[
            "send",
            "lockstep",
            "line_delay",
            "get",
            "interactive",
            "whole",
            "chunk",
            "no_wait",
            "all",
            "relay",
            "crlf",
            "send_only",
            "recv_only",
            "no_shutdown",
            "max_rate",
        ],
    ),
    ENDING,
    WATCHING,
    (
        "Ping and check",
        &[
            "wanted",
            "check",
            "parallel",
            "wait",
            "ping",
            "count",
            "interval",
            "size",
            "adaptive",
            "flood",
            "max_loss",
            "timestamp",
            "report_missing",
            "live",
            "audible",
            "dont_fragment",
            "mtu",
            "json",
        ],
    ),
    SOCKET,
    TLS,
    MESSAGES,
];

pub const SERVER: &Groups = &[
    ADDRESS,
    (
        "Service",
        &[
            "service",
            "stdio",
            "keep_open",
            "exec",
            "sh_exec",
            "forward",
            "lines",
            "json",
            "crlf",
            "send_only",
            "recv_only",
            "no_shutdown",
            "welcome",
            "delay",
            "framing",
            "max_message",
        ],
    ),
    ENDING,
    WATCHING,
    (
        "Limits",
        &[
            "max_rate",
            "max_connections",
            "max_connections_per_ip",
            "max_peers",
            "rate_limit",
            "allow",
            "deny",
        ],
    ),
    SOCKET,
    TLS,
    MESSAGES,
];

/// What `-h` shows, in any subcommand: at most 18 options.
const SHORT: &[&str] = &[
    "port",
    "bind",
    "send",
    "lockstep",
    "get",
    "whole",
    "no_wait",
    "relay",
    "service",
    "stdio",
    "keep_open",
    "exec",
    "sh_exec",
    "forward",
    "once",
    "limit",
    "retry",
    "timeout",
    "idle_timeout",
    "deadline",
    "drain_timeout",
    "hex_dump",
    "timing",
    "wanted",
    "check",
    "wait",
    "count",
    "interval",
    "size",
    "flood",
    "json",
    "max_connections",
    "max_peers",
    "rate_limit",
    "allow",
    "deny",
    "verbose",
    "quiet",
    "help",
];

pub fn groups(subcommand: &str) -> &'static Groups {
    if subcommand.ends_with("server") {
        SERVER
    } else {
        CLIENT
    }
}

/// Puts the options of a subcommand into their groups, and the groups into their order.
pub fn arranged(command: Command) -> Command {
    let ids: Vec<String> = command
        .get_arguments()
        .map(|option| option.get_id().to_string())
        .collect();
    let rows = groups(command.get_name())
        .iter()
        .flat_map(|(heading, ids)| ids.iter().map(move |id| (*heading, *id)));
    let examples = command.get_after_help().map(ToString::to_string);
    // The heading and two examples.
    let lines = examples.iter().flat_map(|text| text.lines().take(3));
    let short: Vec<&str> = lines.collect();
    let command = command.after_help(short.join("\n"));
    // What stands in the usage.
    let command = command.mut_args(|option| {
        let is_word = option.is_positional();
        option.hide_short_help(is_word)
    });
    // clap prints the groups in the order of their first options. `mut_arg` moves an option to the end.
    rows.filter(|(_, id)| ids.iter().any(|known| known == id))
        .enumerate()
        .fold(command, |command, (order, (heading, id))| {
            command.mut_arg(id, |option| {
                option
                    .help_heading(heading)
                    .display_order(order)
                    .hide_short_help(!SHORT.contains(&id))
            })
        })
}

/// `-h` and `--version`, which clap would put into a group of their own.
pub fn help_and_version() -> [Arg; 2] {
    [
        Arg::new("help")
            .short('h')
            .long("help")
            .action(ArgAction::Help)
            .help("Print this summary; --help explains all")
            .long_help("Print this page; -h prints a summary"),
        Arg::new("version")
            .short('V')
            .long("version")
            .action(ArgAction::Version)
            .help("Print the version"),
    ]
}
