//! Which datagram an arrival answers.

use rustix::process::Signal;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{Program, ReservedPort, mailbox, netkit};

#[test]
fn a_late_answer_is_reported_and_never_counts_for_the_next_datagram() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "2", &target, "a", "b"])
        .stdout("to b\n")
        .stderr(format!(
            "netkit: no answer from {target} to \"a\" within 2s\n\
             netkit: late answer from {target} to datagram 1, \"a\": \"to a\\x1b\"\n"
        ))
        .code(1)
        .start();
    let first = expect(&server, "a");
    let second = expect(&server, "b");
    send(&server, "to a\x1b", first);
    send(&server, "to b", second);
    client.finish();
}

#[test]
fn a_late_answer_is_reported_while_input_is_silent() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "-W", "0.1", &target])
        .stdin_open()
        .code(1)
        .start();
    client.send("a\n");
    let source = expect(&server, "a");
    client.expect_line("netkit: no answer from {*} to \"a\" within {*}");
    send(&server, "to a", source);
    client.expect_line(&format!(
        "netkit: late answer from {target} to datagram 1, \"a\": \"to a\""
    ));
    client.close_input();
    client.finish();
}

#[test]
fn a_refusal_of_a_second_port_suggests_source_port() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "-W", "2", &target])
        .stdin_open()
        .code(1)
        .start();
    client.send("a\n");
    server.connect(expect(&server, "a")).unwrap();
    client.expect_line("netkit: no answer from {*} to \"a\" within {*}");
    client.send("b\n");
    client.expect_line(&format!(
        "netkit: could not get an answer to datagram 2, \"b\" from {target}: connection \
         refused (if it talks only to the first port that it hears from, --source-port N \
         keeps one)"
    ));
    client.close_input();
    client.finish();
}

/// A client with a given source port that waits two seconds for each answer.
fn client_from(port: &ReservedPort, words: &[&str]) -> Program {
    let options = ["udp-client", "-W", "2", "--reuse-port", "--source-port"];
    netkit(options).arg(port.text()).args(words)
}

#[test]
fn with_a_given_port_the_content_tells_which_answer_is_late() {
    let server = mailbox();
    let target = address(&server);
    let port = ReservedPort::udp();
    let client = client_from(&port, &[&target, "Michael", "Tracy"])
        .stdout("Hello, Tracy!\n")
        .stderr(format!(
            "netkit: no answer from {target} to \"Michael\" within 2s\n\
             netkit: late answer from {target} to datagram 1, \"Michael\": \
             \"Hello, Michael!\"\n"
        ))
        .code(1)
        .start();
    let source = expect(&server, "Michael");
    assert_eq!(source.port(), port.number());
    assert_eq!(expect(&server, "Tracy"), source);
    send(&server, "Hello, Michael!", source);
    send(&server, "Hello, Tracy!", source);
    client.finish();
}

#[test]
fn with_a_given_port_an_answer_without_its_question_is_doubtful_and_not_printed() {
    let server = mailbox();
    let target = address(&server);
    let port = ReservedPort::udp();
    let client = client_from(&port, &[&target, "date", "time", "year"])
        .stdout("2026\n")
        .stderr(format!(
            "netkit: no answer from {target} to \"date\" within 2s\n\
             netkit: doubtful answer from {target} to datagram 2, \"time\": \"7.3.\"\n\
             netkit: doubtful answer from {target} to datagram 2, \"time\": \"12:34\"\n\
             netkit: could not get an answer to datagram 2, \"time\" from {target}: what \
             came may be the answer to an earlier one (without --source-port it would come \
             to a port of its own)\n"
        ))
        .code(1)
        .start();
    let source = expect(&server, "date");
    assert_eq!(expect(&server, "time"), source);
    send(&server, "7.3.", source);
    send(&server, "12:34", source);
    // All answers have arrived now, so that the next one is not doubtful.
    assert_eq!(expect(&server, "year"), source);
    send(&server, "2026", source);
    client.finish();
}

#[test]
fn with_a_given_port_the_client_waits_on_after_a_doubtful_answer() {
    let server = mailbox();
    let target = address(&server);
    let port = ReservedPort::udp();
    let client = client_from(&port, &[&target, "date", "time"])
        .stdout("time 12:34\n")
        .any_stderr()
        .code(1)
        .start();
    let source = expect(&server, "date");
    expect(&server, "time");
    send(&server, "7.3.", source);
    send(&server, "time 12:34", source);
    client.finish();
}

#[test]
fn a_surplus_answer_that_was_printed_for_the_next_datagram_is_an_error_at_the_end() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "10", &target, "a", "b"])
        .stdout("1\n1 again\n")
        .stderr(format!(
            "netkit: unexpected datagram from {target}: \"2\"\n\
             netkit: {target} sends more than it is asked for: answers up to datagram 2 may \
             belong to the one before\n"
        ))
        .code(1)
        .start();
    let source = expect(&server, "a");
    send(&server, "1", source);
    assert_eq!(expect(&server, "b"), source);
    client.signal(Signal::STOP);
    client.wait_until_stopped();
    send(&server, "1 again", source);
    send(&server, "2", source);
    client.signal(Signal::CONT);
    client.finish();
}

#[test]
fn a_server_that_answers_twice_gets_each_datagram_from_another_port() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "10", &target, "a", "b"])
        .stdout("first\nsecond\n")
        .stderr(format!(
            "netkit: unexpected datagram from {target}: \"more\"\n"
        ))
        .start();
    let source = expect(&server, "a");
    client.signal(Signal::STOP);
    client.wait_until_stopped();
    send(&server, "first", source);
    send(&server, "more", source);
    client.signal(Signal::CONT);
    let other = expect(&server, "b");
    assert_ne!(other, source);
    send(&server, "second", other);
    client.finish();
}

#[test]
fn answers_that_become_doubtful_later_are_an_error() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "-W", "10", &target])
        .stdin_open()
        .code(1)
        .start();
    for (question, answer) in [("a", "1"), ("b", "2")] {
        client.send(format!("{question}\n"));
        send(&server, answer, expect(&server, question));
        client.receive(format!("{answer}\n"));
    }
    client.send("c\n");
    let source = expect(&server, "c");
    send(&server, "Hello, c!", source);
    client.receive("Hello, c!\n");
    send(&server, "3", source);
    client.expect_line(&format!("netkit: unexpected datagram from {target}: \"3\""));
    client.expect_line(&format!(
        "netkit: {target} sends more than it is asked for: answers up to datagram 2 may \
         belong to the one before"
    ));
    client.close_input();
    client.finish();
}

#[test]
fn an_answer_that_arrives_twice_counts_once() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "10", &target, "a", "b", "c"])
        .stdout("Hello, a!\nHello, b!\nHello, c!\n")
        .stderr(format!(
            "netkit: second answer from {target} to datagram 1, \"a\": \"Hello, a!\"\n"
        ))
        .start();
    let source = expect(&server, "a");
    send(&server, "Hello, a!", source);
    assert_eq!(expect(&server, "b"), source);
    send(&server, "Hello, a!", source);
    send(&server, "Hello, b!", source);
    // From now on each datagram has a port of its own.
    let other = expect(&server, "c");
    assert_ne!(other, source);
    send(&server, "Hello, c!", other);
    client.finish();
}

#[test]
fn answers_to_two_attempts_count_once() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "2", "--retries", "9", &target, "a", "b"])
        .stdout("same\nsame\n")
        .stderr(format!(
            "netkit: second answer from {target} to datagram 1, \"a\": \"same\"\n"
        ))
        .start();
    let source = expect(&server, "a");
    assert_eq!(expect(&server, "a"), source);
    send(&server, "same", source);
    let other = expect(&server, "b");
    send(&server, "same", source);
    send(&server, "same", other);
    client.finish();
}

#[test]
fn an_unexpected_datagram_is_reported_and_not_printed() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "-W", "10", &target])
        .stdin_open()
        .start();
    client.send("a\n");
    let source = expect(&server, "a");
    send(&server, "first", source);
    client.receive("first\n");
    send(&server, "more", source);
    client.expect_line(&format!(
        "netkit: unexpected datagram from {target}: \"more\""
    ));
    client.close_input();
    client.finish();
}
