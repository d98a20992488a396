//! Log lines: no client, accept or stop ever waits for one, and what is lost is told.

use std::fs::{self, File};
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::process::Signal;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{
    Connection, DEADLINE, FullPipe, Process, ReservedPort, Terminal, closed_port, mailbox, netkit,
    temporary_folder,
};

/// Starts a server whose log goes to `stderr`. Returns it with its port.
fn server(
    arguments: &[&str],
    stderr: impl Into<std::process::Stdio>,
) -> (Process, std::net::SocketAddr) {
    let (subcommand, rest) = arguments.split_first().unwrap();
    let mut server = netkit([subcommand, "-p", "0", "--print-port"])
        .args(rest)
        .stderr_to(stderr)
        .within(3 * DEADLINE)
        .start();
    let port = server.receive_line("{N}");
    (server, format!("127.0.0.1:{port}").parse().unwrap())
}

fn greet(address: std::net::SocketAddr) {
    let mut client = Connection::to(address);
    client.expect("Welcome!");
    client.send("exit\n");
    client.expect_eof();
}

#[test]
fn tcp_connections_are_served_while_nobody_reads_the_log_and_the_first_sigterm_ends() {
    let pipe = FullPipe::new();
    let (server, address) = server(&["tcp-server"], pipe.end());
    for _ in 0..100 {
        greet(address);
    }
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn datagrams_are_answered_while_nobody_reads_the_log_and_the_first_sigterm_ends() {
    let pipe = FullPipe::new();
    let (server, address) = server(&["udp-server"], pipe.end());
    let client = mailbox();
    for _ in 0..300 {
        send(&client, "a", address);
        expect(&client, "Hello, a!");
    }
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn a_socket_that_nobody_reads_holds_up_nobody() {
    let (near, far) = UnixStream::pair().unwrap();
    let (datagrams, _mailbox) = UnixDatagram::pair().unwrap();
    for stderr in [near.into(), std::os::fd::OwnedFd::from(datagrams)] {
        let (server, address) = server(&["udp-server", "-v"], stderr);
        let client = mailbox();
        for _ in 0..4000 {
            send(&client, "a", address);
            expect(&client, "Hello, a!");
        }
        server.signal(Signal::TERM);
        server.finish();
    }
    drop(far);
}

#[test]
fn a_terminal_that_is_stopped_holds_up_nobody_and_gets_all_lines_in_order() {
    use rustix::termios::{Action, tcflow};
    let mut terminal = Terminal::open();
    tcflow(terminal.device(), Action::OOff).unwrap();
    let (server, address) = server(&["tcp-server"], terminal.device());
    for _ in 0..10 {
        greet(address);
    }
    tcflow(terminal.device(), Action::OOn).unwrap();
    assert!(terminal.expect_line().starts_with("Listening on "));
    terminal.expect("Waiting for connection...\n");
    let lines: Vec<_> = (0..20).map(|_| terminal.expect_line()).collect();
    assert!(lines[0].starts_with("Accept "), "{lines:?}");
    let ends = lines.iter().filter(|line| line.ends_with(" closed."));
    assert_eq!(ends.count(), 10, "{lines:?}");
    server.signal(Signal::TERM);
    server.finish();
    terminal.finish();
}

#[test]
fn a_terminal_that_stays_stopped_does_not_hold_up_the_end() {
    use rustix::termios::{Action, tcflow};
    let terminal = Terminal::open();
    tcflow(terminal.device(), Action::OOff).unwrap();
    let (server, address) = server(&["tcp-server"], terminal.device());
    greet(address);
    server.signal(Signal::TERM);
    server.finish();
    let port = ReservedPort::tcp();
    netkit(["tcp-client", "127.0.0.1", &port.text()])
        .stderr_to(terminal.device())
        .code(1)
        .run();
}

#[test]
fn lines_that_find_no_room_are_counted_and_told_in_their_place() {
    const DATAGRAMS: usize = 10_000;
    for format in ["text", "json"] {
        let pipe = FullPipe::new();
        let (server, address) = server(&["udp-server", "--log-format", format], pipe.end());
        let client = mailbox();
        for _ in 0..DATAGRAMS {
            send(&client, "a", address);
            expect(&client, "Hello, a!");
        }
        let reading = pipe.read();
        reading.wait_for("log lines lost");
        send(&client, "last", address);
        expect(&client, "Hello, last!");
        server.signal(Signal::TERM);
        server.finish();
        let log = reading.finish();
        let is_datagram = |line: &&&str| line.contains("Received from 127.0.0.1:");
        let lines: Vec<_> = log.lines().collect();
        let told = lines.iter().position(|line| line.contains("lost")).unwrap();
        let (line, number) = if format == "text" {
            let number = lines[told].strip_suffix(" log lines lost").unwrap();
            let number = number.strip_prefix("netkit: ").unwrap();
            assert!(number.contains(','), "{number}");
            (String::new(), number.replace(',', "").parse().unwrap())
        } else {
            let event: serde_json::Value = serde_json::from_str(lines[told]).unwrap();
            assert_eq!(event["event"], "lost");
            (event["level"].to_string(), event["lines"].as_u64().unwrap())
        };
        assert!(line.is_empty() || line == "\"ERROR\"", "{line}");
        assert_eq!(lines[..told].iter().filter(is_datagram).count(), told - 2);
        assert_eq!(told - 2 + usize::try_from(number).unwrap(), DATAGRAMS);
        assert_eq!(lines[told + 1..].iter().filter(is_datagram).count(), 1);
    }
}

#[test]
fn a_message_at_the_end_does_not_hold_up_a_client() {
    let pipe = FullPipe::new();
    let (tcp, udp) = (ReservedPort::tcp(), closed_port());
    netkit(["tcp-client", "127.0.0.1", &tcp.text()])
        .stderr_to(pipe.end())
        .code(1)
        .run();
    netkit(["udp-client", &address(&udp), "a"])
        .stderr_to(pipe.end())
        .code(1)
        .run();
    netkit(["tcp-client", "--no-such-option"])
        .stderr_to(pipe.end())
        .code(2)
        .run();
}

#[test]
fn a_log_that_is_taken_at_once_needs_no_thread() {
    let folder = temporary_folder();
    let file = File::create(folder.path().join("log")).unwrap();
    let (reader, pipe) = std::io::pipe().unwrap();
    let terminal = Terminal::open();
    for stderr in [
        file.into(),
        std::os::fd::OwnedFd::from(pipe),
        terminal.device().into(),
    ] {
        let (server, address) = server(&["udp-server"], stderr);
        let client = mailbox();
        send(&client, "a", address);
        expect(&client, "Hello, a!");
        for thread in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
            let name = fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
            assert_ne!(name, "standard error\n");
        }
    }
    drop(reader);
}

#[test]
fn a_dumb_terminal_gets_no_colours() {
    let port = ReservedPort::tcp();
    for (term, colour) in [("xterm", true), ("dumb", false)] {
        let mut terminal = Terminal::open();
        netkit(["tcp-client", "-v"])
            .args(["127.0.0.1", &port.text()])
            .env("TERM", term)
            .stderr_to(terminal.device())
            .code(1)
            .run();
        let line = terminal.expect_line();
        assert_eq!(line.contains('\x1b'), colour, "{line}");
        assert!(line.contains("could not connect to"), "{line}");
    }
}
