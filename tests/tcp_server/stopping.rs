//! How a server stops, and what happens to its connections and programs.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{Connection, event, random_bytes, spawn, tcp_server};

/// Whether a process exists.
fn is_running(pid: &str) -> bool {
    let pid = pid.trim_end().parse().ok().and_then(Pid::from_raw);
    rustix::process::test_kill_process(pid.unwrap()).is_ok()
}

#[test]
fn a_stopped_server_leaves_no_program_running() {
    let server = tcp_server(["--drain-timeout", "0.3", "--sh-exec"])
        .arg("echo $$; exec sleep 60")
        .code(4)
        .listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive()).unwrap();
    assert!(is_running(&pid));
    server.signal(Signal::TERM);
    server.finish();
    assert!(!is_running(&pid));
}

#[test]
fn a_program_does_not_outlive_its_client() {
    let server = tcp_server(["--sh-exec", "echo $$; exec sleep 60"]).listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive()).unwrap();
    assert!(is_running(&pid));
    client.shutdown();
    client.reset();
    server.wait_for_line("Connection from {*} closed{*}");
    assert!(!is_running(&pid));
}

#[test]
fn a_server_without_connections_stops_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = tcp_server([])
            .stderr("Listening on {*}\nWaiting for connection...\n")
            .listen();
        server.wait_for_line("Waiting for connection...");
        server.signal(signal);
        server.finish();
    }
}

#[test]
fn a_transfer_is_completed_while_new_connections_are_refused() {
    let bytes = random_bytes(2_000_000);
    let (half, rest) = bytes.split_at(1_000_000);
    let server = tcp_server(["--service", "echo"]).listen();
    let address: SocketAddr = server.address().parse().unwrap();
    let mut client = server.connect();
    client.send(&half[..1000]);
    client.expect(&half[..1000]);
    server.signal(Signal::TERM);
    server.wait_for_line("Waiting for 1 open connection(s) to end...");
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let writer = client.stream().try_clone().unwrap();
    let (half, rest) = (half[1000..].to_vec(), rest.to_vec());
    let (received, go_on) = event();
    let expected = half.clone();
    let sending = spawn(move || {
        let mut writer = Connection::new(writer);
        writer.send(half);
        go_on.wait();
        writer.send(rest);
        writer.shutdown();
    });
    client.expect(expected);
    received.happen();
    assert!(client.receive_all() == bytes[1_000_000..]);
    sending.join().unwrap();
    drop(client);
    let server = server.finish();
    assert!(server.stderr.ends_with(" closed.\n"), "{server:?}");
}

#[test]
fn a_connection_that_does_not_end_is_cut_off() {
    let server = tcp_server(["--drain-timeout", "0.3"]).code(4).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    let start = Instant::now();
    server.signal(Signal::INT);
    client.expect_eof();
    assert!(start.elapsed() >= Duration::from_millis(300));
    server.wait_for_line(
        "netkit: closed 1 connection that was still open after 300ms (--drain-timeout)",
    );
    server.finish();
}

#[test]
fn every_service_can_be_cut_off() {
    for service in ["hello", "echo", "discard", "chargen"] {
        let server = tcp_server(["--service", service, "--drain-timeout", "0"]);
        let server = server.code(4).listen();
        let client = server.connect();
        server.wait_for_line("Accept new connection from {*}");
        server.signal(Signal::TERM);
        server.finish();
        drop(client);
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let server = tcp_server(["--drain-timeout", "1h"])
        .killed_by(Signal::TERM)
        .listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    server.signal(Signal::INT);
    server.wait_for_line("Waiting for 1 open connection(s) to end...");
    server.signal(Signal::TERM);
    server.finish();
}
