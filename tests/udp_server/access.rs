//! `--allow` and `--deny`: who is answered.

use std::fs;
use std::net::UdpSocket;

use rustix::process::Signal;

use super::{ask, ask_from, is_refused};
use crate::harness::datagrams::{address, expect_nothing, send, target};
use crate::harness::{DEADLINE, mailbox, temporary_folder, udp_server};

#[test]
fn a_denied_source_gets_no_answer_and_is_logged_once() {
    let client = mailbox();
    let source = address(&client);
    let server = udp_server(["--deny", "127.0.0.1", "-b", "127.0.0.1"])
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\n\
             Bind UDP on 127.0.0.1:{{N}}...\n\
             netkit: no answer to a datagram from {source}: the source is not allowed\n\
             Received from 127.0.0.2:{{N}}.\n\
             netkit: no answer to 3 datagrams in all: the source is not allowed\n"
        ))
        .listen();
    for _ in 0..3 {
        send(&client, "x", target(&server));
    }
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ask_from(&other, &server, "x"), b"Hello, x!");
    server.stop();
    expect_nothing(&client);
}

#[test]
fn an_allow_list_also_holds_for_services_that_never_answer() {
    let client = mailbox();
    let server = udp_server(["--service", "discard", "--allow", "127.0.0.2"]).listen();
    send(&client, "x", target(&server));
    server.wait_for_line("netkit: no answer to a datagram from {*}: the source is not allowed");
    let log = server.stop().stderr;
    assert!(!log.contains("Received from"), "{log}");
}

#[test]
fn sighup_reads_files_again_and_a_wrong_one_changes_nothing() {
    let folder = temporary_folder();
    let file = folder.path().join("allowed");
    fs::write(&file, "127.0.0.1 # this host\n").unwrap();
    let server = udp_server(["--allow", &format!("@{}", file.display())]).listen();
    assert_eq!(ask(&server, "a"), b"Hello, a!");
    fs::write(&file, "10.0.0.0/33\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("netkit: {*}line 1{*}; what was read before holds");
    assert_eq!(ask(&server, "b"), b"Hello, b!");
    fs::write(&file, "192.0.2.0/24\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("Read the files of --allow and --deny again.");
    send(&mailbox(), "c", target(&server));
    server.wait_for_line("netkit: no answer to a datagram from {*}: the source is not allowed");
}

#[test]
fn an_invalid_peer_is_an_error() {
    is_refused(
        "--allow 10.0.0.0/33",
        "'10.0.0.0/33' is not a peer; write a network (10.0.0.0/8, fe80::/10), an address, a \
         name or @FILE (--allow)",
    );
}
