//! What signals and the keyboard do during a ping.

use rustix::process::Signal;

use super::{expect_event, ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{FullPipe, Terminal, mailbox, udp_server};

#[test]
fn sigquit_prints_interim_statistics() {
    let server = udp_server([]).listen();
    let mut client = ping(&server.address(), ["-i", "1h"]).any_stdout().start();
    client.receive_line("PING {*}");
    client.receive_line("{*}: udp_seq=1 ttl={N} time={N} ms");
    client.signal(Signal::QUIT);
    client.expect_line("1/1 packets, 0% loss, min/avg/ewma/max = {N}/{N}/{N}/{N} ms");
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn interim_statistics_are_one_event_of_a_json_log() {
    let server = mailbox();
    let arguments = ["--log-format", "json", "-i", "1h", "-W", "1h"];
    let ping = ping(&address(&server), arguments).any_stdout().code(1);
    let mut client = ping.start();
    receive(&server);
    client.signal(Signal::QUIT);
    let line = client.expect_line("{*}");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], "report");
    assert_eq!(event["message"], "0/1 packets, 100% loss");
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn interim_statistics_hold_up_no_ping_if_nobody_reads_them() {
    let server = mailbox();
    let pipe = FullPipe::new();
    let client = ping(&address(&server), ["-i", "1h", "-W", "1h"])
        .any_stdout()
        .stderr_to(pipe.end())
        .code(1)
        .start();
    receive(&server);
    client.signal(Signal::QUIT);
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn interim_statistics_may_be_an_event() {
    let server = mailbox();
    let mut client = ping(&address(&server), ["--json", "-i", "1h", "-W", "1h"])
        .any_stdout()
        .code(1)
        .start();
    expect_event(&mut client, "start");
    receive(&server);
    client.signal(Signal::QUIT);
    assert_eq!(expect_event(&mut client, "interim")["transmitted"], 1);
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn enter_on_a_terminal_prints_interim_statistics() {
    let server = mailbox();
    let mut terminal = Terminal::open();
    let mut client = ping(&address(&server), ["-i", "1h", "-W", "1h"])
        .stdin_from(terminal.device())
        .any_stdout()
        .code(1)
        .start();
    receive(&server);
    terminal.type_in("\n");
    client.expect_line("0/1 packets, 100% loss");
    // The ping goes on after the end of the terminal's input.
    terminal.type_in(Terminal::END);
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn sigcont_alone_changes_nothing() {
    let server = mailbox();
    let target = address(&server);
    let mut client = ping(&target, ["-c", "1", "-W", "1h"]).any_stdout().start();
    let probe = receive(&server);
    client.signal(Signal::CONT);
    client.signal(Signal::QUIT);
    client.expect_line("0/1 packets, 100% loss");
    send_back(&server, &probe);
    client.receive_line("PING {*}");
    client.receive_line(&format!(
        "56 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms"
    ));
    client.finish();
}

#[test]
fn an_answer_that_arrived_at_a_stopped_ping_counts() {
    let server = mailbox();
    let target = address(&server);
    let mut client = ping(&target, ["-c", "1", "-W", "1h"])
        .stdout(format!(
            "56 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms\n\
             \n\
             --- {target} ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
        ))
        .start();
    client.receive_line("PING {*}");
    let probe = receive(&server);
    client.signal(Signal::STOP);
    client.wait_until_stopped();
    send_back(&server, &probe);
    client.signal(Signal::CONT);
    client.finish();
}
