//! `--json` in every mode: the same fields, by the same names.

use std::net::TcpListener;

use serde_json::Value;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{ReservedPort, closed_port, mailbox, netkit, udp_server};

/// All fields of all modes. A number has its unit in the key; `seq`, `port` and counts have none.
const FIELDS: &[&str] = &[
    // Every event; the first event; who and where.
    "event",
    "unix_s",
    "v",
    "target",
    "address",
    "port",
    "ports",
    // A probe, a datagram, its answer.
    "seq",
    "size_bytes",
    "ttl",
    "rtt_ms",
    "timeout_ms",
    "text",
    "hex",
    "error",
    "exit",
    "suspect",
    // The summary of a ping.
    "transmitted",
    "received",
    "lost",
    "loss_percent",
    "duplicates",
    "errors",
    "late",
    "time_ms",
    "rtt_min_ms",
    "rtt_avg_ms",
    "rtt_max_ms",
    "rtt_mdev_ms",
    "rtt_p50_ms",
    "rtt_p95_ms",
    "rtt_p99_ms",
    "jitter_ms",
    "jitter_rfc3550_ms",
    "loss_bursts",
    "longest_loss_burst",
    "reordered",
    "reorder_extent",
    // An outage.
    "outages",
    "outages_total",
    "start",
    "end",
    "seconds",
    "first_seq",
    "last_seq",
    // A path MTU.
    "mtu_bytes",
    "payload_bytes",
    "interface_mtu_bytes",
    // The summary of a check, and of an exchange.
    "open",
    "closed",
    "no_answer",
    "failed",
    "sent",
    "answered",
    "unanswered",
];

/// Checks every event in `stdout`, and that it has all of `fields`. Returns the names of the events.
#[track_caller]
fn events(stdout: &[u8], fields: &[&str]) -> Vec<String> {
    let text = std::str::from_utf8(stdout).unwrap();
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let name = event["event"].as_str().unwrap();
        let start = format!("{{\"event\":\"{name}\",\"unix_s\":");
        assert!(line.starts_with(&start), "{line}");
        assert!(event["unix_s"].as_f64().unwrap() > 1.7e9, "{line}");
        assert_eq!(
            event.get("v"),
            (name == "start").then_some(&1.into()),
            "{line}"
        );
        for key in event.as_object().unwrap().keys() {
            assert!(FIELDS.contains(&key.as_str()), "{key} in {line}");
            seen.push(key.clone());
        }
        names.push(name.to_owned());
    }
    for field in fields {
        assert!(seen.iter().any(|key| key == field), "{field}: {text}");
    }
    names
}

#[test]
fn pings_name_what_they_tell() {
    const REPLY: &[&str] = &[
        "target",
        "address",
        "port",
        "seq",
        "size_bytes",
        "ttl",
        "rtt_ms",
    ];
    const ERROR: &[&str] = &["target", "address", "port", "seq", "error", "errors"];
    let server = udp_server([]).listen();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    let (closed, down) = (closed_port(), ReservedPort::tcp());
    for (subcommand, target, code, fields, names) in [
        (
            "udp-client",
            server.address(),
            0,
            REPLY,
            ["start", "reply", "summary"],
        ),
        ("tcp-client", tcp, 0, REPLY, ["start", "reply", "summary"]),
        (
            "udp-client",
            address(&closed),
            1,
            ERROR,
            ["start", "error", "summary"],
        ),
        (
            "tcp-client",
            format!("127.0.0.1:{}", down.text()),
            1,
            ERROR,
            ["start", "error", "summary"],
        ),
    ] {
        let client = netkit([subcommand, "--json", "-c", "1", &target]);
        let stdout = client.any_stdout().code(code).run().stdout;
        assert_eq!(events(&stdout, fields), names, "{subcommand} {target}");
    }
}

#[test]
fn checks_name_what_they_tell() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let server = udp_server([]).listen();
    let (closed, down) = (closed_port(), ReservedPort::tcp());
    let closed = closed.local_addr().unwrap().port();
    for (subcommand, ports) in [
        ("tcp-client", format!("{open},{}", down.text())),
        ("udp-client", format!("{},{closed}", server.port())),
    ] {
        let client = netkit([subcommand, "-z", "--json", "127.0.0.1", &ports]);
        let stdout = client.any_stdout().code(1).run().stdout;
        let fields = [
            "target", "ports", "address", "port", "rtt_ms", "error", "time_ms",
        ];
        let names = events(&stdout, &fields);
        assert_eq!(
            names,
            ["start", "open", "closed", "summary"],
            "{subcommand}"
        );
    }
}

#[test]
fn exchanges_and_servers_name_what_they_tell() {
    let peer = mailbox();
    let client = netkit(["udp-client", "--json", "-W", "1", &address(&peer), "a", "b"]);
    let client = client.any_stdout().any_stderr().code(1).start();
    send(&peer, b"\xff", expect(&peer, "a"));
    let stdout = client.finish().stdout;
    let fields = [
        "target",
        "seq",
        "address",
        "port",
        "size_bytes",
        "rtt_ms",
        "hex",
        "error",
    ];
    let names = events(&stdout, &fields);
    assert_eq!(names, ["start", "answer", "unanswered", "summary"]);

    let server = udp_server(["--service", "stdio", "--json", "--idle-timeout", "0.2"]);
    let server = server.any_stdout().listen();
    send(&peer, "text", server.address().parse().unwrap());
    let stdout = server.finish().stdout;
    let fields = ["address", "port", "size_bytes", "text"];
    assert_eq!(events(&stdout, &fields), ["start", "datagram"]);
}
