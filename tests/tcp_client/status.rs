//! What the client tells about its connection: to a person at a terminal, and with `-v`.

use rustix::process::Signal;

use crate::harness::{Peer, Program, Terminal, event, netkit};

/// A client whose standard input, output and error are `terminal`.
fn at_a_terminal(terminal: &Terminal, words: &[&str]) -> Program {
    netkit(["tcp-client"].iter().chain(words))
        .stdin_from(terminal.device())
        .stdout_to(terminal.device())
        .stderr_to(terminal.device())
}

#[test]
fn verbose_tells_the_connection_and_its_end() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("abc");
        connection.expect_eof();
        connection.send("an answer\n");
    });
    netkit(["tcp-client", "-v", peer.address()])
        .stdin("abc")
        .stdout("an answer\n")
        .stderr(format!(
            "{{*}} connected to {0} in {{N}} ms peer={0} local={{*}}\n\
             {{*}} closed by the peer: 3 bytes sent, 10 received in {{N}} s\n",
            peer.address()
        ))
        .run();
}

#[test]
fn verbose_tells_a_reset_and_an_end_that_is_not_the_peers() {
    let peer = Peer::listen(|mut connection| {
        connection.send("abc");
        connection.reset();
    });
    netkit(["tcp-client", "-v", "--recv-only", peer.address()])
        .stdout("abc")
        .stderr(
            "{*} connected to {*}\n\
             {*} broken off: 0 bytes sent, 3 received in {N} s\n\
             {*} ERROR could not receive from {*}: connection reset by peer\n",
        )
        .code(1)
        .run();
    let (left, has_left) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect_eof();
        has_left.wait();
    });
    netkit([
        "tcp-client",
        "-v",
        "--wait-after-eof",
        "0.1",
        peer.address(),
    ])
    .stderr(
        "{*} connected to {*}\n\
             {*} closed: 0 bytes sent, 0 received in {N} s\n",
    )
    .run();
    left.happen();
}

#[test]
fn a_person_is_told_the_connection_and_its_end() {
    let peer = Peer::listen(|mut connection| {
        connection.send("Welcome!");
        connection.expect("Michael\n");
        connection.send("Hello, Michael!");
        connection.expect_eof();
    });
    let mut terminal = Terminal::open();
    let client = at_a_terminal(&terminal, &[peer.address()]).start();
    terminal.expect(format!(
        "Connected to {}. Ctrl-D ends input, Ctrl-C quits.\nWelcome!",
        peer.address()
    ));
    terminal.type_in("Michael\n");
    terminal.expect("Hello, Michael!");
    terminal.type_in(Terminal::END);
    // The message begins on a line of its own.
    terminal.expect("\nConnection closed by the peer.\n");
    client.finish();
    terminal.finish();
}

#[test]
fn a_message_after_a_whole_line_needs_no_newline_of_its_own() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("x");
        connection.expect_eof();
        connection.send("Bye.\n");
    });
    let mut terminal = Terminal::open();
    let client = at_a_terminal(&terminal, &["--send", "x", peer.address()]);
    client.run();
    terminal.expect(format!("Connected to {}. Ctrl-C quits.\n", peer.address()));
    terminal.expect("Bye.\nConnection closed by the peer.\n");
    terminal.finish();
}

#[test]
fn an_error_begins_on_a_line_of_its_own() {
    let peer = Peer::listen(|mut connection| {
        connection.send("half a li");
        connection.reset();
    });
    let mut terminal = Terminal::open();
    let client = at_a_terminal(&terminal, &["-q", "--recv-only", peer.address()]);
    client.code(1).run();
    terminal.expect(format!(
        "half a li\nnetkit: could not receive from {}: connection reset by peer\n",
        peer.address()
    ));
    terminal.finish();
}

#[test]
fn verbose_at_a_terminal_tells_the_connection_once() {
    let peer = Peer::listen(|mut connection| connection.expect_eof());
    let mut terminal = Terminal::open();
    let client = at_a_terminal(&terminal, &["-v", peer.address()]);
    let client = client.env("NO_COLOR", "1").start();
    let line = terminal.expect_line();
    assert!(line.contains(" connected to "), "{line}");
    terminal.type_in(Terminal::END);
    let line = terminal.expect_line();
    assert!(line.contains(" closed by the peer: "), "{line}");
    client.finish();
    terminal.finish();
}

#[test]
fn quiet_and_a_redirected_log_tell_nothing() {
    for options in [&["-q"][..], &[]] {
        let peer = Peer::listen(|mut connection| connection.expect_eof());
        let mut terminal = Terminal::open();
        let mut client = at_a_terminal(&terminal, options).arg(peer.address());
        if options.is_empty() {
            client = client.stderr_to(std::process::Stdio::null());
        }
        let client = client.start();
        terminal.type_in(Terminal::END);
        client.finish();
        terminal.finish();
    }
}

#[test]
fn an_interrupt_ends_the_client_without_a_message() {
    let peer = Peer::listen(|mut connection| {
        connection.send("x");
        connection.drain();
    });
    let mut terminal = Terminal::open();
    let client = at_a_terminal(&terminal, &["-q", peer.address()]).killed_by(Signal::INT);
    let client = client.start();
    terminal.expect("x");
    client.signal(Signal::INT);
    client.finish();
    terminal.finish();
}
