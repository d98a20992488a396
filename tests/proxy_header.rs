//! The PROXY protocol: what is sent, what is taken, and who a client is then.

use std::time::Duration;

use crate::harness::{Peer, netkit, peer, tcp_server};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[test]
fn a_client_begins_with_the_addresses_of_its_connection() {
    for option in ["--send-proxy", "--send-proxy=v1"] {
        let target = Peer::listen(|mut connection| {
            let (client, server) = (connection.peer(), connection.local());
            let (from, to) = (
                client.split_once(':').unwrap().1,
                server.split_once(':').unwrap().1,
            );
            connection.expect(format!(
                "PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nping"
            ));
            connection.expect_eof();
        });
        netkit(["tcp-client", target.address(), option])
            .stdin("ping")
            .run();
    }
    let target = Peer::listen(|mut connection| {
        let port = |address: String| address.split_once(':').unwrap().1.parse::<u16>().unwrap();
        let (from, to) = (port(connection.peer()), port(connection.local()));
        let mut header = [V2, b"\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"].concat();
        header.extend(from.to_be_bytes());
        header.extend(to.to_be_bytes());
        connection.expect([&header[..], b"ping"].concat());
    });
    netkit(["tcp-client", target.address(), "--send-proxy=v2"])
        .stdin("ping")
        .run();
}

#[test]
fn another_source_can_be_named_if_it_has_the_family_of_the_target() {
    let target = Peer::listen(|mut connection| {
        connection.expect("PROXY TCP4 192.0.2.1 127.0.0.1 5 ");
        connection.drain();
    });
    netkit([
        "tcp-client",
        target.address(),
        "--send-proxy-from",
        "192.0.2.1:5",
    ])
    .stdin("")
    .run();
    let target = Peer::listen(|mut connection| connection.expect_eof());
    let address = target.address().to_owned();
    netkit(["tcp-client", &address, "--send-proxy-from", "[2001:db8::1]:5"])
        .code(2)
        .stderr(format!(
            "netkit: --send-proxy-from [2001:db8::1]:5 has another family than {address}; -4 and -6 choose one\n"
        ))
        .run();
}

#[test]
fn the_named_client_is_the_peer_in_log_and_environment() {
    for (header, name) in [
        (&b"PROXY TCP4 192.0.2.9 192.0.2.1 5 6\r\n"[..], "192.0.2.9"),
        (
            &[
                V2,
                b"\x21\x11\0\x0f\xc0\0\x02\x09\xc0\0\x02\x01\0\x05\0\x06\x03\0\0",
            ]
            .concat(),
            "192.0.2.9",
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:192.0.2.1 5 6\r\n",
            "192.0.2.9",
        ),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&[V2, b"\x20\0\0\0"].concat(), "127.0.0.1"),
    ] {
        let script = "echo $NETKIT_REMOTE_ADDR $NETKIT_LOCAL_ADDR; cat";
        let server = tcp_server(["--accept-proxy", "--sh-exec", script]).listen();
        let mut client = server.connect();
        // What follows is glued to the header.
        client.send([header, b"ping"].concat());
        client.expect(format!("{name} 127.0.0.1\nping"));
        client.shutdown();
        client.expect_eof();
        server.wait_for_line(&format!("Accept new connection from {name}:{{N}}..."));
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [
        b"PROXY TCP4 192.0.2.9 192.0.2.1 5 6\r\n".to_vec(),
        [
            V2,
            b"\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\0\x05\0\x06",
        ]
        .concat(),
    ] {
        let server = tcp_server(["--accept-proxy", "--service", "echo"]).listen();
        let mut client = server.connect();
        for byte in &header {
            client.send([*byte]);
        }
        client.send("ping");
        client.expect("ping");
    }
}

#[test]
fn a_client_without_a_header_is_reset_and_logged_once() {
    let server = tcp_server(["--accept-proxy"]).listen();
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXY TCP4 1.2.3.4\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
    ] {
        let mut client = server.connect();
        client.send(bytes);
        client.expect_reset();
    }
    server.wait_for_lines(
        "netkit: refused 127.0.0.1:{N}: what it sent is no PROXY header (--accept-proxy)",
        1,
    );
    // It goes on.
    let mut client = server.connect();
    client.send("PROXY UNKNOWN\r\n");
    client.expect("Welcome!");
}

#[test]
fn a_silent_client_holds_nobody_up() {
    let server = tcp_server(["--accept-proxy", "--max-session", "2s"]).listen();
    let silent = server.connect();
    let mut client = server.connect();
    client.send("PROXY UNKNOWN\r\n");
    client.expect("Welcome!");
    server.wait_for_line(
        "netkit: refused 127.0.0.1:{N}: no PROXY header within {*} (--accept-proxy)",
    );
    drop(silent);
}

#[test]
fn silent_clients_keep_no_program_from_starting() {
    let server = tcp_server(["--accept-proxy", "--sh-exec", "echo started"]).listen();
    // Four at a time, they would hold all turns for 40 s: longer than this test may take.
    let _silent = [(); 32].map(|()| server.connect());
    let mut client = server.connect();
    client.send("PROXY UNKNOWN\r\n");
    client.expect("started\n");
}

#[test]
fn limits_of_a_host_are_those_of_the_named_client() {
    let server = tcp_server(["--accept-proxy", "--max-connections-per-ip", "1"]).listen();
    let connect = |ip: &str| {
        let mut client = server.connect();
        client.send(format!("PROXY TCP4 {ip} 127.0.0.1 1 2\r\n"));
        client
    };
    let mut first = connect("192.0.2.1");
    first.expect("Welcome!");
    connect("192.0.2.1").expect_reset();
    connect("192.0.2.2").expect("Welcome!");
}

#[test]
fn allow_judges_who_really_connects() {
    let server = tcp_server(["--accept-proxy", "--allow", "127.0.0.0/8"]).listen();
    let mut client = server.connect();
    client.send("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n");
    client.expect("Welcome!");
    netkit(["tcp-server", "-p", "0", "-b", "0.0.0.0", "--accept-proxy"])
        .code(2)
        .stderr(
            "netkit: --accept-proxy beyond this machine needs --allow: whoever may connect may claim to be \
             anybody; see 'netkit tcp-server -h'\n",
        )
        .run();
}

#[test]
fn a_forward_names_its_client_and_passes_a_header_on() {
    let target = Peer::listen(|mut connection| {
        connection.expect("PROXY TCP4 192.0.2.9 192.0.2.1 5 6\r\nping");
        connection.expect_eof();
        connection.send("pong");
    });
    let server = tcp_server([
        "--accept-proxy",
        "--forward",
        target.address(),
        "--send-proxy",
    ])
    .listen();
    netkit([
        "tcp-client",
        &server.address(),
        "--send",
        "PROXY TCP4 192.0.2.9 192.0.2.1 5 6\\r\\nping",
    ])
    .stdout("pong")
    .run();
    let target = Peer::listen(|mut connection| {
        connection.expect("PROXY TCP4 127.0.0.1 127.0.0.1 ");
        connection.drain();
    });
    let server = tcp_server(["--forward", target.address(), "--send-proxy"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdin("ping")
        .run();
    target.finish();
}

#[test]
fn curl_sends_a_header_that_is_taken() {
    let page = "read line; echo \"HTTP/1.0 200 OK\"; echo; echo from $NETKIT_REMOTE_ADDR";
    let server = tcp_server(["--accept-proxy", "--sh-exec", page]).listen();
    let url = format!("http://{}/", server.address());
    if let Some(curl) = peer("curl", ["-s", "--haproxy-protocol", &url]) {
        let curl = curl.within(Duration::from_secs(20));
        curl.stdout("from 127.0.0.1\n").code(0).run();
    }
}
