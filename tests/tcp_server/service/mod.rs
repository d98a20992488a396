//! What the services of a TCP server say to a client.

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
fn discard_says_nothing() {
    let server = tcp_server(["--service", "discard"]).listen();
    let mut client = server.connect();
    client.send(random_bytes(3_000_000));
    client.expect_nothing_for(Duration::from_millis(100));
    client.shutdown();
    client.expect_eof();
}

#[test]
fn chargen_has_served_a_client_that_has_had_enough() {
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
    // It is not the end of input that ends it.
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
fn a_client_that_breaks_off_is_logged_with_its_reason() {
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
fn a_peer_that_was_quick_for_long_may_end_at_once() {
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
