//! Our client talks to a peer that listens. Each side sends one message and closes.

use std::net::IpAddr;

use socket2::Type;

use super::{ADDRESSES, in_brackets};
use crate::harness::{Program, ReservedPort, netkit, peer};

/// Starts `listener`, waits until it listens, and talks to it.
fn talk(listener: Option<Program>, address: &str, ready: &str, port: Option<&str>) {
    let Some(listener) = listener else {
        return;
    };
    let listener = listener
        .stdin("from the peer")
        .stdout("from netkit")
        .code(0)
        .start();
    let line = listener.wait_for_line(ready);
    let port = port.unwrap_or_else(|| line.rsplit([' ', ':']).next().unwrap());
    let mut client = netkit(["tcp-client", address, port])
        .stdin_open()
        .stdout("from the peer")
        .start();
    client.send("from netkit");
    // Wait before the end: ncat sends nothing more once it has seen our end.
    client.wait_for_stdout("from the peer".len());
    client.close_input();
    client.finish();
    listener.finish();
}

#[test]
fn talks_to_nc() {
    for address in ADDRESSES {
        let nc = peer("nc", ["-lvN", address, "0"]);
        talk(nc, address, "Listening on {*} {N}", None);
    }
}

#[test]
fn talks_to_ncat() {
    for address in ADDRESSES {
        let ip: IpAddr = address.parse().unwrap();
        let port = ReservedPort::on(ip, Type::STREAM);
        let port = port.text();
        let ncat = peer("ncat", ["-lv", address, &port]);
        let ready = format!("Ncat: Listening on {address}:{port}");
        talk(ncat, address, &ready, Some(&port));
    }
}

#[test]
fn talks_to_socat() {
    for (address, kind) in ADDRESSES.into_iter().zip(["TCP4", "TCP6"]) {
        let listen = format!("{kind}-LISTEN:0,bind={}", in_brackets(address));
        let socat = peer("socat", ["-dd", "STDIO", &listen]);
        talk(socat, address, "{*} listening on {*}:{N}", None);
    }
}

#[test]
fn talks_to_python() {
    const PROGRAM: &str = "
import socket, sys
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('listening on', server.getsockname()[1], file=sys.stderr)
connection, _ = server.accept()
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
while data := connection.recv(4096):
    sys.stdout.buffer.write(data)
";
    for address in ADDRESSES {
        let python = peer("python3", ["-u", "-c", PROGRAM, address]);
        talk(python, address, "listening on {N}", None);
    }
}
