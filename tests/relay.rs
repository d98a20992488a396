//! Bulk data through our client and our echo server, out and back.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Server, netkit, random_bytes, tcp_server, temporary_folder};

const MIB: usize = 1 << 20;

fn echo(arguments: &[&str]) -> Server {
    let arguments = ["--service", "echo"].iter().chain(arguments);
    tcp_server(arguments.copied()).listen()
}

/// Sends `size` bytes each way at once. With `stopping`, SIGSTOP stops each program for a moment.
fn both_ways(size: usize, stopping: bool) {
    // A time limit gives the sockets timeouts, so that a stop interrupts reads and writes.
    let server = echo(&["--idle-timeout", "1m"]);
    let bytes = random_bytes(size);
    let client = netkit(["tcp-client", "--idle-timeout", "1m", &server.address()])
        .stdin(&bytes)
        .within(Duration::from_secs(120))
        .any_stdout()
        .start();
    if stopping {
        for (part, process) in [(1, &*server), (2, &client)] {
            client.wait_for_stdout(size / 3 * part);
            process.signal(Signal::STOP);
            process.wait_until_stopped();
            process.signal(Signal::CONT);
        }
    }
    assert!(client.finish().stdout == bytes);
    server.wait_for_line("Connection from {*} closed.");
}

#[test]
fn bytes_come_back_as_they_went() {
    both_ways(32 * MIB, false);
}

#[test]
fn bytes_come_back_as_they_went_when_both_programs_are_stopped() {
    both_ways(32 * MIB, true);
}

#[test]
#[ignore = "takes long"]
fn a_quarter_of_a_gibibyte_comes_back_as_it_went() {
    both_ways(256 * MIB, false);
    both_ways(256 * MIB, true);
}

#[test]
fn bytes_from_a_file_come_back_into_a_file() {
    let folder = temporary_folder();
    let (input, output) = (folder.path().join("input"), folder.path().join("output"));
    let bytes = random_bytes(8 * MIB);
    std::fs::write(&input, &bytes).unwrap();
    let server = echo(&[]);
    netkit(["tcp-client", &server.address()])
        .stdin_from(std::fs::File::open(&input).unwrap())
        .stdout_to(std::fs::File::create(&output).unwrap())
        .run();
    assert!(std::fs::read(&output).unwrap() == bytes);
}
