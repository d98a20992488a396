//! What each service of a TCP server sends to a client.

mod broker;
mod exec;
mod forward;
mod hello;
mod stdio;

use std::time::Duration;

use crate::harness::{random_bytes, tcp_server};

#[test]
fn echo_sends_back_what_it_gets() {
    let server = tcp_server(["--service", "echo"]).listen();
    let mut client = server.connect();
    client.send(b"a\0\xff\r\n");
    client.expect(b"a\0\xff\r\n");
    client.send("b");
    client.shutdown();
    client.expect("b");
    client.expect_eof();
}

#[test]
fn discard_sends_nothing() {
    let server = tcp_server(["--service", "discard"]).listen();
    let mut client = server.connect();
    client.send(random_bytes(3_000_000));
    client.expect_nothing_for(Duration::from_millis(100));
    client.shutdown();
    client.expect_eof();
}

#[test]
fn chargen_ends_without_an_error_when_the_client_closes() {
    let server = tcp_server(["--service", "chargen"]).listen();
    let mut client = server.connect();
    client.expect(" !");
    let name = client.local();
    drop(client);
    server.wait_for_line(&format!("Connection from {name} closed."));
}

#[test]
fn chargen_sends_the_lines_of_rfc_864_until_the_client_goes() {
    let server = tcp_server(["--service", "chargen"]).listen();
    let mut client = server.connect();
    // The end of input does not end chargen.
    client.shutdown();
    let characters: Vec<u8> = (b' '..=b'~').collect();
    for line in 0..1000 {
        let characters = characters.iter().cycle().skip(line % 95).take(72);
        client.expect(characters.copied().collect::<Vec<u8>>());
        client.expect("\r\n");
    }
    let name = client.local();
    drop(client);
    server.wait_for_line(&format!("Connection from {name} closed."));
}

#[test]
fn a_reset_by_the_client_is_logged_as_the_reason() {
    for service in ["hello", "echo", "discard"] {
        let server = tcp_server(["--service", service]).listen();
        let client = server.connect();
        server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
        let name = client.local();
        client.reset();
        server.wait_for_line(&format!(
            "Connection from {name} closed: connection reset by peer."
        ));
        server.connect();
    }
}

#[test]
fn a_client_may_end_right_after_many_quick_messages() {
    for service in ["hello", "echo"] {
        let server = tcp_server(["--service", service]).listen();
        let mut client = server.connect();
        let (welcome, greeting, end) = match service {
            "hello" => ("Welcome!", "Hello, ", "!\n"),
            _ => ("", "", "\n"),
        };
        client.expect(welcome);
        for number in 0..500 {
            client.send(format!("{number}\n"));
            client.expect(format!("{greeting}{number}{end}"));
        }
        client.shutdown();
        client.expect_eof();
        server.wait_for_line(&format!("Connection from {} closed.", client.local()));
    }
}
