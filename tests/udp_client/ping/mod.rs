//! `netkit udp-client --ping`: what it counts, what it prints and when it ends.

mod bad_network;
mod ending;
mod events;
mod interop;
mod meanwhile;
mod screen;
mod text;
mod usage;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::datagrams::address;
use crate::harness::{Process, Program, mailbox, netkit, udp_server};

fn ping<'a>(target: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Program {
    let words = ["udp-client", "--ping", target];
    netkit(words.into_iter().chain(arguments))
}

#[track_caller]
fn send_back(socket: &UdpSocket, (payload, source): &(Vec<u8>, SocketAddr)) {
    socket.send_to(payload, source).unwrap();
}

fn events(stdout: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(stdout).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The numbers of all events of a kind, in order.
fn numbers(events: &[Value], kind: &str) -> Vec<u64> {
    let events = events.iter().filter(|event| event["event"] == kind);
    events.map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[track_caller]
fn expect_event(client: &mut Process, kind: &str) -> Value {
    let line = client.receive_line("{*}");
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], kind, "{line}");
    event
}

#[test]
fn probes_are_not_sent_faster_than_asked_for() {
    let server = udp_server(["-q", "--service", "echo"]);
    let mut server = server.arg("--print-port").start();
    let target = format!("127.0.0.1:{}", server.receive_line("{N}"));
    let client = ping(&target, ["-c", "1000", "-i", "0.001", "--json"]);
    let events = events(&client.any_stdout().run().stdout);
    let time = events.last().unwrap()["time_ms"].as_f64().unwrap();
    // There is no upper limit, as a busy machine may be much slower.
    assert!(time >= 999.0, "{time}");
}

#[test]
fn adaptive_sends_as_soon_as_the_answer_arrives() {
    let server = udp_server(["-q", "--service", "echo"]);
    let mut server = server.arg("--print-port").start();
    let target = format!("127.0.0.1:{}", server.receive_line("{N}"));
    let client = ping(&target, ["-A", "-c", "50", "-i", "1h"]);
    client.any_stdout().run();
}

/// After 150 000 probes the client remembers as many as it ever does.
#[test]
#[ignore = "takes long"]
fn a_million_probes_take_no_more_memory_than_150_000() {
    let server = mailbox();
    let client = ping(&address(&server), ["-f", "-q"])
        .within(Duration::from_secs(300))
        .any_stdout()
        .any_code()
        .start();
    let answer = |count| -> u64 {
        let mut buffer = [0; 64];
        for _ in 0..count {
            let (size, source) = server.recv_from(&mut buffer).expect("a probe should come");
            server.send_to(&buffer[..size], source).unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let words = line.unwrap().split_whitespace();
        words.skip(1).find_map(|word| word.parse().ok()).unwrap()
    };
    let before = answer(150_000);
    let after = answer(850_000);
    assert!(after <= before + before / 20, "{before} kB, then {after}");
    client.signal(Signal::INT);
    client.finish();
}
