//! `netkit tcp-client`.

use crate::harness::{Peer, Terminal, netkit, peer};

#[test]
fn input_goes_to_the_peer_and_its_answer_to_output() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("ping");
        connection.expect_eof();
        connection.send("pong");
    });
    netkit(["tcp-client", peer.address()])
        .stdin("ping")
        .stdout("pong")
        .run();
}

#[test]
fn a_dialogue_goes_step_by_step() {
    let peer = Peer::listen(|mut connection| {
        connection.send("Welcome!");
        connection.expect("Michael");
        connection.send("Hello, Michael!");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
    client.receive("Welcome!");
    client.send("Michael");
    client.receive("Hello, Michael!");
    client.close_input();
    client.finish();
}

#[test]
fn control_characters_are_shown_escaped_on_a_terminal() {
    let peer = Peer::listen(|mut connection| connection.send("a\x1b[2Jb\n"));
    let mut terminal = Terminal::open();
    netkit(["tcp-client", peer.address()])
        .stdout_to(terminal.device())
        .run();
    terminal.expect("a\\x1b[2Jb\n");
    terminal.finish();
}

#[test]
fn nc_receives_what_the_client_sends() {
    let Some(nc) = peer("nc", ["-lvN", "127.0.0.1", "0"]) else {
        return;
    };
    let nc = nc.stdin("answer").stdout("question").code(0).start();
    let line = nc.wait_for_line("Listening on {*} {N}");
    let port = line.rsplit(' ').next().unwrap();
    netkit(["tcp-client", "127.0.0.1", port])
        .stdin("question")
        .stdout("answer")
        .run();
    nc.finish();
}

#[test]
fn a_shell_sees_141_when_the_reader_goes_away() {
    let peer = Peer::listen(|mut connection| {
        connection.send("one\ntwo\n");
        connection.expect_eof();
    });
    netkit(["tcp-client", peer.address()])
        .stdin_open()
        .through("\"$0\" \"$@\" | head -n 1; exit \"${PIPESTATUS[0]}\"")
        .stdout("one\n")
        .code(141)
        .run();
}
