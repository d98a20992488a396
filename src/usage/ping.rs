//! The options of ping(8) that a ping of netkit spells in another way or does not have.

/// Options, and what to do instead: in a TCP ping, in a UDP ping.
type Row = (&'static [&'static str], &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        &["-s", "--size"],
        "a TCP ping connects and sends no data; -s is for udp-client",
        "write -s BYTES",
    ),
    (
        &["-A", "--adaptive"],
        "a TCP ping connects at its interval; write -i TIME; -A is for udp-client",
        "write -A",
    ),
    (
        &["-f", "--flood"],
        "a TCP ping connects at its interval; write -i TIME; -f is for udp-client",
        "write -f",
    ),
    (
        &["-I"],
        "write --source IP or --interface NAME",
        "write --source IP or --interface NAME",
    ),
    (&["-t"], "write --ttl N", "write --ttl N"),
    (
        &["-M"],
        "a TCP ping connects and sends no data; --mtu is for udp-client",
        "write --dont-fragment, or --mtu",
    ),
    (&["-Q"], "write --dscp NAME", "write --dscp NAME"),
    (
        &["-S"],
        "write --send-buffer SIZE",
        "write --send-buffer SIZE",
    ),
    (&["-L"], "TCP has no groups", "write --no-multicast-loop"),
];

/// What to write in place of `option`, which `subcommand` does not have. `arguments` are all words.
pub fn advice(option: &str, subcommand: &str, arguments: &[String]) -> Option<&'static str> {
    let (_, tcp, udp) = ROWS.iter().find(|(names, ..)| names.contains(&option))?;
    let is_only_pings = matches!(option, "-A" | "-f") || option.starts_with("--");
    match subcommand {
        "tcp-client" if is_only_pings || is_ping(arguments) => Some(tcp),
        "udp-client" if is_ping(arguments) => Some(udp),
        _ => None,
    }
}

fn is_ping(arguments: &[String]) -> bool {
    arguments.iter().any(|word| {
        let is_short = |letter| word.starts_with(letter) && !word.starts_with("--");
        let name = word.split('=').next();
        is_short("-c")
            || is_short("-i")
            || matches!(name, Some("--ping" | "--count" | "--interval"))
    })
}
