//! Options around a TCP session: who may connect, what is written down, how sockets are set up,
//! trying again, and checking ports.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::{
    Connection, DEADLINE, Peer, Program, ReservedPort, Server, matches, netkit, peer, random_bytes,
    tcp_server, temporary_folder,
};

/// Whether a server says anything to somebody from `source`.
fn is_let_in(server: &Server, source: &str) -> bool {
    let client = netkit(["tcp-client", "--source", source, "--send", "exit"]);
    let printed = client
        .arg(server.address())
        .any_stdout()
        .any_stderr()
        .any_code()
        .run()
        .stdout;
    assert!(printed.is_empty() || printed == b"Welcome!");
    !printed.is_empty()
}

mod access {
    use super::*;

    #[test]
    fn lists_decide_who_is_served() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, bool)]);
        let cases: &[Case<'_>] = &[
            (
                &["--allow", "127.0.0.2"],
                &[("127.0.0.2", true), ("127.0.0.1", false)],
            ),
            (
                &["--deny", "127.0.0.2"],
                &[("127.0.0.2", false), ("127.0.0.1", true)],
            ),
            (
                &["--deny", "127.0.0.0/8", "--allow", "127.0.0.4/30"],
                &[
                    ("127.0.0.3", false),
                    ("127.0.0.4", true),
                    ("127.0.0.7", true),
                    ("127.0.0.8", false),
                ],
            ),
            (
                &["--allow", "127.0.0.2", "--allow", "::ffff:127.0.0.3"],
                &[
                    ("127.0.0.2", true),
                    ("127.0.0.3", true),
                    ("127.0.0.4", false),
                ],
            ),
            (
                &["--allow", "localhost"],
                &[("127.0.0.1", true), ("127.0.0.2", false)],
            ),
            (
                &["--deny", "localhost"],
                &[("127.0.0.1", false), ("127.0.0.2", true)],
            ),
            (&["--allow", "::1"], &[("127.0.0.1", false)]),
        ];
        for (options, peers) in cases {
            let server = tcp_server(options.iter().copied()).listen();
            for (source, may) in *peers {
                assert_eq!(is_let_in(&server, source), *may, "{options:?} {source}");
            }
        }
    }

    #[test]
    fn who_is_turned_away_is_logged_once_an_episode() {
        let server = tcp_server(["--deny", "127.0.0.1"]).listen();
        for _ in 0..3 {
            let mut client = server.connect();
            client.drain();
        }
        server.wait_for_line("netkit: closed a connection from {*}: it is not allowed");
        server.signal(Signal::TERM);
        server.wait_for_line("netkit: closed 3 connections in all: they were not allowed");
    }

    #[test]
    fn files_are_read_and_read_again() {
        let folder = temporary_folder();
        let path = folder.path().join("friends");
        fs::write(&path, "# friends\n\n127.0.0.2  # the first\n127.0.0.8/29\n").unwrap();
        let file = format!("@{}", path.display());
        let server = tcp_server(["--allow", &file]).listen();
        let who = |server: &Server| {
            ["127.0.0.1", "127.0.0.2", "127.0.0.15"].map(|source| is_let_in(server, source))
        };
        assert_eq!(who(&server), [false, true, true]);
        fs::write(&path, "127.0.0.1\n").unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line("Read the files of --allow and --deny again.");
        assert_eq!(who(&server), [true, false, false]);
        fs::write(&path, "127.0.0.1\n10.0.0.0/40\n").unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line("netkit: {*}friends, line 2: '10.0.0.0/40' is not a peer; {*}");
        assert_eq!(who(&server), [true, false, false]);
        server.stop();
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error() {
        netkit(["tcp-server", "-p", "0", "--allow", "10.0.0.0/33"])
            .stderr(
                "netkit: '10.0.0.0/33' is not a peer; write a network (10.0.0.0/8, fe80::/10), \
                 an address, a name or @FILE\n",
            )
            .code(2)
            .run();
        netkit(["tcp-server", "-p", "0", "--deny", "@/no/such/file"])
            .stderr("netkit: could not read /no/such/file: no such file or directory\n")
            .code(2)
            .run();
    }

    #[test]
    fn one_address_has_its_own_limit() {
        let server = tcp_server(["--max-connections-per-ip", "2"]).listen();
        let mut open: Vec<_> = (0..2)
            .map(|_| {
                let mut client = server.connect();
                client.expect("Welcome!");
                client
            })
            .collect();
        server.connect().drain();
        server.wait_for_line(
            "netkit: closed a connection from {*}: 2 are open from 127.0.0.1 already",
        );
        assert!(is_let_in(&server, "127.0.0.2"));
        open.pop();
        server.wait_for_lines("Connection from {*} closed{*}.", 2);
        assert!(is_let_in(&server, "127.0.0.1"));
    }
}

mod events {
    use super::*;

    #[test]
    fn a_program_can_follow_a_server() {
        let server = tcp_server(["--log-format", "json", "-m", "1"])
            .any_stderr()
            .start();
        let line = server.wait_for_line("{*}\"message\":\"Listening on {*}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = event["address"].as_str().unwrap().parse().unwrap();
        let mut client = Connection::to(address);
        client.expect("Welcome!");
        Connection::to(address).drain();
        server.wait_for_line("{*}\"event\":\"limit\"{*}");
        client.send("abc");
        client.expect("Hello, abc!");
        client.shutdown();
        client.expect_eof();
        server.wait_for_line("{*}\"event\":\"close\"{*}");
        let log = server.log();
        let events: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let event = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
        assert_eq!(event("accept")["connection"], 1);
        assert_eq!(event("accept")["peer"], client.local());
        assert_eq!(event("limit")["limit"], 1);
        let close = event("close");
        assert_eq!(
            (&close["bytes_in"], &close["bytes_out"]),
            (&3.into(), &19.into())
        );
        assert_eq!(
            (&close["reason"], &close["connection"]),
            (&"end".into(), &1.into())
        );
        assert!(close["duration_ms"].is_u64());
        server.signal(Signal::TERM);
        server.finish();
    }

    #[test]
    fn people_see_the_same_facts_with_v() {
        let server = tcp_server(["-v"]).any_stderr().start();
        let line = server.wait_for_line("{*}Listening on {*}");
        let address = line
            .rsplit_once("address=")
            .unwrap()
            .1
            .trim()
            .parse()
            .unwrap();
        let mut client = Connection::to(address);
        client.expect("Welcome!");
        client.shutdown();
        client.expect_eof();
        server.wait_for_line("{*}closed.{*}bytes_in=0 bytes_out=8{*}");
        server.signal(Signal::TERM);
        server.finish();
    }
}

mod tap {
    use super::*;

    /// The bytes of a dump whose lines begin with `head`.
    fn bytes_of(dump: &str, head: &str) -> Vec<u8> {
        let lines = dump.lines().filter(|line| line.starts_with(head));
        let digits = lines.map(|line| &line.split_once(": ").unwrap().1[..40]);
        let digits: String = digits.flat_map(str::split_whitespace).collect();
        let bytes = digits.as_bytes().chunks(2);
        bytes
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_dump_has_every_byte_with_its_direction_and_offset() {
        let sent = random_bytes(100_000);
        let server = tcp_server(["--service", "echo"]).listen();
        let folder = temporary_folder();
        let file = folder.path().join("dump");
        netkit([
            "tcp-client",
            "-x",
            file.to_str().unwrap(),
            &server.address(),
        ])
        .stdin(&sent)
        .stdout(&sent)
        .run();
        let dump = fs::read_to_string(file).unwrap();
        assert!(bytes_of(&dump, "> ") == sent);
        assert!(bytes_of(&dump, "< ") == sent);
        let last = dump.lines().rfind(|line| line.starts_with("> ")).unwrap();
        let pattern = "> {*}:{*}:{*}.{*}Z 000186{*}: {*}";
        assert!(matches(pattern.as_bytes(), last.as_bytes()), "{last}");
    }

    #[test]
    fn a_dump_goes_to_standard_error_and_the_address_is_no_file() {
        let server = tcp_server(["--service", "echo"]).listen();
        let address = server.address();
        let client = netkit(["tcp-client", "-x", &address])
            .stdin("a\n")
            .stdout("a\n");
        let log = client.any_stderr().run().stderr;
        assert_eq!(
            (bytes_of(&log, "> "), bytes_of(&log, "< ")),
            (b"a\n".into(), b"a\n".into())
        );
    }

    #[test]
    fn a_record_has_both_directions_as_they_came() {
        let server = tcp_server(["--welcome", "<"]).listen();
        let folder = temporary_folder();
        let file = folder.path().join("record");
        let client = netkit([
            "tcp-client",
            "--record",
            file.to_str().unwrap(),
            &server.address(),
        ]);
        let mut client = client.stdin_open().any_stdout().start();
        client.receive("<");
        client.send("a\n");
        client.receive("Hello, a!\n");
        client.close_input();
        client.finish();
        assert_eq!(fs::read_to_string(file).unwrap(), "<a\nHello, a!\n");
    }

    #[test]
    fn the_lines_of_two_connections_never_mix() {
        let folder = temporary_folder();
        let (dump, record) = (folder.path().join("dump"), folder.path().join("record"));
        let server = tcp_server(["-x", dump.to_str().unwrap()])
            .arg("--record")
            .arg(&record)
            .arg("-e")
            .arg("/bin/cat")
            .listen();
        let bytes: Vec<_> = (0..4_u8)
            .map(|number| vec![b'a' + number; 50_000])
            .collect();
        let clients: Vec<_> = bytes
            .iter()
            .map(|bytes| {
                netkit(["tcp-client", &server.address()])
                    .stdin(bytes)
                    .stdout(bytes)
                    .start()
            })
            .collect();
        for client in clients {
            client.finish();
        }
        server.wait_for_lines("Connection from {*} closed.", 4);
        let dump = fs::read_to_string(dump).unwrap();
        let mut seen: Vec<_> = (1..=4)
            .map(|number| bytes_of(&dump, &format!("#{number} < ")))
            .collect();
        seen.sort();
        let sizes = seen.iter().map(Vec::len);
        assert!(seen == bytes, "{:?}", sizes.collect::<Vec<_>>());
        let record = fs::read(record).unwrap();
        let mut rest = &record[..];
        let mut total = 0;
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
            let head = str::from_utf8(&rest[..end]).unwrap();
            assert!(matches(b"#{*} {*} {*}Z {*}", head.as_bytes()), "{head}");
            let length: usize = head.rsplit_once(' ').unwrap().1.parse().unwrap();
            let piece = &rest[end + 1..][..length];
            assert!(piece.iter().all(|&byte| byte == piece[0]), "{head}");
            total += length;
            rest = rest[end + 1 + length..].strip_prefix(b"\n").unwrap();
        }
        assert_eq!(total, 8 * 50_000);
    }

    #[test]
    fn a_dump_that_cannot_be_written_is_an_error() {
        let server = tcp_server([]).listen();
        netkit(["tcp-client", "-x", "/dev/full", &server.address()])
            .any_stdout()
            .stderr("netkit: could not write the dump or the record: no space left on device\n")
            .code(2)
            .run();
        netkit(["tcp-client", "-x", "/no/such/file", &server.address()])
            .stderr("netkit: could not create /no/such/file: no such file or directory\n")
            .code(2)
            .run();
    }
}

/// Reads back from the system what was asked for.
mod sockets {
    use super::*;

    /// What `ss` says of the sockets of a port.
    fn ss(options: &[&str], filter: &str) -> Option<String> {
        let arguments = options.iter().copied().chain([filter]);
        Some(String::from_utf8(peer("ss", arguments)?.code(0).run().stdout).unwrap())
    }

    #[test]
    fn a_client_has_what_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = [
            "--interface",
            "lo",
            "--dscp",
            "af41",
            "--recv-buffer",
            "20k",
            "--send-buffer",
            "30k",
            "--mss",
            "1000",
            "--keepalive",
            "77",
        ];
        let address = listener.local_addr().unwrap().to_string();
        let client = netkit(["tcp-client", &address]).arg("--ttl").arg("9");
        let client = options.iter().fold(client, Program::arg);
        let client = client.stdin_open().start();
        let (stream, _) = listener.accept().unwrap();
        if let Some(text) = ss(&["-tneimo", "--tos"], &format!("dport = {port}")) {
            for part in [
                "%lo",
                "tos:0x88",
                "rb40960",
                "tb61440",
                "timer:(keepalive,1min1",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
            let mss = text
                .split(" mss:")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            assert!(mss.parse::<u32>().unwrap() <= 1000, "{text}");
        }
        drop(stream);
        drop(client);
    }

    #[test]
    fn the_connections_of_a_server_have_what_was_asked_for() {
        let server = tcp_server([
            "--dscp",
            "ef",
            "--recv-buffer",
            "20k",
            "--send-buffer",
            "30k",
            "--mss",
            "1000",
            "--keepalive",
            "77s",
            "--interface",
            "lo",
        ]);
        let server = server.listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        if let Some(text) = ss(&["-tneimo", "--tos"], &format!("sport = {}", server.port())) {
            for part in [
                "%lo",
                "tos:0xb8",
                "rb40960",
                "tb61440",
                "timer:(keepalive,1min1",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn a_peer_sees_the_ttl_and_the_service_class() {
        // ip(7): the two of an incoming datagram come beside it.
        let script = "import socket\n\
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            s.bind(('127.0.0.1', 0)); s.settimeout(15)\n\
            s.setsockopt(socket.IPPROTO_IP, 12, 1)\n\
            s.setsockopt(socket.IPPROTO_IP, 13, 1)\n\
            print(s.getsockname()[1], flush=True)\n\
            for part in sorted(s.recvmsg(9, 99)[1]): print(part[1], part[2][0])\n";
        let Some(python) = peer("python3", ["-c", script]) else {
            return;
        };
        let mut python = python.code(0).start();
        let address = format!("127.0.0.1:{}", python.receive_line("{N}"));
        netkit([
            "udp-client",
            "--no-wait",
            "--ttl",
            "9",
            "--dscp",
            "ef",
            &address,
            "x",
        ])
        .run();
        python.receive("1 184\n2 9\n");
        python.finish();
    }

    #[test]
    fn reuse_port_lets_a_second_server_have_the_port() {
        let first = tcp_server(["--reuse-port"]).listen();
        let port = first.port().to_string();
        netkit(["tcp-server", "-p", &port])
            .stderr(format!(
                "netkit: could not listen on 127.0.0.1:{port}: address already in use (another \
                 program uses the port; -p 0 takes a free one)\n"
            ))
            .code(2)
            .run();
        let second = netkit(["tcp-server", "-p", &port, "--reuse-port"])
            .any_stderr()
            .listen();
        assert_eq!(second.port(), first.port());
    }

    #[test]
    fn an_option_that_the_system_refuses_is_named() {
        let cases = [
            ("--interface", "nosuch0", "no such device"),
            (
                "--recv-buffer",
                "1G",
                "the system allows no more than {*} bytes",
            ),
            ("--mss", "1", "invalid argument"),
            ("--keepalive", "999999", "invalid argument"),
        ];
        for (option, value, cause) in cases {
            let client = netkit(["tcp-client", option, value, "127.0.0.1:9"]);
            let log = client.any_stderr().code(2).run().stderr;
            let value = if option == "--keepalive" {
                "999999s"
            } else {
                value
            };
            let value = if option == "--recv-buffer" {
                "1073741824"
            } else {
                value
            };
            let line =
                format!("netkit: could not connect to 127.0.0.1:9: {option} {value}: {cause}\n");
            assert!(
                matches(line.as_bytes(), log.as_bytes()),
                "{log} should be {line}"
            );
        }
        netkit(["tcp-server", "-p", "0", "--mss", "1"])
            .stderr("netkit: could not listen on 127.0.0.1:0: --mss 1: invalid argument\n")
            .code(2)
            .run();
    }
}

mod trying {
    use super::*;

    #[test]
    fn a_client_waits_for_a_server_that_starts_late() {
        let port = ReservedPort::tcp();
        let address = format!("127.0.0.1:{}", port.text());
        let client = netkit([
            "tcp-client",
            "-vv",
            "--retry",
            "1000",
            "--retry-delay",
            "0.02",
            &address,
        ]);
        let client = client.stdin("x").stdout("x").any_stderr().start();
        client.wait_for_line("{*}trying again in 20ms{*}");
        let _server = netkit(["tcp-server", "--service", "echo", "-p", &port.text()])
            .any_stderr()
            .listen();
        client.finish();
    }

    #[test]
    fn a_script_waits_for_a_port_with_a_check() {
        let port = ReservedPort::tcp();
        let port = (port.text(), port);
        let check = netkit([
            "tcp-client",
            "-vv",
            "--retry",
            "1000",
            "--retry-delay",
            "0.02",
            "-z",
        ]);
        let check = check
            .arg("127.0.0.1")
            .arg(&port.0)
            .any_stdout()
            .any_stderr()
            .start();
        check.wait_for_line("{*}trying again in 20ms{*}");
        let _server = netkit(["tcp-server", "-p", &port.0]).any_stderr().listen();
        let printed = String::from_utf8(check.finish().stdout).unwrap();
        let line = format!("127.0.0.1:{} (127.0.0.1) open, {{*}} ms\n", port.0);
        assert!(matches(line.as_bytes(), printed.as_bytes()), "{printed}");
    }

    #[test]
    fn retries_end() {
        let down = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let message = format!("netkit: could not connect to {down}: connection refused");
        netkit(["tcp-client", "--retry", "3", "--retry-delay", "0", &down])
            .stderr(format!("{message}\n"))
            .code(1)
            .run();
        netkit([
            "tcp-client",
            "--retry",
            "100",
            "--retry-delay",
            "10",
            "--deadline",
            "0.1",
            &down,
        ])
        .stderr(format!("{message}; gave up after 100ms\n"))
        .code(4)
        .run();
    }

    #[test]
    fn timing_says_when_each_step_was_done() {
        let peer = Peer::listen(|mut connection| {
            connection.send("x");
            connection.shutdown();
            connection.drain();
        });
        let client = netkit(["tcp-client", "--timing", peer.address()]).stdout("x");
        let line = client.any_stderr().run().stderr;
        let pattern = "resolve {*} ms, connect {*} ms, first byte {*} ms, total {*} ms\n";
        assert!(matches(pattern.as_bytes(), line.as_bytes()), "{line}");
        let times = line.split(|c: char| c != '.' && !c.is_ascii_digit());
        let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
        assert!(times.len() == 4 && times.is_sorted(), "{line}");
    }
}

mod check {
    use super::*;

    /// This machine, but not where other tests listen: those whose server expects one connection
    /// must not get another from a check of all ports.
    const ASIDE: &str = "127.9.9.9";

    #[test]
    fn every_port_is_checked_and_what_is_open_is_found() {
        let listeners = [(); 3].map(|()| TcpListener::bind((ASIDE, 0)).unwrap());
        let mut open = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap().port());
        open.sort_unstable();
        let check = netkit(["tcp-client", "-q", "-z", ASIDE, "1-65535"]);
        let check = check.any_stdout().any_code().within(3 * DEADLINE);
        let printed = check.run().stdout;
        let printed = String::from_utf8(printed).unwrap();
        let found: Vec<u16> = printed
            .lines()
            .map(|line| {
                let pattern = format!("{ASIDE}:{{*}} ({ASIDE}) open, {{*}} ms");
                assert!(matches(pattern.as_bytes(), line.as_bytes()), "{line}");
                line.split([':', ' ']).nth(1).unwrap().parse().unwrap()
            })
            .collect();
        assert!(found.is_sorted());
        // Some program may listen on all addresses.
        assert!(
            open.iter().all(|port| found.contains(port)),
            "{open:?} in {found:?}"
        );
    }

    #[test]
    fn one_that_is_closed_is_named_and_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let down = ReservedPort::tcp();
        let ports = format!("{open},{}", down.text());
        let check = netkit(["tcp-client", "-z", "127.0.0.1", &ports])
            .any_stdout()
            .stderr(format!(
                "netkit: could not connect to 127.0.0.1:{}: connection refused\n",
                down.text()
            ));
        let printed = String::from_utf8(check.code(1).run().stdout).unwrap();
        let line = format!("127.0.0.1:{open} (127.0.0.1) open, {{*}} ms\n");
        assert!(matches(line.as_bytes(), printed.as_bytes()), "{printed}");
    }

    #[test]
    fn a_program_gets_events() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let down = ReservedPort::tcp();
        let ports = format!("{open},{}", down.text());
        let check = netkit(["tcp-client", "--json", "-z", "127.0.0.1", &ports]);
        let printed = String::from_utf8(check.any_stdout().code(1).run().stdout).unwrap();
        let lines: Vec<_> = printed.lines().collect();
        let expected = [
            r#"{"event":"start","v":1,"host":"127.0.0.1","ports":2}"#.to_owned(),
            format!(
                r#"{{"event":"open","host":"127.0.0.1","port":{open},"address":"127.0.0.1","rtt_ms":{{*}}}}"#
            ),
            format!(
                r#"{{"event":"failed","host":"127.0.0.1","port":{0},"exit":1,"reason":"could not connect to 127.0.0.1:{0}: connection refused"}}"#,
                down.text()
            ),
            r#"{"event":"summary","open":1,"failed":1}"#.to_owned(),
        ];
        assert_eq!(lines.len(), expected.len(), "{printed}");
        for (line, pattern) in lines.iter().zip(expected) {
            assert!(
                matches(pattern.as_bytes(), line.as_bytes()),
                "{line} should be {pattern}"
            );
        }
    }

    #[test]
    fn few_descriptors_are_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = format!("1-100,{port},101-300");
        let check = netkit(["tcp-client", "-q", "-z", "127.0.0.1", &ports]).ulimit("-n 24");
        let printed = String::from_utf8(check.any_stdout().any_code().run().stdout).unwrap();
        assert!(
            printed.contains(&format!("127.0.0.1:{port} (127.0.0.1) open")),
            "{printed}"
        );
    }

    #[test]
    fn a_check_repeats_with_pings_statistics() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let check = netkit(["tcp-client", "-z", "-c", "3", "-i", "0.01", &address]);
        let printed = String::from_utf8(check.any_stdout().run().stdout).unwrap();
        let expected = [
            format!("PING {address} (127.0.0.1) 0(40) bytes of data."),
            format!("0 bytes from {address}: tcp_seq=1 time={{*}} ms"),
            format!("0 bytes from {address}: tcp_seq=2 time={{*}} ms"),
            format!("0 bytes from {address}: tcp_seq=3 time={{*}} ms"),
            String::new(),
            format!("--- {address} ping statistics ---"),
            "3 packets transmitted, 3 received, 0% packet loss, time {*}ms".to_owned(),
            "rtt min/avg/max/mdev = {*}/{*}/{*}/{*} ms".to_owned(),
        ];
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{printed}");
        for (line, pattern) in lines.iter().zip(expected) {
            assert!(
                matches(pattern.as_bytes(), line.as_bytes()),
                "{line} should be {pattern}"
            );
        }
    }

    #[test]
    fn a_repeated_check_counts_what_failed_and_can_be_interrupted() {
        let down = ReservedPort::tcp();
        let address = format!("127.0.0.1:{}", down.text());
        let check = netkit(["tcp-client", "-z", "--json", "-i", "0.01", &address]);
        let mut check = check.any_stdout().any_stderr().code(1).start();
        check.receive_line("{*}\"event\":\"start\",\"v\":1{*}");
        check.receive_line("{*}\"event\":\"error\",\"seq\":1,{*}connection refused{*}");
        check.signal(Signal::INT);
        let printed = String::from_utf8(check.finish().stdout).unwrap();
        let summary: serde_json::Value =
            serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&summary["event"], &summary["received"]),
            (&"summary".into(), &0.into())
        );
        assert_eq!(summary["errors"], summary["transmitted"]);
    }

    #[test]
    fn what_there_was_no_time_for_has_a_reason_too() {
        let check = netkit(["tcp-client", "-z", "--deadline", "0.001", ASIDE, "1-10000"]);
        let log = check.any_stdout().any_stderr().any_code().run().stderr;
        let last = log.lines().last().unwrap();
        let pattern = "netkit: could not connect to {*}: no answer within 1ms";
        assert!(matches(pattern.as_bytes(), last.as_bytes()), "{last}");
    }

    #[test]
    fn options_of_a_session_are_refused() {
        netkit(["tcp-client", "-z", "-C", "127.0.0.1:9"])
            .stderr(
                "netkit: the argument '--check' cannot be used with '--crlf'; \
                 see 'netkit tcp-client -h'\n",
            )
            .code(2)
            .run();
        netkit(["tcp-client", "-c", "3", "127.0.0.1:9"])
            .stderr("netkit: -c needs -z\n")
            .code(2)
            .run();
        netkit(["tcp-client", "-z", "127.0.0.1", "9-1"])
            .stderr("netkit: '9-1' ends before it begins; write 1-9\n")
            .code(2)
            .run();
    }

    #[test]
    fn nobody_reads_on() {
        let listener = TcpListener::bind((ASIDE, 0)).unwrap();
        let open = listener.local_addr().unwrap().port();
        let ports = format!("{open},1-65535");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        netkit(["tcp-client", "-q", "-z", ASIDE, &ports])
            .stdout_to(writer)
            .code(141)
            .run();
    }
}
