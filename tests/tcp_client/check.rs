//! `-z`: which ports are open.

use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

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
            let pattern = format!("{ASIDE}:{{*}} open, {{*}} ms");
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
fn of_one_port_a_failure_is_an_error() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    netkit(["tcp-client", "-z", &address])
        .stderr(format!(
            "netkit: could not connect to {address}: connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
fn of_several_ports_the_closed_ones_are_told_with_v() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let down = ReservedPort::tcp();
    let ports = format!("{},{open}", down.text());
    let target = format!("127.0.0.1:{ports}");
    let line = format!("127.0.0.1:{open} open, {{N}} ms\n");
    for words in [&["127.0.0.1", &ports][..], &[&target]] {
        netkit(["tcp-client", "-z"].iter().chain(words))
            .stdout(&line)
            .stderr("1 open, 1 closed, 0 without an answer ({N} s)\n")
            .code(1)
            .run();
    }
    netkit(["tcp-client", "-zq", &target])
        .stdout(&line)
        .code(1)
        .run();
    let log = netkit(["tcp-client", "-zv", &target]);
    let log = log.stdout(&line).any_stderr().code(1).run().stderr;
    let closed = format!(
        "could not connect to 127.0.0.1:{}: connection refused",
        down.text()
    );
    assert!(log.contains(&closed), "{log}");
}

#[test]
fn several_targets_are_told_in_the_order_typed() {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second, third] = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port());
    let targets = [
        format!("127.0.0.1:{second},{first}"),
        format!(":{third}"),
        format!("127.0.0.1:{third}"),
    ];
    let words = ["tcp-client", "-z", "-4"].into_iter();
    netkit(words.chain(targets.iter().map(String::as_str)))
        .stdout(format!(
            "127.0.0.1:{second} open, {{N}} ms\n\
             127.0.0.1:{first} open, {{N}} ms\n\
             localhost:{third} (127.0.0.1) open, {{N}} ms\n\
             127.0.0.1:{third} open, {{N}} ms\n"
        ))
        .stderr("4 open, 0 closed, 0 without an answer ({N} s)\n")
        .run();
}

#[test]
fn a_name_that_does_not_resolve_is_told_among_several_targets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    netkit(["tcp-client", "-z", "no-such-host.invalid:80", &address])
        .stdout(format!("{address} open, {{N}} ms\n"))
        .stderr(
            "netkit: could not resolve no-such-host.invalid: {*}\n\
             1 open, 0 closed, 0 without an answer, 1 not tried ({N} s)\n",
        )
        .code(3)
        .run();
}

#[test]
fn a_check_is_repeated_until_the_port_is_open() {
    for options in ["--wait 20", "--retry 100000"] {
        let reserved = ReservedPort::tcp();
        let address = format!("127.0.0.1:{}", reserved.text());
        let words = ["tcp-client", "-zv", "--retry-delay", "0.02", &address].into_iter();
        let client = netkit(words.chain(options.split(' ')))
            .stdout(format!("{address} open, {{N}} ms\n"))
            .any_stderr()
            .start();
        client.wait_for_line("{*}attempt 2{*}: connection refused; next in 20ms");
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.set_reuse_port(true).unwrap();
        let ip = std::net::SocketAddr::from(([127, 0, 0, 1], reserved.number()));
        listener.bind(&ip.into()).unwrap();
        listener.listen(8).unwrap();
        client.finish();
    }
}

#[test]
fn a_wait_that_is_over_is_exit_code_4() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    let check = ["tcp-client", "-z", "--retry-delay", "0.02", &address];
    let refused = format!("netkit: could not connect to {address}: connection refused");
    netkit(check.into_iter().chain(["--wait", "1"]))
        .stderr(format!("{refused}; gave up after 1s (--wait)\n"))
        .code(4)
        .run();
    netkit(check.into_iter().chain(["--retry", "2"]))
        .stderr(format!("{refused}\n"))
        .code(1)
        .run();
}

#[test]
fn a_port_whose_server_resets_at_once_is_open() {
    for _ in 0..10 {
        let peer = Peer::listen(Connection::reset);
        netkit(["tcp-client", "-z", peer.address()])
            .stdout(format!("{} open, {{N}} ms\n", peer.address()))
            .run();
    }
}

#[test]
fn json_prints_every_port_as_an_event() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let down = ReservedPort::tcp();
    let down = down.text();
    let ports = format!("{open},{down}");
    netkit(["tcp-client", "--json", "-z", "127.0.0.1", &ports])
        .stdout(format!(
            "{{\"event\":\"start\",\"unix_s\":{{N}},\"v\":1,\"target\":\"127.0.0.1 {ports}\",\"ports\":2}}\n\
             {{\"event\":\"open\",\"unix_s\":{{N}},\"target\":\"127.0.0.1:{open}\",\"address\":\"127.0.0.1\",\
             \"port\":{open},\"rtt_ms\":{{N}}}}\n\
             {{\"event\":\"closed\",\"unix_s\":{{N}},\"target\":\"127.0.0.1:{down}\",\"address\":\"127.0.0.1\",\
             \"port\":{down},\"rtt_ms\":null,\"error\":\"could not connect to 127.0.0.1:{down}: connection refused\",\
             \"exit\":1}}\n\
             {{\"event\":\"summary\",\"unix_s\":{{N}},\"open\":1,\"closed\":1,\"no_answer\":0,\"failed\":0,\
             \"time_ms\":{{N}}}}\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_check_works_with_few_descriptors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports = format!("1-100,{port},101-300");
    let check = netkit(["tcp-client", "-q", "-z", "127.0.0.1", &ports]).ulimit("-n 24");
    let printed = String::from_utf8(check.any_stdout().any_code().run().stdout).unwrap();
    assert!(
        printed.contains(&format!("127.0.0.1:{port} open")),
        "{printed}"
    );
}

#[test]
fn a_port_without_time_left_fails_with_a_reason() {
    let check = netkit(["tcp-client", "-z", "--deadline", "0.001", ASIDE, "1-10000"]);
    let log = check.any_stdout().any_stderr().any_code().run().stderr;
    let last = log.lines().last().unwrap();
    let pattern = "{N} open, {N} closed, {N} without an answer ({N} s)";
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
