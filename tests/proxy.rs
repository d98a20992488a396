//! `--proxy`: what goes to each kind of proxy, what comes back, and whose fault it is.

use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::{
    Connection, Peer, ReservedPort, netkit, netkit_path, random_bytes, tcp_server,
};

/// What a SOCKS 5 proxy is sent for the name `a.test` and port 258, after the greeting.
const NAMED: &[u8] = b"\x05\x01\x00\x03\x06a.test\x01\x02";
const CONNECTED: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";

fn socks5(connection: &mut Connection, request: &[u8]) {
    connection.expect([5, 1, 0]);
    connection.send([5, 0]);
    connection.expect(request);
}

#[test]
fn each_kind_of_proxy_is_asked_in_its_own_way() {
    let socks4 = b"\x04\x01\x01\x02\0\0\0\x01\0a.test\0";
    let connect = b"CONNECT a.test:258 HTTP/1.1\r\nHost: a.test:258\r\n\r\n";
    let answered = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    let kinds: [(&str, &'static [u8], &'static [u8]); 2] = [
        ("socks4a", socks4, b"\0\x5a\0\0\0\0\0\0"),
        ("http", connect, answered),
    ];
    for (kind, request, reply) in kinds {
        let proxy = Peer::listen(move |mut connection| {
            connection.expect(request);
            // The first bytes of the peer are glued to the answer.
            connection.send([reply, b"banner"].concat());
            connection.expect("ping");
            connection.expect_eof();
            connection.send("pong");
        });
        let url = format!("{kind}://{}", proxy.address());
        netkit(["tcp-client", "a.test:258", "--proxy", &url])
            .stdin("ping")
            .stdout("bannerpong")
            .run();
    }
}

#[test]
fn no_byte_behind_an_answer_is_lost_however_it_comes() {
    let replies: [&[u8]; 3] = [
        CONNECTED,
        &[b"\x05\0\0\x04", &[9; 18][..]].concat(),
        b"\x05\0\0\x03\x05proxy\x01\x02",
    ];
    for reply in replies {
        let answer = [reply, b"banner"].concat();
        let proxy = Peer::listen(move |mut connection| {
            connection.expect([5, 1, 0]);
            connection.send([5]);
            connection.send([0]);
            connection.expect(NAMED);
            for byte in answer {
                connection.send([byte]);
            }
            connection.expect_eof();
        });
        let url = format!("socks5h://{}", proxy.address());
        netkit(["tcp-client", "a.test:258", "--proxy", &url])
            .stdin("")
            .stdout("banner")
            .run();
    }
    let proxy = Peer::listen(|mut connection| {
        connection.expect("CONNECT a.test:258 ");
        for byte in b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" {
            connection.send([*byte]);
        }
        connection.drain();
    });
    let url = format!("http://{}", proxy.address());
    netkit(["tcp-client", "a.test:258", "--proxy", &url])
        .stdin("")
        .stdout("HTTP/1.1 200 OK\r\n\r\n")
        .run();
}

#[test]
fn a_name_of_255_bytes_reaches_the_proxy_whole() {
    let name = "x".repeat(255);
    for kind in ["socks5h", "socks4a", "http"] {
        let (request, answer) = match kind {
            "socks5h" => (
                [b"\x05\x01\x00\x03\xff", name.as_bytes(), &[1, 2]].concat(),
                CONNECTED,
            ),
            "socks4a" => (
                [b"\x04\x01\x01\x02\0\0\0\x01\0", name.as_bytes(), &[0]].concat(),
                &b"\0\x5a\0\0\0\0\0\0"[..],
            ),
            _ => (
                format!("CONNECT {name}:258 HTTP/1.1\r\nHost: {name}:258\r\n\r\n").into_bytes(),
                &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            ),
        };
        let proxy = Peer::listen(move |mut connection| {
            if kind == "socks5h" {
                connection.expect([5, 1, 0]);
                connection.send([5, 0]);
            }
            connection.expect(request);
            connection.send(answer);
            connection.expect_eof();
        });
        let url = format!("{kind}://{}", proxy.address());
        netkit(["tcp-client", &format!("{name}:258"), "--proxy", &url])
            .stdin("")
            .run();
    }
}

#[test]
fn socks5_and_socks4_are_asked_for_an_address() {
    for (kind, request, reply) in [
        (
            "socks5",
            &b"\x05\x01\x00\x01\x7f\0\0\x01\x01\x02"[..],
            CONNECTED,
        ),
        (
            "socks4",
            b"\x04\x01\x01\x02\x7f\0\0\x01me\0",
            b"\0\x5a\0\0\0\0\0\0",
        ),
    ] {
        let proxy = Peer::listen(move |mut connection| {
            if reply[0] == 5 {
                connection.expect([5, 2, 0, 2]);
                connection.send([5, 0]);
            }
            connection.expect(request);
            connection.send(reply);
            connection.expect_eof();
        });
        let url = format!("{kind}://me@{}", proxy.address());
        // Without -4: that is about the way to the proxy. `localhost` may have an IPv6 address too.
        netkit(["tcp-client", "127.0.0.1:258", "--proxy", &url])
            .stdin("")
            .run();
    }
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let login = b"\x01\x02me\x06secret";
    for (user, name, value) in [
        ("me:secr%65t@", "NETKIT_PROXY_AUTH", "other:words"),
        ("", "NETKIT_PROXY_AUTH", "me:secret"),
    ] {
        let proxy = Peer::listen(move |mut connection| {
            connection.expect([5, 2, 0, 2]);
            connection.send([5, 2]);
            connection.expect(login);
            connection.send([1, 1]);
        });
        let url = format!("socks5h://{user}{}", proxy.address());
        let address = proxy.address().to_owned();
        // Once: what is refused is not tried again.
        netkit(["tcp-client", "a.test:258", "--retry", "3", "--proxy", &url])
            .env(name, value)
            .code(1)
            .stderr(format!(
                "netkit: could not connect to a.test:258 through {address}: the proxy refuses the credentials \
                 (--proxy with USER:PASSWORD@, or NETKIT_PROXY_AUTH)\n"
            ))
            .run();
    }
    let proxy = Peer::listen(|mut connection| {
        connection.expect("CONNECT a.test:258 HTTP/1.1\r\nHost: a.test:258\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n");
        connection.send("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    });
    netkit(["tcp-client", "a.test:258", "--proxy", proxy.address()])
        .env("NETKIT_PROXY_AUTH", "me:secret")
        .code(1)
        .stderr("netkit: {*}the proxy refuses the credentials{*}\n")
        .run();
}

#[test]
fn every_refusal_names_the_proxy_and_its_words() {
    let refusals: [(&[u8], i32, &str); 10] = [
        (
            b"\x05\x01\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says general failure",
        ),
        (
            b"\x05\x02\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says not allowed by its rules",
        ),
        (
            b"\x05\x03\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says network unreachable",
        ),
        (
            b"\x05\x04\0\x01\0\0\0\0\0\0",
            3,
            "the proxy says host unreachable",
        ),
        (
            b"\x05\x05\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says connection refused",
        ),
        (
            b"\x05\x06\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says hop limit reached",
        ),
        (
            b"\x05\x07\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says command not supported",
        ),
        (
            b"\x05\x08\0\x01\0\0\0\0\0\0",
            1,
            "the proxy says address type not supported",
        ),
        (b"\x05\x09\0\x01\0\0\0\0\0\0", 1, "the proxy says error 9"),
        (
            b"HTTP/1.1 400 Bad",
            1,
            "it does not answer as a SOCKS5 proxy",
        ),
    ];
    for (reply, code, why) in refusals {
        let proxy = Peer::listen(move |mut connection| {
            socks5(&mut connection, NAMED);
            connection.send(reply);
        });
        let url = format!("socks5h://{}", proxy.address());
        netkit(["tcp-client", "a.test:258", "--proxy", &url])
            .code(code)
            .stderr(format!(
                "netkit: could not connect to a.test:258 through {}: {why}\n",
                proxy.address()
            ))
            .run();
    }
}

#[test]
fn a_proxy_that_ends_in_any_state_is_exit_1() {
    let answer = [b"\x05\0", CONNECTED].concat();
    for count in 0..answer.len() {
        let answer = answer[..count].to_vec();
        let proxy = Peer::listen(move |mut connection| {
            connection.expect([5, 1, 0]);
            let (method, reply) = answer.split_at(answer.len().min(2));
            connection.send(method);
            if answer.len() >= 2 {
                connection.expect(NAMED);
                connection.send(reply);
            }
            connection.shutdown();
            connection.drain();
        });
        let url = format!("socks5h://{}", proxy.address());
        netkit(["tcp-client", "a.test:258", "--proxy", &url])
            .code(1)
            .stderr(format!(
                "netkit: could not connect to a.test:258 through {}: the proxy has closed the connection\n",
                proxy.address()
            ))
            .run();
    }
}

#[test]
fn a_proxy_that_never_answers_is_exit_4_at_the_limit() {
    for kind in ["socks4a", "socks5h", "http"] {
        let proxy = Peer::listen(|mut connection| connection.drain());
        let url = format!("{kind}://{}", proxy.address());
        netkit(["tcp-client", "a.test:258", "-w", "1s", "--proxy", &url])
            .code(4)
            .stderr(format!(
                "netkit: could not connect to a.test:258 through {}: no answer within 1s\n",
                proxy.address()
            ))
            .run();
    }
}

#[test]
fn a_proxy_that_is_down_is_told_from_a_target_that_is() {
    let reserved = ReservedPort::tcp();
    let port = reserved.number();
    let url = format!("http://127.0.0.1:{port}");
    netkit(["tcp-client", "a.test:258", "--proxy", &url])
        .code(1)
        .stderr(format!(
            "netkit: could not connect to a.test:258 through a proxy: could not connect to \
             127.0.0.1:{port}: connection refused\n"
        ))
        .run();
}

#[test]
fn a_chain_is_asked_one_after_the_other() {
    let proxy = Peer::listen(|mut connection| {
        socks5(&mut connection, b"\x05\x01\x00\x03\x06b.test\x0c\x38");
        connection.send(CONNECTED);
        connection.expect("CONNECT c.test:1080 HTTP/1.1\r\nHost: c.test:1080\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        connection.expect(b"\x04\x01\x01\x02\0\0\0\x01\0a.test\0");
        connection.send(b"\0\x5a\0\0\0\0\0\0banner");
        connection.expect_eof();
    });
    let first = format!("socks5h://{}", proxy.address());
    let hops = [
        "--proxy",
        &first,
        "--proxy",
        "http://b.test",
        "--proxy",
        "socks4a://c.test",
    ];
    netkit(["tcp-client", "a.test:258"].into_iter().chain(hops))
        .stdin("")
        .stdout("banner")
        .run();
    let proxy = Peer::listen(|mut connection| {
        connection.expect("CONNECT b.test:3128 ");
        connection.expect("HTTP/1.1\r\nHost: b.test:3128\r\n\r\n");
        connection.send("HTTP/1.1 503 Down\r\n\r\n");
    });
    let hops = ["--proxy", proxy.address(), "--proxy", "http://b.test"];
    netkit(["tcp-client", "a.test:258"].into_iter().chain(hops))
        .code(1)
        .stderr(format!(
            "netkit: could not connect to a.test:258 through {}: asked for b.test:3128: the proxy says \"503 Down\"\n",
            proxy.address()
        ))
        .run();
}

#[test]
fn bad_input_is_refused_by_name_and_nothing_is_sent() {
    let reserved = ReservedPort::tcp();
    let port = reserved.number();
    let mut name = String::new();
    write!(name, "{}:1", "x".repeat(256)).unwrap();
    let proxy = format!("127.0.0.1:{port}");
    let socks = format!("socks5h://{proxy}");
    let socks4 = format!("socks4a://{proxy}");
    for (arguments, message) in [
        (
            &[&name[..], "--proxy", &socks][..],
            format!("could not connect to {name} through {proxy}: the name has 256 bytes, and a proxy takes 255"),
        ),
        (
            &["[::1]:1", "--proxy", &socks4],
            format!("could not connect to [::1]:1 through {proxy}: SOCKS4 knows no IPv6"),
        ),
        (
            &["a:1", "--proxy", "https://u:p@h"],
            "--proxy https://h: a proxy that is spoken to with TLS is not supported; write http://; \
             see 'netkit tcp-client -h'"
                .to_owned(),
        ),
        (
            &["a:1", "--proxy", "env", "--proxy", "http://h"],
            "--proxy env is the whole chain: name no other proxy; see 'netkit tcp-client -h'".to_owned(),
        ),
        (
            &["unix:/x", "--proxy", "http://h"],
            "--proxy does nothing with a Unix socket; see 'netkit tcp-client -h'".to_owned(),
        ),
    ] {
        netkit(["tcp-client"].iter().chain(arguments))
            .code(2)
            .stderr(format!("netkit: {message}\n"))
            .run();
    }
}

#[test]
fn the_environment_counts_only_when_it_is_asked_for() {
    let target = Peer::listen(|mut connection| connection.expect_eof());
    netkit(["tcp-client", target.address()])
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .stdin("")
        .run();
    for (list, is_straight) in [("10.0.0.0/8, 127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let peer = Peer::listen(move |mut connection| {
            if !is_straight {
                connection.expect("CONNECT 127.0.0.1:258 HTTP/1.1\r\nHost: 127.0.0.1:258\r\n\r\n");
                connection.send("HTTP/1.1 200 OK\r\n\r\n");
            }
            connection.expect_eof();
        });
        let target = if is_straight {
            peer.address()
        } else {
            "127.0.0.1:258"
        };
        let proxy = if is_straight {
            "127.0.0.1:1"
        } else {
            peer.address()
        };
        netkit(["tcp-client", target, "--proxy", "env"])
            .env("all_proxy", proxy)
            .env("ALL_PROXY", "ftp://wrong")
            .env("NO_PROXY", list)
            .stdin("")
            .run();
    }
    let target = Peer::listen(|mut connection| connection.expect_eof());
    netkit(["tcp-client", target.address(), "--proxy", "env"])
        .stdin("")
        .run();
}

#[test]
fn check_and_forward_go_through_a_proxy_too() {
    let proxy = Peer::listen(|mut connection| {
        socks5(&mut connection, NAMED);
        connection.send(CONNECTED);
        connection.expect_eof();
    });
    let url = format!("socks5h://{}", proxy.address());
    netkit(["tcp-client", "-z", "a.test:258", "--proxy", &url])
        .stdout(format!(
            "a.test:258 through {} open, {{*}} ms\n",
            proxy.address()
        ))
        .run();
    let proxy = Peer::listen(|mut connection| {
        socks5(&mut connection, NAMED);
        connection.send(b"\x05\x05\0\x01\0\0\0\0\0\0");
    });
    let url = format!("socks5h://{}", proxy.address());
    netkit(["tcp-client", "-z", "a.test:258", "--proxy", &url])
        .code(1)
        .stderr("netkit: could not connect to a.test:258 through {*}: the proxy says connection refused\n")
        .run();
    let proxy = Peer::listen(|mut connection| {
        socks5(&mut connection, NAMED);
        connection.send([CONNECTED, b"banner"].concat());
        connection.expect("ping");
        connection.expect_eof();
        connection.send("pong");
    });
    let url = format!("socks5h://{}", proxy.address());
    let server = tcp_server(["--forward", "a.test:258", "--proxy", &url]).listen();
    netkit(["tcp-client", &server.address()])
        .stdin("ping")
        .stdout("bannerpong")
        .run();
}

#[test]
fn much_data_passes_through_a_proxy_by_splice() {
    let bytes = random_bytes(4 << 20);
    let expected = bytes.clone();
    let proxy = Peer::listen(move |mut connection| {
        connection.expect("CONNECT a.test:258 HTTP/1.1\r\nHost: a.test:258\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        assert!(connection.receive_all() == expected);
    });
    netkit(["tcp-client", "a.test:258", "--proxy", proxy.address()])
        .stdin(bytes)
        .run();
    let proxy = Peer::listen(|mut connection| {
        connection.expect("CONNECT a.test:258 HTTP/1.1\r\nHost: a.test:258\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        connection.send(vec![b'x'; 4 << 20]);
    });
    if let Some(trace) = crate::harness::peer("strace", ["-f", "-e", "trace=splice"]) {
        let trace = trace.arg(netkit_path());
        let trace = trace.args(["tcp-client", "a.test:258", "--proxy", proxy.address()]);
        let finished = trace.stdin("").within(Duration::from_secs(20)).run();
        assert_eq!(finished.stdout.len(), 4 << 20);
        assert!(finished.stderr.contains("splice("), "{}", finished.stderr);
    }
}

#[test]
fn timing_tells_when_the_proxies_had_connected() {
    let proxy = Peer::listen(|mut connection| {
        connection.expect("CONNECT a.test:258 HTTP/1.1\r\nHost: a.test:258\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        connection.expect_eof();
    });
    netkit([
        "tcp-client",
        "a.test:258",
        "--timing",
        "--proxy",
        proxy.address(),
    ])
    .stdin("")
    .stderr("resolve {*} ms, connect {*} ms, proxy {*} ms, first byte none, total {*} ms\n")
    .run();
}
