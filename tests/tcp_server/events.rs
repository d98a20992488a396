//! The log of connections, as JSON and as text.

use rustix::process::Signal;

use crate::harness::{Connection, tcp_server};

#[test]
fn json_logs_a_connection_as_events() {
    let server = tcp_server(["--log-format", "json", "-m", "1"])
        .any_stderr()
        .start();
    let line = server.wait_for_line("{*}\"message\":\"Listening on {*}");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = event["address"].as_str().unwrap().parse().unwrap();
    let mut client = Connection::to(address);
    client.expect("Welcome!");
    Connection::rejected_by(address);
    server.wait_for_line("{*}\"event\":\"limit\"{*}");
    client.send("abc");
    client.expect("Hello, abc!");
    client.shutdown();
    client.expect_eof();
    server.wait_for_line("{*}\"event\":\"close\"{*}");
    let log = server.log();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let event = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(event("accept")["connection"], 1);
    assert_eq!(event("accept")["peer"], client.local());
    assert_eq!(event("limit")["limit"], 1);
    let close = event("close");
    assert_eq!(
        (&close["bytes_in"], &close["bytes_out"]),
        (&3.into(), &19.into())
    );
    assert_eq!(
        (&close["reason"], &close["connection"]),
        (&"end".into(), &1.into())
    );
    assert!(close["duration_ms"].is_u64());
    server.signal(Signal::TERM);
    server.finish();
}

#[test]
fn verbose_logs_the_same_facts_as_text() {
    let server = tcp_server(["-v"]).any_stderr().start();
    let line = server.wait_for_line("{*}Listening on {*}");
    let address = line
        .rsplit_once("address=")
        .unwrap()
        .1
        .trim()
        .parse()
        .unwrap();
    let mut client = Connection::to(address);
    client.expect("Welcome!");
    client.shutdown();
    client.expect_eof();
    server.wait_for_line("{*}closed.{*}bytes_in=0 bytes_out=8{*}");
    server.signal(Signal::TERM);
    server.finish();
}
