//! Which address the client connects to, from which source, and how long that may take.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use socket2::Type;

use super::receiver;
use crate::harness::{Peer, ReservedPort, matches, netkit};

#[test]
fn the_port_may_be_an_argument_of_its_own() {
    let peer = receiver("");
    netkit(["tcp-client", "127.0.0.1", peer.port()]).run();
}

#[test]
fn an_empty_host_is_this_machine() {
    // localhost may resolve to ::1 first, where no server listens.
    let peer = receiver("");
    netkit(["tcp-client", &format!(":{}", peer.port())]).run();
}

#[test]
fn ipv6_addresses_are_in_brackets() {
    let peer = Peer::listen_on("[::1]:0", |mut connection| connection.expect_eof());
    assert!(peer.address().starts_with("[::1]:"));
    netkit(["tcp-client", "-6", peer.address()]).run();
}

#[test]
fn numeric_and_family_options_accept_a_matching_address() {
    let peer = receiver("");
    netkit(["tcp-client", "-n", "-4", peer.address()]).run();
}

#[test]
fn options_may_follow_the_address() {
    let peer = receiver("x");
    netkit(["tcp-client", peer.address(), "-w", "5", "--send", "x"]).run();
}

#[test]
fn the_connect_timeout_does_not_limit_the_session() {
    let peer = Peer::listen(|mut connection| {
        connection.hold_for(Duration::from_millis(1500));
        connection.send("late");
    });
    netkit(["tcp-client", "-w", "1", peer.address()])
        .stdout("late")
        .run();
}

#[test]
fn the_peer_sees_the_client_at_the_given_source() {
    let port = ReservedPort::on(IpAddr::from([127, 0, 0, 2]), Type::STREAM);
    let expected = format!("127.0.0.2:{}", port.number());
    let peer = Peer::listen(move |connection| {
        assert_eq!(connection.peer(), expected);
    });
    netkit(["tcp-client", "--source", "127.0.0.2", "--source-port"])
        .arg(port.text())
        .arg(peer.address())
        .run();
}

#[test]
fn a_source_that_cannot_be_bound_is_named() {
    let in_use = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = in_use.local_addr().unwrap().port();
    // RFC 5737: 192.0.2.1 belongs to nobody.
    for (option, value, cause) in [
        ("--source", "192.0.2.1", "cannot assign requested address"),
        ("--source-port", &port.to_string(), "address already in use"),
    ] {
        netkit(["tcp-client", option, value, "127.0.0.1:9999"])
            .stderr(format!(
                "netkit: could not connect to 127.0.0.1:9999: {option} {value}: {cause}\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn a_link_local_address_needs_its_interface() {
    netkit(["tcp-client", "[fe80::1]:9999"])
        .stderr(
            "netkit: could not connect to [fe80::1]:9999: a link-local address needs its \
             interface: write [fe80::1%eth0]:9999\n",
        )
        .code(2)
        .run();
}

#[test]
fn source_must_be_of_the_family_of_the_target() {
    netkit(["tcp-client", "--source", "::1", "127.0.0.1:9999"])
        .stderr(
            "netkit: could not connect to 127.0.0.1:9999: \
             it has no address of the family of --source\n",
        )
        .code(2)
        .run();
}

#[test]
fn timing_prints_when_each_step_was_done() {
    let peer = Peer::listen(|mut connection| {
        connection.send("x");
        connection.shutdown();
        connection.drain();
    });
    let client = netkit(["tcp-client", "--timing", peer.address()]).stdout("x");
    let line = client.any_stderr().run().stderr;
    let pattern = "resolve {*} ms, connect {*} ms, first byte {*} ms, total {*} ms\n";
    assert!(matches(pattern.as_bytes(), line.as_bytes()), "{line}");
    let times = line.split(|c: char| c != '.' && !c.is_ascii_digit());
    let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    assert!(times.len() == 4 && times.is_sorted(), "{line}");
}
