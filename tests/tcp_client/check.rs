//! `-z`: which ports are open.

use std::net::TcpListener;

use crate::harness::{Connection, DEADLINE, Peer, ReservedPort, matches, netkit};

/// A loopback address that no other test uses.
/// A check of all ports would disturb a server that expects exactly one connection.
const ASIDE: &str = "127.9.9.9";

#[test]
fn a_check_of_all_ports_finds_the_open_ones() {
    let listeners = [(); 3].map(|()| TcpListener::bind((ASIDE, 0)).unwrap());
    let mut open = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port());
    open.sort_unstable();
    let check = netkit(["tcp-client", "-q", "-z", ASIDE, "1-65535"]);
    let check = check.any_stdout().any_code().within(3 * DEADLINE);
    let printed = check.run().stdout;
    let printed = String::from_utf8(printed).unwrap();
    let found: Vec<u16> = printed
        .lines()
        .map(|line| {
            let pattern = format!("{ASIDE}:{{*}} ({ASIDE}) open, {{*}} ms");
            assert!(matches(pattern.as_bytes(), line.as_bytes()), "{line}");
            line.split([':', ' ']).nth(1).unwrap().parse().unwrap()
        })
        .collect();
    assert!(found.is_sorted());
    // Programs of this machine may listen on all addresses.
    assert!(
        open.iter().all(|port| found.contains(port)),
        "{open:?} in {found:?}"
    );
}

#[test]
fn a_closed_port_is_named_and_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let down = ReservedPort::tcp();
    let ports = format!("{open},{}", down.text());
    let check = netkit(["tcp-client", "-z", "127.0.0.1", &ports])
        .any_stdout()
        .stderr(format!(
            "netkit: could not connect to 127.0.0.1:{}: connection refused\n",
            down.text()
        ));
    let printed = String::from_utf8(check.code(1).run().stdout).unwrap();
    let line = format!("127.0.0.1:{open} (127.0.0.1) open, {{*}} ms\n");
    assert!(matches(line.as_bytes(), printed.as_bytes()), "{printed}");
}

#[test]
fn a_port_whose_server_resets_at_once_is_open() {
    for _ in 0..10 {
        let peer = Peer::listen(Connection::reset);
        netkit(["tcp-client", "-z", peer.address()])
            .stdout(format!("{} (127.0.0.1) open, {{N}} ms\n", peer.address()))
            .run();
    }
}

#[test]
fn json_prints_every_port_as_an_event() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let down = ReservedPort::tcp();
    let ports = format!("{open},{}", down.text());
    let check = netkit(["tcp-client", "--json", "-z", "127.0.0.1", &ports]);
    let printed = String::from_utf8(check.any_stdout().code(1).run().stdout).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    let expected = [
        r#"{"event":"start","v":1,"host":"127.0.0.1","ports":2}"#.to_owned(),
        format!(
            r#"{{"event":"open","host":"127.0.0.1","port":{open},"address":"127.0.0.1","rtt_ms":{{*}}}}"#
        ),
        format!(
            r#"{{"event":"failed","host":"127.0.0.1","port":{0},"exit":1,"reason":"could not connect to 127.0.0.1:{0}: connection refused"}}"#,
            down.text()
        ),
        r#"{"event":"summary","open":1,"failed":1}"#.to_owned(),
    ];
    assert_eq!(lines.len(), expected.len(), "{printed}");
    for (line, pattern) in lines.iter().zip(expected) {
        assert!(
            matches(pattern.as_bytes(), line.as_bytes()),
            "{line} should be {pattern}"
        );
    }
}

#[test]
fn a_check_works_with_few_descriptors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports = format!("1-100,{port},101-300");
    let check = netkit(["tcp-client", "-q", "-z", "127.0.0.1", &ports]).ulimit("-n 24");
    let printed = String::from_utf8(check.any_stdout().any_code().run().stdout).unwrap();
    assert!(
        printed.contains(&format!("127.0.0.1:{port} (127.0.0.1) open")),
        "{printed}"
    );
}

#[test]
fn a_port_without_time_left_fails_with_a_reason() {
    let check = netkit(["tcp-client", "-z", "--deadline", "0.001", ASIDE, "1-10000"]);
    let log = check.any_stdout().any_stderr().any_code().run().stderr;
    let last = log.lines().last().unwrap();
    let pattern = "netkit: could not connect to {*}: no answer within 1ms";
    assert!(matches(pattern.as_bytes(), last.as_bytes()), "{last}");
}

#[test]
fn a_check_refuses_options_of_a_session() {
    netkit(["tcp-client", "-z", "-C", "127.0.0.1:9"])
        .stderr("netkit: -C does nothing with -z; see 'netkit tcp-client -h'\n")
        .code(2)
        .run();
    netkit(["tcp-client", "-z", "127.0.0.1", "9-1"])
        .stderr("netkit: '9-1' ends before it begins; write 1-9; see 'netkit tcp-client -h'\n")
        .code(2)
        .run();
}

#[test]
fn a_check_ends_quietly_when_its_reader_has_left() {
    let listener = TcpListener::bind((ASIDE, 0)).unwrap();
    let open = listener.local_addr().unwrap().port();
    let ports = format!("{open},1-65535");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["tcp-client", "-q", "-z", ASIDE, &ports])
        .stdout_to(writer)
        .code(141)
        .run();
}
