//! A peer connects to our server and gets its welcome and its answers.

use super::{ADDRESSES, in_brackets};
use crate::harness::{Program, Server, netkit, peer, tcp_server};

/// A server on `address`, with its port.
fn listen(address: &str) -> (Server, String) {
    let server = tcp_server(["-b", address]).listen();
    let port = server.port().to_string();
    (server, port)
}

fn talk(client: Option<Program>) {
    let Some(client) = client else {
        return;
    };
    client
        .stdin("Michael\nTracy\n")
        .stdout("Welcome!Hello, Michael!\nHello, Tracy!\n")
        .stderr("")
        .code(0)
        .run();
}

#[test]
fn answers_nc() {
    for address in ADDRESSES {
        let (_server, port) = listen(address);
        talk(peer("nc", ["-N", address, &port]));
    }
}

#[test]
fn answers_ncat() {
    for address in ADDRESSES {
        let (_server, port) = listen(address);
        talk(peer("ncat", [address, port.as_str()]));
    }
}

#[test]
fn answers_socat() {
    for address in ADDRESSES {
        let (_server, port) = listen(address);
        let target = format!("TCP:{}:{port}", in_brackets(address));
        talk(peer("socat", ["STDIO", &target]));
    }
}

#[test]
fn answers_python() {
    const PROGRAM: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], sys.argv[2]))
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
while data := connection.recv(4096):
    sys.stdout.buffer.write(data)
";
    for address in ADDRESSES {
        let (_server, port) = listen(address);
        talk(peer("python3", ["-c", PROGRAM, address, &port]));
    }
}

#[test]
fn answers_our_client() {
    for address in ADDRESSES {
        let (_server, port) = listen(address);
        talk(Some(netkit(["tcp-client", address, &port])));
    }
}
