//! Which addresses and ports a server listens on.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;

use crate::harness::{Connection, netkit, tcp_server};

#[test]
fn both_families_get_the_same_free_port() {
    let server = tcp_server(["-b", "127.0.0.1", "--bind", "::1"]).listen();
    let addresses = server.addresses(2);
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    assert_eq!(addresses[0].port(), addresses[1].port());
    for address in addresses {
        let mut client = Connection::to(address);
        client.expect("Welcome!");
        server.wait_for_line(&format!("Accept new connection from {}...", client.local()));
    }
}

#[test]
fn a_server_listens_on_a_name_or_a_bracketed_address() {
    let server = tcp_server(["--host", "[::1]"]).listen();
    assert!(server.address().starts_with("[::1]:"));
    server.connect().expect("Welcome!");
    let server = tcp_server(["-4", "-b", "localhost"]).listen();
    assert!(server.address().starts_with("127.0.0.1:"));
    server.connect().expect("Welcome!");
}

#[test]
fn an_address_that_is_given_twice_is_listened_on_once() {
    let server = tcp_server(["-b", "127.0.0.1", "-b", "127.0.0.1"])
        .stderr("Listening on {*}\nWaiting for connection...\n")
        .listen();
    server.stop();
}

#[test]
fn print_port_prints_the_port() {
    let mut server = tcp_server(["--print-port"]).listen();
    let port = server.receive_line("{N}");
    assert_eq!(port, server.port().to_string());
}

#[test]
fn a_server_without_a_usable_standard_error_serves() {
    for redirection in ["2>&-", "2>/dev/full", "2> >(:)"] {
        let mut server = tcp_server(["--print-port"])
            .through(&format!("exec \"$0\" \"$@\" {redirection}"))
            .start();
        let port = server.receive_line("{N}").parse().unwrap();
        for _ in 0..3 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut client = Connection::to(address);
            client.expect("Welcome!");
            client.send("Michael");
            client.expect("Hello, Michael!");
            client.reset();
        }
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
fn the_port_can_be_listened_on_again_at_once() {
    let server = tcp_server([]).listen();
    let address = server.address();
    let mut client = server.connect();
    client.expect("Welcome!");
    // The side that closes first keeps the connection in TIME_WAIT.
    client.send("exit");
    client.expect_eof();
    drop(client);
    let port = server.port().to_string();
    server.stop();
    let again = netkit(["tcp-server", "-p", &port]).any_stderr().listen();
    assert_eq!(again.address(), address);
}
