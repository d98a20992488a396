//! Each argument or line is a datagram, and its answer is printed.

mod events;
mod matching;
mod no_wait;
mod output;
#[cfg(target_os = "linux")]
mod pacing;
mod refused;
mod sizes;
mod unanswered;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{DEADLINE, mailbox, netkit, udp_server};

#[test]
fn every_argument_is_a_datagram_and_every_answer_a_line() {
    let server = mailbox();
    let client = netkit(["udp-client", "-W", "10", &address(&server)])
        .args(["Michael", "", "Tracy"])
        .stdout(b"Hello, Michael!\n\n\0\x1b\xff\n")
        .start();
    let source = expect(&server, "Michael");
    send(&server, "Hello, Michael!", source);
    assert_eq!(expect(&server, ""), source);
    send(&server, "", source);
    assert_eq!(expect(&server, "Tracy"), source);
    send(&server, b"\0\x1b\xff", source);
    client.finish();
}

#[test]
fn every_text_to_send_is_a_datagram_with_escapes() {
    let server = udp_server(["--service", "echo"]).listen();
    let target = server.address();
    netkit([
        "udp-client",
        "--raw",
        "--send",
        "a\\r\\n\\x00",
        &target,
        "\\n",
    ])
    .args(["--send", "", "--send", "-1"])
    .stdout("\\na\r\n\0-1")
    .run();
    netkit(["udp-client", "--send", "a\\q", &target])
        .stderr(
            "netkit: '\\q' in 'a\\q' is not known (--send); write \
             \\r \\n \\t \\0 \\\\ or \\xHH; see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
    netkit(["udp-client", "--whole", "--send", "a", &target])
        .stderr(
            "netkit: --whole and --chunk cut standard input, which is not read when DATA or --send \
             is given; see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn every_line_of_input_is_a_datagram() {
    let server = udp_server([]).listen();
    netkit(["udp-client", &server.address()])
        .stdin("Michael\n\n \r\nlast")
        .stdout("Hello, Michael!\nHello, !\nHello,  \r!\nHello, last!\n")
        .run();
}

#[test]
fn a_line_is_sent_as_soon_as_it_is_complete() {
    let server = udp_server([]).listen();
    let mut client = netkit(["udp-client", &server.address()])
        .stdin_open()
        .start();
    client.send("one\ntw");
    client.receive("Hello, one!\n");
    client.send("o\nthree");
    client.receive("Hello, two!\n");
    client.close_input();
    client.receive("Hello, three!\n");
    client.finish();
}

#[test]
fn empty_input_sends_no_datagram() {
    netkit(["udp-client", &address(&mailbox())]).run();
}

#[test]
fn the_port_may_be_an_argument_of_its_own_and_data_any_bytes() {
    let server = udp_server([]).listen();
    netkit(["udp-client", "127.0.0.1", &server.port().to_string()])
        .arg(OsStr::from_bytes(b"\xff"))
        .arg("9999")
        .stdout(b"Hello, \xff!\nHello, 9999!\n")
        .run();
}

#[test]
fn the_client_asks_the_address_of_a_name_that_answers() {
    // localhost may resolve to ::1 first, where no server listens.
    let server = udp_server([]).listen();
    netkit(["udp-client", &format!(":{}", server.port()), "a", "b"])
        .stdout("Hello, a!\nHello, b!\n")
        .run();
}

#[test]
fn the_client_sends_over_ipv6() {
    let server = udp_server(["-b", "::1"]).listen();
    netkit(["udp-client", "-6", "-n", &server.address(), "a"])
        .stdout("Hello, a!\n")
        .run();
}

#[test]
fn a_hundred_thousand_lines_are_answered_in_order() {
    let server = udp_server(["-q"]);
    let mut server = server.arg("--print-port").start();
    let port = server.receive_line("{N}");
    let lines: Vec<String> = (1..=100_000).map(|line| line.to_string()).collect();
    let answers = format!("Hello, {}!\n", lines.join("!\nHello, "));
    netkit(["udp-client", &format!("127.0.0.1:{port}")])
        .stdin(lines.join("\n"))
        .stdout(answers)
        .within(6 * DEADLINE)
        .run();
}
