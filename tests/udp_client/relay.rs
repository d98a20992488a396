//! `--relay`: the client sends input as datagrams and prints all arrivals.

use crate::harness::datagrams::{address, expect, receive, send};
#[cfg(target_os = "linux")]
use crate::harness::temporary_folder;
use crate::harness::{
    ESCAPED, Program, ReservedPort, Terminal, closed_port, mailbox, netkit, random_bytes,
    udp_server,
};

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
fn a_datagram_is_no_longer_than_other_netcats_receive() {
    let server = mailbox();
    let client = relay(&address(&server)).stdin(random_bytes(20_000)).start();
    let mut left = 20_000;
    while left > 0 {
        let size = receive(&server).0.len();
        assert!(size <= 8192, "{size}");
        left -= size;
    }
    client.finish();
}

#[test]
fn an_input_that_cannot_be_read_ends_and_arrivals_are_printed() {
    let null = std::fs::File::options().write(true).open("/dev/null");
    let absent = "bad file descriptor; it counts as ended";
    let folder = std::fs::File::open("/").unwrap();
    for (input, cause, code) in [(null.unwrap(), absent, 0), (folder, "is a directory", 2)] {
        let server = mailbox();
        let (reserved, target) = (ReservedPort::udp(), address(&server));
        let port = reserved.text();
        let client = netkit(["udp-client", "--relay", "--reuse-port", "--source-port"]);
        let mut client = client
            .args([&port, &target])
            .stdin_from(input)
            .code(code)
            .start();
        client.expect_line(&format!("netkit: could not read standard input: {cause}"));
        send(
            &server,
            "late",
            format!("127.0.0.1:{port}").parse().unwrap(),
        );
        client.receive("late");
        client.finish();
    }
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
        .stderr(ESCAPED)
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
fn a_relay_that_is_idle_ends_well() {
    let server = mailbox();
    let target = address(&server);
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"a").unwrap();
    let mut client = netkit(["udp-client", "--relay", "--idle-timeout", "2", &target])
        .stdin_from(reader)
        .start();
    send(&server, "b", expect(&server, "a"));
    client.receive("b");
    client.finish();
    drop(writer);
}

#[test]
fn a_relay_ends_at_its_deadline_whatever_moves() {
    let server = udp_server(["--service", "echo"]).listen();
    let target = server.address();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"a").unwrap();
    netkit(["udp-client", "--relay", "-w", "2", &target])
        .stdin_from(reader)
        .stdout("a")
        .stderr(format!(
            "netkit: gave up on {target} after 2s (--deadline)\n"
        ))
        .code(4)
        .run();
}

#[test]
fn newlines_become_crlf_once() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "--relay", "-C", &target])
        .args(["--wait-after-eof", "0"])
        .stdin_open()
        .start();
    client.send("a\nb\r\n\nc\r");
    expect(&server, "a\r\nb\r\n\r\nc\r");
    client.send("\nd\n");
    expect(&server, "\nd\r\n");
    client.close_input();
    client.finish();
}

#[test]
fn newlines_that_become_crlf_still_fit_into_datagrams() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "--relay", "-C", &target])
        .args(["--wait-after-eof", "0"])
        .stdin(vec![b'\n'; 65_507])
        .start();
    let mut received = Vec::new();
    while received.len() < 2 * 65_507 {
        received.extend(receive(&server).0);
    }
    assert!(received == b"\r\n".repeat(65_507));
    client.finish();
}

#[test]
fn time_limits_hold_while_nobody_reads_what_arrives() {
    let server = mailbox();
    let target = address(&server);
    let late = "netkit: standard output took no more data in time\n".to_owned();
    let gave_up = format!("netkit: gave up on {target} after 2s (--deadline)\n");
    for (option, message) in [("--idle-timeout", late), ("-w", gave_up)] {
        let (reader, writer) = std::io::pipe().unwrap();
        let client = netkit(["udp-client", "--relay", option, "2", &target]);
        let client = client.stdin("x").stdout_to(writer);
        let client = client.stderr(message).code(4).start();
        let source = expect(&server, "x");
        for _ in 0..3 {
            send(&server, vec![b'x'; 60_000], source);
        }
        client.finish();
        drop(reader);
    }
}

#[test]
fn a_relay_refuses_data() {
    netkit(["udp-client", "--relay", "127.0.0.1:9", "x"])
        .stderr("netkit: could not send DATA: --relay sends standard input; see 'netkit udp-client -h'\n")
        .code(2)
        .run();
}

/// A relay of more input than the queue of its receiver has room for.
#[cfg(target_os = "linux")]
fn a_flood(target: &str, input: &std::path::Path) -> Program {
    let client = netkit(["udp-client", "-vv", "--relay", target]);
    let client = client.args(["--wait-after-eof", "0.2"]);
    let input = std::fs::File::open(input).unwrap();
    client.stdin_from(input).any_stderr()
}

#[test]
#[cfg(target_os = "linux")]
fn a_relay_waits_for_a_busy_receiver() {
    let server = mailbox();
    let target = address(&server);
    let folder = temporary_folder();
    let path = folder.path().join("input");
    let input = random_bytes(2_000_000);
    std::fs::write(&path, &input).unwrap();
    let client = a_flood(&target, &path).start();
    client.wait_for_line(&format!(
        "{{*}}waiting for {target} to take what it was sent{{*}}"
    ));
    let mut received = Vec::new();
    while received.len() < input.len() {
        received.extend(receive(&server).0);
    }
    assert!(received == input);
    client.finish();
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_receiver_had_no_room_for_is_counted() {
    let server = mailbox();
    let target = address(&server);
    let folder = temporary_folder();
    let path = folder.path().join("input");
    std::fs::write(&path, vec![b'x'; 200 * 8192]).unwrap();
    let client = a_flood(&target, &path).code(1).run();
    server.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 8192];
    let received = std::iter::from_fn(|| server.recv(&mut buffer).ok()).count();
    let lost = format!(
        "could not deliver all datagrams to {target}: its queue was full, and {} of all that came \
         were lost",
        200 - received
    );
    assert!(client.stderr.contains(&lost), "{client:?}");
}
