//! The programs of many peers: how many run, and what they leave behind.

use std::net::UdpSocket;
use std::time::Instant;

use rustix::process::test_kill_process;

use super::{running, until};
use crate::harness::datagrams::{expect, expect_nothing, send, target};
use crate::harness::{mailbox, udp_server};
use crate::udp_server::{ask, ask_from};

#[test]
fn a_thousand_peers_get_no_more_programs_than_max_peers_and_all_are_reaped() {
    const CAP: usize = 100;
    let server = udp_server(["--max-peers", "100", "-e", "/bin/cat"]).listen();
    let target = target(&server);
    let first: Vec<UdpSocket> = (0..CAP).map(|_| mailbox()).collect();
    // A peer that has sent a single datagram could lose its place.
    for peer in first.iter().chain(&first) {
        assert_eq!(ask_from(peer, &server, "x"), b"x");
    }
    let programs = server.children();
    assert_eq!(programs.len(), CAP);
    for peer in first.iter().cycle().take(18) {
        let others: Vec<UdpSocket> = (0..50).map(|_| mailbox()).collect();
        for other in &others {
            send(other, "y", target);
        }
        // This answer shows that the server has dealt with all datagrams before.
        assert_eq!(ask_from(peer, &server, "z"), b"z");
        assert_eq!(server.children(), programs);
        others.iter().for_each(expect_nothing);
    }
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), CAP, "{log}");
    assert_eq!(log.matches("Ended").count(), CAP, "{log}");
    assert!(
        log.contains("netkit: no answer to 900 datagrams in all: programs run for"),
        "{log}"
    );
    for program in programs {
        assert!(test_kill_process(program).is_err());
    }
}

#[test]
fn many_programs_leave_neither_zombies_nor_descriptors() {
    let server = running("read x; echo $x").listen();
    ask(&server, "x\n");
    server.wait_for_lines("Ended {*}", 1);
    until(|| server.children().is_empty());
    let before = server.descriptors();
    let clients: Vec<UdpSocket> = (0..100).map(|_| mailbox()).collect();
    for client in &clients {
        send(client, "y\n", target(&server));
    }
    for client in &clients {
        expect(client, "y\n");
    }
    server.wait_for_lines("Ended {*}", 101);
    until(|| server.children().is_empty());
    // The server closes them right after it logs the end.
    until(|| server.descriptors() <= before);
}

#[test]
fn a_flood_of_new_peers_starts_few_programs() {
    let server = udp_server(["--max-peers", "2", "-e", "/bin/cat"]).listen();
    let steady = mailbox();
    let begin = Instant::now();
    for _ in 0..2 {
        ask_from(&steady, &server, "x");
    }
    for _ in 0..50 {
        send(&mailbox(), "y", target(&server));
        // This answer shows that the server has dealt with the datagram before.
        ask_from(&steady, &server, "z");
    }
    let log = server.stop().stderr;
    let started = log.matches("Started").count();
    // Both places at first, both at once, and then both each second.
    let most = 4 + 2 * (begin.elapsed().as_secs() + 1);
    assert!(started as u64 <= most, "{log}");
}
