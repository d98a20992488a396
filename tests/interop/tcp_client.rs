//! Our client talks to a peer that listens. Each side sends one message and closes.

use std::net::IpAddr;

use socket2::Type;

use super::{ADDRESSES, in_brackets};
use crate::harness::{Program, ReservedPort, netkit, peer, random_bytes};

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

/// Starts `listener`, which sends more than the connection holds. The input of our client ends amid
/// that, without a byte: nc, ncat and busybox nc send nothing more to a client that has ended.
fn receives_all_from(listener: &str) {
    const HEAD: usize = 20_000;
    let port = ReservedPort::tcp();
    let listener = listener.replace("PORT", &port.text());
    let (name, options) = listener.split_once(' ').unwrap();
    let Some(listener) = peer(name, options.split(' ')) else {
        return;
    };
    let bytes = random_bytes(12_000_000);
    let listener = listener.stdin(&bytes).start();
    let options = "--retry 100 --retry-delay 0.1 --max-rate 8M --recv-buffer 32k -q";
    let address = format!("127.0.0.1:{}", port.text());
    let mut client = netkit(
        ["tcp-client", &address]
            .into_iter()
            .chain(options.split(' ')),
    )
    .stdin_open()
    .stdout(&bytes)
    .start();
    client.wait_for_stdout(HEAD);
    client.close_input();
    client.finish();
    listener.finish();
}

#[test]
fn receives_all_from_nc_with_an_empty_input() {
    receives_all_from("nc -N -l 127.0.0.1 PORT");
}

#[test]
fn receives_all_from_traditional_nc_with_an_empty_input() {
    receives_all_from("nc.traditional -q 0 -l -s 127.0.0.1 -p PORT");
}

#[test]
fn receives_all_from_ncat_with_an_empty_input() {
    receives_all_from("ncat -l 127.0.0.1 PORT");
}

#[test]
fn receives_all_from_busybox_nc_with_an_empty_input() {
    receives_all_from("busybox nc -l -p PORT");
}
