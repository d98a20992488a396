//! The command line: its messages, its exit codes and the standard streams.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Peer, ReservedPort, Terminal, netkit, peer, read_all, tcp_server, temporary_folder, udp_server,
};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A device that is always full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has left.
fn broken_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn the_long_help_of_a_subcommand_has_the_exit_codes() {
    for subcommand in ["tcp-client", "tcp-server", "udp-client", "udp-server"] {
        let help = netkit([subcommand, "--help"]).any_stdout().run().stdout;
        let help = String::from_utf8(help).unwrap();
        assert!(help.contains("\nExit codes:\n"), "{help}");
    }
}

#[test]
fn a_bad_address_is_refused_with_a_correct_example() {
    let cases: [(&[&str], &str); 12] = [
        (
            &["-C"],
            "no address; write HOST:PORT, for example localhost:9999",
        ),
        (
            &["example.com"],
            "'example.com' has no port; write example.com:9999",
        ),
        (&["::1"], "'::1' has no port; write [::1]:9999"),
        (
            &["::1:80"],
            "'::1:80' is an IPv6 address without a port; if 80 is the port, write [::1]:80",
        ),
        (
            &["fe80::1:99999"],
            "'fe80::1:99999' is an IPv6 address with a port glued on; write [fe80::1]:99999",
        ),
        (
            &["localhost", "x-y"],
            "'x-y' is not a port; a port is a number from 1 to 65535, or a name of /etc/services for tcp",
        ),
        (
            &["localhost:99999"],
            "'99999' is not a port; a port is a number from 1 to 65535",
        ),
        (
            &["localhost:0"],
            "'0' is not a port; a port is a number from 1 to 65535",
        ),
        (
            &["http://localhost/page", "80"],
            "'http://localhost/page' is a URL; write localhost:80",
        ),
        (
            &["localhost:"],
            "'localhost:' has no port; write localhost:9999",
        ),
        (
            &["-z", "localhost", "1,,2"],
            "'1,,2' lacks a port beside a comma; write 22,80,8000-8010",
        ),
        (
            &["localhost:9999", "x"],
            "'x' is too much: the address is localhost:9999 already",
        ),
    ];
    for (words, message) in cases {
        netkit(["tcp-client"].iter().chain(words))
            .stderr(format!("netkit: {message}; see 'netkit tcp-client -h'\n"))
            .code(2)
            .run();
    }
}

#[test]
fn a_bad_value_is_refused_with_a_correct_example() {
    let cases = [
        (
            "tcp-client -w soon a:1",
            "'soon' is not a duration (-w); \
             write seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h)",
        ),
        ("tcp-client -w 0 a:1", "'0' must be more than zero (-w)"),
        (
            "tcp-client --idle-timeout 0s a:1",
            "'0s' must be more than zero (--idle-timeout)",
        ),
        (
            "tcp-client --half-close-wait never a:1",
            "'never' is not a duration (--half-close-wait); \
             write seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h), or 'forever'",
        ),
        (
            "tcp-client --send a\\q a:1",
            "'\\q' in 'a\\q' is not known (--send); \
             write \\r \\n \\t \\0 \\\\ or \\xHH",
        ),
        (
            "tcp-client --source here a:1",
            "'here' is not an IP address (--source); \
             write 10.0.0.2 or fd00::2",
        ),
        (
            "udp-client --ttl 300 a:1",
            "'300' is not a whole number from 1 to 255 (--ttl)",
        ),
        (
            "tcp-server --mss x 1",
            "'x' is not a whole number from 88 to 32767 (--mss)",
        ),
        (
            "udp-client --multicast-ttl -1 a:1",
            "'-1' is not a whole number from 0 to 255 (--multicast-ttl)",
        ),
        (
            "tcp-client --retry 1.5 a:1",
            "'1.5' is not a whole number from 0 to 4294967295 (--retry)",
        ),
        (
            "tcp-server --max-connections-per-ip 5000 -m 3 1",
            "--max-connections-per-ip 5000 does nothing: -m is 3",
        ),
        (
            "tcp-server --max-connections-per-ip 1025 1",
            "--max-connections-per-ip 1025 does nothing: -m is 1024",
        ),
        (
            "tcp-client -zn5 a:1",
            "unexpected '-zn5'; -n takes no number",
        ),
        ("udp-client -D5 a:1", "unexpected '-D5'; -D takes no number"),
        (
            "tcp-client --send-proxy-from 10.0.0.9 a:1",
            "'10.0.0.9' is not an IP address with a port (--send-proxy-from); \
             write 10.0.0.2:4711 or [fd00::2]:4711",
        ),
        // As typed: not -W, not -c.
        (
            "tcp-client --timeout 3 a:1",
            "--timeout needs --ping, -c or -i",
        ),
        (
            "udp-client --raw --count=1 a:1",
            "--raw does nothing with --count",
        ),
        (
            "udp-client 8000 hello",
            "'8000' is only a port; write :8000 or HOST:8000",
        ),
        (
            "tcp-client -w",
            "a value is required for '-w <TIME>' but none was supplied",
        ),
        (
            "tcp-server -p 0 --service finger",
            "'finger' is unknown (--service); \
             there are hello, echo, discard, chargen, stdio, broker, chat",
        ),
        (
            "tcp-server -p 0 --max-message 1x",
            "'1x' is not a size (--max-message); \
             write bytes (512) or k, M, G (64k, 4M, 1G; powers of 1024)",
        ),
    ];
    for (words, message) in cases {
        let subcommand = words.split(' ').next().unwrap();
        netkit(words.split(' '))
            .stderr(format!("netkit: {message}; see 'netkit {subcommand} -h'\n"))
            .code(2)
            .run();
    }
}

#[test]
fn an_argument_need_not_be_text() {
    netkit([OsStr::from_bytes(b"\xff")])
        .stderr(
            "netkit: unrecognized subcommand '\u{fffd}'; there are tcp-client, tcp-server, \
             udp-client and udp-server; see 'netkit -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn what_nc_and_curl_would_take_is_answered_with_what_to_write() {
    let only_get = "netkit asks with GET; write another request with --send, or into a pipe; \
                    see 'netkit tcp-client -h'";
    for (words, message) in [
        (
            "nc -l 9999",
            "unrecognized subcommand 'nc'; write 'netkit tcp-client HOST PORT' or \
             'netkit tcp-server -l PORT'; see 'netkit -h'",
        ),
        (
            "server",
            "unrecognized subcommand 'server'; write 'netkit tcp-server PORT' or \
             'netkit udp-server PORT'; see 'netkit -h'",
        ),
        (
            "localhost 9999",
            "unrecognized subcommand 'localhost'; a subcommand comes first, as in \
             'netkit tcp-client localhost 9999'; see 'netkit -h'",
        ),
        (
            "http://a/",
            "unrecognized subcommand 'http://a/'; a subcommand comes first, as in \
             'netkit tcp-client http://a/'; see 'netkit -h'",
        ),
        (
            "udp-server -lu 9999",
            "unexpected argument '-u' found; leave it out: this is UDP; \
             see 'netkit udp-server -h'",
        ),
        (
            "udp-client -u a:1",
            "unexpected argument '-u' found; leave it out: this is UDP; \
             see 'netkit udp-client -h'",
        ),
        (
            "tcp-client -k https://a/",
            "unexpected argument '-k' found; write --tls-insecure; see 'netkit tcp-client -h'",
        ),
        // Without a page it is nc's.
        (
            "tcp-client -k a:1",
            "unexpected argument '-k' found; it is for the servers, tcp-server and udp-server; \
             see 'netkit tcp-client -h'",
        ),
        (
            "tcp-client --get -X POST a:1",
            &format!("unexpected argument '-X' found; {only_get}"),
        ),
    ] {
        netkit(words.split(' '))
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
}

#[test]
fn a_usage_error_points_to_the_help() {
    let cases = [
        (
            "tcp-sever -p 1",
            "unrecognized subcommand 'tcp-sever'; \
             tip: a similar subcommand exists: 'tcp-server'; see 'netkit -h'",
        ),
        (
            "tcp-client -4 -6 a:1",
            "the argument '--ipv4' cannot be used with '--ipv6'; see 'netkit tcp-client -h'",
        ),
        (
            "tcp-client --send-only --recv-only a:1",
            "the argument '--send-only' cannot be used with '--recv-only'; \
             see 'netkit tcp-client -h'",
        ),
        (
            "tcp-client localhost 9999 9",
            "too many arguments: '9'; write HOST PORT or HOST:PORT; see 'netkit tcp-client -h'",
        ),
        (
            "tcp-client --zzz a:1",
            "unexpected argument '--zzz' found; see 'netkit tcp-client -h'",
        ),
        (
            "-q",
            "which subcommand? there are tcp-client, tcp-server, udp-client and udp-server; \
             see 'netkit -h'",
        ),
        (
            "tcp-server -m 5",
            "which port? write --port 9999, or --port 0 for a free one; \
             see 'netkit tcp-server -h'",
        ),
    ];
    for (words, message) in cases {
        netkit(words.split_whitespace())
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
}

#[test]
fn a_path_with_a_space_is_refused() {
    netkit(["tcp-client", "--get", "/a b", "localhost:9999"])
        .stderr(
            "netkit: '/a b' is not a path; write one that starts with '/', and %20 for a space; \
             see 'netkit tcp-client -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_name_that_is_not_found_is_exit_code_3() {
    for arguments in [
        ["tcp-client", "no-such-host.invalid:9999"].as_slice(),
        &["tcp-server", "-p", "0", "-b", "no-such-host.invalid"],
    ] {
        // The cause depends on whether a name server can be reached.
        netkit(arguments)
            .stderr("netkit: could not resolve no-such-host.invalid: {*}\n")
            .code(3)
            .run();
    }
}

#[test]
fn a_name_is_not_resolved_when_addresses_are_asked_for() {
    netkit(["tcp-client", "-n", "localhost:9999"])
        .stderr("netkit: could not resolve localhost: it is a name, and -n allows addresses only\n")
        .code(2)
        .run();
}

#[test]
fn an_address_of_the_other_family_is_exit_code_3() {
    netkit(["tcp-client", "-6", "127.0.0.1:9999"])
        .stderr("netkit: could not resolve 127.0.0.1: it has no IPv6 address\n")
        .code(3)
        .run();
    netkit(["tcp-client", "-4", "[::1]:9999"])
        .stderr("netkit: could not resolve ::1: it has no IPv4 address\n")
        .code(3)
        .run();
}

#[test]
fn a_zone_that_cannot_be_is_told_from_a_name() {
    for (host, why) in [
        ("fe80::1%no", "this machine has no interface 'no'"),
        ("::1%lo", "only a link-local address has a zone; write ::1"),
    ] {
        netkit(["tcp-client", &format!("[{host}]:9999")])
            .stderr(format!("netkit: could not resolve {host}: {why}\n"))
            .code(3)
            .run();
    }
}

#[test]
fn a_refused_connection_is_exit_code_1() {
    let port = ReservedPort::tcp();
    netkit(["tcp-client", "127.0.0.1", &port.text()])
        .stderr(format!(
            "netkit: could not connect to 127.0.0.1:{}: connection refused\n",
            port.number()
        ))
        .code(1)
        .run();
}

#[test]
fn a_refused_connection_names_the_typed_and_the_resolved_address() {
    let port = ReservedPort::tcp();
    let port = port.number();
    netkit(["tcp-client", "-4", &format!("localhost:{port}")])
        .stderr(format!(
            "netkit: could not connect to localhost:{port} (127.0.0.1): connection refused\n"
        ))
        .code(1)
        .run();
    let port = ReservedPort::on(Ipv6Addr::LOCALHOST.into(), Type::STREAM);
    let port = port.number();
    netkit(["tcp-client", "::1", &port.to_string()])
        .stderr(format!(
            "netkit: could not connect to [::1]:{port}: connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_connection_that_nobody_answers_is_exit_code_4() {
    // A listener with a full queue drops new connections, as a firewall does.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::new(LOCALHOST, 0).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = TcpListener::from(socket.try_clone().unwrap())
        .local_addr()
        .unwrap();
    let _queue: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
            .take(16)
            .collect();
    netkit(["tcp-client", "-w", "0.3", &address.to_string()])
        .stderr(format!(
            "netkit: could not connect to {address}: no answer within 300ms\n"
        ))
        .code(4)
        .run();
    netkit(["tcp-client", "--deadline", "200ms", &address.to_string()])
        .stderr(format!(
            "netkit: could not connect to {address}: no answer within 200ms\n"
        ))
        .code(4)
        .run();
}

#[test]
fn an_address_that_is_in_use_is_exit_code_2() {
    let server = tcp_server([]).listen();
    let port = server.port();
    netkit(["tcp-server", "-p", &port.to_string()])
        .stderr(format!(
            "netkit: could not listen on 127.0.0.1:{port}: address already in use \
             (another program uses the port; -p 0 takes a free one)\n"
        ))
        .code(2)
        .run();
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    // RFC 5737: this address belongs to nobody.
    netkit(["tcp-server", "-p", "0", "-b", "192.0.2.1"])
        .stderr(
            "netkit: could not listen on 192.0.2.1:0: cannot assign requested address \
             (it is not an address of this machine)\n",
        )
        .code(2)
        .run();
}

#[test]
fn help_and_version_go_to_standard_output() {
    netkit(["--version"]).stdout("netkit {N}\n").run();
    for subcommand in ["", "tcp-client", "tcp-server", "udp-client", "udp-server"] {
        for help in ["-h", "--help"] {
            let words = [subcommand, help];
            let words = words.iter().filter(|word| !word.is_empty());
            let help = netkit(words).any_stdout().run();
            assert!(help.stdout.ends_with(b"\n"), "{subcommand}");
        }
    }
}

#[test]
fn help_on_a_full_disk_is_an_error() {
    for words in [["--help"].as_slice(), &["tcp-client", "-h"], &["--version"]] {
        netkit(words)
            .stdout_to(full())
            .stderr("netkit: could not write standard output: no space left on device\n")
            .code(2)
            .run();
    }
}

#[test]
fn help_into_a_closed_pipe_ends_quietly() {
    netkit(["--help"]).stdout_to(broken_pipe()).code(141).run();
}

#[test]
fn output_to_a_full_disk_is_an_error() {
    let peer = Peer::listen(|mut connection| connection.send("data"));
    netkit(["tcp-client", peer.address()])
        .stdout_to(full())
        .stderr("netkit: could not write standard output: no space left on device\n")
        .code(2)
        .run();
    netkit(["tcp-server", "-p", "0", "--print-port"])
        .stdout_to(full())
        .stderr(
            "Listening on 127.0.0.1:{N}\n\
             netkit: could not write standard output: no space left on device\n",
        )
        .code(2)
        .run();
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let peer = Peer::listen(|mut connection| connection.send("data"));
    netkit(["tcp-client", peer.address()])
        .stdout_to(broken_pipe())
        .code(141)
        .run();
    netkit(["tcp-server", "-p", "0", "--print-port"])
        .stdout_to(broken_pipe())
        .stderr("Listening on 127.0.0.1:{N}\n")
        .code(141)
        .run();
}

#[test]
fn a_silent_client_leaves_when_its_reader_has_left() {
    let peer = Peer::listen(|mut connection| connection.expect_reset());
    netkit(["tcp-client", peer.address()])
        .stdin_open()
        .stdout_to(broken_pipe())
        .code(141)
        .run();
}

#[test]
fn a_session_works_with_closed_standard_streams() {
    for redirection in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let peer = Peer::listen(|mut connection| {
            connection.expect_eof();
            connection.send("data");
        });
        let stdout = if redirection.contains(">&- ") || redirection == ">&-" {
            ""
        } else {
            "data"
        };
        netkit(["tcp-client", peer.address()])
            .through(&format!("exec \"$0\" \"$@\" {redirection}"))
            .stdout(stdout)
            .run();
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let word = std::ffi::OsStr::from_bytes(b"a\xff\x1b");
    for option in ["--send", "--interface", "--proxy"] {
        netkit(["tcp-client", "127.0.0.1:1", option])
            .arg(word)
            .code(2)
            .stderr("netkit: not UTF-8: \"a\\xff\\x1b\"; see 'netkit tcp-client -h'\n")
            .run();
    }
}

#[test]
fn a_failure_sets_the_exit_code_without_standard_error() {
    let port = ReservedPort::tcp();
    netkit(["tcp-client", "127.0.0.1", &port.text()])
        .through("exec \"$0\" \"$@\" 2>&-")
        .code(1)
        .run();
    netkit(["tcp-client", "127.0.0.1", &port.text()])
        .stderr_to(full())
        .code(1)
        .run();
    netkit(["tcp-client", "127.0.0.1", &port.text()])
        .stderr_to(broken_pipe())
        .code(1)
        .run();
}

#[test]
fn a_client_ends_by_the_signal_it_is_sent() {
    for signal in [Signal::INT, Signal::TERM] {
        let peer = Peer::listen(|mut connection| {
            connection.send("ready");
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", peer.address()])
            .stdin_open()
            .killed_by(signal)
            .start();
        client.receive("ready");
        client.signal(signal);
        client.finish();
    }
}

#[test]
fn quiet_logs_errors_only() {
    let mut server = tcp_server(["-q", "--print-port"])
        .stderr("")
        .code(0)
        .start();
    let port: u16 = server.receive_line("{N}").parse().unwrap();
    let peer = std::net::SocketAddr::new(LOCALHOST, port);
    crate::harness::Connection::to(peer).expect("Welcome!");
    server.signal(Signal::TERM);
    server.finish();
    let port = ReservedPort::tcp();
    netkit(["tcp-client", "-q", "127.0.0.1", &port.text()])
        .stderr("netkit: could not connect to 127.0.0.1:{N}: connection refused\n")
        .code(1)
        .run();
}

#[test]
fn verbose_messages_have_time_level_and_fields() {
    let mut server = tcp_server(["-v"]).start();
    server.expect_line(
        "{N}-{N}-{N}T{N}:{N}:{N}Z  INFO Listening on 127.0.0.1:{N} address=127.0.0.1:{N}",
    );
    server.expect_line("{*}Z  INFO Waiting for connection...");
    let peer = Peer::listen(|mut connection| connection.expect_eof());
    netkit(["tcp-client", "-v", peer.address()])
        .stderr(format!(
            "{{*}}Z  INFO connected to {0} in {{N}} ms peer={0} local=127.0.0.1:{{N}}\n\
             {{*}}Z  INFO closed by the peer: 0 bytes sent, 0 received in {{N}} s\n",
            peer.address()
        ))
        .run();
}

#[test]
fn json_messages_are_one_object_a_line() {
    let server = tcp_server(["--log-format", "json"]).start();
    let line = server.wait_for_line("{*}Listening on{*}");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["level"], "INFO");
    let address = event["address"].as_str().unwrap();
    assert_eq!(event["message"], format!("Listening on {address}"));
    assert!(event["timestamp"].is_string());

    let port = ReservedPort::tcp();
    let failed = netkit(["--log-format=json", "tcp-client", "127.0.0.1", &port.text()])
        .any_stderr()
        .code(1)
        .run();
    let event: serde_json::Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!(event["level"], "ERROR");
}

#[test]
fn only_a_terminal_without_no_color_gets_colour() {
    let run = |no_color: &str, terminal: &Terminal| {
        let port = ReservedPort::tcp();
        netkit(["tcp-client", "-v", "127.0.0.1", &port.text()])
            .env("NO_COLOR", no_color)
            .stderr_to(terminal.device())
            .code(1)
            .run();
    };
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut terminal = Terminal::open();
        run(no_color, &terminal);
        let line = terminal.expect_line();
        assert!(line.contains("connection refused"), "{line}");
        assert_eq!(line.contains('\x1b'), coloured, "{line}");
        terminal.finish();
    }
}

#[test]
fn a_message_is_one_line_whatever_an_argument_contains() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["udp-client", "--no\nwait"],
            "unexpected argument '--no\\nwait' found; tip: a similar argument exists: '--no-wait'; \
             see 'netkit udp-client -h'",
        ),
        (
            &["tcp\u{1b}[2J"],
            "unrecognized subcommand 'tcp\\x1b[2J'; tip: a similar subcommand exists: 'tcp-client' (or 'tcp'); \
             see 'netkit -h'",
        ),
        (
            &["tcp-client", "a", "b", "\u{202e}c"],
            "too many arguments: '\\xe2\\x80\\xaec'; write HOST PORT or HOST:PORT; \
             see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-client", "-w", "1\nnetkit: done", "a:1"],
            "'1\\nnetkit: done' is not a duration (-w); \
             write seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h); see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-client", "a\n\u{9b}:80"],
            "'a\\n\\xc2\\x9b' is not a host; write HOST:PORT, for example localhost:9999; \
             see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-client", "--get", "/\r\n", "localhost:80"],
            "'/\\r\\n' is not a path; write one that starts with '/', and %20 for a space; \
             see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-server", "-p", "0", "-n", "-b", "\u{1b}[2J"],
            "could not resolve \\x1b[2J: it is a name, and -n allows addresses only",
        ),
        (
            &["tcp-server", "-p", "0", "-e", "/no\n/such"],
            "could not run /no\\n/such: no such file or directory",
        ),
    ];
    for (words, message) in cases {
        netkit(words)
            .stderr(format!("netkit: {message}\n"))
            .any_code()
            .run();
    }
}

#[test]
fn a_name_from_a_file_is_quoted_in_every_log_format() {
    let folder = temporary_folder();
    let file = folder.path().join("peers\u{202e}");
    std::fs::write(&file, "\u{feff}127.0.0.1\na\u{1b}b\u{9b},c\n").unwrap();
    let list = format!("@{}", file.display());
    let run = |options: &[&str]| {
        netkit(
            options
                .iter()
                .chain(&["tcp-server", "-p", "0", "--allow", &list]),
        )
        .any_stderr()
        .code(2)
        .run()
        .stderr
    };
    let written = "peers\\xe2\\x80\\xae, line 2: 'a\\x1bb\\xc2\\x9b,c' is not a peer; ";
    for options in [&[] as &[_], &["-v"]] {
        let line = run(options);
        assert!(line.contains(written), "{line}");
    }
    let line = run(&["--log-format", "json"]);
    let written = "peers\\u202e, line 2: 'a\\u001bb\\u009b,c' is not a peer; ";
    assert!(line.contains(written), "{line}");
}

#[test]
fn json_on_standard_output_has_no_control_characters() {
    let server = udp_server(["--service", "echo"]).listen();
    let text = "\u{1b}\u{7f}\u{9b}\u{202e}\u{2028}";
    let output = netkit(["udp-client", "--json", &server.address(), text])
        .any_stdout()
        .run();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.contains("\"\\u001b\\u007f\\u009b\\u202e\\u2028\""),
        "{output}"
    );
    assert!(
        !output.contains(|c: char| c.is_control() && c != '\n'),
        "{output}"
    );
}

#[test]
fn each_option_is_applied_or_refused_in_each_mode_of_the_client() {
    const MODES: [(char, &str); 5] = [
        ('t', ""),
        ('s', "--send x"),
        ('g', "--get"),
        ('z', "-z"),
        ('p', "-c 1"),
    ];
    // The modes in which the option does something.
    let options = [
        ("--deadline 9", "tsgzp"),
        ("-4", "tsgzp"),
        ("-n", "tsgzp"),
        ("--source 127.0.0.1", "tsgzp"),
        ("--ttl 9", "tsgzp"),
        ("--retry 0", "tsgz"),
        ("-w 9", "tsgzp"),
        ("--recv-only", "t"),
        ("--half-close-wait 1", "t"),
        ("-C", "ts"),
        ("--send-only", "ts"),
        ("--no-shutdown", "ts"),
        ("--raw", "tsg"),
        ("--wait-after-eof 1", "tsg"),
        ("-x", "tsg"),
        ("--idle-timeout 1", "tsg"),
        ("--timing", "tsg"),
        ("--parallel 3", "z"),
        ("-i 1", "p"),
        ("--json", "zp"),
    ];
    let port = ReservedPort::tcp();
    let words = |text: &'static str| text.split_whitespace();
    for (option, modes) in options {
        let name = option.split(' ').next().unwrap();
        for (letter, mode) in MODES {
            if letter != 'p' && name == "-i" {
                // It makes a ping of any mode.
                continue;
            }
            let client = netkit(
                ["tcp-client"]
                    .into_iter()
                    .chain(words(option))
                    .chain(words(mode)),
            )
            .arg("127.0.0.1")
            .arg(port.text())
            .any_stdout()
            .any_stderr()
            .any_code()
            .run();
            let is_refused = client.stderr.ends_with("; see 'netkit tcp-client -h'\n");
            assert_eq!(
                is_refused,
                !modes.contains(letter),
                "{option} {mode}: {}",
                client.stderr
            );
            if is_refused {
                assert!(
                    client.stderr.starts_with(&format!("netkit: {name} ")),
                    "{}",
                    client.stderr
                );
            }
        }
    }
}

#[test]
fn an_option_that_does_nothing_is_refused_by_name() {
    let cases = [
        ("tcp-client -C -i 1 a 25", "-C does nothing with -i"),
        (
            "tcp-client --json --send x a 25",
            "--json needs -z, --ping, -c or -i",
        ),
        (
            "tcp-client -c 3 --timing a 25",
            "--timing does nothing with -c",
        ),
        (
            "tcp-client --parallel 3 --recv-only a 25",
            "--parallel needs -z",
        ),
        (
            "tcp-client --interactive a 25",
            "--interactive needs port 80",
        ),
        (
            "tcp-client --interactive --get a 80",
            "--interactive does nothing with --get",
        ),
        (
            "tcp-client --send x --get -- a 80",
            "--send does nothing with --get",
        ),
        (
            "tcp-client --send x --recv-only a 80",
            "--recv-only does nothing with --send",
        ),
        (
            "tcp-client --retry-delay 1 a 80",
            "--retry-delay needs --retry",
        ),
        ("tcp-server -p 0 -k", "-k needs -l"),
        (
            "tcp-server -p 0 --raw --forward a:1",
            "--raw needs -l or --service stdio",
        ),
        (
            "tcp-server -p 0 -m 5 --service stdio",
            "-m does nothing with --service",
        ),
        (
            "tcp-server -p 0 --delay 1 --sh-exec cat",
            "--delay needs --service hello",
        ),
    ];
    for (words, message) in cases {
        let subcommand = words.split(' ').next().unwrap();
        netkit(words.split(' '))
            .stderr(format!(
                "netkit: {message}{{*}}; see 'netkit {subcommand} -h'\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn each_option_is_applied_or_refused_for_each_service() {
    const MODES: [(char, &str); 9] = [
        ('h', ""),
        ('e', "--service echo"),
        ('d', "--service discard"),
        ('c', "--service chargen"),
        ('s', "--service stdio"),
        ('b', "--service broker"),
        ('t', "--service chat"),
        ('x', "--sh-exec cat"),
        ('f', "--forward 127.0.0.1:9"),
    ];
    let options = [
        ("--idle-timeout 1", "hedcsbtxf"),
        ("--max-session 1", "hedcsbtxf"),
        ("--allow 127.0.0.1", "hedcsbtxf"),
        ("--drain-timeout 1", "hedcsbtxf"),
        ("--ttl 9", "hedcsbtxf"),
        ("-m 9", "hedcbtxf"),
        ("--max-connections-per-ip 9", "hedcbtxf"),
        ("--welcome x", "h"),
        ("--delay 1", "h"),
        ("--framing line", "h"),
        ("--max-message 9", "h"),
        ("-C", "sx"),
        ("--send-only", "sx"),
        ("--recv-only", "sx"),
        ("--raw", "s"),
        ("--no-shutdown", "s"),
        ("--half-close-wait 1", "s"),
        ("--wait-after-eof 1", "s"),
        ("-k", "s"),
    ];
    // An address that is in use ends what is not refused.
    let server = tcp_server([]).listen();
    let port = server.port().to_string();
    for (option, modes) in options {
        let name = option.split(' ').next().unwrap();
        for (letter, mode) in MODES {
            let words = option.split(' ').chain(mode.split_whitespace());
            let server = netkit(["tcp-server", "-p", &port].into_iter().chain(words));
            let log = server.any_stderr().code(2).run().stderr;
            let is_refused = log.ends_with("; see 'netkit tcp-server -h'\n");
            assert_eq!(
                is_refused,
                !modes.contains(letter),
                "{option} {mode}: {log}"
            );
            assert!(
                is_refused || log.contains("address already in use"),
                "{log}"
            );
            assert!(
                !is_refused || log.starts_with(&format!("netkit: {name} ")),
                "{log}"
            );
        }
    }
}

#[test]
fn an_option_of_netcat_is_accepted_or_refused_with_ours() {
    // From `nc -h` of OpenBSD and `ncat -h`; where they are installed, what they print is asked too.
    let mut options: Vec<String> = "-b -D -d -F -I -M -N -O -P -p -r -S -s -T -t -U -u -W -w -X -Z -z -l -i -k -m -q1 \
        -c -e -g -G -o --listen --udp --source --source-port --sh-exec --exec --output --nodns --broker \
        --chat --ssl --proxy --wait --max-conns --allowfile --append-output"
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    if let Some(nc) = peer("nc", ["-h"]) {
        let help = nc.run().stderr;
        let lines = help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'));
        options.extend(lines.map(|line| line[..2].to_owned()));
    }
    if let Some(ncat) = peer("ncat", ["-h"]) {
        let help = String::from_utf8(ncat.run().stdout).unwrap();
        for line in help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'))
        {
            let words = line
                .split([' ', ','])
                .take_while(|word| word.is_empty() || word.starts_with('-'));
            options.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    assert!(options.len() > 40);
    for subcommand in ["tcp-client", "tcp-server", "udp-client", "udp-server"] {
        for option in &options {
            // An address that is bad in every subcommand ends what is not refused.
            let run = netkit([subcommand, option, "1:2:3"])
                .any_stdout()
                .any_stderr()
                .any_code()
                .run();
            let bare = format!(
                "netkit: unexpected argument '{option}' found; see 'netkit {subcommand} -h'\n"
            );
            assert_ne!(run.stderr, bare);
            assert!(!run.stderr.contains("tip: "), "{}", run.stderr);
        }
    }
}

#[test]
fn netcats_q_is_never_quiet_and_once() {
    for words in [
        "tcp-server -q1 -lp 9",
        "tcp-client -q 1 a:9",
        "tcp-server -q 1 -lp 9",
        "tcp-server -q 1",
        "udp-client :9 -q 1",
        "tcp-client -q1 a 9",
    ] {
        let subcommand = words.split(' ').next().unwrap();
        netkit(words.split(' '))
            .stderr(format!(
                "netkit: '-q' is --quiet and takes no number; for nc's -q write --wait-after-eof 1; \
                 see 'netkit {subcommand} -h'\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn an_option_in_the_place_of_the_subcommand_is_told_the_way() {
    for (words, advice) in [
        ("-l 9999", "'-l' found; write 'netkit tcp-server -l PORT'"),
        ("-u localhost 9", "'-u' found; write 'netkit udp-client'"),
        (
            "-z localhost 9",
            "'-z' found; a subcommand comes first, as in 'netkit tcp-client'",
        ),
    ] {
        netkit(words.split(' '))
            .stderr(format!(
                "netkit: unexpected argument {advice}; see 'netkit -h'\n"
            ))
            .code(2)
            .run();
    }
    netkit(["udp", "-l", "9"])
        .stderr(
            "netkit: unexpected argument '-l' found; write 'netkit udp-server -l PORT'; \
             see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}

/// Another program has set `O_NONBLOCK` on the pipe, which takes less than the page.
#[cfg(target_os = "linux")]
#[test]
fn a_standard_output_that_does_not_block_gets_the_whole_help() {
    let expected = netkit(["tcp-client", "--help"]).any_stdout().run().stdout;
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let help = netkit(["tcp-client", "--help"]).stdout_to(writer).start();
    assert_eq!(read_all(reader), expected);
    help.finish();
}

#[test]
fn the_clients_have_short_names() {
    let tcp = tcp_server([]).listen();
    netkit(["tcp", "--send", "exit", &tcp.address()])
        .stdout("Welcome!")
        .run();
    let udp = udp_server([]).listen();
    netkit(["udp", &udp.address(), "a"])
        .stdout("Hello, a!\n")
        .run();
}

#[test]
fn a_service_may_be_named_where_a_port_is_typed() {
    for (words, message) in [
        (
            &["tcp-client", "--ttl", "1", "-n", "127.0.0.9", "tcpmux"] as &[_],
            "127.0.0.9:1: ",
        ),
        (&["tcp-client", "127.0.0.9:tcpmux"], "127.0.0.9:1: "),
        (
            &["tcp-client", "-z", "127.0.0.9", "tcpmux"],
            "127.0.0.9:1: ",
        ),
    ] {
        netkit(words)
            .stderr(format!(
                "netkit: could not connect to {message}connection refused\n"
            ))
            .code(1)
            .run();
    }
    netkit(["tcp-server", "0", "--forward", "a:no-such-service"])
        .stderr(
            "netkit: 'no-such-service' is not a port (--forward); a port is a number from 1 to 65535, or a name of \
             /etc/services for tcp; see 'netkit tcp-server -h'\n",
        )
        .code(2)
        .run();
}
