//! `--json`: every event is as `docs/json.md` says, and every event that it names comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::datagrams::{address, expect, send, target};
use crate::harness::{Process, ReservedPort, closed_port, mailbox, netkit, udp_server};

const DOCUMENT: &str = include_str!("../docs/json.md");

/// The rows of the tables below `## heading`: of each row its cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let start = format!("\n## {heading}\n");
    let (_, section) = DOCUMENT
        .split_once(&start)
        .unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// The names in backquotes.
fn names(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

/// The events of a mode, each with its fields. One that may be missing ends in `?`.
fn documented(mode: &str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = rows(mode);
    let of = |event: &str| {
        let row = rows
            .iter()
            .find(|row| names(row[0]).next() == Some(event))
            .unwrap();
        row[2]
    };
    let events = rows.iter().map(|row| {
        let fields = row[2]
            .strip_prefix("as `")
            .map(|other| of(other.trim_matches('`')));
        (
            names(row[0]).next().unwrap(),
            names(fields.unwrap_or(row[2])).collect(),
        )
    });
    events.collect()
}

/// Fails unless `value` is what the table of fields says of `field`.
#[track_caller]
fn check_type(field: &str, value: &Value, line: &str) {
    let rows = rows("Fields");
    let row = rows.iter().find(|row| names(row[0]).next() == Some(field));
    let kinds = row
        .unwrap_or_else(|| panic!("{field} has no row"))
        .get(1)
        .unwrap();
    let is_one = kinds.split(" or ").any(|kind| match kind {
        "text" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "list" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    });
    assert!(is_one, "{field} should be {kinds}: {line}");
}

/// Checks an event of `mode`. Returns its name.
#[track_caller]
fn check(mode: &str, line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    let name = event["event"].as_str().unwrap();
    assert!(
        line.starts_with(&format!("{{\"event\":\"{name}\",\"unix_s\":")),
        "{line}"
    );
    assert!(event["unix_s"].as_f64().unwrap() > 1.7e9, "{line}");
    let documented = documented(mode);
    let fields = documented
        .get(name)
        .unwrap_or_else(|| panic!("{mode} lack {line}"));
    for (field, value) in event.as_object().unwrap() {
        let optional = format!("{field}?");
        let is_common = ["event", "unix_s"].contains(&field.as_str());
        let is_known = fields
            .iter()
            .any(|known| known == field || *known == optional);
        assert!(is_common || is_known, "{mode} lack {field}: {line}");
        check_type(field, value, line);
    }
    for field in fields.iter().filter(|field| !field.ends_with('?')) {
        assert!(
            event.get(field).is_some(),
            "{mode}: {field} is not in {line}"
        );
    }
    name.to_owned()
}

fn check_all(mode: &str, stdout: &[u8]) -> BTreeSet<String> {
    let text = std::str::from_utf8(stdout).unwrap();
    text.lines().map(|line| check(mode, line)).collect()
}

#[track_caller]
fn assert_all_came(mode: &str, seen: &BTreeSet<String>) {
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    let documented: Vec<&str> = documented(mode).into_keys().collect();
    assert_eq!(seen, documented, "{mode}");
}

/// Reads events until all of `wanted` have come.
#[track_caller]
fn read_until(client: &mut Process, wanted: &[&str], seen: &mut BTreeSet<String>) {
    let mut left: BTreeSet<&str> = wanted.iter().copied().collect();
    while !left.is_empty() {
        let name = check("Pings", &client.receive_line("{*}"));
        left.remove(name.as_str());
        seen.insert(name);
    }
}

/// Answers a ping until it ends: every probe twice and with another datagram, or, while `is_away`, each
/// when the next comes.
fn answer(socket: &UdpSocket, is_away: &AtomicBool) {
    let mut buffer = [0; 100];
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    while let Ok((count, client)) = socket.recv_from(&mut buffer) {
        if count == 0 {
            return;
        }
        let probe = buffer[..count].to_vec();
        if is_away.load(Ordering::Relaxed) {
            if let Some((probe, client)) = held.replace((probe, client)) {
                send(socket, probe, client);
            }
            continue;
        }
        for datagram in [&probe[..], &probe, b"other"] {
            send(socket, datagram, client);
        }
    }
}

#[test]
fn pings() {
    let mut seen = BTreeSet::new();
    let server = mailbox();
    let is_away = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| answer(&server, &is_away));
        let options = ["-W", "0.05", "-i", "0.06", "-O", "-v", "--json"];
        let client = netkit(["udp-client", "--ping", &address(&server)]).args(options);
        let mut client = client.any_stderr().any_stdout().code(1).start();
        read_until(
            &mut client,
            &["start", "reply", "duplicate", "unexpected"],
            &mut seen,
        );
        is_away.store(true, Ordering::Relaxed);
        read_until(&mut client, &["lost", "missing", "late", "down"], &mut seen);
        is_away.store(false, Ordering::Relaxed);
        read_until(&mut client, &["up"], &mut seen);
        client.signal(Signal::QUIT);
        read_until(&mut client, &["interim"], &mut seen);
        client.signal(Signal::INT);
        read_until(&mut client, &["summary"], &mut seen);
        client.finish();
        // The end for `answer`.
        send(&mailbox(), "", server.local_addr().unwrap());
    });
    let (closed, down) = (closed_port(), ReservedPort::tcp());
    for (subcommand, target) in [
        ("udp-client", address(&closed)),
        ("tcp-client", format!("127.0.0.1:{}", down.text())),
    ] {
        let client = netkit([subcommand, "--json", "-c", "1", &target]);
        let stdout = client.any_stdout().code(1).run().stdout;
        seen.extend(check_all("Pings", &stdout));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let client = netkit(["tcp-client", "--json", "-c", "1", &open]);
    seen.extend(check_all("Pings", &client.any_stdout().run().stdout));
    assert_all_came("Pings", &seen);
}

#[test]
fn checks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let server = udp_server([]).listen();
    let (silent, closed, down) = (mailbox(), closed_port(), ReservedPort::tcp());
    let down = format!("127.0.0.1:{}", down.text());
    // The last one has no address of the family.
    let tcp = ["--source", "127.0.0.1", &open, &down, "[::1]:1"];
    let udp = [
        "-W",
        "0.2",
        &server.address(),
        &address(&closed),
        &address(&silent),
    ];
    let mut seen = BTreeSet::new();
    for (subcommand, words) in [("tcp-client", tcp), ("udp-client", udp)] {
        let client = netkit([subcommand, "-z", "--json"]).args(words);
        let client = client.any_stdout().any_stderr().any_code();
        seen.extend(check_all("Checks", &client.run().stdout));
    }
    assert_all_came("Checks", &seen);
}

#[cfg(feature = "tls")]
#[test]
fn pings_of_tls() {
    let files = crate::tls::usual();
    let server = crate::tls::server(&files, "own", &[]);
    let client = netkit([
        "tcp-client",
        "-c",
        "1",
        "--tls",
        "--json",
        &server.address(),
    ]);
    let stdout = client
        .args(["--tls-ca", &files.path("ca.pem")])
        .any_stdout()
        .run()
        .stdout;
    assert!(check_all("Pings", &stdout).contains("reply"));
    let text = String::from_utf8(stdout).unwrap();
    for field in documented("Pings")["reply"]
        .iter()
        .filter(|field| field.ends_with('?'))
    {
        let key = format!("\"{}\":", field.trim_end_matches('?'));
        assert!(text.contains(&key), "{key} {text}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn checks_of_tls() {
    let files = crate::tls::usual();
    let long = crate::tls::server(&files, "own", &[]);
    // The certificate that it makes lasts 30 days.
    let short = crate::harness::tcp_server(["--tls"]).listen();
    let ca = files.path("ca.pem");
    for (words, event, code) in [
        (&[&long.address(), "--tls-ca", &ca][..], "open", 0),
        (
            &[&short.address(), "--tls-insecure", "--tls-expiry", "90d"],
            "closed",
            1,
        ),
        (&[&long.address()], "closed", 1),
    ] {
        let client = netkit(["tcp-client", "-z", "--tls", "--json"]);
        let client = client.args(words).any_stdout().any_stderr().code(code);
        let stdout = client.run().stdout;
        assert!(check_all("Checks", &stdout).contains(event));
        let text = String::from_utf8(stdout).unwrap();
        for field in documented("Checks")[event]
            .iter()
            .filter(|_| words.len() > 1)
        {
            let key = format!("\"{}\":", field.trim_end_matches('?'));
            assert!(text.contains(&key), "{key} {text}");
        }
    }
}

#[test]
fn exchanges() {
    let mut seen = BTreeSet::new();
    let server = mailbox();
    let port = ReservedPort::udp();
    let options = [
        "--json",
        "-W",
        "1",
        "--reuse-port",
        "--source-port",
        &port.text(),
    ];
    let client = netkit(["udp-client", &address(&server), "a", "b", "c"]).args(options);
    let client = client.any_stdout().any_stderr().code(1).start();
    let source = expect(&server, "a");
    // Too late for the first, and too many for the second.
    assert_eq!(expect(&server, "b"), source);
    send(&server, "1", source);
    send(&server, b"\xff", source);
    send(&mailbox(), "elsewhere", source);
    assert_eq!(expect(&server, "c"), source);
    send(&server, "3", source);
    send(&server, "3", source);
    seen.extend(check_all("Exchanges", &client.finish().stdout));

    let client = netkit([
        "udp-client",
        "--json",
        "-W",
        "1",
        &address(&server),
        "a",
        "b",
        "c",
    ]);
    let client = client.any_stdout().any_stderr().code(1).start();
    let first = expect(&server, "a");
    expect(&server, "b");
    send(&server, "late", first);
    expect(&server, "c");
    seen.extend(check_all("Exchanges", &client.finish().stdout));

    let client = netkit([
        "udp-client",
        "--json",
        "-W",
        "10",
        &address(&server),
        "a",
        "b",
    ]);
    let client = client.any_stdout().any_stderr().start();
    let source = expect(&server, "a");
    send(&server, "Hello, a!", source);
    assert_eq!(expect(&server, "b"), source);
    send(&server, "Hello, a!", source);
    send(&server, "Hello, b!", source);
    seen.extend(check_all("Exchanges", &client.finish().stdout));
    assert_all_came("Exchanges", &seen);
}

#[test]
fn servers() {
    let server = udp_server(["--service", "stdio", "--json", "--idle-timeout", "0.2"]);
    let server = server.any_stdout().listen();
    for payload in [&b"text"[..], b"\xff"] {
        send(&mailbox(), payload, target(&server));
    }
    let seen = check_all("Servers", &server.finish().stdout);
    assert_all_came("Servers", &seen);
}

#[cfg(target_os = "linux")]
#[test]
fn path_mtu() {
    let server = udp_server(["--service", "echo"]).listen();
    let client = netkit(["udp-client", "--mtu", "--json", &server.address()]);
    let seen = check_all("Path MTU", &client.any_stdout().run().stdout);
    assert_all_came("Path MTU", &seen);
}

#[test]
fn every_field_of_the_table_is_one_of_an_event() {
    let modes = ["Pings", "Checks", "Exchanges", "Servers", "Path MTU"];
    let used: BTreeSet<&str> = modes
        .iter()
        .flat_map(|mode| documented(mode).into_values().flatten())
        .map(|field| field.trim_end_matches('?'))
        .collect();
    // Those of an outage stand in a list too.
    for row in rows("Fields") {
        let field = names(row[0]).next().unwrap();
        assert!(
            used.contains(field) || ["event", "unix_s"].contains(&field),
            "{field}"
        );
    }
    let starts = modes
        .iter()
        .filter(|mode| documented(mode)["start"].contains(&"v"));
    assert_eq!(starts.count(), modes.len());
}
