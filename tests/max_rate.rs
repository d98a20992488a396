//! `--max-rate`: bytes pass whole, and not faster than that, on every way that they take.
//!
//! A busy machine makes every transfer slower, so only the least time is asserted.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::harness::{Peer, Program, Server, netkit, random_bytes, tcp_server, temporary_folder};

const SIZE: usize = 200 << 10;
/// A mebibyte a second, of which a tenth may pass at once.
const RATE: [&str; 2] = ["--max-rate", "1M"];
const LEAST: Duration = Duration::from_millis((200 - 103) * 1000 / 1024);

fn echo(arguments: &[&str]) -> Server {
    let arguments = ["--service", "echo"].iter().chain(arguments);
    tcp_server(arguments.copied()).listen()
}

#[track_caller]
fn assert_slow(bytes: &[u8], client: Program) {
    let start = Instant::now();
    let answer = client.any_stdout().any_stderr().run().stdout;
    assert!(start.elapsed() >= LEAST, "{:?}", start.elapsed());
    assert!(answer == bytes);
}

#[test]
fn a_client_sends_and_receives_no_faster() {
    let folder = temporary_folder();
    let file = folder.path().join("input");
    let bytes = random_bytes(SIZE);
    std::fs::write(&file, &bytes).unwrap();
    let server = echo(&[]);
    let client = || netkit(["tcp-client", &server.address()]).args(RATE);
    // sendfile(2) and splice(2), splice(2) alone, and a copy.
    assert_slow(&bytes, client().stdin_from(File::open(&file).unwrap()));
    assert_slow(&bytes, client().stdin(&bytes));
    let record = folder.path().join("record");
    assert_slow(&bytes, client().arg("--record").arg(&record).stdin(&bytes));
    // Only what is received counts.
    let sender = bytes.clone();
    let peer = Peer::listen(move |mut connection| connection.send(sender));
    let output = folder.path().join("output");
    let start = Instant::now();
    let client = netkit(["tcp-client", peer.address()]).args(RATE).stdin("");
    client.stdout_to(File::create(&output).unwrap()).run();
    assert!(start.elapsed() >= LEAST);
    assert!(std::fs::read(output).unwrap() == bytes);
}

#[test]
fn a_server_serves_no_faster() {
    let bytes = random_bytes(SIZE);
    let target = echo(&[]);
    for service in [
        &["--forward", &target.address()][..],
        &["-l"],
        &["--sh-exec", "exec cat"],
    ] {
        let server = tcp_server(service.iter().copied()).args(RATE);
        let server = server
            .stdin(&bytes)
            .any_stdout()
            .any_stderr()
            .any_code()
            .listen();
        let client = netkit(["tcp-client", &server.address()]);
        assert_slow(&bytes, client.stdin(&bytes));
    }
}

#[cfg(feature = "tls")]
#[test]
fn with_tls_it_is_the_plaintext_that_counts() {
    let files = crate::tls::usual();
    let server = crate::tls::server(&files, "own", &["--service", "echo"]);
    let bytes = random_bytes(SIZE);
    let client = crate::tls::client(&files, &server.address()).args(RATE);
    assert_slow(&bytes, client.stdin(&bytes));
}

#[test]
fn a_rate_far_below_a_byte_at_a_time_still_passes_all() {
    let server = echo(&[]);
    let client = netkit(["tcp-client", &server.address(), "--limit-rate", "5"]);
    client.stdin("abc").stdout("abc").run();
}

#[test]
fn a_pause_of_the_rate_is_no_silence_of_the_peer() {
    let peer = Peer::listen(|mut connection| connection.send("ab"));
    // A second each byte.
    let words = ["--max-rate", "1", "--idle-timeout", "0.9", "--recv-only"];
    let client = netkit(["tcp-client", peer.address()]).args(words);
    client.stdin("").stdout("ab").run();
}

#[test]
fn what_is_no_rate_or_does_nothing_is_refused() {
    let cases = [
        (
            &["tcp-client", ":1", "--max-rate", "0"][..],
            "'0' must be more than zero (--max-rate); see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-client", "-z", ":1", "--max-rate", "1k"],
            "--max-rate does nothing with -z; see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-server", "1", "--service", "echo", "--max-rate", "1k"],
            "--max-rate does nothing with --service echo; see 'netkit tcp-server -h'",
        ),
    ];
    for (words, message) in cases {
        netkit(words)
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
}
