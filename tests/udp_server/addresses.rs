//! A server on all addresses answers from the one that was asked.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::harness::datagrams::{answer_to_x, connected, expect, receive, send};
use crate::harness::{mailbox, udp_server};

#[test]
fn a_server_on_all_addresses_answers_from_the_one_that_was_asked() {
    let command = "echo $NETKIT_LOCAL_ADDR $NETKIT_LOCAL_PORT";
    let services: [&[&str]; 3] = [&[], &["--service", "echo"], &["--sh-exec", command]];
    for service in services {
        let any = ["-b", "any", "--join", "239.1.2.3%lo"]
            .iter()
            .chain(service);
        let server = udp_server(any.copied()).listen();
        let port = server.port();
        for (local, ip) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("127.0.0.1:0", "127.0.0.2"),
            ("127.0.0.3:0", "127.255.255.254"),
            ("[::1]:0", "::1"),
        ] {
            let client = connected(local, SocketAddr::new(ip.parse().unwrap(), port));
            let expected = match service {
                [] => "Hello, x!".to_owned(),
                ["--service", _] => "x".to_owned(),
                _ => format!("{ip} {port}\n"),
            };
            assert_eq!(answer_to_x(&client), expected, "{service:?} {ip}");
        }
        server.stop();
    }
}

#[test]
fn a_peer_gets_a_program_for_each_address_that_it_asks() {
    let server = udp_server(["-b", "0.0.0.0", "--sh-exec", "exec cat"]).listen();
    let client = mailbox();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 1]] {
        let target = SocketAddr::new(ip.into(), server.port());
        send(&client, "x", target);
        assert_eq!(receive(&client).1, target);
    }
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), 2, "{log}");
}

#[test]
fn standard_input_is_sent_from_the_address_that_was_asked() {
    let mut server = udp_server(["-b", "0.0.0.0", "--service", "stdio"])
        .stdin_open()
        .listen();
    let client = mailbox();
    let target = SocketAddr::new([127, 0, 0, 2].into(), server.port());
    send(&client, "there", target);
    server.receive("there");
    server.send("and back");
    assert_eq!(expect(&client, "and back"), target);
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn a_datagram_whose_hop_limit_is_used_up_is_not_answered() {
    let services = [
        ["--service", "hello"],
        ["--service", "echo"],
        ["-e", "/bin/cat"],
    ];
    for service in services {
        for bind in ["127.0.0.1", "0.0.0.0"] {
            let server = udp_server(["-b", bind].into_iter().chain(service)).listen();
            let target = SocketAddr::new([127, 0, 0, 1].into(), server.port());
            let client = connected("127.0.0.1:0", target);
            client.set_ttl(1).unwrap();
            client.send(b"x").unwrap();
            server.wait_for_line(
                "netkit: no answer to a datagram from {*}: its hop limit is used up: two \
                 servers answering each other",
            );
            client.set_ttl(2).unwrap();
            let answer = answer_to_x(&client);
            assert!(["x", "Hello, x!"].contains(&&*answer), "{answer}");
            server.stop();
        }
    }
}
