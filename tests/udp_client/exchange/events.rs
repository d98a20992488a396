//! `--json`: an exchange as events.

use std::fs::OpenOptions;

use rustix::process::Signal;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{mailbox, netkit, udp_server};

#[test]
fn every_event_is_one_object_on_one_line() {
    let server = mailbox();
    let target = address(&server);
    let port = server.local_addr().unwrap().port();
    let mut client = netkit(["udp-client", "--json", "-W", "2", &target, "a", "b"])
        .any_stderr()
        .code(1)
        .start();
    client.receive_line(&format!(
        r#"{{"event":"start","unix_s":{{N}},"v":1,"target":"{target}"}}"#
    ));
    let first = expect(&server, "a");
    client.receive_line(&format!(
        r#"{{"event":"unanswered","unix_s":{{N}},"seq":1,"error":"{target}: nothing came within 2s"}}"#
    ));
    let second = expect(&server, "b");
    send(&server, "late", first);
    client.receive_line(&format!(
        r#"{{"event":"late","unix_s":{{N}},"seq":1,"address":"127.0.0.1","port":{port},"size_bytes":4,"text":"late"}}"#
    ));
    send(&server, b"\xff\0", second);
    client.receive_line(&format!(
        r#"{{"event":"answer","unix_s":{{N}},"seq":2,"address":"127.0.0.1","port":{port},"size_bytes":2,"rtt_ms":{{N}},"hex":"ff00"}}"#
    ));
    client.receive_line(r#"{"event":"summary","unix_s":{N},"sent":2,"answered":1,"unanswered":1}"#);
    client.finish();
}

#[test]
fn an_interrupt_prints_the_summary() {
    let server = mailbox();
    let mut client = netkit(["udp-client", "--json", "-W", "1h", &address(&server)])
        .stdin_open()
        .killed_by(Signal::INT)
        .start();
    client.receive_line(r#"{"event":"start",{*}"#);
    client.send("a\n");
    send(&server, "answer", expect(&server, "a"));
    client.receive_line(r#"{"event":"answer",{*}"#);
    client.send("b\n");
    expect(&server, "b");
    client.signal(Signal::INT);
    client.receive_line(r#"{"event":"summary","unix_s":{N},"sent":2,"answered":1,"unanswered":1}"#);
    client.finish();
}

#[test]
fn a_full_disk_is_an_error() {
    let server = udp_server([]).listen();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    netkit(["udp-client", "--json", &server.address(), "a"])
        .stdout_to(full)
        .stderr("netkit: could not write standard output: no space left on device\n")
        .code(2)
        .run();
}

#[test]
fn options_without_effect_are_refused() {
    for (option, reason) in [
        ("--no-wait", "--json does nothing with --no-wait"),
        ("--raw", "the argument '--json' cannot be used with '--raw'"),
    ] {
        netkit(["udp-client", "--json", option, "127.0.0.1:9", "x"])
            .stderr(format!("netkit: {reason}; see 'netkit udp-client -h'\n"))
            .code(2)
            .run();
    }
}
