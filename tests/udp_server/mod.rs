//! `netkit udp-server`: where it listens, whom it answers and with what, and what it logs.

mod access;
#[cfg(target_os = "linux")]
mod addresses;
#[cfg(target_os = "linux")]
mod bursts;
mod listening;
mod log;
#[cfg(target_os = "linux")]
mod loops;
mod multicast;
mod programs;
mod service;
mod stdio;
mod tap;

use std::net::{SocketAddr, UdpSocket};

use rustix::process::{Resource, Signal, getrlimit, setrlimit};

use crate::harness::datagrams::{expect, receive, send, target};
use crate::harness::{Server, mailbox, netkit, udp_server};

/// Sends `payload` from a new socket and returns the answer.
#[track_caller]
pub fn ask(server: &Server, payload: impl AsRef<[u8]>) -> Vec<u8> {
    ask_from(&mailbox(), server, payload)
}

#[track_caller]
pub fn ask_from(socket: &UdpSocket, server: &Server, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let target: SocketAddr = server.address().parse().unwrap();
    send(socket, payload, target);
    let (answer, source) = receive(socket);
    assert_eq!(source, target);
    answer
}

/// The server must refuse these options with `message`.
#[track_caller]
fn is_refused(words: &str, message: &str) {
    netkit(
        ["udp-server", "-p", "0"]
            .into_iter()
            .chain(words.split(' ')),
    )
    .stderr(format!("netkit: {message}\n"))
    .code(2)
    .run();
}

/// As [`is_refused`], where the message names the help.
#[track_caller]
fn is_wrong_usage(words: &str, message: &str) {
    is_refused(words, &format!("{message}; see 'netkit udp-server -h'"));
}

#[test]
fn options_that_do_nothing_with_a_service_are_refused() {
    const STDIO: &str = "-l or --service stdio";
    const PROGRAM: &str = "-e or --sh-exec";
    let (hello, echo, discard) = ("--service hello", "--service echo", "--service discard");
    let (stdio, short, program) = ("--service stdio", "-l", "--sh-exec x");
    let rows: [(&str, &str, &[&str]); 8] = [
        (
            "--rate-limit 5",
            "--service hello, --service echo, -e or --sh-exec",
            &[discard, stdio, short],
        ),
        ("-k", STDIO, &[hello, echo, discard, program]),
        ("--lines", STDIO, &[hello, echo, discard, program]),
        ("--json", STDIO, &[hello, echo, discard, program]),
        ("-C", STDIO, &[hello, echo, discard, program]),
        ("--raw", STDIO, &[hello, echo, discard, program]),
        (
            "--idle-timeout 5",
            "-l, --service stdio, -e or --sh-exec",
            &[hello, echo, discard],
        ),
        (
            "--max-peers 5",
            PROGRAM,
            &[hello, echo, discard, stdio, short],
        ),
    ];
    for (option, needs, services) in rows {
        let name = option.split(' ').next().unwrap();
        for service in services {
            is_wrong_usage(
                &format!("{option} {service}"),
                &format!("{name} needs {needs}"),
            );
        }
    }
}

#[test]
fn each_of_a_thousand_peers_is_answered() {
    /// Even a small socket buffer holds this many datagrams, so that none is lost.
    const UNANSWERED: usize = 50;
    // The usual limit of 1024 descriptors is not enough for all peers.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let peers: Vec<UdpSocket> = (0..1000).map(|_| mailbox()).collect();
    for (service, [before, after]) in [("hello", ["Hello, ", "!"]), ("echo", ["", ""])] {
        let server = udp_server(["--service", service]).listen();
        let target = target(&server);
        let expect = |number: usize| expect(&peers[number], format!("{before}{number}{after}"));
        for (number, peer) in peers.iter().enumerate() {
            if let Some(earlier) = number.checked_sub(UNANSWERED) {
                assert_eq!(expect(earlier), target);
            }
            send(peer, number.to_string(), target);
        }
        for number in peers.len() - UNANSWERED..peers.len() {
            assert_eq!(expect(number), target);
        }
        server.stop();
    }
}

#[test]
fn datagrams_that_arrived_before_the_signal_are_answered() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = udp_server([]).listen();
        let target = server.address().parse().unwrap();
        let client = mailbox();
        server.signal(Signal::STOP);
        server.wait_until_stopped();
        for payload in ["a", "b", "c"] {
            send(&client, payload, target);
        }
        server.signal(signal);
        server.signal(Signal::CONT);
        for answer in ["Hello, a!", "Hello, b!", "Hello, c!"] {
            expect(&client, answer);
        }
        server.finish();
    }
}

#[test]
fn the_short_help_fits_a_screen() {
    let help = netkit(["udp-server", "-h"]).any_stdout().run().stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(help.lines().count() <= 40, "{help}");
    assert!(help.contains("\nExamples:\n"), "{help}");
}
