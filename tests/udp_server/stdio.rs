//! `--service stdio`: the server prints datagrams and sends input to the first peer.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;

use rustix::process::Signal;

use super::is_wrong_usage;
use crate::harness::datagrams::{expect, expect_nothing, receive, send};
use crate::harness::{Process, Program, Terminal, mailbox, peer, udp_server};

fn stdio() -> Program {
    udp_server(["--service", "stdio"])
}

fn target_of(server: &Process) -> SocketAddr {
    let line = server.wait_for_line("Listening on {*}");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn all_datagrams_are_printed_and_input_goes_to_the_first_sender() {
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
fn neither_an_empty_datagram_nor_the_end_of_input_ends_the_server() {
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
fn a_server_whose_input_cannot_be_read_goes_on_printing() {
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let absent = "bad file descriptor; it counts as ended";
    let folder = File::open("/").unwrap();
    for (input, cause, code) in [(null, absent, 0), (folder, "is a directory", 2)] {
        let mut server = stdio().stdin_from(input).code(code).start();
        let target = target_of(&server);
        let peer = mailbox();
        send(&peer, "one", target);
        server.wait_for_line(&format!("netkit: could not read standard input: {cause}"));
        send(&peer, "two", target);
        server.receive("onetwo");
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
fn a_server_whose_input_has_ended_does_not_spin() {
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
fn a_terminal_gets_control_characters_only_with_raw() {
    let cases: [(&[&str], &[u8]); 2] = [
        (&[], b"a\\x1b[2J\\xc3\nb\n"),
        (&["--raw"], b"a\x1b[2J\xc3b\n"),
    ];
    for (options, shown) in cases {
        let mut terminal = Terminal::open();
        let arguments = ["--service", "stdio"].iter().chain(options).copied();
        let server = udp_server(arguments).stdout_to(terminal.device()).start();
        let target = target_of(&server);
        let peer = mailbox();
        // The first byte of a character whose second byte never comes.
        send(&peer, b"a\x1b[2J\xc3", target);
        send(&peer, "b\n", target);
        terminal.expect(shown);
        server.signal(Signal::TERM);
        server.finish();
        terminal.finish();
    }
}

#[test]
fn every_datagram_is_a_line_on_a_terminal_and_with_lines() {
    let mut terminal = Terminal::open();
    let cases: [(&[&str], &str); 3] = [
        (&[], "a\nb\n\n"),
        (&["--raw"], "ab\n"),
        (&["--lines"], "a\nb\n\n"),
    ];
    for (options, shown) in cases {
        let arguments = ["--service", "stdio"].iter().chain(options).copied();
        let server = udp_server(arguments).stdout_to(terminal.device()).start();
        let target = target_of(&server);
        for payload in ["a", "b\n", ""] {
            send(&mailbox(), payload, target);
        }
        terminal.expect(shown);
        server.signal(Signal::TERM);
        server.finish();
    }
    terminal.finish();
    let mut server = stdio().arg("--lines").start();
    let target = target_of(&server);
    send(&mailbox(), "in a pipe", target);
    server.receive("in a pipe\n");
}

#[test]
fn every_datagram_is_an_event_with_json() {
    let mut server = stdio().arg("--json").start();
    let target = target_of(&server);
    let port = target.port();
    server.receive_line(&format!(
        r#"{{"event":"start","unix_s":{{N}},"v":1,"address":"127.0.0.1","port":{port}}}"#
    ));
    let peer = mailbox();
    let port = peer.local_addr().unwrap().port();
    for (payload, data) in [
        (&b"a\n\x1b"[..], r#""size_bytes":3,"text":"a\n\u001b""#),
        (b"\xff", r#""size_bytes":1,"hex":"ff""#),
    ] {
        send(&peer, payload, target);
        server.receive_line(&format!(
            r#"{{"event":"datagram","unix_s":{{N}},"address":"127.0.0.1","port":{port},{data}}}"#
        ));
    }
}

#[test]
fn with_keep_open_input_goes_to_the_last_peer_heard() {
    let mut server = stdio().arg("-k").stdin_open().start();
    let target = target_of(&server);
    let (first, second) = (mailbox(), mailbox());
    for peer in [&first, &second, &first] {
        send(peer, "?", target);
        server.receive("?");
        server.send("!");
        expect(peer, "!");
    }
}

#[test]
fn newlines_become_crlf_with_crlf() {
    let server = stdio().arg("-C").stdin("a\nb\r\n").start();
    let target = target_of(&server);
    let peer = mailbox();
    send(&peer, "", target);
    expect(&peer, "a\r\nb\r\n");
}

#[test]
fn a_talk_that_is_idle_ends_well() {
    let mut server = stdio().args(["--idle-timeout", "0.3"]).start();
    let target = target_of(&server);
    send(&mailbox(), "a", target);
    server.receive("a");
    server.finish();
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
fn a_reader_that_reads_nothing_does_not_delay_a_signal() {
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
fn datagrams_that_arrived_before_the_signal_are_printed() {
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
fn options_for_stdio_are_refused_for_services_that_print_nothing() {
    for option in ["--raw", "-k", "--lines", "--json", "-C"] {
        is_wrong_usage(option, &format!("{option} needs -l or --service stdio"));
    }
    is_wrong_usage(
        "--idle-timeout 1",
        "--idle-timeout needs -l, --service stdio, -e or --sh-exec",
    );
}

#[test]
fn the_server_talks_to_netcat() {
    let mut server = stdio().stdin_open().start();
    let target = target_of(&server).port().to_string();
    if let Some(peer) = peer("nc", ["-u", "127.0.0.1", &target]) {
        let mut peer = peer.stdin_open().start();
        peer.send("from nc\n");
        server.receive("from nc\n");
        server.send("to nc\n");
        peer.receive("to nc\n");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_large_input_waits_for_a_peer_that_is_busy() {
    let input = crate::harness::random_bytes(2_000_000);
    let server = udp_server(["-vv", "--service", "stdio"]);
    let server = server.stdin(&input).start();
    let line = server.wait_for_line("{*}Listening on {*}");
    let address = line.split("Listening on ").nth(1).unwrap();
    let target: SocketAddr = address.split(' ').next().unwrap().parse().unwrap();
    let peer = mailbox();
    send(&peer, "", target);
    server.wait_for_line("{*}to take what it was sent{*}");
    let mut received = Vec::new();
    while received.len() < input.len() {
        received.extend(receive(&peer).0);
    }
    assert!(received == input);
}
