//! `--service broker` and `chat`: what one client sends goes to all others.

use std::fs::OpenOptions;
use std::time::Duration;

use crate::harness::{Connection, Server, Terminal, random_bytes, tcp_server};

/// Members that have all joined and have nothing left to receive.
fn members(server: &Server, count: usize, end: &str) -> Vec<Connection> {
    let mut first = server.connect();
    let mut all = Vec::new();
    for _ in 1..count {
        let member = server.connect();
        // The server does not report a join, but a member that has joined receives messages.
        member
            .stream()
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        loop {
            first.send(format!(".{end}"));
            if member.stream().peek(&mut [0]).is_ok() {
                break;
            }
        }
        all.push(Connection::new(member.stream().try_clone().unwrap()));
    }
    first.send(format!("!{end}"));
    for member in &mut all {
        while !member.receive().ends_with(format!("!{end}").as_bytes()) {}
    }
    all.insert(0, first);
    all
}

#[test]
fn every_message_goes_to_all_other_members() {
    let server = tcp_server(["--service", "broker"]).listen();
    let mut all = members(&server, 3, "");
    all[1].send("a\x1b\n");
    all[0].expect("a\x1b\n");
    all[2].expect("a\x1b\n");
    all[2].send("b");
    all[0].expect("b");
    all[1].expect("b");
}

#[test]
fn a_chat_names_the_sender_and_escapes_control_characters() {
    let server = tcp_server(["--service", "chat"]).listen();
    let mut all = members(&server, 2, "\n");
    all[0].send("hello\r\n\x1b[2J\n");
    all[1].expect("<user1> hello\n<user1> \\x1b[2J\n");
    all[1].send("to ");
    all[1].send("you\n");
    all[0].expect("<user2> to you\n");
}

#[test]
fn a_member_that_does_not_read_is_dropped_and_the_others_get_every_byte() {
    // Far less than the server queues for a member, so that only the deaf one falls behind.
    const CHUNK: usize = 512 << 10;
    let server = tcp_server(["--service", "broker"]).listen();
    let mut all = members(&server, 20, "");
    let deaf = all.pop().unwrap();
    let mut sender = all.pop().unwrap();
    for bytes in random_bytes(12 << 20).chunks(CHUNK) {
        sender.send(bytes);
        for reader in &mut all {
            reader.expect(bytes);
        }
    }
    server.wait_for_line(&format!(
        "Connection from {} closed: it did not read, and its backlog of 4194304 bytes was full.",
        deaf.local()
    ));
}

#[test]
fn the_servers_standard_input_goes_to_all_members() {
    let server = tcp_server(["--service", "broker"]).stdin_open().listen();
    let mut all = members(&server, 2, "");
    server.send("a\x1b");
    all[0].expect("a\x1b");
    all[1].expect("a\x1b");
    all[1].send("b");
    all[0].expect("b");
}

#[test]
fn what_the_server_says_before_anybody_has_joined_waits_for_the_first_member() {
    for (service, heard) in [
        ("broker", "hello\nyou"),
        ("chat", "<server> hello\n<server> you\n"),
    ] {
        let server = tcp_server(["--service", service])
            .stdin("hello\nyou")
            .listen();
        let mut first = server.connect();
        first.expect(heard);
        // The end of the server's input ends nothing else.
        first.shutdown();
        first.expect_eof();
        server.stop();
    }
}

#[test]
fn an_input_that_cannot_be_read_is_one_message_and_ends_nothing() {
    let write_only = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let server = tcp_server(["--service", "chat"])
        .stdin_from(write_only)
        .listen();
    let mut all = members(&server, 2, "\n");
    all[0].send("still here\n");
    all[1].expect("<user1> still here\n");
    server.wait_for_line(
        "netkit: could not read standard input: bad file descriptor; it counts as ended",
    );
}

#[test]
fn a_terminal_shows_a_chat_and_takes_part() {
    let mut terminal = Terminal::open();
    let server = tcp_server(["--service", "chat"])
        .stdin_from(terminal.device())
        .stdout_to(terminal.device())
        .listen();
    let mut client = server.connect();
    client.send("hi\x1b[2J\u{202e}\n");
    terminal.expect("<user1> hi\\x1b[2J\\xe2\\x80\\xae\n");
    terminal.type_in("welcome\n");
    client.expect("<server> welcome\n");
    drop(client);
    server.stop();
    terminal.finish();
}

#[test]
fn a_member_that_ends_its_input_leaves() {
    let server = tcp_server(["--service", "broker"]).listen();
    let mut client = server.connect();
    client.shutdown();
    client.expect_eof();
    server.wait_for_line("Connection from {*} closed.");
}
