//! Standard output that is a terminal, is full, or has no reader.

use std::fs::OpenOptions;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::datagrams::{address, expect, receive, send};
use crate::harness::{DEADLINE, ESCAPED, Process, Terminal, mailbox, netkit, udp_server};

#[test]
fn a_reader_that_has_left_ends_the_client_quietly() {
    let server = udp_server([]).listen();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["udp-client", &server.address(), "a", "b"])
        .stdout_to(writer)
        .code(141)
        .run();
}

#[test]
fn a_reader_that_leaves_ends_a_client_that_waits_for_input() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    let client = netkit(["udp-client", "-W", "10", &address(&server)])
        .stdin_open()
        .stdout_to(writer)
        .code(141)
        .start();
    client.send("a\n");
    send(&server, "answer", expect(&server, "a"));
    drop(reader);
    client.finish();
}

#[test]
fn a_full_disk_is_an_error() {
    let server = udp_server([]).listen();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    netkit(["udp-client", &server.address(), "a", "b"])
        .stdout_to(full)
        .stderr("netkit: could not write standard output: no space left on device\n")
        .code(2)
        .run();
}

#[test]
fn a_terminal_gets_control_characters_only_with_raw() {
    let server = udp_server(["--service", "echo"]).listen();
    let mut terminal = Terminal::open();
    let text = "\x1b[31mred";
    netkit(["udp-client", &server.address(), text])
        .stdout_to(terminal.device())
        .stderr(ESCAPED)
        .run();
    terminal.expect("\\x1b[31mred\n");
    netkit(["udp-client", "--raw", &server.address(), text])
        .stdout_to(terminal.device())
        .run();
    terminal.expect("\x1b[31mred");
    terminal.finish();
}

#[test]
fn raw_adds_no_newline_to_an_answer() {
    let server = udp_server(["--service", "echo"]).listen();
    netkit(["udp-client", "--raw", &server.address(), "a", "\n", "b"])
        .stdout("a\nb")
        .run();
}

/// A client whose standard output is a pipe that nobody reads.
fn unread(arguments: &[&str]) -> (Process, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let client = netkit(["udp-client"].iter().chain(arguments));
    (
        client.stdout_to(writer).any_stderr().code(4).start(),
        reader,
    )
}

#[test]
fn a_deadline_holds_while_nobody_reads_the_answers() {
    let server = udp_server(["--service", "echo"]).listen();
    let (target, large) = (server.address(), "x".repeat(60_000));
    let gave_up = format!("netkit: gave up on {target} after 300ms (--deadline)\n");
    let exchange = ["-w", "0.3", &target, &large, &large, "never sent"];
    for json in [&[][..], &["--json"]] {
        let (client, reader) = unread(&[json, &exchange].concat());
        assert_eq!(client.finish().stderr, gave_up);
        drop(reader);
    }
}

#[test]
fn an_interrupt_ends_an_exchange_whose_events_nobody_reads() {
    let large = "x".repeat(40_000);
    // The interrupt comes before the last answer, or while that answer or the summary waits for room.
    for has_all in [false, true] {
        let server = mailbox();
        let (reader, writer) = std::io::pipe().unwrap();
        let target = address(&server);
        let client = netkit(["udp-client", "--json", "-W", "10", &target, &large, &large]);
        let client = client.stdout_to(writer).killed_by(Signal::INT).start();
        for is_last in [false, true] {
            let (datagram, source) = receive(&server);
            if has_all || !is_last {
                send(&server, datagram, source);
            }
        }
        // The first answer leaves room for the beginning of the second.
        let end = Instant::now() + DEADLINE;
        while has_all && rustix::io::ioctl_fionread(&reader).unwrap() <= 45_000 {
            assert!(Instant::now() < end, "the last answer should be printed");
            std::thread::yield_now();
        }
        client.signal(Signal::INT);
        client.finish();
        drop(reader);
    }
}

#[test]
fn answers_wait_for_a_slow_reader() {
    let server = udp_server(["--service", "echo"]).listen();
    let large = "x".repeat(60_000);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let client = netkit(["udp-client", "-W", "10", &server.address()]);
    let client = client.args([&large, &large, &large]);
    let client = client.stdout_to(writer).start();
    server.wait_for_lines("Received from {*}", 2);
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut answers).unwrap();
    assert!(answers == format!("{large}\n").repeat(3).as_bytes());
    client.finish();
}

#[test]
fn verbose_tells_the_time_of_each_answer_and_the_counts() {
    let server = udp_server([]).listen();
    let target = server.address();
    netkit(["udp-client", "-v", &target, "a", "bc"])
        .stdout("Hello, a!\nHello, bc!\n")
        .stderr(format!(
            "{{*}}  INFO datagram 1 was answered by {target} in {{N}} ms: 9 bytes\n\
             {{*}}  INFO datagram 2 was answered by {target} in {{N}} ms: 10 bytes\n\
             {{*}}  INFO 2 sent, 2 answered\n"
        ))
        .run();
    let silent = mailbox();
    let target = address(&silent);
    netkit(["udp-client", "-v", "-W", "0.1", &target, "a"])
        .stderr(format!(
            "{{*}} ERROR no answer from {target} to \"a\" within 100ms\n{{*}}  INFO 1 sent, 0 answered\n"
        ))
        .code(1)
        .run();
}
