//! A UDP server among forged datagrams, many addresses and other hosts.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::time::Duration;

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::datagrams::{
    address, answer_to_x, connected, expect, expect_nothing, receive, send, target,
};
use crate::harness::namespace::{Host, in_namespace, ip};
use crate::harness::{DEADLINE, Server, mailbox, netkit, udp_server};

/// Sends a datagram with a forged source, which only root can do.
fn forge(source: &str, target: &str, payload: &[u8]) {
    let source: SocketAddrV4 = source.parse().unwrap();
    let target: SocketAddrV4 = target.parse().unwrap();
    let length = |headers: usize| {
        u16::try_from(headers + payload.len())
            .unwrap()
            .to_be_bytes()
    };
    let mut packet = vec![0x45, 0];
    packet.extend(length(28));
    // No fragments, TTL 64, UDP. The kernel fills in the checksum.
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.ip().octets());
    packet.extend(target.ip().octets());
    packet.extend(source.port().to_be_bytes());
    packet.extend(target.port().to_be_bytes());
    packet.extend(length(8));
    // RFC 768: no checksum.
    packet.extend([0, 0]);
    packet.extend(payload);
    // IPPROTO_RAW: the header is included (raw(7)).
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    let to = SocketAddrV4::new(*target.ip(), 0);
    socket.send_to(&packet, &to.into()).unwrap();
}

/// The datagrams that `server` has logged when it answers an ordinary client.
#[track_caller]
fn received(server: &Server) -> Vec<String> {
    let client = mailbox();
    send(&client, "ordinary", server.address().parse().unwrap());
    expect(&client, "Hello, ordinary!");
    let ordinary = format!("Received from {}.", address(&client));
    // The answer may arrive before the log line.
    server.wait_for_line(&ordinary);
    let log = server.log();
    log.lines()
        .filter(|line| line.starts_with("Received from") && *line != ordinary)
        .map(str::to_owned)
        .collect()
}

#[test]
#[ignore = "needs root"]
fn a_forged_datagram_from_the_servers_own_address_is_not_answered() {
    for bind in ["127.0.0.1", "0.0.0.0"] {
        let server = udp_server(["-b", bind]).listen();
        let own = format!("127.0.0.1:{}", server.port());
        forge(&own, &own, b"x");
        let client = mailbox();
        send(&client, "ordinary", own.parse().unwrap());
        expect(&client, "Hello, ordinary!");
        let log = server.stop().stderr;
        let refused = format!(
            "netkit: no answer to a datagram from {own}: the source is this server's own \
             address\n"
        );
        assert!(log.contains(&refused), "{log}");
        assert_eq!(log.matches("Received from").count(), 1, "{log}");
    }
}

#[test]
#[ignore = "needs root"]
fn two_greeting_servers_stop_answering_each_other() {
    let one = udp_server([]).listen();
    let other = udp_server([]).listen();
    forge(&other.address(), &one.address(), b"x");
    one.wait_for_line("netkit: no answer to a datagram from {*}8 deep{*}");
    assert_eq!(received(&one).len() + received(&other).len(), 8);
}

#[test]
#[ignore = "needs root"]
fn a_source_that_cannot_be_a_client_is_not_answered() {
    let server = udp_server([]).listen();
    let target = server.address();
    for source in [
        "127.0.0.1:0",
        "127.0.0.1:7",
        "127.0.0.1:1023",
        "224.0.0.1:5000",
    ] {
        forge(source, &target, b"x");
    }
    assert!(received(&server).is_empty());
    let log = server.stop().stderr;
    assert!(log.contains(": the source port is below 1024\n"), "{log}");
    assert!(
        log.contains(": the source is a multicast, broadcast or"),
        "{log}"
    );
    assert!(
        log.contains("no answer to 3 datagrams in all: the source port"),
        "{log}"
    );
}

#[test]
#[ignore = "needs root"]
fn the_rate_limit_is_per_source() {
    let server = udp_server(["--rate-limit", "1"]).listen();
    for _ in 0..20 {
        forge("198.51.100.7:5000", &server.address(), b"x");
    }
    forge("198.51.100.8:5000", &server.address(), b"x");
    let lines = received(&server);
    let of = |source: &str| lines.iter().filter(|line| line.contains(source)).count();
    // A second may have passed, after which one more is answered.
    assert!((1..20).contains(&of("198.51.100.7")), "{lines:?}");
    assert_eq!(of("198.51.100.8"), 1);
    let log = server.stop().stderr;
    assert!(log.contains(": the source is over --rate-limit\n"), "{log}");
}

#[test]
#[ignore = "needs root"]
fn a_group_without_a_route_needs_an_interface() {
    in_namespace(|| {
        netkit(["udp-server", "-p", "9999", "--join", "239.1.2.3"])
            .stderr(
                "netkit: could not listen on 239.1.2.3:9999: --join 239.1.2.3: no route leads \
                 there; name an interface: 239.1.2.3%eth0\n",
            )
            .code(2)
            .run();
    });
}

#[test]
#[ignore = "needs root"]
fn any_warns_that_every_host_can_send() {
    in_namespace(|| {
        let server = udp_server(["-b", "any"]).listen();
        server.wait_for_line(
            "netkit: every host that can reach this machine can send to it: it listens on all \
             its addresses",
        );
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_answers_from_the_address_that_was_asked() {
    in_namespace(|| {
        let host = Host::connect();
        ip(&format!(
            "-n {} address add 192.0.2.3/24 dev far",
            host.name()
        ));
        for service in ["hello", "echo"] {
            let options = ["-b", "any", "--service", service];
            let server = udp_server(options).on(&host).listen();
            let near = name_to_index(mailbox(), "near").unwrap();
            // The last one sends from a global address to a link-local one.
            for (local, ip) in [
                ("192.0.2.1:0", "192.0.2.2"),
                ("192.0.2.1:0", "192.0.2.3"),
                ("[2001:db8::1]:0", "2001:db8::2"),
                ("[::]:0", "fe80::2"),
                ("[2001:db8::1]:0", "fe80::2"),
            ] {
                let target = with_zone(ip, near, server.port());
                let answer = answer_to_x(&connected(local, target));
                assert!(answer.contains('x'), "{ip}: {answer}");
            }
            let broadcast = UdpSocket::bind("192.0.2.1:0").unwrap();
            broadcast.set_broadcast(true).unwrap();
            broadcast.set_read_timeout(Some(DEADLINE)).unwrap();
            send(&broadcast, "x", with_zone("192.0.2.255", 0, server.port()));
            assert_eq!(
                receive(&broadcast).1,
                with_zone("192.0.2.2", 0, server.port())
            );
            server.stop();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn one_host_does_not_get_all_programs() {
    in_namespace(|| {
        let host = Host::connect();
        let options = ["-b", "192.0.2.2", "--max-peers", "4", "-e", "/bin/cat"];
        let server = udp_server(options).on(&host).listen();
        let clients = [(); 4].map(|()| connected("192.0.2.1:0", target(&server)));
        let [first, .., last] = &clients;
        for client in &clients[..3] {
            assert_eq!(answer_to_x(client), "x");
        }
        // The host has its share: its last peer replaces its first, which has sent one datagram.
        assert_eq!(answer_to_x(last), "x");
        server.wait_for_line(&format!(
            "Ended /bin/cat for {}: {} takes its place (--max-peers).",
            address(first),
            address(last)
        ));
        for client in &clients[1..] {
            assert_eq!(answer_to_x(client), "x");
        }
        // It does not get the place of another host either.
        forge("198.51.100.1:5000", &server.address(), b"x");
        server.wait_for_line("Started /bin/cat for 198.51.100.1:5000.");
        first.send(b"x").unwrap();
        server.wait_for_line(&format!(
            "netkit: no answer to a datagram from {}: its host has its share of --max-peers",
            address(first)
        ));
    });
}

/// The sizes of answers until a program has sent `total` bytes to `client`.
#[track_caller]
fn sizes(client: &UdpSocket, total: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    while sizes.iter().sum::<usize>() < total {
        sizes.push(receive(client).0.len());
    }
    sizes
}

#[test]
#[ignore = "needs root"]
fn a_datagram_earns_three_times_its_size_or_1400_bytes_and_more_waits() {
    in_namespace(|| {
        let host = Host::connect();
        let options = ["-b", "192.0.2.2", "--sh-exec", "yes"];
        let server = udp_server(options).on(&host).listen();
        let client = connected("192.0.2.1:0", target(&server));
        for (size, earned) in [(1, 1400), (1, 1400), (1000, 3000), (0, 1400)] {
            client.send(&vec![b'x'; size]).unwrap();
            assert_eq!(sizes(&client, earned).iter().sum::<usize>(), earned);
        }
        server.wait_for_line(&format!(
            "netkit: no answer to a datagram from {}: its program has sent all that it may \
             before it is heard again",
            address(&client)
        ));
        // What waits costs no processor time, and nothing more has come.
        expect_nothing(&client);
        assert!(server.cpu_time() < Duration::from_secs(1));
    });
}

#[test]
#[ignore = "needs root"]
fn what_a_program_printed_in_vain_is_counted_with_it() {
    in_namespace(|| {
        let host = Host::connect();
        let command = ["--sh-exec", "read x; seq 1000"];
        let server = udp_server(["-b", "192.0.2.2"].into_iter().chain(command));
        let server = server.on(&host).listen();
        let client = connected("192.0.2.1:0", target(&server));
        client.send(b"x\n").unwrap();
        // seq(1) prints 3893 bytes.
        server.wait_for_line("Ended {*}: it ended; 2493 bytes that it printed were not sent.");
        assert_eq!(sizes(&client, 1400).iter().sum::<usize>(), 1400);
        expect_nothing(&client);
    });
}

#[test]
#[ignore = "needs root"]
fn on_a_signal_what_waits_is_dropped_so_that_the_program_can_end() {
    in_namespace(|| {
        let host = Host::connect();
        let command = ["--sh-exec", "read x; seq 100000"];
        let server = udp_server(["-b", "192.0.2.2"].into_iter().chain(command));
        let server = server.on(&host).listen();
        let client = connected("192.0.2.1:0", target(&server));
        client.send(b"x\n").unwrap();
        server.wait_for_line("netkit: no answer to {*}: its program has sent all {*}");
        // Its status is 0: the program was not cut off.
        let log = server.stop().stderr;
        assert!(
            log.contains(": it ended; 587495 bytes that it printed were not sent.\n"),
            "{log}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn a_peer_that_allow_names_is_sent_all_and_one_that_is_only_not_denied_is_not() {
    in_namespace(|| {
        let host = Host::connect();
        for (list, all) in [
            (["--allow", "192.0.2.0/24"], true),
            (["--deny", "198.51.100.1"], false),
        ] {
            let command = ["-b", "192.0.2.2", "--sh-exec", "read x; seq 1000; exec cat"];
            let server = udp_server(list.into_iter().chain(command));
            let server = server.on(&host).listen();
            let client = connected("192.0.2.1:0", target(&server));
            client.send(b"x\n").unwrap();
            let expected = if all { 3893 } else { 1400 };
            assert_eq!(sizes(&client, expected).iter().sum::<usize>(), expected);
            let log = server.stop().stderr;
            assert_eq!(log.contains("has sent all that it may"), !all, "{log}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn forged_peers_do_not_shut_out_a_real_one() {
    in_namespace(|| {
        let host = Host::connect();
        let options = ["-b", "192.0.2.2", "--max-peers", "8", "-e", "/bin/cat"];
        let server = udp_server(options).on(&host).listen();
        let to = server.address();
        for number in 1..=8 {
            forge(&format!("198.51.100.{number}:5000"), &to, b"x");
        }
        server.wait_for_lines("Started {*}", 8);
        let client = connected("192.0.2.1:0", target(&server));
        for _ in 0..2 {
            assert_eq!(answer_to_x(&client), "x");
        }
        for number in 9..=16 {
            forge(&format!("198.51.100.{number}:5000"), &to, b"x");
        }
        assert_eq!(answer_to_x(&client), "x");
        let log = server.stop().stderr;
        let started = format!("Started /bin/cat for {}.", address(&client));
        assert_eq!(log.matches(&started).count(), 1, "{log}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_program_counts_for_its_host_until_it_has_ended() {
    in_namespace(|| {
        let host = Host::connect();
        let options = [
            "-b",
            "192.0.2.2",
            "--max-peers",
            "4",
            "--idle-timeout",
            "0.1",
        ];
        let command = ["--sh-exec", "trap '' TERM; exec sleep 60"];
        let server = udp_server(options.into_iter().chain(command));
        let server = server.on(&host).listen();
        let refusal = (0..100).find_map(|_| {
            let client = connected("192.0.2.1:0", target(&server));
            client.send(b"x").unwrap();
            // Either the program of this client is told to end, or the client is refused one.
            let line = server.wait_for_line(&format!("{{*}} {}: {{*}}", address(&client)));
            line.contains("no answer").then_some(line)
        });
        let refusal = refusal.unwrap();
        assert!(
            refusal.ends_with("its host has its share of --max-peers"),
            "{refusal}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn two_echoing_servers_stop_answering_each_other() {
    in_namespace(|| {
        for (one, other) in [
            (["--service", "echo"], ["--service", "echo"]),
            (["--service", "echo"], ["-e", "/bin/cat"]),
            (["-e", "/bin/cat"], ["-e", "/bin/cat"]),
        ] {
            let [one, other] = [one, other].map(|options| udp_server(options).listen());
            forge(&other.address(), &one.address(), b"x");
            // The first datagram has 64 hops, and each server sees every second one.
            other.wait_for_line("netkit: no answer to a datagram {*}: its hop limit is used {*}");
            for server in [one, other] {
                let log = server.stop().stderr;
                assert!(
                    (31..=32).contains(&log.matches("Received from").count()),
                    "{log}"
                );
            }
        }
    });
}

fn with_zone(ip: &str, zone: u32, port: u16) -> SocketAddr {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, zone).into(),
    }
}
