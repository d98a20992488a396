//! A network that loses, delays, doubles and reorders answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{events, expect_event, numbers, ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{DEADLINE, check_changes, check_findings, mailbox, spawn};

const COUNT: usize = 20;

/// What happened to the probes, by their number.
#[derive(Debug, Default, PartialEq)]
struct Fates {
    replied: Vec<u64>,
    late: Vec<u64>,
    duplicated: Vec<u64>,
    /// As `replied`, in the order of the answers.
    order: Vec<u64>,
}

/// When to send which answer, to whom.
type Answer = (Instant, u64, Vec<u8>, SocketAddr);

/// An answer is late after this many milliseconds. A shorter limit would take a slow machine for a
/// slow network.
const LIMIT: u64 = 3000;

/// Greets every client. `seed` decides which greetings it loses, delays, doubles and reorders.
/// It answers the last probe last.
fn relay(socket: &UdpSocket, mut seed: u64) -> Fates {
    let mut random = |below: u64| {
        // xorshift64*
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    };
    let mut fates = Fates::default();
    let mut queue: BinaryHeap<Reverse<Answer>> = BinaryHeap::new();
    let mut number = 0;
    loop {
        let due = queue.peek().map(|Reverse((due, ..))| *due);
        let wait = due.map_or(DEADLINE, |due: Instant| {
            due.saturating_duration_since(Instant::now())
        });
        if wait.is_zero() {
            let Some(Reverse((_, answered, answer, source))) = queue.pop() else {
                break;
            };
            let _ = socket.send_to(&answer, source);
            let is_reply = fates.replied.contains(&answered);
            if is_reply && !fates.order.contains(&answered) {
                fates.order.push(answered);
            }
            if queue.is_empty() && number == COUNT as u64 {
                break;
            }
            continue;
        }
        socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 2048];
        let Ok((count, source)) = socket.recv_from(&mut buffer) else {
            assert!(!queue.is_empty(), "probes should come");
            continue;
        };
        number += 1;
        let answer = [b"Hello, ", &buffer[..count], b"!"].concat();
        let delay = match random(10) {
            _ if number == COUNT as u64 => LIMIT + 200,
            0..2 => continue,
            2..4 => LIMIT + 100 + random(30),
            _ => random(60),
        };
        match delay {
            0..60 => fates.replied.push(number),
            _ => fates.late.push(number),
        }
        let now = Instant::now();
        let at = |delay| now + Duration::from_millis(delay);
        queue.push(Reverse((at(delay), number, answer.clone(), source)));
        if random(4) == 0 && delay < LIMIT + 200 {
            fates.duplicated.push(number);
            queue.push(Reverse((at(delay + random(20)), number, answer, source)));
        }
    }
    fates.duplicated.sort_unstable();
    fates
}

/// The printed events must be those of `fates`.
#[track_caller]
fn check_events(stdout: &[u8], fates: &Fates) {
    let events = events(stdout);
    let sorted = |kind| {
        let mut numbers = numbers(&events, kind);
        numbers.sort_unstable();
        numbers
    };
    let seen = Fates {
        replied: sorted("reply"),
        late: sorted("late"),
        duplicated: sorted("duplicate"),
        order: numbers(&events, "reply"),
    };
    assert_eq!(seen, *fates);
    let lost = COUNT - fates.replied.len();
    assert_eq!(numbers(&events, "lost").len(), lost);
    let summary = events.last().unwrap();
    for (key, value) in [
        ("transmitted", COUNT),
        ("received", fates.replied.len()),
        ("duplicates", fates.duplicated.len()),
        ("late", fates.late.len()),
        ("lost", lost),
        ("errors", 0),
    ] {
        assert_eq!(summary[key], value, "{key}");
    }
    let percent = u32::try_from(lost * 100 / COUNT).unwrap();
    assert_eq!(summary["loss_percent"], f64::from(percent));
    check_findings(summary, COUNT as u64, &fates.order);
    check_changes(&events);
}

/// The printed text must be that of `fates`.
#[track_caller]
fn check_text(stdout: &[u8], fates: &Fates) {
    let text = std::str::from_utf8(stdout).unwrap();
    let mut seen = Fates::default();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(": udp_seq=") else {
            continue;
        };
        let (number, rest) = rest.split_once(" ttl=").unwrap();
        let numbers = match rest.split_once(" ms").unwrap().1 {
            "" => &mut seen.replied,
            " (late)" => &mut seen.late,
            " (DUP!)" => &mut seen.duplicated,
            other => panic!("{other}"),
        };
        numbers.push(number.parse().unwrap());
    }
    seen.order = seen.replied.clone();
    for numbers in [&mut seen.replied, &mut seen.late, &mut seen.duplicated] {
        numbers.sort_unstable();
    }
    assert_eq!(seen, *fates);
    let received = fates.replied.len();
    let lost = (COUNT - received) * 100 / COUNT;
    let some = |numbers: &[u64], what| match numbers.len() {
        0 => String::new(),
        count => format!(", +{count} {what}"),
    };
    let duplicates = some(&fates.duplicated, "duplicates");
    let late = some(&fates.late, "late");
    let counts = format!(
        "\n{COUNT} packets transmitted, {received} received{duplicates}{late}, {lost}% packet \
         loss, time "
    );
    assert!(text.contains(&counts), "{counts}{text}");
    check_findings_text(text, fates);
}

/// The lines before the statistics must be those of `fates`. Their numbers are checked as events.
#[track_caller]
fn check_findings_text(text: &str, fates: &Fates) {
    let (before, _) = text.split_once("\n---").unwrap();
    let is_answered = |number: &u64| fates.replied.contains(number);
    let numbers: Vec<u64> = (1..=COUNT as u64).collect();
    let runs = numbers.chunk_by(|a, b| is_answered(a) == is_answered(b));
    let lost = runs.filter(|run| !is_answered(&run[0]));
    let longest = lost.map(<[u64]>::len).max().unwrap_or(0);
    let line = format!("\nlongest run of losses {longest}\n");
    assert_eq!(before.contains(&line), longest > 1, "{before}");
    let is_sorted = fates.order.is_sorted();
    assert_eq!(before.contains(" reordered, by "), !is_sorted, "{before}");
}

#[test]
fn the_counts_match_what_the_network_did() {
    // Half of them at a time: all together would make the machine busy.
    for seeds in [1..=50_u64, 51..=100] {
        let runs: Vec<_> = seeds
            .map(|seed| {
                let socket = mailbox();
                let target = address(&socket);
                let count = COUNT.to_string();
                let limit = format!("{LIMIT}ms");
                let arguments = ["-c", &count, "-i", "0.002", "-W", &limit];
                let client = ping(&target, arguments).any_stdout().code(1);
                let is_text = seed % 10 == 0;
                let client = if is_text {
                    client
                } else {
                    client.arg("--json")
                };
                let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let relay = spawn(move || relay(&socket, mixed));
                (seed, is_text, client.start(), relay)
            })
            .collect();
        for (seed, is_text, client, relay) in runs {
            let fates = relay.join().unwrap();
            let stdout = client.finish().stdout;
            // Shown if the test fails.
            println!("seed {seed}");
            if is_text {
                check_text(&stdout, &fates);
            } else {
                check_events(&stdout, &fates);
            }
        }
    }
}

#[test]
fn answers_of_a_late_server_are_reported_lost_and_then_late() {
    let server = mailbox();
    let arguments = ["-c", "3", "-i", "0.01", "-W", "2", "--json"];
    let mut client = ping(&address(&server), arguments)
        .any_stdout()
        .code(1)
        .start();
    expect_event(&mut client, "start");
    let probes = [(); 3].map(|()| receive(&server));
    for number in 1..=3 {
        assert_eq!(expect_event(&mut client, "lost")["seq"], number);
        if number == 2 {
            assert_eq!(expect_event(&mut client, "down")["first_seq"], 1);
        }
    }
    for probe in &probes {
        send_back(&server, probe);
    }
    for number in 1..=3 {
        assert_eq!(expect_event(&mut client, "late")["seq"], number);
    }
    let summary = expect_event(&mut client, "summary");
    assert_eq!((&summary["late"], &summary["lost"]), (&3.into(), &3.into()));
    client.finish();
}
