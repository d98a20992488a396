//! Datagrams to and from programs of others.

use crate::harness::{netkit, peer, python_udp_server, udp_clients, udp_echoes, udp_server};

/// The client of the tutorial that the `hello` protocol is from, on another port.
const PYTHON_CLIENT: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for data in [b'Michael', b'Tracy', b'Sarah']:
    s.sendto(data, ('127.0.0.1', int(sys.argv[1])))
    print(s.recv(1024).decode('utf-8'))
s.close()
";

#[test]
fn python_answers_the_client() {
    if let Some((_server, address)) = python_udp_server() {
        netkit(["udp-client", "-W", "10", &address])
            .stdin("Michael\nTracy\nSarah\n")
            .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
            .run();
    }
}

#[test]
fn the_server_answers_python() {
    let server = udp_server([]).listen();
    let port = server.port().to_string();
    if let Some(client) = peer("python3", ["-c", PYTHON_CLIENT, &port]) {
        client
            .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
            .run();
    }
}

#[test]
fn the_server_answers_nc_ncat_and_socat() {
    let server = udp_server([]).listen();
    for mut client in udp_clients(server.port()) {
        client.send("Michael");
        client.receive("Hello, Michael!");
    }
}

#[test]
fn ncat_and_socat_answer_the_client() {
    for (_server, port) in udp_echoes() {
        netkit(["udp-client", "-W", "10", "127.0.0.1", &port.text()])
            .stdin("Michael\nTracy\n")
            .stdout("Michael\nTracy\n")
            .run();
    }
}

#[test]
fn the_client_talks_to_a_person_at_netcat() {
    let Some(server) = peer("nc", ["-l", "-u", "-v", "127.0.0.1", "0"]) else {
        return;
    };
    let mut server = server.stdin_open().start();
    let line = server.wait_for_line("Bound on {*} {N}");
    let port = line.rsplit_once(' ').unwrap().1;
    let client = netkit([
        "udp-client",
        "-W",
        "10",
        "127.0.0.1",
        port,
        "Michael",
        "Tracy",
    ])
    .stdout("one\n\ntwo\n\n")
    .start();
    server.receive("Michael");
    server.send("one\n");
    server.receive("Tracy");
    server.send("two\n");
    client.finish();
}
