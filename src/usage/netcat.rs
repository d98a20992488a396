//! The options of nc (OpenBSD's) and ncat that netkit spells in another way or does not have.

/// Options, and what to do instead: with a client, with a server.
type Row = (&'static [&'static str], &'static str, &'static str);

const NO_DTLS: &str = "netkit encrypts no datagrams (DTLS)";
const THIS_IS_UDP: &str = "leave it out: this is UDP";
const NO_END: &str = "datagrams have no end to send";
const NO_PROTOCOL: &str = "netkit speaks TCP and UDP only";
const NO_ROUTE: &str = "routers drop packets with a route of their own (source routing)";
const CLIENTS: &str = "it is for the clients, tcp-client and udp-client";
const SERVERS: &str = "it is for the servers, tcp-server and udp-server";

/// The rows that differ for UDP.
const UDP_ROWS: &[Row] = &[
    (
        &["-l", "--listen"],
        "write 'netkit udp-server -l PORT'",
        "write -l",
    ),
    (
        &["-d"],
        "write 'netkit udp-server -l PORT'",
        "write -l, and < /dev/null",
    ),
    (
        &["--delay"],
        "a datagram waits for the answer to the one before",
        "netkit answers at once",
    ),
    (&["--max-conns"], SERVERS, "write --max-peers N"),
    (SSL, NO_DTLS, NO_DTLS),
    (&["-u", "--udp"], THIS_IS_UDP, THIS_IS_UDP),
    (&["-N"], NO_END, NO_END),
    (&["-b"], "write --broadcast", "write --bind ADDRESS"),
];

/// What ncat has for TLS.
const SSL: &[&str] = &[
    "--ssl",
    "--ssl-cert",
    "--ssl-key",
    "--ssl-verify",
    "--ssl-trustfile",
    "--ssl-ciphers",
    "--ssl-servername",
    "--ssl-alpn",
];

const ROWS: &[Row] = &[
    (
        &["-N"],
        "leave it out: the sending side ends with the input",
        "leave it out: the sending side ends with the input",
    ),
    (
        &["-l", "--listen"],
        "write 'netkit tcp-server -l PORT'",
        "write -l",
    ),
    (
        &["-u", "--udp"],
        "write 'netkit udp-client'",
        "write 'netkit udp-server'",
    ),
    (
        &["-p", "--source-port"],
        "write --source-port N",
        "write --port N",
    ),
    (
        &["-s", "--source"],
        "write --source IP",
        "write --bind ADDRESS",
    ),
    (
        &["-b"],
        "write 'netkit udp-client --broadcast'",
        "write --bind ADDRESS",
    ),
    (
        &["-d"],
        "write --recv-only for nc's -d, --line-delay TIME for ncat's",
        "write --recv-only for nc's -d",
    ),
    (
        &["--delay"],
        "write --line-delay TIME",
        "write --delay TIME with --service hello",
    ),
    (
        &["-i"],
        "write --line-delay TIME for nc's -i, --idle-timeout TIME for ncat's",
        "write --idle-timeout TIME",
    ),
    (
        &["-w"],
        "write --deadline TIME",
        "write --idle-timeout TIME",
    ),
    (&["--wait"], "write -W TIME", "write --idle-timeout TIME"),
    (
        &["-I"],
        "write --recv-buffer SIZE",
        "write --recv-buffer SIZE",
    ),
    (
        &["-O"],
        "write --send-buffer SIZE",
        "write --send-buffer SIZE",
    ),
    (&["-M"], "write --ttl N", "write --ttl N"),
    (&["-T"], "write --dscp NAME", "write --dscp NAME"),
    (
        &["-m"],
        "netkit takes packets of any hop limit",
        "write --max-peers N",
    ),
    (&["--max-conns"], SERVERS, "write --max-connections N"),
    (&["-c", "--sh-exec"], SERVERS, "write --sh-exec COMMAND"),
    (&["-e", "--exec"], SERVERS, "write -e PROGRAM [ARG]..."),
    (&["--lua-exec"], "netkit runs no Lua", "write -e lua FILE"),
    (
        &["-o", "--output"],
        "write --record FILE",
        "write --record FILE",
    ),
    (&["--append-output"], "write --append", "write --append"),
    (&["-n", "--nodns"], "write -n", "write -n"),
    (
        &["-k", "--keep-open"],
        SERVERS,
        "leave it out: every service goes on",
    ),
    (&["--broker"], SERVERS, "write --service broker"),
    (&["--chat"], SERVERS, "write --service chat"),
    (
        &["--allow", "--deny"],
        SERVERS,
        "write --allow PEER or --deny PEER",
    ),
    (&["--allowfile"], SERVERS, "write --allow @FILE"),
    (&["--denyfile"], SERVERS, "write --deny @FILE"),
    (&["-z"], "write -z", CLIENTS),
    (
        &["--send-only"],
        "write --no-wait",
        "write --service discard",
    ),
    (
        &["--recv-only"],
        "write 'netkit udp-server -l PORT'",
        "write -l",
    ),
    (&["--no-shutdown"], NO_END, NO_END),
    (&["-W"], "write -W TIME", "netkit counts no datagrams"),
    (&["-r"], "ports are tried in the order given", CLIENTS),
    (
        &["-D"],
        "netkit has no use for SO_DEBUG",
        "netkit has no use for SO_DEBUG",
    ),
    (
        &["-F"],
        "netkit passes no descriptor on",
        "netkit passes no descriptor on",
    ),
    (
        &["-S"],
        "netkit signs no segments (TCP MD5)",
        "netkit signs no segments (TCP MD5)",
    ),
    (
        &["-t", "--telnet"],
        "netkit answers no Telnet options",
        "netkit answers no Telnet options",
    ),
    (
        &["-U", "--unixsock"],
        "write 'netkit tcp-client unix:PATH'",
        "write unix:PATH as the address",
    ),
    (&["--vsock", "--sctp", "-Z"], NO_PROTOCOL, NO_PROTOCOL),
    (&["-g", "-G"], NO_ROUTE, NO_ROUTE),
    (
        &[
            "-P",
            "-X",
            "--proxy",
            "--proxy-type",
            "--proxy-auth",
            "--proxy-dns",
        ],
        "write 'netkit tcp-client --proxy URL'",
        "write 'netkit tcp-server --forward HOST:PORT --proxy URL'",
    ),
    (
        &["--ssl-cert"],
        "write --tls-cert FILE",
        "write --tls-cert FILE",
    ),
    (
        &["--ssl-key"],
        "write --tls-key FILE",
        "write --tls-key FILE",
    ),
    (
        &["--ssl-verify"],
        "leave it out: the server is verified",
        "write --tls-client-ca FILE",
    ),
    (
        &["--ssl-trustfile"],
        "write --tls-ca FILE",
        "write --tls-client-ca FILE",
    ),
    (
        &["--ssl-ciphers"],
        "netkit has no other ciphers than safe ones",
        "netkit has no other ciphers than safe ones",
    ),
    (
        &["--ssl-servername"],
        "write --tls-name NAME",
        "it is for the clients",
    ),
    (
        &["--ssl-alpn"],
        "write --tls-alpn LIST",
        "write --tls-alpn LIST",
    ),
];

/// The options of all rows.
#[cfg(test)]
pub fn options() -> impl Iterator<Item = &'static str> {
    ROWS.iter().flat_map(|(names, ..)| *names).copied()
}

/// What to write in place of `option`, which `subcommand` does not have.
pub fn advice(option: &str, subcommand: &str) -> Option<&'static str> {
    let of_udp: &[Row] = if subcommand.starts_with("udp") {
        UDP_ROWS
    } else {
        &[]
    };
    let mut rows = of_udp.iter().chain(ROWS);
    let (_, client, server) = rows.find(|(names, ..)| names.contains(&option))?;
    Some(if subcommand.ends_with("client") {
        client
    } else {
        server
    })
}

/// What an option that netkit has does in netcat, for a value that only netcat takes.
pub fn other_meaning(option: &str, value: &str) -> Option<&'static str> {
    let is_number = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    match option {
        _ if is_number => None,
        "--count" => Some("netcat's -c is --sh-exec of tcp-server"),
        "--size" => Some("netcat's -s is --source IP"),
        "--interval" => Some("netcat's -i is --line-delay or --idle-timeout"),
        _ => None,
    }
}

/// nc's `-q1` or `-q 1` among the arguments of a subcommand: netkit's `-q` is --quiet.
pub fn quits_after_eof(arguments: &[String]) -> Option<String> {
    // An IPv4 address is none.
    let is_number = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok()
    };
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        match &word[..] {
            // A program's own arguments follow, or data.
            "-e" | "--exec" | "--" => return None,
            // Any text may be their value.
            "--send" | "--welcome" | "--sh-exec" => drop(words.next()),
            _ => {}
        }
        let Some(letters) = word.strip_prefix('-').filter(|_| !word.starts_with("--")) else {
            continue;
        };
        let Some((before, after)) = letters.split_once('q') else {
            continue;
        };
        if !before.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            continue;
        }
        let next = words.peek().filter(|_| after.is_empty());
        let seconds = next.map_or(after, |next| &next[..]);
        if is_number(seconds) {
            let port = next.filter(|_| arguments[0].ends_with("server"));
            let port = port.filter(|port| port.parse::<u16>().is_ok_and(|port| port >= 1024));
            let port = port.map(|port| format!(", and for port {port} --port {port}"));
            return Some(format!(
                "'-q' is --quiet and takes no number; for nc's -q write --wait-after-eof {seconds}{}",
                port.unwrap_or_default()
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_after_q_is_netcats() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, is_netcats) in [
            ("tcp-client -q1 a:1", true),
            ("tcp-server -lq1 -p 1", true),
            ("tcp-client -q 1 a:1", true),
            ("tcp-client -q 0.5 a:1", true),
            ("tcp-server -q 9999", true),
            ("tcp-server 9999 -q", false),
            ("tcp-client -q a:1", false),
            ("tcp-client -q 127.0.0.1 1", false),
            ("tcp-client -q127.0.0.1 1", false),
            ("tcp-client --send -q1 a:1", false),
            ("tcp-server -p 1 -e grep -q1", false),
            ("udp-client a:1 -- -q1", false),
            ("tcp-client --quiet 1", false),
            ("tcp-client -qv a:1", false),
        ] {
            let found = quits_after_eof(&words(line)).is_some();
            assert_eq!(found, is_netcats, "{line}");
        }
    }
}
