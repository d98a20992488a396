//! Two servers that one datagram has set on each other stop.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::datagrams::{send, target};
use crate::harness::{DEADLINE, Server, netkit, udp_server};

/// It answers each datagram with the same line.
const FIXED: [&str; 2] = [
    "--sh-exec",
    "while [ -n \"$(dd bs=65536 count=1 2>/dev/null)\" ]; do echo line; done",
];
const ECHO: [&str; 2] = ["--service", "echo"];
const HELLO: [&str; 2] = ["--service", "hello"];
const CAT: [&str; 2] = ["-e", "/bin/cat"];

/// Two servers, and a datagram that the first takes for one of the other.
fn set_on_each_other(ip: &str, options: [[&str; 2]; 2]) -> [Server; 2] {
    let [first, second] = options;
    let first = udp_server(["-b", ip].into_iter().chain(first)).listen();
    let to = target(&first);
    let forger = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
    forger.set_reuse_port(true).unwrap();
    forger.bind(&SocketAddr::new(to.ip(), 0).into()).unwrap();
    let forger = UdpSocket::from(forger);
    let port = forger.local_addr().unwrap().port().to_string();
    // The first server answers only once the forger has left its port to the second one.
    first.signal(Signal::STOP);
    first.wait_until_stopped();
    send(&forger, "x", to);
    let place = ["udp-server", "--reuse-port", "-b", ip, "-p", &port];
    let second = netkit(place.into_iter().chain(second))
        .any_stderr()
        .listen();
    // A program that another test starts may hold the socket open for a moment. Connected to itself, it
    // takes no answer.
    forger.connect(forger.local_addr().unwrap()).unwrap();
    first.signal(Signal::CONT);
    [first, second]
}

/// Waits until one of the two refuses to go on. Returns the number of datagrams that both took.
#[track_caller]
fn taken_until_the_end(servers: [Server; 2]) -> usize {
    let refused = "two servers answering each other";
    let deadline = Instant::now() + DEADLINE;
    while !servers.iter().any(|server| server.log().contains(refused)) {
        let has_time = Instant::now() < deadline;
        assert!(
            has_time,
            "the servers should have stopped: {}",
            servers.each_ref().map(|server| server.log()).concat()
        );
        std::thread::yield_now();
    }
    let taken = servers.map(|server| server.stop().stderr.matches("Received from").count());
    taken.iter().sum()
}

#[test]
fn every_pair_of_services_and_programs_stops_answering_each_other() {
    let kinds = [HELLO, ECHO, CAT, FIXED];
    let pairs = (0..kinds.len()).flat_map(|one| (0..=one).map(move |other| (one, other)));
    for (one, other) in pairs {
        let taken = taken_until_the_end(set_on_each_other("127.0.0.1", [kinds[one], kinds[other]]));
        // The first datagram has 64 hops. Greetings of greetings stop earlier, 8 deep.
        let expected = match (kinds[one], kinds[other]) {
            (HELLO, HELLO) => 8,
            (ECHO | CAT, HELLO) => 17,
            _ => 63,
        };
        assert_eq!(taken, expected, "{:?}", (kinds[one], kinds[other]));
    }
}

#[test]
fn over_ipv6_they_stop_too() {
    for pair in [[HELLO, FIXED], [ECHO, HELLO], [FIXED, CAT]] {
        assert!(
            taken_until_the_end(set_on_each_other("::1", pair)) < 64,
            "{pair:?}"
        );
    }
}
