//! `-c N --tls`: how long a connection takes, the handshake included.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::Value;

use super::{authority, client, params, server, signed, usual};
use crate::harness::{Program, ReservedPort, matches, netkit, tcp_server};

fn ping<'a>(ca: &str, address: &str, options: impl IntoIterator<Item = &'a str>) -> Program {
    netkit(["tcp-client", "--ping", "--tls", "--tls-ca", ca, address]).args(options)
}

/// What a ping of `transmitted` probes prints, of which none is answered.
fn failed(address: &str, lines: &[String]) -> String {
    let count = lines.len();
    let lines = lines.join("\n");
    format!(
        "PING {address} (127.0.0.1) 0(40) bytes of data.{{*}}\n{lines}\n\n\
         --- {address} ping statistics ---\n\
         {count} packets transmitted, 0 received, +{count} errors, 100% packet loss, time {{N}}ms\n\
         {{*}}\n"
    )
}

#[test]
fn the_first_line_of_a_ping_tells_the_certificate() {
    let files = usual();
    let server = server(&files, "own", &[]);
    let ca = files.path("ca.pem");
    let address = server.address();
    let certificate = "TLS 1.3, certificate until 2120-01-01 ({N} days)";
    ping(&ca, &address, ["-c", "2", "-i", "0.3"])
        .stdout(format!(
            "PING {address} (127.0.0.1) 0(40) bytes of data. {certificate}\n\
             0 bytes from {address}: tcp_seq=1 time={{*}} ms\n\
             0 bytes from {address}: tcp_seq=2 time={{*}} ms\n\n\
             --- {address} ping statistics ---\n\
             2 packets transmitted, 2 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{*}} ms{{*}}\n"
        ))
        .run();
}

#[test]
fn the_events_of_a_ping_tell_the_certificate_once_and_each_handshake() {
    let files = usual();
    let server = server(&files, "own", &[]);
    let run = netkit(["tcp-client", "-c2", "-i", "0.01", "--tls", "--tls-insecure"])
        .args(["--json", &server.address()])
        .any_stdout()
        .stderr("netkit: any certificate is trusted (--tls-insecure)\n")
        .run();
    let printed = String::from_utf8(run.stdout).unwrap();
    let events = printed.lines().map(serde_json::from_str);
    let events: Vec<Value> = events.map(Result::unwrap).collect();
    let names: Vec<&str> = events
        .iter()
        .filter_map(|it| it["event"].as_str())
        .collect();
    assert_eq!(names, ["start", "reply", "reply", "summary"]);
    let start = &events[0];
    for (key, value) in [
        ("tls_version", "1.3".into()),
        ("tls_group", "X25519".into()),
        ("subject", "CN=own".into()),
        ("not_after", "2120-01-01T00:00:00Z".into()),
        ("trusted", false.into()),
        ("handshake_ms", Value::Null),
    ] {
        assert_eq!(start[key], value, "{key}: {start}");
    }
    assert!(start["why"].is_string(), "{start}");
    for reply in &events[1..3] {
        let time = |key: &str| reply[key].as_f64().unwrap();
        assert!(0.0 < time("handshake_ms"), "{reply}");
        assert!(time("handshake_ms") < time("rtt_ms"), "{reply}");
        assert_eq!(reply["subject"], Value::Null);
    }
}

#[test]
fn a_port_that_is_not_trusted_is_an_error_of_each_probe() {
    let files = usual();
    authority(&files, "other");
    let server = server(&files, "own", &[]);
    let address = server.address();
    let line = |number, why| format!("From 127.0.0.1 tcp_seq={number} {why}");
    let distrust = "its certificate is signed by CN=ca, {*}";
    ping(&files.path("other.pem"), &address, ["-c2", "-i", "0.3"])
        .stdout(failed(&address, &[line(1, distrust), line(2, distrust)]))
        .code(1)
        .run();
    // A certificate that a server makes lasts 30 days.
    let short = tcp_server(["--tls"]).listen();
    let pin = short.wait_for_line("Certificate sha256:{*}");
    let pin = pin.split(' ').nth(1).unwrap();
    let soon = "the certificate of {*} lasts until {*} (30 days), less than 32d (--tls-expiry)";
    let address = short.address();
    netkit(["tcp-client", "-c2", "-i", "0.3", "--tls", "--tls-pin", pin])
        .args(["--tls-expiry", "32d", &address])
        .stdout(failed(&address, &[line(1, soon), line(2, soon)]))
        .code(1)
        .run();
    let plain = tcp_server([]).listen();
    ping(&files.path("ca.pem"), &plain.address(), ["-c1", "--json"])
        .any_stdout()
        .stdout(
            "{*}\n{*}\"event\":\"error\",{*},\"seq\":1,\"error\":\"it does not speak TLS\"}\n{*}\n",
        )
        .code(1)
        .run();
}

#[test]
fn a_port_that_never_shakes_hands_is_a_loss() {
    let files = usual();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let options = ["-c2", "-i", "0.01", "-W", "0.05"];
    ping(&files.path("ca.pem"), &address, options)
        .stdout(format!(
            "PING {address} (127.0.0.1) 0(40) bytes of data.\n\n\
             --- {address} ping statistics ---\n\
             2 packets transmitted, 0 received, 100% packet loss, time {{N}}ms\n{{*}}\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_ping_sees_that_a_client_certificate_is_refused_late() {
    let files = usual();
    let clients = authority(&files, "clients");
    signed(&files, "alice", &params("alice", &[]), &clients);
    let ask = ["--tls-client-ca", &files.path("clients.pem")];
    let server = server(&files, "own", &ask);
    let (ca, address) = (files.path("ca.pem"), server.address());
    let refused = "From 127.0.0.1 tcp_seq=1 the peer says certificate required";
    ping(&ca, &address, ["-c1"])
        .stdout(failed(&address, &[refused.to_owned()]))
        .code(1)
        .run();
    let (own, key) = (files.path("alice.pem"), files.path("alice.key"));
    ping(
        &ca,
        &address,
        ["-c1", "-q", "--tls-cert", &own, "--tls-key", &key],
    )
    .any_stdout()
    .run();
}

#[test]
fn a_server_that_starts_late_tells_its_certificate_with_its_first_answer() {
    let files = usual();
    let port = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", port.text());
    let ca = files.path("ca.pem");
    let mut ping = ping(&ca, &address, ["-i", "0.02"])
        .any_stdout()
        .code(1)
        .start();
    ping.receive_line(&format!("PING {address} (127.0.0.1) 0(40) bytes of data."));
    ping.receive_line("From 127.0.0.1 tcp_seq=1 Connection refused");
    let (own, key) = (files.path("own.pem"), files.path("own.key"));
    let server = netkit([
        "tcp-server",
        "--tls",
        "--tls-cert",
        &own,
        "--tls-key",
        &key,
        &address,
    ]);
    let server = server.any_stderr().listen();
    let told = format!("0 bytes from {address}: tcp_seq={{N}} time={{*}} ms");
    let first = format!("{told} (TLS 1.3, certificate until 2120-01-01 ({{N}} days))");
    // Refusals may come before it.
    let mut line = String::new();
    while !line.starts_with("0 bytes") {
        line = ping.receive_line("{*} tcp_seq={*}");
    }
    assert!(matches(first.as_bytes(), line.as_bytes()), "{line}");
    ping.receive_line(&told);
    ping.signal(Signal::INT);
    ping.finish();
    server.stop();
}

#[test]
fn a_unix_socket_is_pinged_with_tls() {
    let files = usual();
    let target = format!("unix:{}", files.path("socket"));
    let (own, key) = (files.path("own.pem"), files.path("own.key"));
    let server = netkit(["tcp-server", &target, "--tls"]);
    let server = server.args(["--tls-cert", &own, "--tls-key", &key]);
    let server = server.any_stderr().start();
    server.wait_for_line("Listening on {*}");
    client(&files, &target)
        .args(["-c", "1"])
        .stdout(format!(
            "PING {target} 0 bytes of data. TLS 1.3, certificate {{*}}\n\
             0 bytes from {target}: tcp_seq=1 time={{*}} ms\n\n\
             --- {target} ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{*}} ms\n"
        ))
        .run();
    server.signal(Signal::TERM);
    server.finish();
}
