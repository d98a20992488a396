//! `--no-wait`: datagrams are only sent.

use crate::harness::datagrams::{address, expect, receive, send};
use crate::harness::{DEADLINE, Process, closed_port, mailbox, netkit, spawn};

#[test]
fn nothing_is_waited_for_and_nothing_is_printed() {
    let server = mailbox();
    let mut client = netkit(["udp-client", "--no-wait", &address(&server)])
        .stdin_open()
        .start();
    client.send("a\n");
    let source = expect(&server, "a");
    send(&server, "ignored", source);
    client.send("\nb");
    assert_eq!(expect(&server, ""), source);
    client.close_input();
    assert_eq!(expect(&server, "b"), source);
    client.finish();
}

#[test]
#[cfg(target_os = "linux")]
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

/// As many lines as no queue of a socket has room for, and their sender.
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
fn a_receiver_that_is_busy_is_waited_for() {
    let server = mailbox();
    let client = a_flood(&address(&server), 0);
    for line in 1..=5000 {
        assert_eq!(receive(&server).0, line.to_string().as_bytes());
    }
    client.finish();
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_receiver_has_no_room_for_is_counted() {
    let server = mailbox();
    let target = address(&server);
    let client = a_flood(&target, 1).finish();
    server.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
    let lost = format!(
        "could not deliver all datagrams to {target}: its queue was full, and {} of all that came were \
         lost",
        5000 - received
    );
    assert!(client.stderr.contains(&lost), "{client:?}");
}

#[test]
fn what_could_not_be_sent_is_named() {
    let closed = closed_port();
    let target = address(&closed);
    netkit(["udp-client", "--no-wait", &target, "a", "b"])
        .stderr(format!(
            "netkit: could not send datagram 1, \"a\" to {target}: connection refused\n\
             netkit: could not send datagram 2, \"b\" to {target}: connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_closed_output_does_not_matter() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["udp-client", "--no-wait", &address(&server), "a"])
        .stdout_to(writer)
        .run();
    expect(&server, "a");
}
