//! `--json`: a ping as events.

use serde_json::Value;

use super::{events, expect_event, ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{closed_port, mailbox, udp_server};

#[test]
fn every_event_is_one_object_on_one_line() {
    let server = mailbox();
    let target = address(&server);
    let arguments = ["-c", "2", "-i", "2.1", "-W", "2", "--json", "-O"];
    let mut client = ping(&target, arguments).any_stdout().code(1).start();
    let start = expect_event(&mut client, "start");
    assert_eq!(start["v"], 1);
    assert_eq!(start["target"], target.as_str());
    assert_eq!(start["address"], "127.0.0.1");
    assert_eq!(start["size_bytes"], 56);
    let first = receive(&server);
    assert_eq!(expect_event(&mut client, "lost")["seq"], 1);
    let second = receive(&server);
    assert_eq!(expect_event(&mut client, "missing")["seq"], 1);
    send_back(&server, &first);
    let late = expect_event(&mut client, "late");
    assert_eq!(late["seq"], 1);
    assert!(late["rtt_ms"].as_f64().unwrap() > 2000.0);
    send_back(&server, &first);
    assert_eq!(expect_event(&mut client, "duplicate")["seq"], 1);
    server.send_to(b"\xff", second.1).unwrap();
    let unexpected = expect_event(&mut client, "unexpected");
    assert_eq!(
        (&unexpected["hex"], &unexpected["size_bytes"]),
        (&"ff".into(), &1.into())
    );
    send_back(&server, &second);
    let reply = expect_event(&mut client, "reply");
    assert_eq!(
        (&reply["seq"], &reply["size_bytes"]),
        (&2.into(), &56.into())
    );
    assert_eq!(reply["address"], "127.0.0.1");
    assert_eq!(reply["port"], start["port"]);
    assert_eq!(reply["ttl"], 64);
    let summary = expect_event(&mut client, "summary");
    for (key, value) in [
        ("transmitted", 2),
        ("received", 1),
        ("lost", 1),
        ("late", 1),
        ("duplicates", 1),
        ("errors", 0),
    ] {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    assert_eq!(summary["loss_percent"], 50.0);
    for key in ["min", "avg", "max", "p50", "p95", "p99"] {
        assert_eq!(summary[format!("rtt_{key}_ms")], reply["rtt_ms"], "{key}");
    }
    assert_eq!(summary["rtt_mdev_ms"], 0.0);
    // The warning about the unexpected datagram.
    client.expect_line("netkit: unexpected datagram from {*}");
    client.finish();
}

#[test]
fn an_error_is_an_event_and_missing_times_are_null() {
    let closed = closed_port();
    let client = ping(&address(&closed), ["-c", "1", "--json", "-D"]);
    let events = events(&client.any_stdout().code(1).run().stdout);
    assert_eq!(events[1]["event"], "error");
    assert_eq!(events[1]["error"], "connection refused");
    assert!(events[1]["unix_s"].as_f64().unwrap() > 1.6e9);
    assert_eq!(events[2]["event"], "summary");
    assert_eq!(events[2]["rtt_min_ms"], Value::Null);
}

#[test]
fn quiet_prints_only_start_and_summary() {
    let server = udp_server([]).listen();
    let client = ping(&server.address(), ["-c", "1", "--json", "-q"]);
    let events = events(&client.any_stdout().run().stdout);
    let kinds: Vec<_> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["start", "summary"]);
}
