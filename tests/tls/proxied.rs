//! TLS inside a proxied connection: nothing but TLS follows the proxy's answer, in either direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::{client, server, usual};
use crate::harness::{Connection, DEADLINE, Peer, netkit, tcp_server};

const SOCKS_ANSWER: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Both kinds of proxies, by the beginning of a URL.
const KINDS: [&str; 2] = ["socks5h", "http"];

/// Plays a proxy that is asked for `localhost:258`, up to its answer, to which it glues `more`.
fn answer(connection: &mut Connection, kind: &str, more: &[u8]) {
    let answer = if kind == "http" {
        connection.expect("CONNECT localhost:258 HTTP/1.1\r\nHost: localhost:258\r\n\r\n");
        HTTP_ANSWER
    } else {
        connection.expect([5, 1, 0]);
        connection.send([5, 0]);
        connection.expect(b"\x05\x01\x00\x03\x09localhost\x01\x02");
        SOCKS_ANSWER
    };
    connection.send([answer, more].concat());
}

/// A proxy to `port` for one connection. Tells all bytes that the client has sent after its answer.
fn proxy(kind: &'static str, port: u16) -> (Peer, Receiver<Vec<u8>>) {
    let (sender, seen) = channel();
    let peer = Peer::listen(move |mut connection| {
        answer(&mut connection, kind, b"");
        let target = TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::thread::scope(|scope| {
            let client = connection.stream();
            scope.spawn(|| {
                pass(&target, client);
            });
            sender.send(pass(client, &target)).unwrap();
        });
    });
    (peer, seen)
}

/// Relays the bytes of `from`, and their end. Returns them.
fn pass(mut from: &TcpStream, mut to: &TcpStream) -> Vec<u8> {
    let mut passed = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        passed.extend(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    passed
}

/// `bytes` are whole records of TLS (RFC 8446, section 5.1), of which the first is of a handshake, and
/// `secret` is not in them.
#[track_caller]
fn expect_records(bytes: &[u8], secret: &str) {
    assert_eq!(bytes.first(), Some(&22));
    let mut rest = bytes;
    while let [kind, major, minor, high, low, tail @ ..] = rest {
        assert!((20..=23).contains(kind), "{rest:?}");
        assert!(*major == 3 && (1..=3).contains(minor), "{rest:?}");
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        assert!(length <= tail.len(), "{rest:?}");
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "{rest:?}");
    let has_secret = bytes
        .windows(secret.len())
        .any(|part| part == secret.as_bytes());
    assert!(!has_secret, "{bytes:?}");
}

#[test]
fn nothing_but_tls_is_on_the_wire_after_the_answer_of_a_proxy() {
    let files = usual();
    let server = server(&files, "own", &["--service", "echo"]);
    for kind in KINDS {
        let (peer, seen) = proxy(kind, server.port());
        let url = format!("{kind}://{}", peer.address());
        client(&files, "localhost:258")
            .args(["--proxy", &url])
            .stdin("the secret")
            .stdout("the secret")
            .run();
        expect_records(&seen.recv_timeout(DEADLINE).unwrap(), "the secret");

        let (peer, seen) = proxy(kind, server.port());
        let url = format!("{kind}://{}", peer.address());
        client(&files, "localhost:258")
            .args(["-z", "--proxy", &url])
            .stdout(format!(
                "localhost:258 through {} open, {{*}} ms, TLS 1.3 in {{*}}\n",
                peer.address()
            ))
            .run();
        expect_records(&seen.recv_timeout(DEADLINE).unwrap(), "localhost:258");

        let (peer, seen) = proxy(kind, server.port());
        let (address, url) = (peer.address(), format!("{kind}://{}", peer.address()));
        client(&files, "localhost:258")
            .args(["-c", "1", "--proxy", &url])
            .stdout(format!(
                "PING localhost:258 (through {address}) 0 bytes of data. TLS 1.3, certificate {{*}}\n\
                 0 bytes from localhost:258: tcp_seq=1 time={{*}} ms\n\n\
             --- localhost:258 ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{*}} ms\n"
            ))
            .run();
        expect_records(&seen.recv_timeout(DEADLINE).unwrap(), "localhost:258");

        let (peer, seen) = proxy(kind, server.port());
        let url = format!("{kind}://{}", peer.address());
        let ca = files.path("ca.pem");
        let forward = [
            "--forward",
            "localhost:258",
            "--forward-tls",
            "--proxy",
            &url,
        ];
        let forward = tcp_server(forward.into_iter().chain(["--forward-tls-ca", &ca])).listen();
        netkit(["tcp-client", &forward.address()])
            .stdin("the secret")
            .stdout("the secret")
            .run();
        expect_records(&seen.recv_timeout(DEADLINE).unwrap(), "the secret");
    }
}

#[test]
fn bytes_that_are_glued_to_the_answer_of_a_proxy_belong_to_the_session() {
    let files = usual();
    let cases: [(&'static [u8], &str); 2] = [
        (
            b"\x15\x03\x03\0\x02\x02\x28",
            "the peer says handshake failure{*}",
        ),
        (b"SSH-2.0-x\r\n", "it does not speak TLS"),
    ];
    for kind in KINDS {
        for (early, why) in cases {
            let (sender, seen) = channel();
            let peer = Peer::listen(move |mut connection| {
                answer(&mut connection, kind, early);
                let mut bytes = Vec::new();
                let _ = connection.stream().read_to_end(&mut bytes);
                sender.send(bytes).unwrap();
            });
            let url = format!("{kind}://{}", peer.address());
            client(&files, "localhost:258")
                .args(["--proxy", &url])
                .stdin("the secret")
                .stderr(format!(
                    "netkit: could not speak TLS with localhost:258 through {}: {why}\n",
                    peer.address()
                ))
                .code(1)
                .run();
            expect_records(&seen.recv_timeout(DEADLINE).unwrap(), "the secret");
        }
    }
}
