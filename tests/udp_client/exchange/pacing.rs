//! `--no-wait`: the client keeps pace with a receiver on this machine.

use crate::harness::datagrams::{address, expect, receive};
use crate::harness::{DEADLINE, Process, mailbox, netkit, spawn};

#[test]
fn a_hundred_thousand_lines_arrive_in_order() {
    let server = mailbox();
    let target = address(&server);
    let sink = spawn(move || {
        for line in 1..=100_000 {
            expect(&server, line.to_string());
        }
    });
    let lines: Vec<String> = (1..=100_000).map(|line| line.to_string()).collect();
    netkit(["udp-client", "--no-wait", &target])
        .stdin(lines.join("\n"))
        .within(DEADLINE * 3)
        .run();
    sink.join().unwrap();
}

/// A client that sends more lines than the queue of a socket has room for.
fn a_flood(target: &str, code: i32) -> Process {
    let lines: Vec<String> = (1..=5000).map(|line| line.to_string()).collect();
    let client = netkit(["udp-client", "-vv", "--no-wait", target]);
    let client = client
        .stdin(lines.join("\n"))
        .any_stderr()
        .code(code)
        .start();
    client.wait_for_line(&format!(
        "{{*}}waiting for {target} to take what it was sent{{*}}"
    ));
    client
}

#[test]
fn the_client_waits_for_a_busy_receiver() {
    let server = mailbox();
    let client = a_flood(&address(&server), 0);
    for line in 1..=5000 {
        assert_eq!(receive(&server).0, line.to_string().as_bytes());
    }
    client.finish();
}

#[test]
fn datagrams_that_overflow_the_receiver_are_counted() {
    let server = mailbox();
    let target = address(&server);
    let client = a_flood(&target, 1).finish();
    server.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
    let lost = format!(
        "could not deliver all datagrams to {target}: its queue was full, and {} of all that came \
         were lost",
        5000 - received
    );
    assert!(client.stderr.contains(&lost), "{client:?}");
}
