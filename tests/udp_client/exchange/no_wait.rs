//! `--no-wait`: datagrams are only sent.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{closed_port, mailbox, netkit};

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
