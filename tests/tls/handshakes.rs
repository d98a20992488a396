//! Handshakes that fail, hang or are cut off, and what both sides agree on.

use rustix::process::Signal;

use super::{Files, client, server, server_program, usual};
use crate::harness::{DEADLINE, Peer, tcp_server};

#[test]
fn a_peer_that_does_not_speak_tls_is_told_apart() {
    let files = usual();
    let plain = tcp_server([]).listen();
    client(&files, &plain.address())
        .stderr(format!(
            "netkit: could not speak TLS with {}: it does not speak TLS\n",
            plain.address()
        ))
        .code(1)
        .run();
    let peer = Peer::listen(|_closes| {});
    client(&files, peer.address())
        .stderr("netkit: could not speak TLS with {*}: {*}\n")
        .code(1)
        .run();
    let silent = Peer::listen(|mut connection| connection.drain());
    client(&files, silent.address())
        .args(["--connect-timeout", "1"])
        .stderr(format!(
            "netkit: gave up on {}: no end of the TLS handshake within 1s\n",
            silent.address()
        ))
        .code(4)
        .run();
}

#[test]
fn a_server_refuses_what_is_not_tls_once_an_episode_and_goes_on() {
    let files = usual();
    let server = server(&files, "own", &["--service", "echo"]);
    for _ in 0..3 {
        let mut plain = server.connect();
        plain.send("GET / HTTP/1.1\r\n\r\n");
        plain.drain();
    }
    client(&files, &server.address())
        .stdin("x")
        .stdout("x")
        .run();
    let log = server.stop().stderr;
    let refused: Vec<_> = log
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    assert_eq!(refused.len(), 2, "{log}");
    assert!(refused[0].ends_with(": it does not speak TLS"), "{log}");
    assert!(refused[1].ends_with("refused 3 connections in all: there was no TLS with them"));
    assert_eq!(log.matches("Accept new").count(), 1, "{log}");
}

/// What our client sends first.
fn client_hello(files: &Files) -> Vec<u8> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let peer = Peer::listen(move |mut connection| sender.send(connection.receive()).unwrap());
    let client = client(files, peer.address()).any_stderr();
    client.code(1).run();
    receiver.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn handshakes_that_hang_or_are_cut_hold_nobody_up_and_leave_nothing() {
    let files = usual();
    let hello = client_hello(&files);
    // With slots for fewer than are cut.
    let server = server(&files, "own", &["--sh-exec", "cat", "-m", "300"]);
    let works = || {
        let client = client(&files, &server.address());
        client.stdin("x").stdout("x").run();
    };
    works();
    let before = server.descriptors();
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
        tasks.unwrap().count()
    };
    let threads_before = threads();
    let mut hanging: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for (index, connection) in hanging.iter_mut().enumerate() {
        connection.send(&hello[..index * hello.len() / 8]);
    }
    for index in 0..500 {
        let mut cut = server.connect();
        // Within the first message, or after it.
        let most = (index * 7) % (hello.len() + 50);
        cut.send(&hello[..most.min(hello.len())]);
        if most >= hello.len() {
            cut.receive();
        }
        if index % 2 == 0 {
            cut.shutdown();
            cut.drain();
        } else {
            cut.reset();
        }
    }
    works();
    drop(hanging);
    works();
    let end = std::time::Instant::now() + DEADLINE;
    // A thread that has nothing to do rests for a while.
    while server.descriptors() > before || threads() > threads_before + 50 {
        assert!(
            std::time::Instant::now() < end,
            "descriptors or threads are left"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_stops_cuts_off_a_handshake_and_says_so() {
    let files = usual();
    let hello = client_hello(&files);
    let server = server_program(&files, "own", &["--drain-timeout", "0.1"]);
    let server = server.code(4).listen();
    let mut hanging = server.connect();
    hanging.send(&hello);
    hanging.receive();
    server.signal(Signal::TERM);
    let log = server.finish().stderr;
    assert!(log.contains("netkit: refused 127.0.0.1:"), "{log}");
    assert!(log.contains(": cut off, as the server stops\n"), "{log}");
}

#[test]
fn limits_hold_during_the_handshake() {
    let files = usual();
    let server = server(&files, "own", &["--idle-timeout", "0.1"]);
    let mut silent = server.connect();
    silent.expect_reset();
    server.wait_for_line("netkit: refused {*}: no data for 100ms (--idle-timeout)");
}

#[test]
fn the_versions_can_be_limited() {
    let files = usual();
    let server = server(&files, "own", &["--tls-min", "1.3"]);
    client(&files, &server.address())
        .args(["--tls-min", "1.3"])
        .stdin("exit")
        .stdout("Welcome!")
        .run();
}

#[test]
fn no_common_application_protocol_is_told() {
    let files = usual();
    let server = server(&files, "own", &["--tls-alpn", "h2"]);
    client(&files, &server.address())
        .args(["--tls-alpn", "http/1.1"])
        .stderr("netkit: could not speak TLS with {*}: the peer says no application protocol\n")
        .code(1)
        .run();
}
