//! `--mtu`: the largest packet that reaches the target in one piece.

use std::net::UdpSocket;

use serde_json::Value;

use crate::harness::datagrams::address;
use crate::harness::{closed_port, mailbox, netkit, spawn, udp_server};

/// The headers of IPv4 and UDP.
const HEADERS: usize = 28;

/// Sends back what fits into a packet of `mtu` bytes, as a path does whose routers say nothing.
fn carry(socket: UdpSocket, mtu: usize) {
    spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((size, source)) = socket.recv_from(&mut buffer) {
            if size + HEADERS <= mtu {
                let _ = socket.send_to(&buffer[..size], source);
            }
        }
    });
}

#[test]
fn the_size_is_found_although_no_router_says_anything() {
    let sizes = [
        44, 68, 576, 577, 1279, 1280, 1420, 1492, 1499, 1500, 8999, 65_000,
    ];
    let runs = sizes.map(|mtu| {
        let socket = mailbox();
        let target = address(&socket);
        carry(socket, mtu);
        let payload = mtu - HEADERS;
        netkit(["udp-client", "--mtu", "-W", "0.3", &target])
            .stdout(format!(
                "path MTU to 127.0.0.1 is {mtu} ({payload} bytes of UDP); the interface has 65535\n"
            ))
            .start()
    });
    for run in runs {
        run.finish();
    }
}

/// Against a greeting the answer is longer than the probe.
#[test]
fn any_server_that_answers_will_do() {
    // `Hello, X!` has to fit into a datagram too. It may come in several pieces.
    for (bind, interface, found) in [("127.0.0.1", 65_535, 65_527), ("::1", 65_536, 65_536)] {
        let server = udp_server(["--bind", bind]).listen();
        let client = netkit(["udp-client", "--mtu", "--json", &server.address()]);
        let client = client.arg("-W").arg("0.3").any_stdout().run();
        let lines = String::from_utf8(client.stdout).unwrap();
        let event: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(event["event"], "mtu");
        assert_eq!(event["interface_mtu_bytes"], interface);
        assert_eq!(event["mtu_bytes"], found, "{event}");
    }
}

#[test]
fn each_try_is_told_on_request() {
    let socket = mailbox();
    let target = address(&socket);
    carry(socket, 45);
    let client = netkit(["udp-client", "--mtu", "-v", "-W", "0.5", &target]).start();
    let log = client.wait_for_lines("{*} INFO packet of {*}", 5);
    let tries: Vec<_> = log
        .iter()
        .filter_map(|line| line.split_once(" INFO packet of "))
        .map(|(_, what)| what)
        .take(5)
        .collect();
    let silent = "576 bytes: no answer";
    let next = "310 bytes: no answer";
    assert_eq!(
        tries,
        ["44 bytes: answered", silent, silent, silent, next],
        "{log:?}"
    );
}

#[test]
fn silence_and_refusal_are_failures() {
    let (silent, closed) = (mailbox(), closed_port());
    let target = address(&silent);
    netkit(["udp-client", "--mtu", "-W", "0.05", &target])
        .stderr(format!(
            "netkit: no answer from {target} within 50ms, 3 times\n"
        ))
        .code(1)
        .run();
    netkit(["udp-client", "--mtu", "-w", "0.05", &target])
        .stderr(format!(
            "netkit: gave up on {target} after 50ms (--deadline)\n"
        ))
        .code(4)
        .run();
    let target = address(&closed);
    netkit(["udp-client", "--mtu", &target])
        .stderr(format!(
            "netkit: could not send to {target}: connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
fn what_does_nothing_is_refused() {
    for (options, message) in [
        ("--mtu -c 1", "-c does nothing with --mtu"),
        ("--mtu -z", "-z does nothing with --mtu"),
        ("--mtu -s 100", "-s needs --ping, -c or -i"),
        (
            "--mtu 127.0.0.1:9 x",
            "could not send DATA: --mtu sends probes of its own",
        ),
        (
            "--mtu 224.0.0.9:9",
            "--mtu is about one host, not a group or --broadcast",
        ),
        (
            "--dont-fragment 127.0.0.1:9",
            "--dont-fragment needs --ping, -c or -i",
        ),
    ] {
        let words = ["udp-client"].into_iter().chain(options.split(' '));
        netkit(words)
            .stderr(format!("netkit: {message}; see 'netkit udp-client -h'\n"))
            .code(2)
            .run();
    }
}
