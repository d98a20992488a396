//! Pings of servers of others, and parsers of others that read the text.

use serde_json::Value;

use super::{ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{closed_port, mailbox, peer, python_udp_server, udp_echoes, udp_server};

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

/// Both parsers must find the counts and times that the text shows.
#[test]
fn jc_and_pingparsing_read_the_text() {
    let (Some(jc), Some(_)) = (peer("jc", ["--ping"]), peer("pingparsing", [])) else {
        return;
    };
    drop(jc);
    for (target, arguments) in [
        ("hello", "-c 5 -i 0.01"),
        ("hello", "-c 5 -i 0.01 -v"),
        ("hello", "-c 5 -i 0.01 -q -v"),
        ("closed", "-c 3 -i 0.01"),
        ("mailbox", "-c 4 -i 0.01 -W 0.3 -O"),
        ("ipv6", "-c 3 -i 0.01"),
        ("localhost", "-4 -c 3 -i 0.01"),
    ] {
        let hello = udp_server(["-b", "127.0.0.1", "-b", "::1"]).listen();
        let addresses = hello.addresses(2);
        let (closed, mailbox) = (closed_port(), mailbox());
        let target = match target {
            "hello" => addresses[0].to_string(),
            "ipv6" => addresses[1].to_string(),
            "localhost" => format!("localhost:{}", addresses[0].port()),
            "closed" => address(&closed),
            _ => address(&mailbox),
        };
        let client = ping(&target, arguments.split(' '));
        let client = client.any_stdout().any_stderr().any_code().start();
        if target == address(&mailbox) {
            let probes = [(); 4].map(|()| receive(&mailbox));
            for index in [0, 0, 2] {
                send_back(&mailbox, &probes[index]);
            }
        }
        let text = client.finish().stdout;
        let shown = String::from_utf8_lossy(&text).into_owned();
        let parse = |name, arguments: &[&str]| -> Value {
            let parser = peer(name, arguments.iter().copied()).unwrap().code(0);
            serde_json::from_slice(&parser.stdin(&text).run().stdout).unwrap()
        };
        let jc = parse("jc", &["--ping"]);
        let pingparsing = parse("pingparsing", &["-"]);
        let count = |word: &str| -> u64 {
            let line = shown.lines().find(|line| line.contains("transmitted"));
            let words: Vec<&str> = line.unwrap().split([' ', '+', ',', '%']).collect();
            let at = words.iter().position(|found| *found == word);
            at.map_or(0, |at| {
                let mut words = words[..at].iter().rev();
                words.find_map(|word| word.parse().ok()).unwrap()
            })
        };
        assert_eq!(jc["packets_transmitted"], count("packets"), "{shown}");
        assert_eq!(jc["packets_received"], count("received"), "{shown}");
        assert_eq!(jc["duplicates"], count("duplicates"), "{shown}");
        assert_eq!(pingparsing["packet_transmit"], count("packets"), "{shown}");
        assert_eq!(pingparsing["packet_receive"], count("received"), "{shown}");
        assert_eq!(pingparsing["packet_duplicate_count"], count("duplicates"));
        assert_eq!(jc["packet_loss_percent"], pingparsing["packet_loss_rate"]);
        if count("received") > 0 {
            for (jc_key, other) in [
                ("round_trip_ms_min", "rtt_min"),
                ("round_trip_ms_avg", "rtt_avg"),
                ("round_trip_ms_max", "rtt_max"),
                ("round_trip_ms_stddev", "rtt_mdev"),
            ] {
                assert!(jc[jc_key].is_number(), "{jc}");
                assert_eq!(jc[jc_key], pingparsing[other], "{shown}");
            }
        }
    }
}
