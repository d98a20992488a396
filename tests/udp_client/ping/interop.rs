//! Pings of servers of others, and parsers of others that read the text.

use std::net::UdpSocket;

use serde_json::Value;

use super::{ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{DEADLINE, peer, python_udp_server, udp_echoes, udp_server};

#[test]
fn a_python_server_is_pinged() {
    if let Some((_server, address)) = python_udp_server() {
        answers_a_hundred(&address);
    }
}

#[test]
fn echoes_of_ncat_and_socat_count_as_answers() {
    for (_server, port) in udp_echoes() {
        answers_a_hundred(&format!("127.0.0.1:{}", port.text()));
    }
}

#[test]
fn hello_and_echo_of_our_server_are_pinged() {
    for service in ["hello", "echo"] {
        let server = udp_server(["--service", service]).listen();
        answers_a_hundred(&server.address());
    }
}

#[track_caller]
fn answers_a_hundred(target: &str) {
    let arguments = ["-c", "100", "-i", "0.01", "-W", "10"];
    let client = ping(target, arguments).any_stdout().run();
    let text = String::from_utf8_lossy(&client.stdout);
    let counts = "\n100 packets transmitted, 100 received, 0% packet loss, time ";
    assert!(text.contains(counts), "{text}");
}

/// What jc, pingparsing and gping read must be what stands in the text.
#[test]
fn parsers_of_ping_read_every_line() {
    let server = udp_server(["-b", "127.0.0.1", "-b", "::1"]).listen();
    let [v4, v6] = server.addresses(2)[..] else {
        panic!("two addresses");
    };
    let name = format!("localhost:{}", v4.port());
    for target in [&v4.to_string(), &v6.to_string()] {
        for arguments in [
            "-c 5 -i 0.01",
            "-c 3 -i 0.01 -D",
            "-c 3 -i 0.01 -v",
            "-c 3 -i 0.01 -q -v",
            "-c 3 -i 0.01 -s 100",
        ] {
            read_by_all(&text(target, arguments));
        }
    }
    for family in ["-4", "-6"] {
        for more in ["", " -D"] {
            let arguments = format!("{family} -c 3 -i 0.01{more}");
            let client = ping(&name, arguments.split(' ')).any_stdout().any_stderr();
            let client = client.any_code().run();
            // A machine may have no IPv6 name.
            if client.stderr.is_empty() {
                read_by_all(&String::from_utf8(client.stdout).unwrap());
            }
        }
    }
}

#[test]
fn parsers_of_ping_read_duplicates_late_and_missing_answers() {
    for ip in ["127.0.0.1", "[::1]"] {
        for stamp in [None, Some("-D")] {
            let server = UdpSocket::bind(format!("{ip}:0")).unwrap();
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            let target = address(&server);
            let arguments = ["-c", "4", "-i", "0.2", "-W", "0.1", "-O"];
            let client = ping(&target, arguments.into_iter().chain(stamp));
            let client = client.any_stdout().any_code().start();
            let first = receive(&server);
            let second = receive(&server);
            for probe in [&first, &second, &second] {
                send_back(&server, probe);
            }
            receive(&server);
            let (probe, source) = receive(&server);
            let greeting = [b"Hello, ", probe.as_slice(), b"!"].concat();
            send_back(&server, &(greeting, source));
            let text = String::from_utf8(client.finish().stdout).unwrap();
            assert!(text.contains(" ms (late)\n"), "{text}");
            assert!(text.contains(" ms (DUP!)\n"), "{text}");
            assert!(text.contains("no answer yet for udp_seq=1\n"), "{text}");
            read_by_all(&text);
        }
    }
}

#[test]
fn parsers_of_ping_read_errors() {
    for (ip, kind) in [
        ("127.0.0.1", "destination_port_unreachable"),
        ("[::1]", "destination_unreachable_port_unreachable"),
    ] {
        for stamp in [None, Some("-D")] {
            // Connected to itself, so the kernel refuses the datagrams of all others.
            let closed = UdpSocket::bind(format!("{ip}:0")).unwrap();
            closed.connect(closed.local_addr().unwrap()).unwrap();
            let target = address(&closed);
            let arguments = ["-c", "2", "-i", "0.01"].into_iter().chain(stamp);
            let client = ping(&target, arguments).any_stdout().code(1).run();
            let text = String::from_utf8(client.stdout).unwrap();
            read_by_all(&text);
            let Some(events) = parse_stream(&text) else {
                return;
            };
            for (event, number) in events.iter().zip([1, 2]) {
                assert_eq!(event["type"], kind, "{text}");
                assert_eq!(event["icmp_seq"], number, "{text}");
                assert_eq!(event["response_ip"], ip.trim_matches(['[', ']']), "{text}");
            }
        }
    }
}

fn text(target: &str, arguments: &str) -> String {
    let client = ping(target, arguments.split(' ')).any_stdout().run();
    String::from_utf8(client.stdout).unwrap()
}

/// One line about an answer.
#[derive(Debug, PartialEq)]
struct Reply {
    size: u64,
    number: u64,
    ttl: u64,
    millis: f64,
    is_duplicate: bool,
}

fn replies(text: &str) -> Vec<Reply> {
    let lines = text.lines().filter(|line| line.contains(" bytes from "));
    lines
        .map(|line| {
            let line = line.split_once("] ").map_or(line, |(stamp, rest)| {
                if stamp.starts_with("[1") { rest } else { line }
            });
            let value = |key: &str| line.split_once(key).unwrap().1.split(' ').next().unwrap();
            Reply {
                size: line.split(' ').next().unwrap().parse().unwrap(),
                number: value("udp_seq=").parse().unwrap(),
                ttl: value("ttl=").parse().unwrap(),
                millis: value("time=").parse().unwrap(),
                is_duplicate: line.ends_with("(DUP!)"),
            }
        })
        .collect()
}

/// The number before `word` in the line about the counts. None stands for zero.
fn count(text: &str, word: &str) -> u64 {
    let line = text.lines().find(|line| line.contains("transmitted"));
    let words: Vec<&str> = line.unwrap().split([' ', '+', ',', '%']).collect();
    let at = words.iter().position(|found| *found == word);
    at.map_or(0, |at| {
        let mut words = words[..at].iter().rev();
        words.find_map(|word| word.parse().ok()).unwrap()
    })
}

#[track_caller]
fn read_by_all(text: &str) {
    read_by_jc(text);
    read_by_jc_as_a_stream(text);
    read_by_gping(text);
    // Its pattern of a target has no brackets.
    if !text.starts_with("PING [") {
        read_by_pingparsing(text);
    }
}

#[track_caller]
fn read_by_jc(text: &str) {
    let Some(jc) = peer("jc", ["--ping"]) else {
        return;
    };
    let jc: Value = serde_json::from_slice(&jc.code(0).stdin(text).run().stdout).unwrap();
    for (key, word) in [
        ("packets_transmitted", "packets"),
        ("packets_received", "received"),
        ("duplicates", "duplicates"),
    ] {
        assert_eq!(jc[key], count(text, word), "{key}: {text}{jc}");
    }
    let read = jc["responses"].as_array().unwrap().iter();
    let read: Vec<Reply> = read
        .map(|reply| {
            assert_eq!(reply["type"], "reply", "{text}{jc}");
            assert_eq!(reply["response_ip"].as_str().unwrap(), replier(text, &jc));
            Reply {
                size: reply["bytes"].as_u64().unwrap(),
                number: reply["icmp_seq"].as_u64().unwrap(),
                ttl: reply["ttl"].as_u64().unwrap(),
                millis: reply["time_ms"].as_f64().unwrap(),
                is_duplicate: reply["duplicate"].as_bool().unwrap(),
            }
        })
        .collect();
    assert_eq!(read, replies(text), "{text}{jc}");
    if text.contains("rtt min") {
        assert!(jc["round_trip_ms_stddev"].is_number(), "{text}{jc}");
    }
}

/// Who answers, as jc shows it: the address; of a numeric target with its port.
fn replier(text: &str, jc: &Value) -> String {
    let target = text["PING ".len()..].split([' ', '(']).next().unwrap();
    let ip = jc["destination_ip"].as_str().unwrap();
    let is_name = target.starts_with(|first: char| first.is_ascii_alphabetic());
    if is_name { ip } else { target }.to_owned()
}

/// The objects of `jc --ping-s`, without the summaries.
fn parse_stream(text: &str) -> Option<Vec<Value>> {
    let jc = peer("jc", ["--ping-s"])?;
    let stdout = jc.code(0).stdin(text).run().stdout;
    let objects = std::str::from_utf8(&stdout).unwrap().lines();
    let objects = objects.map(|line| serde_json::from_str::<Value>(line).unwrap());
    Some(
        objects
            .filter(|object| object["type"] != "summary")
            .collect(),
    )
}

#[track_caller]
fn read_by_jc_as_a_stream(text: &str) {
    let Some(objects) = parse_stream(text) else {
        return;
    };
    let read = objects.iter().filter(|object| object["type"] == "reply");
    let read: Vec<_> = read
        .map(|reply| {
            let number = |key: &str| reply[key].as_u64().unwrap_or(u64::MAX);
            (number("icmp_seq"), number("ttl"), reply["time_ms"].as_f64())
        })
        .collect();
    let written = replies(text).into_iter();
    let written = written.map(|reply| (reply.number, reply.ttl, Some(reply.millis)));
    assert_eq!(read, written.collect::<Vec<_>>(), "{text}{objects:?}");
}

/// gping's pattern of a line with 64 bytes, which it reads alone.
#[track_caller]
fn read_by_gping(text: &str) {
    const PATTERN: &str = r"
import re, sys
for line in sys.stdin:
    if line.startswith('64 bytes from'):
        print(re.search(r'(?i)time=(?P<ms>\d+)(?:\.(?P<ns>\d+))? *ms', line)['ms'])
    elif line.startswith('no answer yet'):
        print('timeout')
";
    let Some(python) = peer("python3", ["-c", PATTERN]) else {
        return;
    };
    let read = String::from_utf8(python.code(0).stdin(text).run().stdout).unwrap();
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    let expected = lines("64 bytes from") + lines("no answer yet");
    assert_eq!(read.lines().count(), expected, "{text}");
}

#[track_caller]
fn read_by_pingparsing(text: &str) {
    let Some(parser) = peer("pingparsing", ["-"]) else {
        return;
    };
    let read: Value = serde_json::from_slice(&parser.code(0).stdin(text).run().stdout).unwrap();
    for (key, word) in [
        ("packet_transmit", "packets"),
        ("packet_receive", "received"),
        ("packet_duplicate_count", "duplicates"),
    ] {
        assert_eq!(read[key], count(text, word), "{key}: {text}{read}");
    }
    let times = text.lines().find_map(|line| line.strip_prefix("rtt min"));
    let times = times.map(|times| times.split(['/', ' ']).collect::<Vec<_>>());
    if let Some(times) = times {
        for (index, key) in ["rtt_min", "rtt_avg", "rtt_max", "rtt_mdev"]
            .into_iter()
            .enumerate()
        {
            let written: f64 = times[5 + index].parse().unwrap();
            assert_eq!(read[key], written, "{text}{read}");
        }
    }
}
