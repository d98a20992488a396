//! `--relay`: the client sends input as datagrams and prints all arrivals.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{Program, Terminal, closed_port, mailbox, netkit, random_bytes, udp_server};

fn relay(target: &str) -> Program {
    netkit(["udp-client", "--relay", "--wait-after-eof", "0.2", target])
}

#[test]
fn input_becomes_datagrams_while_arrivals_are_printed() {
    let server = mailbox();
    let mut client = relay(&address(&server)).stdin_open().start();
    client.send("one\n");
    let source = expect(&server, "one\n");
    send(&server, b"\xff\0", source);
    send(&server, "", source);
    send(&server, "unasked", source);
    client.receive(b"\xff\0unasked");
    client.send("two");
    assert_eq!(expect(&server, "two"), source);
    client.close_input();
    client.finish();
}

#[test]
fn datagrams_that_arrive_after_the_end_of_input_are_printed() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "--relay", &target])
        .stdin("x")
        .start();
    let source = expect(&server, "x");
    send(&server, "late", source);
    client.receive("late");
    client.finish();
}

#[test]
fn a_large_input_is_cut_into_datagrams() {
    let server = udp_server(["--service", "echo"]).listen();
    let input = random_bytes(100_000);
    relay(&server.address()).stdin(&input).stdout(&input).run();
}

#[test]
fn a_closed_port_is_reported_once_and_in_the_exit_code() {
    let closed = closed_port();
    let target = address(&closed);
    let mut client = relay(&target).stdin_open().code(1).start();
    client.send("a");
    client.expect_line(&format!(
        "netkit: could not send to {target}: connection refused"
    ));
    client.send("b");
    client.close_input();
    client.finish();
}

#[test]
fn a_name_is_tried_at_all_its_addresses() {
    // localhost may resolve to ::1 first, where no server listens.
    let server = udp_server([]).listen();
    relay(&format!(":{}", server.port()))
        .stdin("a")
        .stdout("Hello, a!")
        .run();
}

#[test]
fn a_terminal_is_shown_no_control_characters() {
    let server = udp_server(["--service", "echo"]).listen();
    let mut terminal = Terminal::open();
    relay(&server.address())
        .stdin("\x1b[31mred\n")
        .stdout_to(terminal.device())
        .run();
    terminal.expect("\\x1b[31mred\n");
    terminal.finish();
}

#[test]
fn a_reader_that_leaves_ends_the_relay() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    let client = relay(&address(&server))
        .stdin_open()
        .stdout_to(writer)
        .code(141)
        .start();
    client.send("a");
    expect(&server, "a");
    drop(reader);
    client.finish();
}

#[test]
fn a_relay_refuses_data() {
    netkit(["udp-client", "--relay", "127.0.0.1:9", "x"])
        .stderr("netkit: could not send DATA: --relay sends standard input\n")
        .code(2)
        .run();
}
