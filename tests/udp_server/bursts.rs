//! Datagrams that arrive while the server is busy.

use rustix::process::Signal;

use crate::harness::datagrams::{send, target};
use crate::harness::{Program, Server, mailbox, udp_server};

/// The most that this system grants to a socket, if that is less than a server asks for.
fn shortage() -> Option<usize> {
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let most: usize = most.trim().parse().unwrap();
    (most < 4 << 20).then_some(most)
}

/// A server that gets `count` datagrams of `size` bytes while it is stopped.
fn a_burst(server: Program, count: usize, size: usize) -> Server {
    let server = server.listen();
    server.signal(Signal::STOP);
    server.wait_until_stopped();
    let client = mailbox();
    for _ in 0..count {
        send(&client, vec![b'x'; size], target(&server));
    }
    server.signal(Signal::CONT);
    server
}

#[test]
fn a_burst_of_a_thousand_datagrams_is_not_lost() {
    if shortage().is_some() {
        return;
    }
    for service in ["hello", "stdio"] {
        let server = a_burst(udp_server(["--service", service]).any_stdout(), 1000, 1400);
        server.wait_for_lines("Received from {*}", 1000);
        let log = server.stop().stderr;
        assert!(!log.contains("lost"), "{log}");
    }
}

#[test]
fn the_first_loss_is_told_and_their_number_at_the_end() {
    let arguments = ["--service", "discard", "--recv-buffer", "4k"];
    let server = a_burst(udp_server(arguments), 100, 1400);
    server.wait_for_line(
        "netkit: datagrams were lost: the receive buffer of 4096 bytes was full (--recv-buffer)",
    );
    let log = server.stop().stderr;
    let received = log.matches("Received from").count();
    let count = format!(
        "netkit: {} datagrams in all could not be kept: the receive buffer was full\n",
        100 - received
    );
    assert!(log.ends_with(&count), "{log}");
}

#[test]
fn a_loss_while_standard_output_is_full_is_told() {
    let (reader, writer) = std::io::pipe().unwrap();
    let arguments = ["--service", "stdio", "--recv-buffer", "64k"];
    let server = udp_server(arguments).stdout_to(writer).code(4);
    let server = server.args(["--drain-timeout", "0.1"]).listen();
    let client = mailbox();
    // More than a pipe holds.
    for _ in 0..2 {
        send(&client, vec![b'x'; 40_000], target(&server));
    }
    server.wait_for_lines("Received from {*}", 2);
    for _ in 0..100 {
        send(&client, vec![b'x'; 1400], target(&server));
    }
    server.wait_for_line("netkit: datagrams were lost: {*}");
    server.stop();
    drop(reader);
}

#[test]
fn a_small_buffer_is_told_at_the_start_only_with_v() {
    const START: &str = "the system granted a receive buffer of";
    let log = udp_server([]).listen().stop().stderr;
    assert!(!log.contains(START), "{log}");
    let verbose = udp_server(["-v"]).start();
    verbose.wait_for_line("{*}Bind UDP on {*}");
    verbose.signal(Signal::TERM);
    let log = verbose.finish().stderr;
    let said = match shortage() {
        Some(most) => format!("{START} {most} bytes, not of 4194304 (sysctl net.core.rmem_max)"),
        None => "Bind UDP on".to_owned(),
    };
    assert!(log.contains(&said), "{log}");
    assert_eq!(log.contains(START), shortage().is_some(), "{log}");
}
