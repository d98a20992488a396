//! `-z -c N`: a check that repeats, with the statistics of ping.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::{Connection, ReservedPort, matches, netkit, spawn};

#[test]
fn a_repeated_check_prints_the_statistics_of_ping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let check = netkit(["tcp-client", "-z", "-c", "3", "-i", "0.01", &address]);
    let printed = String::from_utf8(check.any_stdout().run().stdout).unwrap();
    let expected = [
        format!("PING {address} (127.0.0.1) 0(40) bytes of data."),
        format!("0 bytes from {address}: tcp_seq=1 time={{*}} ms"),
        format!("0 bytes from {address}: tcp_seq=2 time={{*}} ms"),
        format!("0 bytes from {address}: tcp_seq=3 time={{*}} ms"),
        String::new(),
        format!("--- {address} ping statistics ---"),
        "3 packets transmitted, 3 received, 0% packet loss, time {*}ms".to_owned(),
        "rtt min/avg/max/mdev = {*}/{*}/{*}/{*} ms".to_owned(),
    ];
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{printed}");
    for (line, pattern) in lines.iter().zip(expected) {
        assert!(
            matches(pattern.as_bytes(), line.as_bytes()),
            "{line} should be {pattern}"
        );
    }
}

#[test]
fn a_server_that_resets_at_once_is_no_loss() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = spawn(move || {
        for stream in listener.incoming().take(10) {
            Connection::new(stream.unwrap()).reset();
        }
    });
    let ping = netkit([
        "tcp-client",
        "-z",
        "-q",
        "-c",
        "10",
        "-i",
        "0.001",
        &address,
    ]);
    let printed = String::from_utf8(ping.any_stdout().run().stdout).unwrap();
    assert!(printed.contains("10 received, 0% packet loss"), "{printed}");
    server.join().unwrap();
}

#[test]
fn a_repeated_check_counts_failures_until_an_interrupt() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    let check = netkit(["tcp-client", "-z", "--json", "-i", "0.01", &address]);
    let mut check = check.any_stdout().any_stderr().code(1).start();
    check.receive_line("{*}\"event\":\"start\",\"v\":1{*}");
    check.receive_line("{*}\"event\":\"error\",\"seq\":1,{*}connection refused{*}");
    check.signal(Signal::INT);
    let printed = String::from_utf8(check.finish().stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&summary["event"], &summary["received"]),
        (&"summary".into(), &0.into())
    );
    assert_eq!(summary["errors"], summary["transmitted"]);
}
