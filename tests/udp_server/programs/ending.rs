//! When the server ends a program, and what it still sends.

use std::time::Duration;

use rustix::process::{Signal, test_kill_process};

use super::{pid, running, until};
use crate::harness::datagrams::{address, expect, receive, send, target};
use crate::harness::{mailbox, udp_server};
use crate::udp_server::{ask, ask_from};

#[test]
fn a_program_that_ended_is_reaped_and_started_again_for_the_next_datagram() {
    let server = running("echo $$; read line; echo end of $line; exit 3").listen();
    let client = mailbox();
    let first = pid(&ask_from(&client, &server, ""));
    send(&client, "a\n", target(&server));
    expect(&client, "end of a\n");
    server.wait_for_line(&format!(
        "Ended {{*}} for {}: it ended with exit status: 3.",
        address(&client)
    ));
    // Not even a zombie is left.
    assert!(test_kill_process(first).is_err());
    let second = pid(&ask_from(&client, &server, ""));
    assert_ne!(first, second);
}

#[test]
fn a_program_that_prints_without_end_is_ended_when_its_peer_is_silent() {
    let command = "while :; do echo x; sleep 0.05; done";
    let server = udp_server(["--idle-timeout", "0.3", "--sh-exec", command]).listen();
    let client = mailbox();
    ask_from(&client, &server, "");
    server.wait_for_line(&format!("Ended {{*}} for {}: idle.", address(&client)));
}

#[test]
fn an_idle_program_is_ended_with_its_child_processes() {
    let command = "sleep 1000 & echo $!; trap '' TERM; exec sleep 1000";
    let server = udp_server(["--idle-timeout", "0.2", "--sh-exec", command]).listen();
    let client = mailbox();
    let started = pid(&ask_from(&client, &server, ""));
    server.wait_for_line(&format!("Ended {{*}} for {}: idle.", address(&client)));
    until(|| test_kill_process(started).is_err());
    #[cfg(target_os = "linux")]
    until(|| server.children().is_empty());
    server.stop();
}

#[test]
fn datagrams_keep_a_program_alive() {
    let server = udp_server(["--idle-timeout", "2", "--sh-exec", "echo $$; exec cat"]).listen();
    let client = mailbox();
    ask_from(&client, &server, "");
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert_eq!(ask_from(&client, &server, "x"), b"x");
    }
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), 1);
}

#[test]
fn on_a_signal_due_answers_are_still_sent() {
    let server = running("while read x; do echo got $x; done; echo the end").listen();
    let client = mailbox();
    ask_from(&client, &server, "a\n");
    server.signal(Signal::STOP);
    server.wait_until_stopped();
    send(&client, "b\n", target(&server));
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    let mut answers = Vec::new();
    while !answers.ends_with(b"the end\n") {
        answers.extend(receive(&client).0);
    }
    assert_eq!(answers, b"got b\nthe end\n");
    server.finish();
}

#[test]
fn on_a_signal_a_program_that_does_not_end_is_ended_after_the_drain_timeout() {
    let command = "echo $$; exec sleep 1000";
    let server = udp_server(["--drain-timeout", "0.3", "--sh-exec", command])
        .code(4)
        .listen();
    let program = pid(&ask(&server, ""));
    let begin = std::time::Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_line(
        "netkit: ended 1 program that was still running after 300ms (--drain-timeout)",
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
    server.finish();
    assert!(test_kill_process(program).is_err());
}

#[test]
fn programs_that_sigterm_does_not_end_are_killed_and_counted() {
    let command = "trap '' TERM; echo $$; while :; do sleep 1000; done";
    let server = udp_server(["--drain-timeout", "0", "--sh-exec", command])
        .code(4)
        .listen();
    let mut programs = vec![pid(&ask(&server, "")), pid(&ask(&server, ""))];
    // SIGSTOP holds up SIGTERM too.
    rustix::process::kill_process(programs[0], Signal::STOP).unwrap();
    server.signal(Signal::TERM);
    server.wait_for_line(
        "netkit: ended 2 programs that were still running after 0s (--drain-timeout)",
    );
    server.finish();
    programs.retain(|program| test_kill_process(*program).is_ok());
    assert_eq!(programs, []);
}

#[test]
fn a_program_that_needs_most_of_the_drain_timeout_is_not_ended() {
    let command = "read x; read y; sleep 2.1; echo done";
    let server = udp_server(["--drain-timeout", "4", "--sh-exec", command]).listen();
    let client = mailbox();
    send(&client, "x\n", target(&server));
    server.wait_for_line("Started {*}");
    server.signal(Signal::TERM);
    expect(&client, "done\n");
    server.finish();
}
