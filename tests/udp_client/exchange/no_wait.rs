//! `--no-wait`: the client sends and waits for no answer.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{closed_port, mailbox, netkit};

#[test]
fn the_client_neither_waits_for_answers_nor_prints_them() {
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
fn a_datagram_that_could_not_be_sent_is_named() {
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
fn a_closed_output_is_no_error() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["udp-client", "--no-wait", &address(&server), "a"])
        .stdout_to(writer)
        .run();
    expect(&server, "a");
}
