//! `netkit udp-server` beyond its answers: who is let in, what is written down, standard input,
//! programs and multicast.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use rustix::process::{Resource, Signal, getrlimit, setrlimit};

use crate::harness::{Server, mailbox, netkit, temporary_folder, udp_clients, udp_server};
use crate::udp::server::{ask, ask_from};
use crate::udp::{address, expect, expect_nothing, receive, send};

fn target(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}

/// Options that do nothing together are refused.
#[track_caller]
fn is_refused(words: &str, message: &str) {
    netkit(
        ["udp-server", "-p", "0"]
            .into_iter()
            .chain(words.split(' ')),
    )
    .stderr(format!("netkit: {message}\n"))
    .code(2)
    .run();
}

#[test]
fn a_thousand_peers_at_once_are_answered_each() {
    /// What even a small buffer of a socket holds, so that nothing is lost for want of room.
    const UNANSWERED: usize = 50;
    // Descriptors for them all: the usual limit is 1024.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let peers: Vec<UdpSocket> = (0..1000).map(|_| mailbox()).collect();
    for (service, [before, after]) in [("hello", ["Hello, ", "!"]), ("echo", ["", ""])] {
        let server = udp_server(["--service", service]).listen();
        let target = target(&server);
        let expect = |number: usize| expect(&peers[number], format!("{before}{number}{after}"));
        for (number, peer) in peers.iter().enumerate() {
            if let Some(earlier) = number.checked_sub(UNANSWERED) {
                assert_eq!(expect(earlier), target);
            }
            send(peer, number.to_string(), target);
        }
        for number in peers.len() - UNANSWERED..peers.len() {
            assert_eq!(expect(number), target);
        }
        server.stop();
    }
}

#[test]
fn the_short_help_fits_a_screen() {
    let help = netkit(["udp-server", "-h"]).any_stdout().run().stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(help.lines().count() <= 40, "{help}");
    assert!(help.contains("\nExamples:\n"), "{help}");
}

mod access {
    use super::*;

    #[test]
    fn who_is_denied_gets_no_answer_and_that_is_logged_once() {
        let client = mailbox();
        let source = address(&client);
        let server = udp_server(["--deny", "127.0.0.1", "-b", "127.0.0.1"])
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\n\
                 Bind UDP on 127.0.0.1:{{N}}...\n\
                 netkit: no answer to a datagram from {source}: the source is not allowed\n\
                 Received from 127.0.0.2:{{N}}.\n\
                 netkit: no answer to 3 datagrams in all: the source is not allowed\n"
            ))
            .listen();
        for _ in 0..3 {
            send(&client, "x", target(&server));
        }
        let other = UdpSocket::bind("127.0.0.2:0").unwrap();
        other
            .set_read_timeout(Some(crate::harness::DEADLINE))
            .unwrap();
        assert_eq!(ask_from(&other, &server, "x"), b"Hello, x!");
        server.stop();
        expect_nothing(&client);
    }

    #[test]
    fn the_denied_are_not_received_by_a_server_that_answers_nobody_either() {
        let client = mailbox();
        let server = udp_server(["--service", "discard", "--allow", "127.0.0.2"]).listen();
        send(&client, "x", target(&server));
        server.wait_for_line("netkit: no answer to a datagram from {*}: the source is not allowed");
        let log = server.stop().stderr;
        assert!(!log.contains("Received from"), "{log}");
    }

    #[test]
    fn files_are_read_again_on_sighup_and_one_that_is_wrong_changes_nothing() {
        let folder = temporary_folder();
        let file = folder.path().join("allowed");
        fs::write(&file, "127.0.0.1 # this host\n").unwrap();
        let server = udp_server(["--allow", &format!("@{}", file.display())]).listen();
        assert_eq!(ask(&server, "a"), b"Hello, a!");
        fs::write(&file, "10.0.0.0/33\n").unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line("netkit: {*}line 1{*}; what was read before holds");
        assert_eq!(ask(&server, "b"), b"Hello, b!");
        fs::write(&file, "192.0.2.0/24\n").unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line("Read the files of --allow and --deny again.");
        send(&mailbox(), "c", target(&server));
        server.wait_for_line("netkit: no answer to a datagram from {*}: the source is not allowed");
    }

    #[test]
    fn a_peer_that_is_none_is_an_error() {
        is_refused(
            "--allow 10.0.0.0/33",
            "'10.0.0.0/33' is not a peer; write a network (10.0.0.0/8, fe80::/10), an address, a \
             name or @FILE",
        );
    }
}

#[test]
fn without_an_address_a_server_listens_on_loopback_of_the_wanted_family() {
    for (option, ip) in [("-4", "127.0.0.1"), ("-6", "[::1]")] {
        for server in [udp_server([option]), crate::harness::tcp_server([option])] {
            let server = server.listen();
            assert_eq!(server.address(), format!("{ip}:{}", server.port()));
            server.stop();
        }
    }
}

#[cfg(target_os = "linux")]
mod addresses {
    use super::*;
    use crate::harness::DEADLINE;

    /// A client that hears nothing that does not come from `target`.
    pub fn connected(local: &str, target: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind(local).unwrap();
        client.connect(target).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client
    }

    /// What `client` gets for `x`.
    #[track_caller]
    pub fn answer(client: &UdpSocket) -> String {
        client.send(b"x").unwrap();
        let mut buffer = [0; 100];
        let size = client.recv(&mut buffer).expect("no answer");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    }

    #[test]
    fn a_server_for_any_address_answers_from_the_one_that_was_written_to() {
        let command = "echo $NETKIT_LOCAL_ADDR $NETKIT_LOCAL_PORT";
        let services: [&[&str]; 3] = [&[], &["--service", "echo"], &["--sh-exec", command]];
        for service in services {
            let any = ["-b", "any", "--join", "239.1.2.3%lo"]
                .iter()
                .chain(service);
            let server = udp_server(any.copied()).listen();
            let port = server.port();
            for (local, ip) in [
                ("127.0.0.1:0", "127.0.0.1"),
                ("127.0.0.1:0", "127.0.0.2"),
                ("127.0.0.3:0", "127.255.255.254"),
                ("[::1]:0", "::1"),
            ] {
                let client = connected(local, SocketAddr::new(ip.parse().unwrap(), port));
                let expected = match service {
                    [] => "Hello, x!".to_owned(),
                    ["--service", _] => "x".to_owned(),
                    _ => format!("{ip} {port}\n"),
                };
                assert_eq!(answer(&client), expected, "{service:?} {ip}");
            }
            server.stop();
        }
    }

    #[test]
    fn one_peer_has_a_program_for_each_address_that_it_writes_to() {
        let server = udp_server(["-b", "0.0.0.0", "--sh-exec", "exec cat"]).listen();
        let client = mailbox();
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 1]] {
            let target = SocketAddr::new(ip.into(), server.port());
            send(&client, "x", target);
            assert_eq!(receive(&client).1, target);
        }
        let log = server.stop().stderr;
        assert_eq!(log.matches("Started").count(), 2, "{log}");
    }

    #[test]
    fn standard_input_comes_from_the_address_that_was_written_to() {
        let mut server = udp_server(["-b", "0.0.0.0", "--service", "stdio"])
            .stdin_open()
            .listen();
        let client = mailbox();
        let target = SocketAddr::new([127, 0, 0, 2].into(), server.port());
        send(&client, "there", target);
        server.receive("there");
        server.send("and back");
        assert_eq!(expect(&client, "and back"), target);
        server.signal(Signal::TERM);
        server.finish();
    }

    #[test]
    fn what_has_no_hop_left_for_an_answer_gets_none() {
        for service in [["--service", "echo"], ["-e", "/bin/cat"]] {
            for bind in ["127.0.0.1", "0.0.0.0"] {
                let server = udp_server(["-b", bind].into_iter().chain(service)).listen();
                let target = SocketAddr::new([127, 0, 0, 1].into(), server.port());
                let client = connected("127.0.0.1:0", target);
                client.set_ttl(1).unwrap();
                client.send(b"x").unwrap();
                server.wait_for_line(
                    "netkit: no answer to a datagram from {*}: its hop limit is used up: two \
                     servers answering each other",
                );
                client.set_ttl(2).unwrap();
                assert_eq!(answer(&client), "x");
                server.stop();
            }
        }
    }
}

mod log {
    use super::*;

    fn event(line: &str) -> serde_json::Value {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_refusal_is_an_event_and_so_is_how_many_there_were() {
        let client = mailbox();
        let arguments = ["--log-format", "json", "--deny", "0.0.0.0/0"];
        let server = udp_server(arguments).start();
        let line = event(&server.wait_for_line("{*}Listening on{*}"));
        let target = line["address"].as_str().unwrap().parse().unwrap();
        send(&client, "a", target);
        send(&client, "b", target);
        let line = event(&server.wait_for_line("{*}no answer to a datagram{*}"));
        assert_eq!(line["event"], "refuse");
        assert_eq!(line["peer"], address(&client));
        assert_eq!(line["reason"], "the source is not allowed");
        assert_eq!(line["level"], "WARN");
        server.signal(Signal::TERM);
        let log = server.finish().stderr;
        let line = event(log.lines().last().unwrap());
        assert_eq!(line["event"], "refuse");
        assert_eq!(line["count"], 2);
    }

    #[test]
    fn a_program_is_an_event_when_it_starts_and_when_it_ends() {
        let client = mailbox();
        let arguments = ["--log-format", "json", "--sh-exec", "read x"];
        let server = udp_server(arguments).start();
        let line = event(&server.wait_for_line("{*}Listening on{*}"));
        let target = line["address"].as_str().unwrap().parse().unwrap();
        send(&client, "a\n", target);
        let start = event(&server.wait_for_line("{*}Started{*}"));
        let end = event(&server.wait_for_line("{*}Ended{*}"));
        for (line, name) in [(&start, "start"), (&end, "end")] {
            assert_eq!(line["event"], name);
            assert_eq!(line["peer"], address(&client));
            assert_eq!(line["pid"], start["pid"]);
        }
        assert_eq!(end["reason"], "it ended");
        assert!(end["duration_ms"].is_u64());
    }

    #[test]
    fn a_limit_for_answers_is_refused_where_there_are_none() {
        is_refused(
            "--service discard --rate-limit 5",
            "--rate-limit needs a service that answers",
        );
    }
}

mod watching {
    use super::*;

    #[test]
    fn a_record_has_every_datagram_with_the_number_of_its_peer() {
        let folder = temporary_folder();
        let file = folder.path().join("record");
        let server = udp_server(["--record", file.to_str().unwrap()]).listen();
        let (one, other) = (mailbox(), mailbox());
        ask_from(&one, &server, "a\n");
        ask_from(&other, &server, "");
        ask_from(&one, &server, "b");
        server.wait_for_line(&format!("Writing down {} as #1.", address(&one)));
        server.wait_for_line(&format!("Writing down {} as #2.", address(&other)));
        server.stop();
        let record = fs::read_to_string(&file).unwrap();
        let mut lines = record.lines();
        let mut heads = Vec::new();
        while let Some(line) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            if let [number, sign, _, _] = words[..]
                && number.starts_with('#')
            {
                heads.push(format!("{number} {sign} {}", lines.next().unwrap()));
            }
        }
        assert_eq!(
            heads,
            [
                "#1 < a",
                "#1 > Hello, a",
                "#2 < ",
                "#2 > Hello, !",
                "#1 < b",
                "#1 > Hello, b!"
            ]
        );
    }

    #[test]
    fn a_dump_is_on_standard_error_or_in_a_file() {
        let folder = temporary_folder();
        let file = folder.path().join("dump");
        let server = udp_server(["-x", file.to_str().unwrap()]).listen();
        ask(&server, "");
        server.stop();
        let dump = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = dump.lines().collect();
        assert!(
            lines[0].starts_with("#1 < ") && lines[0].ends_with("Z 00000000:"),
            "{dump}"
        );
        assert!(
            lines[1].ends_with(" 4865 6c6c 6f2c 2021                      Hello, !"),
            "{dump}"
        );
        let server = udp_server(["-x"]).listen();
        ask(&server, "x");
        server.wait_for_line("#1 < {*}Z 00000000: 78 {*} x");
        server.wait_for_line("#1 > {*}Z 00000000: 4865 6c6c 6f2c 2078 21 {*} Hello, x!");
    }

    #[test]
    fn what_was_refused_is_not_written_down() {
        let folder = temporary_folder();
        let file = folder.path().join("record");
        let server = udp_server(["--record", file.to_str().unwrap(), "--deny", "127.0.0.1"]);
        let server = server.listen();
        send(&mailbox(), "x", target(&server));
        server.wait_for_line("netkit: no answer to a datagram {*}");
        server.stop();
        assert_eq!(fs::read(&file).unwrap(), b"");
    }

    #[test]
    fn a_record_that_cannot_be_written_is_said_and_everybody_still_answered() {
        let server = udp_server(["--record", "/dev/full"]).listen();
        assert_eq!(ask(&server, "a"), b"Hello, a!");
        assert_eq!(ask(&server, "b"), b"Hello, b!");
        let log = server.stop().stderr;
        let said = "netkit: could not write the dump or the record: no space left on device\n";
        assert_eq!(log.matches(said).count(), 1, "{log}");
        assert!(
            log.ends_with("netkit: 4 datagrams in all could not be written down\n"),
            "{log}"
        );
        netkit(["udp-server", "-p", "0", "--record", "/nowhere/record"])
            .stderr("netkit: could not create /nowhere/record: no such file or directory\n")
            .code(2)
            .run();
    }
}

mod stdio {
    use std::fs::{File, OpenOptions};

    use super::*;
    use crate::harness::{Process, Terminal};

    fn stdio() -> crate::harness::Program {
        udp_server(["--service", "stdio"])
    }

    fn target_of(server: &Process) -> SocketAddr {
        let line = server.wait_for_line("Listening on {*}");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn everything_is_printed_and_input_goes_to_the_first_who_sends() {
        let mut server = stdio().stdin_open().start();
        let target = target_of(&server);
        let (first, second) = (mailbox(), mailbox());
        server.send("typed early");
        send(&first, "one\n", target);
        server.receive("one\n");
        assert_eq!(expect(&first, "typed early"), target);
        send(&second, "two", target);
        server.receive("two");
        server.send("a\nb\n");
        expect(&first, "a\nb\n");
        server.signal(Signal::INT);
        server.finish();
        expect_nothing(&second);
    }

    #[test]
    fn neither_an_empty_datagram_nor_the_end_of_input_is_an_end() {
        let mut server = stdio().stdin("only").start();
        let target = target_of(&server);
        let peer = mailbox();
        send(&peer, "", target);
        expect(&peer, "only");
        send(&peer, "", target);
        send(&peer, "still here", target);
        server.receive("still here");
        server.signal(Signal::TERM);
        let log = server.finish().stderr;
        assert_eq!(log.matches("Received from").count(), 3, "{log}");
        assert_eq!(log.matches("Talking to").count(), 1, "{log}");
    }

    #[test]
    fn an_end_of_input_costs_no_time() {
        let mut server = stdio().start();
        let target = target_of(&server);
        send(&mailbox(), "a", target);
        server.receive("a");
        send(&mailbox(), "b", target);
        server.receive("b");
        #[cfg(target_os = "linux")]
        assert!(server.cpu_time() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn a_large_input_is_cut_where_datagrams_end() {
        let server = stdio().stdin(vec![b'x'; 200_000]).start();
        let target = target_of(&server);
        let peer = mailbox();
        socket2::SockRef::from(&peer)
            .set_recv_buffer_size(1 << 20)
            .unwrap();
        send(&peer, "", target);
        let mut received = 0;
        while received < 200_000 {
            let (datagram, source) = receive(&peer);
            assert_eq!(source, target);
            received += datagram.len();
        }
        assert_eq!(received, 200_000);
        drop(server);
    }

    #[test]
    fn a_terminal_is_shown_no_control_characters_save_with_raw() {
        let cases: [(&[&str], &[u8]); 2] = [
            (&[], b"a\\x1b[2J\\xc3b\n"),
            (&["--raw"], b"a\x1b[2J\xc3b\n"),
        ];
        for (options, shown) in cases {
            let mut terminal = Terminal::open();
            let arguments = ["--service", "stdio"].iter().chain(options).copied();
            let server = udp_server(arguments).stdout_to(terminal.device()).start();
            let target = target_of(&server);
            let peer = mailbox();
            // The first byte of a character whose second never comes.
            send(&peer, b"a\x1b[2J\xc3", target);
            send(&peer, "b\n", target);
            terminal.expect(shown);
            server.signal(Signal::TERM);
            server.finish();
            terminal.finish();
        }
    }

    #[test]
    fn a_reader_that_leaves_ends_the_server_quietly() {
        let (reader, writer) = std::io::pipe().unwrap();
        let server = stdio().stdout_to(writer).code(141).start();
        target_of(&server);
        drop(reader);
        server.finish();
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let server = stdio().stdout_to(full).code(2).start();
        let target = target_of(&server);
        send(&mailbox(), "x", target);
        let log = server.finish().stderr;
        let said = "netkit: could not write standard output: no space left on device\n";
        assert!(log.ends_with(said), "{log}");
    }

    #[test]
    fn a_reader_that_reads_nothing_holds_up_no_signal() {
        let (reader, writer) = std::io::pipe().unwrap();
        let server = udp_server(["--service", "stdio", "--drain-timeout", "0.2"])
            .stdout_to(writer)
            .code(4)
            .start();
        let target = target_of(&server);
        for _ in 0..4 {
            send(&mailbox(), vec![b'x'; 60_000], target);
        }
        server.wait_for_lines("Received from {*}", 2);
        server.signal(Signal::TERM);
        let log = server.finish().stderr;
        assert!(
            log.ends_with("netkit: standard output took no more data in time\n"),
            "{log}"
        );
        drop(reader);
    }

    #[test]
    fn what_has_arrived_before_the_signal_is_printed() {
        let mut server = stdio().start();
        let target = target_of(&server);
        server.signal(Signal::STOP);
        server.wait_until_stopped();
        for payload in ["a", "b", "c"] {
            send(&mailbox(), payload, target);
        }
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        server.receive("abc");
        server.finish();
    }

    #[test]
    fn raw_is_refused_where_nothing_is_printed() {
        is_refused("--raw", "--raw needs --service stdio");
    }

    #[test]
    fn netcat_is_talked_to() {
        let mut server = stdio().stdin_open().start();
        let target = target_of(&server).port().to_string();
        if let Some(peer) = crate::harness::peer("nc", ["-u", "127.0.0.1", &target]) {
            let mut peer = peer.stdin_open().start();
            peer.send("from nc\n");
            server.receive("from nc\n");
            server.send("to nc\n");
            peer.receive("to nc\n");
        }
    }
}

mod programs {
    use std::time::Duration;

    use rustix::process::{Pid, test_kill_process};

    use super::*;
    use crate::harness::{DEADLINE, Program};

    fn running(command: &str) -> Program {
        udp_server(["--sh-exec", command])
    }

    /// The process that was started for the `count`th peer.
    #[cfg(target_os = "linux")]
    fn children(server: &Server) -> Vec<u32> {
        let pid = server.pid();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    #[cfg(target_os = "linux")]
    fn descriptors(server: &Server) -> usize {
        fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    }

    /// Waits until a condition that no event tells of has come true.
    #[track_caller]
    fn until(condition: impl Fn() -> bool) {
        let end = std::time::Instant::now() + DEADLINE;
        while !condition() {
            assert!(
                std::time::Instant::now() < end,
                "this should have come true"
            );
            std::thread::yield_now();
        }
    }

    fn pid(text: &[u8]) -> Pid {
        let text = String::from_utf8_lossy(text);
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    #[test]
    fn every_peer_has_a_process_of_its_own_and_keeps_it() {
        let server =
            running("n=0; while read line; do n=$((n+1)); echo \"$n $line\"; done").listen();
        let (one, other) = (mailbox(), mailbox());
        assert_eq!(ask_from(&one, &server, "a\n"), b"1 a\n");
        assert_eq!(ask_from(&one, &server, "b\n"), b"2 b\n");
        assert_eq!(ask_from(&other, &server, "c\n"), b"1 c\n");
        assert_eq!(ask_from(&one, &server, "d\n"), b"3 d\n");
        server.wait_for_line(&format!("Started '{{*}}' for {}.", address(&one)));
        let log = server.stop().stderr;
        assert_eq!(log.matches("Started").count(), 2, "{log}");
        assert_eq!(log.matches("it ended").count(), 2, "{log}");
    }

    #[test]
    fn a_program_has_its_arguments_and_knows_who_talks_to_it() {
        let script = "echo \"$1 $NETKIT_PROTO $NCAT_PROTO $NETKIT_REMOTE_ADDR:$NETKIT_REMOTE_PORT \
                      $NCAT_LOCAL_ADDR:$NETKIT_LOCAL_PORT\"";
        let server = udp_server(["-e", "/bin/sh", "-c", script, "x", "-p"]).listen();
        let client = mailbox();
        let answer = ask_from(&client, &server, "");
        let expected = format!("-p UDP UDP {} {}\n", address(&client), server.address());
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }

    #[test]
    fn datagrams_of_any_size_go_both_ways_whole() {
        let server = running("exec cat").listen();
        let client = mailbox();
        for size in [1, 4096, 4097, 30_000, 65_507] {
            let payload = crate::harness::random_bytes(size);
            send(&client, &payload, target(&server));
            // cat(1) reads and writes as it likes.
            let mut answer = Vec::new();
            while answer.len() < size {
                answer.extend(receive(&client).0);
            }
            assert!(answer == payload, "{size}");
        }
    }

    #[test]
    fn a_program_that_ended_is_reaped_and_started_again_for_the_next_datagram() {
        let server = running("echo $$; read line; echo end of $line; exit 3").listen();
        let client = mailbox();
        let first = pid(&ask_from(&client, &server, ""));
        send(&client, "a\n", target(&server));
        expect(&client, "end of a\n");
        server.wait_for_line(&format!(
            "Ended {{*}} for {}: it ended with exit status: 3.",
            address(&client)
        ));
        // Not even as a zombie.
        assert!(test_kill_process(first).is_err());
        let second = pid(&ask_from(&client, &server, ""));
        assert_ne!(first, second);
    }

    #[test]
    fn what_a_program_prints_last_is_sent() {
        let server = running("cat >/dev/null & echo one; exec >&-; wait").listen();
        assert_eq!(ask(&server, "x"), b"one\n");
        for _ in 0..20 {
            let server = running("read x; echo last; exit").listen();
            assert_eq!(ask(&server, "x\n"), b"last\n");
        }
    }

    #[test]
    fn a_program_that_prints_nothing_gets_all_datagrams() {
        let folder = temporary_folder();
        let server = running("exec cat >>log")
            .current_dir(folder.path())
            .listen();
        let client = mailbox();
        for line in ["a\n", "b\n", "c\n"] {
            send(&client, line, target(&server));
        }
        server.wait_for_lines("Received from {*}", 3);
        let log = server.stop().stderr;
        assert_eq!(log.matches("Started").count(), 1, "{log}");
        assert_eq!(fs::read(folder.path().join("log")).unwrap(), b"a\nb\nc\n");
    }

    #[test]
    fn a_program_that_reads_nothing_stops_nobody_else() {
        // The first peer's program is deaf.
        let server =
            running("read x; [ $x = deaf ] && exec sleep 1000; echo $x; exec cat").listen();
        let (deaf, other) = (mailbox(), mailbox());
        send(&deaf, "deaf\n", target(&server));
        for _ in 0..4 {
            send(&deaf, vec![b'x'; 50_000], target(&server));
            // It has been dealt with when another is answered.
            let payload = "y\n";
            assert_eq!(ask_from(&other, &server, payload), payload.as_bytes());
        }
        let line = format!(
            "netkit: no answer to a datagram from {}: its program does not read what is sent to it",
            address(&deaf)
        );
        server.wait_for_line(&line);
        let stopped = server.stop();
        // A pipe took one of them, and the beginning of the next.
        assert!(
            stopped
                .stderr
                .contains("netkit: no answer to 2 datagrams in all: its"),
            "{stopped:?}"
        );
        assert!(stopped.took < Duration::from_secs(10), "{stopped:?}");
    }

    #[test]
    fn a_program_that_closes_its_input_is_given_no_more() {
        let server = running("exec <&-; echo closed; exec sleep 1000").listen();
        let client = mailbox();
        assert_eq!(ask_from(&client, &server, ""), b"closed\n");
        send(&client, "x", target(&server));
        server.wait_for_line("netkit: no answer to a datagram {*}: its program does not read {*}");
        #[cfg(target_os = "linux")]
        assert!(server.cpu_time() < Duration::from_secs(1));
        server.stop();
    }

    #[test]
    fn a_program_that_prints_without_end_is_ended_when_its_peer_is_silent() {
        let command = "while :; do echo x; sleep 0.05; done";
        let server = udp_server(["--idle-timeout", "0.3", "--sh-exec", command]).listen();
        let client = mailbox();
        ask_from(&client, &server, "");
        server.wait_for_line(&format!("Ended {{*}} for {}: idle.", address(&client)));
    }

    #[test]
    fn an_idle_program_is_ended_with_all_that_it_started() {
        let command = "sleep 1000 & echo $!; trap '' TERM; exec sleep 1000";
        let server = udp_server(["--idle-timeout", "0.2", "--sh-exec", command]).listen();
        let client = mailbox();
        let started = pid(&ask_from(&client, &server, ""));
        server.wait_for_line(&format!("Ended {{*}} for {}: idle.", address(&client)));
        until(|| test_kill_process(started).is_err());
        #[cfg(target_os = "linux")]
        until(|| children(&server).is_empty());
        server.stop();
    }

    #[test]
    fn datagrams_keep_a_program_alive() {
        let server = udp_server(["--idle-timeout", "2", "--sh-exec", "echo $$; exec cat"]).listen();
        let client = mailbox();
        ask_from(&client, &server, "");
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            assert_eq!(ask_from(&client, &server, "x"), b"x");
        }
        let log = server.stop().stderr;
        assert_eq!(log.matches("Started").count(), 1);
    }

    #[test]
    fn over_the_cap_nobody_gets_a_program_until_one_has_ended() {
        let server = udp_server(["--max-peers", "2", "--sh-exec", "exec cat"]).listen();
        let (one, two, three) = (mailbox(), mailbox(), mailbox());
        ask_from(&one, &server, "a");
        ask_from(&two, &server, "b");
        send(&three, "c", target(&server));
        server.wait_for_line(&format!(
            "netkit: no answer to a datagram from {}: programs run for as many peers as --max-peers \
             allows",
            address(&three)
        ));
        assert_eq!(ask_from(&one, &server, "d"), b"d");
        #[cfg(target_os = "linux")]
        {
            let child = i32::try_from(children(&server)[0]).unwrap();
            rustix::process::kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
            server.wait_for_line("Ended {*}: it ended with signal: 9 (SIGKILL).");
            assert_eq!(ask_from(&three, &server, "e"), b"e");
        }
        server.stop();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thousand_peers_have_no_more_programs_than_the_cap_and_all_are_reaped() {
        const CAP: usize = 100;
        let server = udp_server(["--max-peers", "100", "-e", "/bin/cat"]).listen();
        let target = target(&server);
        let first: Vec<UdpSocket> = (0..CAP).map(|_| mailbox()).collect();
        for peer in &first {
            assert_eq!(ask_from(peer, &server, "x"), b"x");
        }
        let programs = children(&server);
        assert_eq!(programs.len(), CAP);
        for peer in first.iter().cycle().take(18) {
            let others: Vec<UdpSocket> = (0..50).map(|_| mailbox()).collect();
            for other in &others {
                send(other, "y", target);
            }
            // All before it have been dealt with.
            assert_eq!(ask_from(peer, &server, "z"), b"z");
            assert_eq!(children(&server), programs);
            others.iter().for_each(expect_nothing);
        }
        let log = server.stop().stderr;
        assert_eq!(log.matches("Started").count(), CAP, "{log}");
        assert_eq!(log.matches("Ended").count(), CAP, "{log}");
        assert!(
            log.contains("netkit: no answer to 900 datagrams in all: programs run for"),
            "{log}"
        );
        for program in programs {
            let program = Pid::from_raw(i32::try_from(program).unwrap()).unwrap();
            assert!(test_kill_process(program).is_err());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn many_programs_leave_neither_zombies_nor_descriptors() {
        let server = running("read x; echo $x").listen();
        ask(&server, "x\n");
        server.wait_for_lines("Ended {*}", 1);
        until(|| children(&server).is_empty());
        let before = descriptors(&server);
        let clients: Vec<UdpSocket> = (0..100).map(|_| mailbox()).collect();
        for client in &clients {
            send(client, "y\n", target(&server));
        }
        for client in &clients {
            expect(client, "y\n");
        }
        server.wait_for_lines("Ended {*}", 101);
        until(|| children(&server).is_empty());
        // They are closed right after it is said.
        until(|| descriptors(&server) <= before);
    }

    #[test]
    fn a_program_inherits_nothing_but_its_streams() {
        let command = "ls /dev/fd | tr '\\n' ' '";
        let server = running(command).listen();
        // Whoever runs the tests may have left something open as well.
        let direct = crate::harness::program("/bin/sh", ["-c", command]);
        let direct = direct.stdin("").any_stdout().run().stdout;
        ask(&server, "");
        assert_eq!(
            ask(&server, "").escape_ascii().to_string(),
            direct.escape_ascii().to_string()
        );
    }

    #[test]
    fn on_a_signal_answers_that_are_due_still_come() {
        let server = running("while read x; do echo got $x; done; echo the end").listen();
        let client = mailbox();
        ask_from(&client, &server, "a\n");
        server.signal(Signal::STOP);
        server.wait_until_stopped();
        send(&client, "b\n", target(&server));
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        let mut answers = Vec::new();
        while !answers.ends_with(b"the end\n") {
            answers.extend(receive(&client).0);
        }
        assert_eq!(answers, b"got b\nthe end\n");
        server.finish();
    }

    #[test]
    fn on_a_signal_a_program_that_does_not_end_is_killed_in_time() {
        let command = "trap '' TERM; echo $$; while :; do sleep 1000; done";
        let server = udp_server(["--drain-timeout", "0.5", "--sh-exec", command]).listen();
        let program = pid(&ask(&server, ""));
        let begin = std::time::Instant::now();
        server.stop();
        assert!(begin.elapsed() >= Duration::from_millis(500));
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(test_kill_process(program).is_err());
    }

    #[test]
    fn a_stopped_program_is_ended_too() {
        let server = udp_server(["--drain-timeout", "0.5", "--sh-exec", "echo $$; exec cat"]);
        let server = server.listen();
        let program = pid(&ask(&server, ""));
        rustix::process::kill_process(program, Signal::STOP).unwrap();
        server.stop();
        assert!(test_kill_process(program).is_err());
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let folder = temporary_folder();
        let file = folder.path().join("text");
        fs::write(&file, "").unwrap();
        let path = std::env::var("PATH").unwrap();
        let cases = [
            (
                "/no/such/program",
                "/no/such/program: no such file or directory",
            ),
            (
                "no-such-program",
                "no-such-program: no such file or directory",
            ),
            ("", "'': no such file or directory"),
            ("/", "/: is a directory"),
            ("./text", "./text: permission denied"),
            ("text", "text: permission denied"),
        ];
        for (program, message) in cases {
            netkit(["udp-server", "-p", "0", "-e", program])
                .current_dir(folder.path())
                .env("PATH", format!("{path}:{}", folder.path().display()))
                .stderr(format!("netkit: could not run {message}\n"))
                .code(2)
                .run();
        }
        drop(udp_server(["-e", "cat"]).listen());
    }

    #[test]
    fn what_cannot_be_run_any_more_is_said_once_and_ends_nothing() {
        let folder = temporary_folder();
        let file = folder.path().join("program");
        std::os::unix::fs::symlink("/bin/cat", &file).unwrap();
        let client = mailbox();
        let source = address(&client);
        let server = udp_server(["-e", "./program"])
            .current_dir(folder.path())
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\nBind UDP on 127.0.0.1:{{N}}...\n\
                 Received from {source}.\n\
                 netkit: could not run ./program for {source}: no such file or directory\n\
                 Received from {source}.\n\
                 netkit: 2 datagrams in all could not be received or answered\n"
            ))
            .listen();
        fs::remove_file(&file).unwrap();
        send(&client, "a", target(&server));
        send(&client, "b", target(&server));
        server.wait_for_lines("Received from {*}", 2);
        server.stop();
    }

    #[test]
    fn clients_of_others_talk_to_a_program() {
        let server = udp_server(["-e", "/bin/cat"]).listen();
        for mut client in udp_clients(server.port()) {
            client.send("there\n");
            client.receive("there\n");
            client.send("and back\n");
            client.receive("and back\n");
        }
    }

    #[test]
    fn a_program_talks_over_ipv6_too() {
        let command = "echo $NETKIT_REMOTE_ADDR $NCAT_PROTO";
        let server = udp_server(["-b", "::1", "--sh-exec", command]).listen();
        netkit(["udp-client", &server.address(), ""])
            .stdout("::1 UDP\n\n")
            .run();
    }

    #[test]
    fn options_for_programs_are_refused_without_one() {
        let see = "see 'netkit udp-server -h'";
        for option in ["--idle-timeout 5", "--max-peers 5"] {
            let name = option.split(' ').next().unwrap();
            is_refused(option, &format!("{name} needs -e or --sh-exec"));
        }
        is_refused(
            "--sh-exec x --service echo",
            &format!(
                "the argument '--sh-exec <COMMAND>' cannot be used with '--service <NAME>'; {see}"
            ),
        );
        is_refused(
            "--sh-exec x -e y",
            &format!(
                "the argument '--sh-exec <COMMAND>' cannot be used with \
                 '--exec <PROGRAM> [ARG]...'; {see}"
            ),
        );
    }
}

mod multicast {
    use std::net::Ipv4Addr;

    use socket2::SockRef;

    use super::*;

    /// Sends to groups by the loopback interface.
    fn sender() -> UdpSocket {
        let sender = mailbox();
        SockRef::from(&sender)
            .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
            .unwrap();
        sender
    }

    #[test]
    fn all_receivers_on_a_machine_join_a_group_on_the_same_port() {
        // First the one that needs the port on all addresses.
        let other = udp_server(["-b", "any", "--join", "239.9.9.9%lo"]).listen();
        let port = other.port();
        let [first, second] = [(); 2].map(|()| {
            netkit(["udp-server", "--join", "239.1.2.3%lo", "-p"])
                .arg(port.to_string())
                .any_stderr()
                .listen()
        });
        let sender = sender();
        send(&sender, "x", SocketAddr::new([239, 1, 2, 3].into(), port));
        for _ in 0..2 {
            assert_eq!(receive(&sender).0, b"Hello, x!");
        }
        for server in [first, second] {
            let log = server.stop().stderr;
            assert_eq!(log.matches("Received from").count(), 1, "{log}");
        }
        // Nobody else takes what is not sent to a group.
        send(&sender, "y", SocketAddr::new([127, 0, 0, 1].into(), port));
        assert_eq!(receive(&sender).0, b"Hello, y!");
        let log = other.stop().stderr;
        assert_eq!(log.matches("Received from").count(), 1, "{log}");
    }

    #[test]
    fn a_group_that_the_given_address_does_not_hear_has_a_socket_of_its_own() {
        let arguments = [
            "-b",
            "127.0.0.1",
            "--join",
            "239.1.2.3%lo",
            "--join",
            "239.1.2.3%lo",
        ];
        let server = udp_server(arguments).listen();
        let addresses = server.addresses(2);
        let group = SocketAddr::new([239, 1, 2, 3].into(), server.port());
        assert_eq!(addresses, [target(&server), group]);
        let sender = sender();
        for target in addresses {
            send(&sender, "x", target);
            assert_eq!(receive(&sender).0, b"Hello, x!");
        }
        server.wait_for_line("netkit: every host that can reach 239.1.2.3 can send to it");
        server.stop();
        expect_nothing(&sender);
    }

    #[test]
    fn what_cannot_be_joined_is_an_error() {
        let see = "see 'netkit udp-server -h'";
        is_refused(
            "--join 10.0.0.1",
            &format!(
                "invalid value '10.0.0.1' for '--join <GROUP[%INTERFACE]>': '10.0.0.1' is not a \
                 multicast group; write one of 224.0.0.0/4 or ff00::/8, as in 239.1.2.3, \
                 239.1.2.3%eth0 or ff02::123%eth0; {see}"
            ),
        );
        is_refused(
            "--join ff02::123",
            &format!(
                "invalid value 'ff02::123' for '--join <GROUP[%INTERFACE]>': 'ff02::123' is a \
                 group of one link; write the interface too: ff02::123%eth0; {see}"
            ),
        );
        is_refused(
            "--join 239.1.2.3%nowhere",
            "could not join 239.1.2.3%nowhere: this machine has no interface 'nowhere'",
        );
    }
}

#[cfg(target_os = "linux")]
mod privileged {
    use std::net::{IpAddr, SocketAddrV6};

    use rustix::net::netdevice::name_to_index;

    use super::*;
    use crate::harness::DEADLINE;
    use crate::harness::namespace::{Host, in_namespace};

    #[test]
    #[ignore = "needs root"]
    fn a_group_without_a_route_needs_an_interface() {
        in_namespace(|| {
            netkit(["udp-server", "-p", "9999", "--join", "239.1.2.3"])
                .stderr(
                    "netkit: could not listen on 239.1.2.3:9999: --join 239.1.2.3: no route leads \
                     there; name an interface: 239.1.2.3%eth0\n",
                )
                .code(2)
                .run();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn any_is_said_to_be_open_to_all() {
        in_namespace(|| {
            let server = udp_server(["-b", "any"]).listen();
            server.wait_for_line(
                "netkit: every host that can reach this machine can send to it: it listens on all \
                 its addresses",
            );
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_host_with_many_addresses_answers_from_the_one_that_was_written_to() {
        in_namespace(|| {
            let host = Host::connect();
            crate::harness::namespace::ip(&format!(
                "-n {} address add 192.0.2.3/24 dev far",
                host.name()
            ));
            for service in ["hello", "echo"] {
                let options = ["-b", "any", "--service", service];
                let server = udp_server(options).on(&host).listen();
                let near = name_to_index(mailbox(), "near").unwrap();
                // From a global address to one of the link too.
                for (local, ip) in [
                    ("192.0.2.1:0", "192.0.2.2"),
                    ("192.0.2.1:0", "192.0.2.3"),
                    ("[2001:db8::1]:0", "2001:db8::2"),
                    ("[::]:0", "fe80::2"),
                    ("[2001:db8::1]:0", "fe80::2"),
                ] {
                    let target = with_zone(ip, near, server.port());
                    let answer = addresses::answer(&addresses::connected(local, target));
                    assert!(answer.contains('x'), "{ip}: {answer}");
                }
                let broadcast = UdpSocket::bind("192.0.2.1:0").unwrap();
                broadcast.set_broadcast(true).unwrap();
                broadcast.set_read_timeout(Some(DEADLINE)).unwrap();
                send(&broadcast, "x", with_zone("192.0.2.255", 0, server.port()));
                assert_eq!(
                    receive(&broadcast).1,
                    with_zone("192.0.2.2", 0, server.port())
                );
                server.stop();
            }
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn one_host_takes_neither_all_programs_nor_what_it_has_not_asked_for() {
        in_namespace(|| {
            let host = Host::connect();
            let command = "read x; [ $x = flood ] && exec yes; exec cat";
            let server = udp_server(["-b", "192.0.2.2", "--max-peers", "4", "--sh-exec", command]);
            let server = server.on(&host).listen();
            let clients = [(); 4].map(|()| addresses::connected("192.0.2.1:0", target(&server)));
            for client in &clients {
                client.send(b"flood\n").unwrap();
            }
            let last = address(&clients[3]);
            server.wait_for_line(&format!(
                "netkit: no answer to a datagram from {last}: its host has its share of \
                 --max-peers"
            ));
            server.wait_for_line(
                "netkit: no answer to a datagram from {*}: its program has sent all that it may \
                 before it is heard again",
            );
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn programs_that_take_their_time_to_end_count_as_those_of_their_host() {
        in_namespace(|| {
            let host = Host::connect();
            let options = [
                "-b",
                "192.0.2.2",
                "--max-peers",
                "4",
                "--idle-timeout",
                "0.1",
            ];
            let command = ["--sh-exec", "trap '' TERM; exec sleep 60"];
            let server = udp_server(options.into_iter().chain(command));
            let server = server.on(&host).listen();
            let refusal = (0..100).find_map(|_| {
                let client = addresses::connected("192.0.2.1:0", target(&server));
                client.send(b"x").unwrap();
                // Its program has been told to end, or it gets none.
                let line = server.wait_for_line(&format!("{{*}} {}: {{*}}", address(&client)));
                line.contains("no answer").then_some(line)
            });
            let refusal = refusal.unwrap();
            assert!(
                refusal.ends_with("its host has its share of --max-peers"),
                "{refusal}"
            );
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn two_servers_of_echoes_that_are_set_on_each_other_stop() {
        in_namespace(|| {
            for (one, other) in [
                (["--service", "echo"], ["--service", "echo"]),
                (["--service", "echo"], ["-e", "/bin/cat"]),
                (["-e", "/bin/cat"], ["-e", "/bin/cat"]),
            ] {
                let [one, other] = [one, other].map(|options| udp_server(options).listen());
                crate::udp::forge(&other.address(), &one.address(), b"x");
                // The first had 64 to go, and each hears of every other one.
                other.wait_for_line(
                    "netkit: no answer to a datagram {*}: its hop limit is used {*}",
                );
                for server in [one, other] {
                    let log = server.stop().stderr;
                    assert!(
                        (31..=32).contains(&log.matches("Received from").count()),
                        "{log}"
                    );
                }
            }
        });
    }

    fn with_zone(ip: &str, zone: u32, port: u16) -> SocketAddr {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, zone).into(),
        }
    }
}
