//! `--forward`: the server connects each client to a target.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{Connection, Peer, ReservedPort, netkit, random_bytes, spawn, tcp_server};

#[test]
fn an_urgent_byte_does_not_stop_a_stream_that_carried_a_mebibyte() {
    let echo = tcp_server(["--service", "echo"]).listen();
    let server = tcp_server(["--forward", &echo.address()]).listen();
    let mut client = server.connect();
    let bytes = random_bytes(1 << 20);
    let mut reader = Connection::new(client.stream().try_clone().unwrap());
    let expected = bytes.clone();
    let reading = spawn(move || reader.expect(expected));
    client.send(&bytes);
    reading.join().unwrap();
    rustix::net::send(client.stream(), b"!", rustix::net::SendFlags::OOB).unwrap();
    client.send("def");
    client.expect("def");
}

#[test]
fn bytes_pass_both_ways() {
    let echo = tcp_server(["--service", "echo"]).listen();
    let server = tcp_server(["--forward", &echo.address()]).listen();
    let bytes = random_bytes(5_000_000);
    netkit(["tcp-client", &server.address()])
        .stdin(&bytes)
        .stdout(&bytes)
        .run();
}

#[test]
#[ignore = "a gibibyte each way"]
fn a_gibibyte_passes_both_ways() {
    let echo = tcp_server(["--service", "echo"]).listen();
    let server = tcp_server(["--forward", &echo.address()]).listen();
    let script = "head -c 1G /dev/urandom | tee >(sha256sum >&2) | \"$0\" \"$@\" | sha256sum >&2";
    let sums = netkit(["tcp-client", &server.address()])
        .through(script)
        .any_stderr()
        .within(Duration::from_secs(120))
        .run();
    let sums: Vec<_> = sums.stderr.lines().collect();
    assert_eq!(sums.len(), 2, "{sums:?}");
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn each_direction_ends_on_its_own() {
    let target = Peer::listen(|mut connection| {
        connection.send("greeting");
        connection.shutdown();
        connection.expect("all of it");
        connection.expect_eof();
    });
    let server = tcp_server(["--forward", target.address()]).listen();
    let mut client = server.connect();
    client.expect("greeting");
    client.expect_eof();
    client.send("all of it");
    client.shutdown();
    target.finish();
    server.wait_for_line("Connection from {*} closed.");

    let target = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.expect_eof();
        connection.send("answer");
    });
    let server = tcp_server(["--forward", target.address()]).listen();
    let mut client = server.connect();
    client.send("question");
    client.shutdown();
    client.expect("answer");
    client.expect_eof();
}

#[test]
fn a_target_that_is_down_is_logged() {
    let down = Peer::listen(|_| {});
    let address = down.address().to_owned();
    let server = tcp_server(["--forward", &address]).listen();
    // It accepts one connection and stops.
    server.connect().expect_eof();
    if let Some(mut client) = server.connect_unless_reset() {
        client.expect_reset();
    }
    server.wait_for_line(&format!(
        "Connection from {{*}} closed: could not connect to {address}: connection refused."
    ));
}

#[test]
fn a_server_does_not_forward_to_itself() {
    // The port has to be known before the server starts: reserve it, and let the server share it.
    let port = ReservedPort::tcp();
    let target = format!("127.0.0.1:{}", port.number());
    let server = netkit(["tcp-server", "--reuse-port", "-p", &port.text()])
        .args(["--forward", &target])
        .any_stderr()
        .listen();
    server.expect_rejection();
    server.wait_for_line(&format!(
        "netkit: Connection from {{*}} closed: could not connect to {target}: this server listens there."
    ));
    assert_eq!(server.log().matches("Accept new connection").count(), 1);
}

#[test]
fn idle_timeout_holds_while_the_target_is_connected_to() {
    // A listener that accepts nobody and has a full queue does not answer.
    let (listener, _clients) = full_listener();
    let target = listener.local_addr().unwrap().to_string();
    let server = tcp_server(["--once", "--idle-timeout", "0.3", "--forward", &target])
        .code(4)
        .listen();
    server.connect().expect_reset();
    server.wait_for_line("netkit: could not finish with {*}: no data for 300ms (--idle-timeout)");
    server.finish();
}

/// A listener to which no more connections can be made, with those that fill its queue.
fn full_listener() -> (TcpListener, Vec<Socket>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).listen(0).unwrap();
    let address = listener.local_addr().unwrap().into();
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    };
    let clients = (0..4).map(|_| connect()).collect();
    (listener, clients)
}

#[test]
fn a_server_of_one_connection_exits_with_its_code() {
    let ended = Peer::listen(|mut connection| {
        connection.send("all");
        connection.shutdown();
        connection.expect_eof();
    });
    let server = tcp_server(["--once", "--forward", ended.address()]).listen();
    let mut client = server.connect();
    client.expect("all");
    client.expect_eof();
    client.shutdown();
    server.finish();

    let reset = Peer::listen(|mut connection| {
        connection.expect("x");
        connection.reset();
    });
    let server = tcp_server(["--once", "--forward", reset.address()]);
    let server = server.code(1).listen();
    let mut client = server.connect();
    client.send("x");
    client.expect_reset();
    server.wait_for_line("netkit: could not read {*}: connection reset by peer");
    server.finish();
}

#[test]
fn a_reset_on_one_side_resets_the_other() {
    let target = Peer::listen(|mut connection| {
        connection.send("half a fi");
        connection.expect("x");
        connection.reset();
    });
    let address = target.address().to_owned();
    let server = tcp_server(["--forward", &address]).listen();
    let mut client = server.connect();
    client.expect("half a fi");
    client.send("x");
    client.expect_reset();
    server.wait_for_line(&format!(
        "Connection from {{*}} closed: could not read {address}: connection reset by peer."
    ));

    let target = Peer::listen(|mut connection| {
        connection.expect("half a fi");
        connection.expect_reset();
    });
    let server = tcp_server(["--forward", target.address()]).listen();
    let mut client = server.connect();
    client.send("half a fi");
    server.wait_for_line("Accept new connection from {*}");
    client.reset();
    target.finish();
}

#[test]
fn a_reset_during_a_bulk_transfer_never_looks_like_an_end() {
    // Any call may meet the reset, and the kernel reports it only once.
    for received in (0..10).map(|round| (64 << 10) + round % 5 * 500_000) {
        let target = Peer::listen(move |mut connection| {
            connection.send("half a fi");
            connection.expect(vec![b'x'; received]);
            connection.reset();
        });
        let server = tcp_server(["--forward", target.address()]).listen();
        let mut client = server.connect();
        client.expect("half a fi");
        assert_eq!(client.send_until_left(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_client_is_disconnected_after_its_target_has_closed() {
    let target = Peer::listen(|mut connection| {
        connection.send("goodbye");
    });
    let server = tcp_server(["--forward", target.address()]).listen();
    let mut client = server.connect();
    client.expect("goodbye");
    client.send_until_left();
    server.wait_for_line("Connection from {*} closed: could not {*}.");
}
