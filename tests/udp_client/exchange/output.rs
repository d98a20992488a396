//! Standard output that is a terminal, is full, or has no reader.

use std::fs::OpenOptions;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{ESCAPED, Terminal, mailbox, netkit, udp_server};

#[test]
fn a_reader_that_has_left_ends_the_client_quietly() {
    let server = udp_server([]).listen();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["udp-client", &server.address(), "a", "b"])
        .stdout_to(writer)
        .code(141)
        .run();
}

#[test]
fn a_reader_that_leaves_ends_a_client_that_waits_for_input() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    let client = netkit(["udp-client", &address(&server)])
        .stdin_open()
        .stdout_to(writer)
        .code(141)
        .start();
    client.send("a\n");
    send(&server, "answer", expect(&server, "a"));
    drop(reader);
    client.finish();
}

#[test]
fn a_full_disk_is_an_error() {
    let server = udp_server([]).listen();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    netkit(["udp-client", &server.address(), "a", "b"])
        .stdout_to(full)
        .stderr("netkit: could not write standard output: no space left on device\n")
        .code(2)
        .run();
}

#[test]
fn a_terminal_gets_control_characters_only_with_raw() {
    let server = udp_server(["--service", "echo"]).listen();
    let mut terminal = Terminal::open();
    let text = "\x1b[31mred";
    netkit(["udp-client", &server.address(), text])
        .stdout_to(terminal.device())
        .stderr(ESCAPED)
        .run();
    terminal.expect("\\x1b[31mred\n");
    netkit(["udp-client", "--raw", &server.address(), text])
        .stdout_to(terminal.device())
        .run();
    terminal.expect("\x1b[31mred");
    terminal.finish();
}

#[test]
fn raw_adds_no_newline_to_an_answer() {
    let server = udp_server(["--service", "echo"]).listen();
    netkit(["udp-client", "--raw", &server.address(), "a", "\n", "b"])
        .stdout("a\nb")
        .run();
}
