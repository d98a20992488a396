//! The man page, as man(7) wants it: one page for all subcommands.

use clap::builder::{PossibleValue, StyledStr};
use clap::{Arg, Command};
use roff::{Inline, Roff, bold, italic, roman};

use crate::exit;

const DESCRIPTION: &str = "\
Sends, receives, serves, forwards, checks and measures TCP connections and UDP datagrams. Data goes to \
standard output, and messages go to standard error.";

/// Variables that netkit reads, or sets for a program.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("ALL_PROXY", "The proxy of `--proxy env`."),
    (
        "NO_PROXY",
        "Hosts that `--proxy env` connects to without a proxy, separated by commas.",
    ),
    (
        "NETKIT_PROXY_AUTH",
        "USER:PASSWORD for a proxy whose URL has none.",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "Certificates of authorities to trust in place of the system's.",
    ),
    (
        "SSLKEYLOGFILE",
        "A file to which the secrets of TLS sessions are appended, for Wireshark.",
    ),
    ("NO_COLOR", "If it is set, messages have no colour."),
    (
        "LISTEN_FDS, LISTEN_PID",
        "The sockets of systemd that `--bind systemd` takes.",
    ),
    (
        "NOTIFY_SOCKET",
        "Where systemd wants to hear that a server is ready.",
    ),
    (
        "NETKIT_PROTO, NETKIT_REMOTE_ADDR, NETKIT_REMOTE_PORT, NETKIT_LOCAL_ADDR, NETKIT_LOCAL_PORT",
        "Set for the programs of -e and --sh-exec, also with NCAT_ in place of NETKIT_.",
    ),
];

const SEE_ALSO: [(&str, &str); 8] = [
    ("nc", "1"),
    ("ncat", "1"),
    ("socat", "1"),
    ("ping", "8"),
    ("stunnel", "8"),
    ("tcp", "7"),
    ("udp", "7"),
    ("unix", "7"),
];

/// `netkit` is built, and arranged as its help shows it.
pub fn page(netkit: &Command) -> String {
    let mut page = Roff::new();
    let version = netkit.get_version().unwrap_or_default();
    let source = format!("netkit {version}");
    // The empty date needs its quotes, which `roff` writes around a space.
    page.control("TH", ["NETKIT", "1", " ", &source, "User Commands"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("netkit - {}", about(netkit)))]);
    page.control("SH", ["SYNOPSIS"]);
    for (index, subcommand) in netkit.get_subcommands().enumerate() {
        if index > 0 {
            page.control("br", []);
        }
        synopsis(&mut page, subcommand);
    }
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(DESCRIPTION)]);
    for subcommand in netkit.get_subcommands() {
        page.control("SH", [&subcommand.get_name().to_uppercase()[..]]);
        page.text([roman(format!("{}.", about(subcommand)))]);
        options(&mut page, subcommand);
    }
    page.control("SH", ["OPTIONS OF NETKIT ALONE"]);
    for option in netkit.get_arguments() {
        self::option(&mut page, option);
    }
    exit_status(&mut page);
    page.control("SH", ["ENVIRONMENT"]);
    for (names, meaning) in ENVIRONMENT {
        page.control("TP", []);
        page.text([bold(*names)]);
        page.text([roman(*meaning)]);
    }
    page.control("SH", ["EXAMPLES"]);
    for subcommand in netkit.get_subcommands() {
        examples(&mut page, subcommand);
    }
    page.control("SH", ["SEE ALSO"]);
    let last = SEE_ALSO.len() - 1;
    for (index, (name, section)) in SEE_ALSO.iter().enumerate() {
        let end = if index == last { ")" } else { ")," };
        page.text([bold(*name), roman(format!("({section}{end}"))]);
    }
    page.render()
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(StyledStr::to_string)
        .unwrap_or_default()
}

/// The ways to type a subcommand.
fn synopsis(page: &mut Roff, subcommand: &Command) {
    let usage = subcommand.clone().render_usage().to_string();
    let ways = usage.trim_start_matches("Usage:").lines().map(str::trim);
    for (index, way) in ways.filter(|way| !way.is_empty()).enumerate() {
        if index > 0 {
            page.control("br", []);
        }
        let name = format!("netkit {}", subcommand.get_name());
        let rest = way.strip_prefix(&name).unwrap_or(way).to_owned();
        page.text([bold(name), roman(rest)]);
    }
}

/// The options in their groups, in the order of the help.
fn options(page: &mut Roff, subcommand: &Command) {
    let shown = |option: &&Arg| !option.is_hide_set();
    let mut options: Vec<&Arg> = subcommand.get_arguments().filter(shown).collect();
    // The words after the subcommand have no group.
    options.sort_by_key(|option| {
        (
            option.get_help_heading().is_some(),
            option.get_display_order(),
        )
    });
    let mut group = None;
    for option in options {
        if group != option.get_help_heading() {
            group = option.get_help_heading();
            page.control("SS", group);
        }
        self::option(page, option);
    }
}

fn option(page: &mut Roff, option: &Arg) {
    page.control("TP", []);
    page.text(header(option));
    let help = option.get_long_help().or_else(|| option.get_help());
    let help = help.map(StyledStr::to_string).unwrap_or_default();
    let mut paragraphs = help.split("\n\n").filter(|text| !text.trim().is_empty());
    // An empty paragraph would take the next option for its text.
    page.text([roman(paragraphs.next().unwrap_or("."))]);
    for paragraph in paragraphs {
        page.control("IP", []);
        page.text([roman(paragraph)]);
    }
    values(page, option);
    aliases(page, option);
}

/// `-p, --port N`.
fn header(option: &Arg) -> Vec<Inline> {
    let mut header = Vec::new();
    if let Some(short) = option.get_short() {
        header.push(bold(format!("-{short}")));
    }
    if let Some(long) = option.get_long() {
        if !header.is_empty() {
            header.push(roman(", "));
        }
        header.push(bold(format!("--{long}")));
    }
    let takes_value = option.get_action().takes_values();
    let names = option.get_value_names().unwrap_or_default();
    for name in names.iter().filter(|_| takes_value) {
        let may_be_left = option
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0);
        let name = name.to_string();
        let [before, after] = match (may_be_left, option.is_require_equals_set()) {
            (true, true) => ["[=", "]"],
            (true, false) if !option.is_positional() => [" [", "]"],
            (_, true) => ["=", ""],
            _ if header.is_empty() => ["", ""],
            _ => [" ", ""],
        };
        header.extend([roman(before), italic(name), roman(after)]);
    }
    header
}

/// The values that an option can have, and what it has without being typed.
fn values(page: &mut Roff, option: &Arg) {
    let values = option.get_possible_values();
    let explains = values.iter().any(|value| value.get_help().is_some());
    if explains {
        page.control("RS", []);
        for value in values.iter().filter(|value| !value.is_hide_set()) {
            page.control("TP", []);
            page.text([bold(value.get_name())]);
            let help = value.get_help().map(StyledStr::to_string);
            page.text([roman(help.unwrap_or_default())]);
        }
        page.control("RE", []);
    } else if option.get_action().takes_values() && !values.is_empty() {
        let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
        page.control("IP", []);
        page.text([roman(format!("One of {}.", names.join(", ")))]);
    }
    let defaults = option.get_default_values();
    if option.get_action().takes_values()
        && !option.is_hide_default_value_set()
        && let [default] = defaults
    {
        page.control("IP", []);
        page.text([roman(format!("Default: {}.", default.to_string_lossy()))]);
    }
}

/// Other names that the help tells.
fn aliases(page: &mut Roff, option: &Arg) {
    let long = option.get_visible_aliases().unwrap_or_default();
    let short = option.get_visible_short_aliases().unwrap_or_default();
    let short = short.iter().map(|letter| format!("-{letter}"));
    let names: Vec<String> = short
        .chain(long.iter().map(|name| format!("--{name}")))
        .collect();
    if !names.is_empty() {
        page.control("IP", []);
        page.text([roman(format!("Also: {}.", names.join(", ")))]);
    }
}

/// The table of the help, as a list.
fn exit_status(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for line in exit::TABLE.lines().skip(1) {
        let indent = line.len() - line.trim_start().len();
        let is_code = line.trim_start().starts_with(|c: char| c.is_ascii_digit()) && indent < 7;
        if !is_code {
            page.text([roman(line.trim_start())]);
            continue;
        }
        let (codes, meaning) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
        page.control("TP", []);
        page.text([bold(codes)]);
        if !meaning.is_empty() {
            page.text([roman(meaning)]);
        }
    }
}

/// The examples of the long help, as they stand there.
fn examples(page: &mut Roff, subcommand: &Command) {
    let text = subcommand
        .get_after_long_help()
        .map(StyledStr::to_string)
        .unwrap_or_default();
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    for line in lines {
        let (typed, meaning) = line.trim().split_once("   ").unwrap_or((line.trim(), ""));
        page.control("TP", []);
        page.text([bold(typed)]);
        page.text([roman(meaning.trim())]);
    }
}
