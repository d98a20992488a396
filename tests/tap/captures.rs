//! `--record FILE.pcapng`: what passed, with its addresses and its ends, in a file that stays readable.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::datagrams::{expect, mailbox, send, target};
use crate::harness::pcapng::{Packet, Stream, packets, sections, streams};
use crate::harness::{
    Peer, Server, named_pipe, netkit, random_bytes, tcp_server, temporary_folder, udp_server,
};

fn captured(file: &Path) -> Vec<Stream> {
    streams(&packets(&fs::read(file).unwrap()))
}

fn datagrams(file: &Path) -> Vec<String> {
    let line = |packet: Packet| {
        assert_eq!(packet.tcp, None);
        let payload = String::from_utf8(packet.payload).unwrap();
        let sign = if packet.is_sent { '>' } else { '<' };
        format!("{sign} {} {} {payload}", packet.from, packet.to)
    };
    let packets = packets(&fs::read(file).unwrap());
    packets.into_iter().map(line).collect()
}

fn wait_for_ends(server: &Server, count: usize) {
    server.wait_for_lines("Connection from {*} closed{*}", count);
}

#[test]
fn a_client_captures_both_directions_whole_and_both_ends() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let bytes = random_bytes(3_000_000);
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let server = netkit(["tcp-server", listen, "--sh-exec", "cat"]);
        let address = server_address(server);
        netkit(["tcp-client", &address.1, "--record"])
            .arg(&file)
            .stdin(&bytes)
            .stdout(&bytes)
            .run();
        let streams = captured(&file);
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].server.to_string(), address.1);
        assert_eq!(streams[0].client.ip(), streams[0].server.ip());
        assert!(streams[0].is_ours);
        assert!(streams[0].to_server == bytes && streams[0].to_client == bytes);
        assert_eq!(streams[0].ends, "client FIN, server FIN");
        assert_eq!(streams[0].comment, address.1);
    }
}

/// A server, and the address that it listens on.
fn server_address(server: crate::harness::Program) -> (Server, String) {
    let server = server.any_stderr().any_code().listen();
    let address = server.addresses(1)[0].to_string();
    (server, address)
}

#[test]
fn a_server_captures_each_connection_of_every_service() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let echo = tcp_server(["--service", "echo"]).listen();
    let echo = echo.address();
    for service in [
        &["--service", "echo"][..],
        &["--sh-exec", "cat"],
        &["--forward", &echo],
        &["--service", "broker", "--max-connections", "9"],
    ] {
        let is_broker = service[1] == "broker";
        let server = tcp_server(service.iter().copied())
            .arg("--record")
            .arg(&file)
            .listen();
        let bytes: Vec<_> = (0..4).map(|_| random_bytes(100_000)).collect();
        let mut clients: Vec<_> = bytes.iter().map(|_| server.connect()).collect();
        for (client, bytes) in clients.iter_mut().zip(&bytes) {
            client.send(bytes);
            if !is_broker {
                client.expect(bytes);
            }
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for mut client in clients {
            addresses.push(client.local().parse().unwrap());
            client.shutdown();
            if is_broker {
                client.drain();
            } else {
                client.expect_eof();
            }
        }
        wait_for_ends(&server, 4);
        let streams = captured(&file);
        assert_eq!(streams.len(), 4, "{service:?}");
        for stream in streams {
            let number = addresses.iter().position(|client| *client == stream.client);
            let bytes = &bytes[number.unwrap()];
            assert_eq!(stream.server.port(), server.port());
            assert!(!stream.is_ours);
            assert!(&stream.to_server == bytes, "{service:?}");
            assert!(is_broker || &stream.to_client == bytes, "{service:?}");
            assert_eq!(stream.ends, "client FIN, server FIN", "{service:?}");
            let from = format!(" from {}", stream.client);
            assert!(stream.comment.ends_with(&from), "{}", stream.comment);
        }
    }
}

#[test]
fn the_side_that_resets_is_the_side_that_did() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = |options: &[&str]| {
        let server = tcp_server(options.iter().copied()).arg("--record");
        server.arg(&file).any_stderr().any_code().listen()
    };
    let ends = || captured(&file).remove(0).ends;
    for service in ["hello", "echo", "discard"] {
        let by_peer = server(&["--service", service]);
        let mut client = by_peer.connect();
        if service == "hello" {
            client.expect("Welcome!");
        }
        client.send("a");
        by_peer.wait_for_lines("Accept new connection from {*}...", 1);
        client.reset();
        wait_for_ends(&by_peer, 1);
        assert_eq!(ends(), "client RST", "{service}");

        let idle = server(&["--service", service, "--idle-timeout", "0.1"]);
        let mut client = idle.connect();
        wait_for_ends(&idle, 1);
        client.drain();
        assert_eq!(ends(), "server RST", "{service}");

        let stopped = server(&["--service", service, "--drain-timeout", "0.1"]);
        let mut client = stopped.connect();
        stopped.wait_for_lines("Accept new connection from {*}...", 1);
        client.send("a");
        stopped.signal(Signal::TERM);
        let _ = stopped.finish();
        client.drain();
        assert_eq!(ends(), "server RST", "{service}");
    }
}

#[test]
fn a_reset_ends_the_capture_of_a_client_after_what_came_before_it() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let peer = Peer::listen(|mut connection| {
        connection.send("partial");
        connection.expect("got it");
        connection.reset();
    });
    let mut client = netkit(["tcp-client", peer.address(), "--record"])
        .arg(&file)
        .stdin_open()
        .any_stderr()
        .code(1)
        .start();
    client.receive("partial");
    client.send("got it");
    client.finish();
    let stream = captured(&file).remove(0);
    assert_eq!(stream.to_client, b"partial");
    assert_eq!(stream.to_server, b"got it");
    assert_eq!(stream.ends, "server RST");
}

#[test]
fn connections_on_a_unix_socket_have_stand_in_addresses() {
    let folder = temporary_folder();
    let path = |name: &str| folder.path().join(name);
    let address = format!("unix:{}", path("socket").display());
    let server = netkit(["tcp-server", "--service", "echo", &address, "--record"])
        .arg(path("server.pcapng"))
        .any_stderr()
        .start();
    server.wait_for_line("Waiting for connection...");
    for append in [&[][..], &["--append"]] {
        netkit(["tcp-client", &address, "--record"])
            .arg(path("client.pcapng"))
            .args(append.iter().copied())
            .stdin("a")
            .stdout("a")
            .run();
    }
    server.wait_for_lines("Connection from {*} closed.", 2);
    let of_server = captured(&path("server.pcapng"));
    assert_ne!(of_server[0].client, of_server[1].client);
    let of_clients = sections(&fs::read(path("client.pcapng")).unwrap());
    let of_clients = of_clients.iter().flat_map(|section| streams(section));
    for stream in of_server.into_iter().chain(of_clients) {
        assert_eq!(stream.client.ip().to_string(), "192.0.2.1");
        assert_eq!(stream.server.to_string(), "192.0.2.2:1");
        assert_eq!(
            (&stream.to_server[..], &stream.to_client[..]),
            (&b"a"[..], &b"a"[..])
        );
        let word = if stream.is_ours {
            &address
        } else {
            "unix (pid "
        };
        assert!(stream.comment.contains(word), "{}", stream.comment);
    }
    server.signal(Signal::TERM);
    let _ = server.finish();
}

#[test]
fn datagrams_have_the_addresses_that_they_had() {
    let folder = temporary_folder();
    let path = |name: &str| folder.path().join(name);
    let server = udp_server(["-b", "0.0.0.0", "--record"])
        .arg(path("server.pcapng"))
        .listen();
    let address = format!("127.0.0.1:{}", server.port());
    netkit(["udp-client", &address, "a", "", "--record"])
        .arg(path("client.pcapng"))
        .stdout("Hello, a!\nHello, !\n")
        .run();
    let client = mailbox();
    let other = client.local_addr().unwrap();
    send(&client, "b", address.parse().unwrap());
    expect(&client, "Hello, b!");
    let log = server.stop().stderr;
    assert!(!log.contains("Writing down"), "{log}");
    let of_client = datagrams(&path("client.pcapng"));
    let own = of_client[0].split(' ').nth(1).unwrap();
    let pair = |from: &str, to: &str, sign: [char; 2], texts: [&str; 2]| {
        let [ask, answer] = texts;
        let [out, back] = sign;
        [
            format!("{out} {from} {to} {ask}"),
            format!("{back} {to} {from} {answer}"),
        ]
    };
    let seen = |signs| {
        [["a", "Hello, a!"], ["", "Hello, !"]].map(|texts| pair(own, &address, signs, texts))
    };
    assert_eq!(of_client, seen(['>', '<']).concat());
    let mut of_server = seen(['<', '>']).concat();
    of_server.extend(pair(
        &other.to_string(),
        &address,
        ['<', '>'],
        ["b", "Hello, b!"],
    ));
    assert_eq!(datagrams(&path("server.pcapng")), of_server);
}

#[test]
fn datagrams_of_any_size_and_over_ipv6_are_captured() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = netkit(["udp-server", "[::1]:0", "--service", "echo", "--record"])
        .arg(&file)
        .any_stderr()
        .listen();
    let client = UdpSocket::bind("[::1]:0").unwrap();
    let to: SocketAddr = format!("[::1]:{}", target(&server).port()).parse().unwrap();
    let bytes = random_bytes(65_507);
    for size in [65_507, 0, 1] {
        send(&client, &bytes[..size], to);
        expect(&client, &bytes[..size]);
    }
    let _ = server.stop();
    let packets = packets(&fs::read(&file).unwrap());
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let age = age.abs_diff(packets[0].nanos.into());
    assert!(age < Duration::from_secs(3600).as_nanos(), "{age}");
    let sizes: Vec<_> = packets.iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(sizes, [65_507, 65_507, 0, 0, 1, 1]);
    assert!(packets[0].payload == bytes && packets[1].payload == bytes);
    assert_eq!(
        (packets[1].from, packets[1].to),
        (to, client.local_addr().unwrap())
    );
}

#[test]
fn a_killed_server_leaves_a_capture_that_can_be_read() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = tcp_server(["--service", "echo", "--record"])
        .arg(&file)
        .killed_by(Signal::KILL)
        .listen();
    let mut client = server.connect();
    for piece in ["first", "second"] {
        client.send(piece);
        client.expect(piece);
    }
    server.signal(Signal::KILL);
    server.finish();
    let stream = captured(&file).remove(0);
    assert_eq!(stream.to_server, b"firstsecond");
    // The answer may have been on its way to the file.
    assert!(stream.to_client.starts_with(b"first"));
    assert_eq!(stream.ends, "");
}

#[test]
fn an_old_capture_is_emptied_or_with_append_gets_another_section() {
    let folder = temporary_folder();
    let file = folder.path().join("a.PcapNG");
    let server = tcp_server(["--service", "echo"]).listen();
    let run = |append: &[&str]| {
        netkit(["tcp-client", &server.address(), "--record"])
            .arg(&file)
            .args(append.iter().copied())
            .stdin("a")
            .stdout("a")
            .run();
        sections(&fs::read(&file).unwrap()).len()
    };
    assert_eq!(run(&[]), 1);
    assert_eq!(run(&["--append"]), 2);
    assert_eq!(run(&["--append"]), 3);
    assert_eq!(run(&[]), 1);
    fs::remove_file(&file).unwrap();
    assert_eq!(run(&["--append"]), 1);
}

#[test]
fn append_refuses_what_is_no_capture_and_a_capture_that_is_cut_short() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = tcp_server(["--service", "echo"]).listen();
    netkit(["tcp-client", &server.address(), "--record"])
        .arg(&file)
        .stdin("a")
        .stdout("a")
        .run();
    let whole = fs::read(&file).unwrap();
    for (bytes, told) in [
        (&whole[..whole.len() - 1], "its last block is cut short"),
        (b"precious", "it is no pcapng file"),
    ] {
        fs::write(&file, bytes).unwrap();
        for words in ["tcp-server -p 0", "udp-server -p 0", "udp-client :9 a"] {
            netkit(words.split(' '))
                .args(["--append", "--record"])
                .arg(&file)
                .stderr(format!(
                    "netkit: could not append to {}: {told}\n",
                    file.display()
                ))
                .code(2)
                .run();
            assert!(fs::read(&file).unwrap() == bytes);
        }
    }
}

#[test]
fn names_that_promise_something_else_are_refused() {
    for (option, name, told) in [
        (
            "-x",
            "a.pcapng",
            "could not dump to a.pcapng: --record a.pcapng writes a capture",
        ),
        (
            "--record",
            "a.pcap",
            "could not record to a.pcap: the capture that netkit writes is a.pcapng",
        ),
    ] {
        for words in [
            "tcp-client :9",
            "udp-client :9 a",
            "tcp-server -p 0",
            "udp-server -p 0",
        ] {
            netkit(words.split(' '))
                .args([option, name])
                .stderr(format!("netkit: {told}; see 'netkit {{*}} -h'\n"))
                .code(2)
                .run();
        }
    }
}

#[test]
fn a_file_that_takes_no_more_is_told_and_ends_with_a_whole_block() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = tcp_server(["--service", "discard"]).listen();
    netkit(["tcp-client", &server.address(), "--record"])
        .arg(&file)
        .stdin(random_bytes(1_000_000))
        .ulimit("-f 100")
        .stderr("netkit: could not write {*}/a.pcapng: file too large\n")
        .code(2)
        .run();
    let stream = captured(&file).remove(0);
    assert!(!stream.to_server.is_empty());
}

#[test]
fn a_capture_can_be_read_from_a_named_pipe_meanwhile() {
    let folder = temporary_folder();
    let pipe = folder.path().join("a.pcapng");
    named_pipe(&pipe);
    let server = tcp_server(["--service", "echo"]).listen();
    let client = netkit(["tcp-client", &server.address(), "--record"])
        .arg(&pipe)
        .stdin("a")
        .stdout("a")
        .start();
    let stream = captured(&pipe).remove(0);
    client.finish();
    assert_eq!(
        (&stream.to_server[..], &stream.to_client[..]),
        (&b"a"[..], &b"a"[..])
    );
    assert_eq!(stream.ends, "client FIN, server FIN");
}

#[test]
fn a_server_without_connections_leaves_an_empty_capture() {
    let folder = temporary_folder();
    let file = folder.path().join("a.pcapng");
    let server = tcp_server(["--record"]).arg(&file).listen();
    let _ = server.stop();
    assert!(captured(&file).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_datagram_to_a_group_has_the_address_of_the_group() {
    let folder = temporary_folder();
    let path = |name: &str| folder.path().join(name);
    for bind in [&["-b", "any"][..], &[]] {
        let server = udp_server(bind.iter().copied())
            .args(["--join", "239.1.2.3%lo", "--record"])
            .arg(path("server.pcapng"))
            .listen();
        let group = format!("239.1.2.3:{}", server.port());
        netkit(["udp-client", &group, "a", "-W", "0.2", "--record"])
            .arg(path("client.pcapng"))
            .args(["--multicast-interface", "lo"])
            .any_stdout()
            .any_stderr()
            .any_code()
            .run();
        server.wait_for_line("Received from {*}.");
        let _ = server.stop();
        let of_server = packets(&fs::read(path("server.pcapng")).unwrap());
        let of_client = packets(&fs::read(path("client.pcapng")).unwrap());
        assert_eq!(of_client[0].to.to_string(), group);
        assert_eq!(of_server[0].to.to_string(), group);
        assert_eq!(of_server[0].from.port(), of_client[0].from.port());
        assert_ne!(of_client[0].from.port(), 0);
        let answer = &of_server[1];
        assert_eq!(answer.to, of_server[0].from);
        let ip = answer.from.ip();
        assert!(!ip.is_multicast() && !ip.is_unspecified(), "{ip}");
    }
}
