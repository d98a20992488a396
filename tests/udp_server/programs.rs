//! `--exec` and `--sh-exec`: a program for each peer.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process};

use super::{ask, ask_from, is_refused};
use crate::harness::datagrams::{address, expect, expect_nothing, receive, send, target};
use crate::harness::{
    DEADLINE, Program, Server, mailbox, netkit, program, random_bytes, temporary_folder,
    udp_clients, udp_server,
};

fn running(command: &str) -> Program {
    udp_server(["--sh-exec", command])
}

/// The process that was started for the `count`th peer.
#[cfg(target_os = "linux")]
fn children(server: &Server) -> Vec<u32> {
    let pid = server.pid();
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

#[cfg(target_os = "linux")]
fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count()
}

/// Waits until a condition that no event tells of has come true.
#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(
            std::time::Instant::now() < end,
            "this should have come true"
        );
        std::thread::yield_now();
    }
}

fn pid(text: &[u8]) -> Pid {
    let text = String::from_utf8_lossy(text);
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

#[test]
fn every_peer_has_a_process_of_its_own_and_keeps_it() {
    let server = running("n=0; while read line; do n=$((n+1)); echo \"$n $line\"; done").listen();
    let (one, other) = (mailbox(), mailbox());
    assert_eq!(ask_from(&one, &server, "a\n"), b"1 a\n");
    assert_eq!(ask_from(&one, &server, "b\n"), b"2 b\n");
    assert_eq!(ask_from(&other, &server, "c\n"), b"1 c\n");
    assert_eq!(ask_from(&one, &server, "d\n"), b"3 d\n");
    server.wait_for_line(&format!("Started '{{*}}' for {}.", address(&one)));
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), 2, "{log}");
    assert_eq!(log.matches("it ended").count(), 2, "{log}");
}

#[test]
fn a_program_has_its_arguments_and_knows_who_talks_to_it() {
    let script = "echo \"$1 $NETKIT_PROTO $NCAT_PROTO $NETKIT_REMOTE_ADDR:$NETKIT_REMOTE_PORT \
                  $NCAT_LOCAL_ADDR:$NETKIT_LOCAL_PORT\"";
    let server = udp_server(["-e", "/bin/sh", "-c", script, "x", "-p"]).listen();
    let client = mailbox();
    let answer = ask_from(&client, &server, "");
    let expected = format!("-p UDP UDP {} {}\n", address(&client), server.address());
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[test]
fn datagrams_of_any_size_go_both_ways_whole() {
    let server = running("exec cat").listen();
    let client = mailbox();
    for size in [1, 4096, 4097, 30_000, 65_507] {
        let payload = random_bytes(size);
        send(&client, &payload, target(&server));
        // cat(1) reads and writes as it likes.
        let mut answer = Vec::new();
        while answer.len() < size {
            answer.extend(receive(&client).0);
        }
        assert!(answer == payload, "{size}");
    }
}

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
    // Not even as a zombie.
    assert!(test_kill_process(first).is_err());
    let second = pid(&ask_from(&client, &server, ""));
    assert_ne!(first, second);
}

#[test]
fn what_a_program_prints_last_is_sent() {
    let server = running("cat >/dev/null & echo one; exec >&-; wait").listen();
    assert_eq!(ask(&server, "x"), b"one\n");
    for _ in 0..20 {
        let server = running("read x; echo last; exit").listen();
        assert_eq!(ask(&server, "x\n"), b"last\n");
    }
}

#[test]
fn a_program_that_prints_nothing_gets_all_datagrams() {
    let folder = temporary_folder();
    let server = running("exec cat >>log")
        .current_dir(folder.path())
        .listen();
    let client = mailbox();
    for line in ["a\n", "b\n", "c\n"] {
        send(&client, line, target(&server));
    }
    server.wait_for_lines("Received from {*}", 3);
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), 1, "{log}");
    assert_eq!(fs::read(folder.path().join("log")).unwrap(), b"a\nb\nc\n");
}

#[test]
fn a_program_that_reads_nothing_stops_nobody_else() {
    // The first peer's program is deaf.
    let server = running("read x; [ $x = deaf ] && exec sleep 1000; echo $x; exec cat").listen();
    let (deaf, other) = (mailbox(), mailbox());
    send(&deaf, "deaf\n", target(&server));
    for _ in 0..4 {
        send(&deaf, vec![b'x'; 50_000], target(&server));
        // It has been dealt with when another is answered.
        let payload = "y\n";
        assert_eq!(ask_from(&other, &server, payload), payload.as_bytes());
    }
    let line = format!(
        "netkit: no answer to a datagram from {}: its program does not read what is sent to it",
        address(&deaf)
    );
    server.wait_for_line(&line);
    let stopped = server.stop();
    // A pipe took one of them, and the beginning of the next.
    assert!(
        stopped
            .stderr
            .contains("netkit: no answer to 2 datagrams in all: its"),
        "{stopped:?}"
    );
    assert!(stopped.took < Duration::from_secs(10), "{stopped:?}");
}

#[test]
fn a_program_that_closes_its_input_is_given_no_more() {
    let server = running("exec <&-; echo closed; exec sleep 1000").listen();
    let client = mailbox();
    assert_eq!(ask_from(&client, &server, ""), b"closed\n");
    send(&client, "x", target(&server));
    server.wait_for_line("netkit: no answer to a datagram {*}: its program does not read {*}");
    #[cfg(target_os = "linux")]
    assert!(server.cpu_time() < Duration::from_secs(1));
    server.stop();
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
fn an_idle_program_is_ended_with_all_that_it_started() {
    let command = "sleep 1000 & echo $!; trap '' TERM; exec sleep 1000";
    let server = udp_server(["--idle-timeout", "0.2", "--sh-exec", command]).listen();
    let client = mailbox();
    let started = pid(&ask_from(&client, &server, ""));
    server.wait_for_line(&format!("Ended {{*}} for {}: idle.", address(&client)));
    until(|| test_kill_process(started).is_err());
    #[cfg(target_os = "linux")]
    until(|| children(&server).is_empty());
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
fn over_the_cap_nobody_gets_a_program_until_one_has_ended() {
    let server = udp_server(["--max-peers", "2", "--sh-exec", "exec cat"]).listen();
    let (one, two, three) = (mailbox(), mailbox(), mailbox());
    ask_from(&one, &server, "a");
    ask_from(&two, &server, "b");
    send(&three, "c", target(&server));
    server.wait_for_line(&format!(
        "netkit: no answer to a datagram from {}: programs run for as many peers as --max-peers \
         allows",
        address(&three)
    ));
    assert_eq!(ask_from(&one, &server, "d"), b"d");
    #[cfg(target_os = "linux")]
    {
        let child = i32::try_from(children(&server)[0]).unwrap();
        rustix::process::kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
        server.wait_for_line("Ended {*}: it ended with signal: 9 (SIGKILL).");
        assert_eq!(ask_from(&three, &server, "e"), b"e");
    }
    server.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_peers_have_no_more_programs_than_the_cap_and_all_are_reaped() {
    const CAP: usize = 100;
    let server = udp_server(["--max-peers", "100", "-e", "/bin/cat"]).listen();
    let target = target(&server);
    let first: Vec<UdpSocket> = (0..CAP).map(|_| mailbox()).collect();
    for peer in &first {
        assert_eq!(ask_from(peer, &server, "x"), b"x");
    }
    let programs = children(&server);
    assert_eq!(programs.len(), CAP);
    for peer in first.iter().cycle().take(18) {
        let others: Vec<UdpSocket> = (0..50).map(|_| mailbox()).collect();
        for other in &others {
            send(other, "y", target);
        }
        // All before it have been dealt with.
        assert_eq!(ask_from(peer, &server, "z"), b"z");
        assert_eq!(children(&server), programs);
        others.iter().for_each(expect_nothing);
    }
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), CAP, "{log}");
    assert_eq!(log.matches("Ended").count(), CAP, "{log}");
    assert!(
        log.contains("netkit: no answer to 900 datagrams in all: programs run for"),
        "{log}"
    );
    for program in programs {
        let program = Pid::from_raw(i32::try_from(program).unwrap()).unwrap();
        assert!(test_kill_process(program).is_err());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn many_programs_leave_neither_zombies_nor_descriptors() {
    let server = running("read x; echo $x").listen();
    ask(&server, "x\n");
    server.wait_for_lines("Ended {*}", 1);
    until(|| children(&server).is_empty());
    let before = descriptors(&server);
    let clients: Vec<UdpSocket> = (0..100).map(|_| mailbox()).collect();
    for client in &clients {
        send(client, "y\n", target(&server));
    }
    for client in &clients {
        expect(client, "y\n");
    }
    server.wait_for_lines("Ended {*}", 101);
    until(|| children(&server).is_empty());
    // They are closed right after it is said.
    until(|| descriptors(&server) <= before);
}

#[test]
fn a_program_inherits_nothing_but_its_streams() {
    let command = "ls /dev/fd | tr '\\n' ' '";
    let server = running(command).listen();
    // Whoever runs the tests may have left something open as well.
    let direct = program("/bin/sh", ["-c", command]);
    let direct = direct.stdin("").any_stdout().run().stdout;
    ask(&server, "");
    assert_eq!(
        ask(&server, "").escape_ascii().to_string(),
        direct.escape_ascii().to_string()
    );
}

#[test]
fn on_a_signal_answers_that_are_due_still_come() {
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
fn on_a_signal_a_program_that_does_not_end_is_killed_in_time() {
    let command = "trap '' TERM; echo $$; while :; do sleep 1000; done";
    let server = udp_server(["--drain-timeout", "0.5", "--sh-exec", command]).listen();
    let program = pid(&ask(&server, ""));
    let begin = std::time::Instant::now();
    server.stop();
    assert!(begin.elapsed() >= Duration::from_millis(500));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(test_kill_process(program).is_err());
}

#[test]
fn a_stopped_program_is_ended_too() {
    let server = udp_server(["--drain-timeout", "0.5", "--sh-exec", "echo $$; exec cat"]);
    let server = server.listen();
    let program = pid(&ask(&server, ""));
    rustix::process::kill_process(program, Signal::STOP).unwrap();
    server.stop();
    assert!(test_kill_process(program).is_err());
}

#[test]
fn what_cannot_be_run_is_refused() {
    let folder = temporary_folder();
    let file = folder.path().join("text");
    fs::write(&file, "").unwrap();
    let path = std::env::var("PATH").unwrap();
    let cases = [
        (
            "/no/such/program",
            "/no/such/program: no such file or directory",
        ),
        (
            "no-such-program",
            "no-such-program: no such file or directory",
        ),
        ("", "'': no such file or directory"),
        ("/", "/: is a directory"),
        ("./text", "./text: permission denied"),
        ("text", "text: permission denied"),
    ];
    for (program, message) in cases {
        netkit(["udp-server", "-p", "0", "-e", program])
            .current_dir(folder.path())
            .env("PATH", format!("{path}:{}", folder.path().display()))
            .stderr(format!("netkit: could not run {message}\n"))
            .code(2)
            .run();
    }
    drop(udp_server(["-e", "cat"]).listen());
}

#[test]
fn what_cannot_be_run_any_more_is_said_once_and_ends_nothing() {
    let folder = temporary_folder();
    let file = folder.path().join("program");
    std::os::unix::fs::symlink("/bin/cat", &file).unwrap();
    let client = mailbox();
    let source = address(&client);
    let server = udp_server(["-e", "./program"])
        .current_dir(folder.path())
        .stderr(format!(
            "Listening on 127.0.0.1:{{N}}\nBind UDP on 127.0.0.1:{{N}}...\n\
             Received from {source}.\n\
             netkit: could not run ./program for {source}: no such file or directory\n\
             Received from {source}.\n\
             netkit: 2 datagrams in all could not be received or answered\n"
        ))
        .listen();
    fs::remove_file(&file).unwrap();
    send(&client, "a", target(&server));
    send(&client, "b", target(&server));
    server.wait_for_lines("Received from {*}", 2);
    server.stop();
}

#[test]
fn clients_of_others_talk_to_a_program() {
    let server = udp_server(["-e", "/bin/cat"]).listen();
    for mut client in udp_clients(server.port()) {
        client.send("there\n");
        client.receive("there\n");
        client.send("and back\n");
        client.receive("and back\n");
    }
}

#[test]
fn a_program_talks_over_ipv6_too() {
    let command = "echo $NETKIT_REMOTE_ADDR $NCAT_PROTO";
    let server = udp_server(["-b", "::1", "--sh-exec", command]).listen();
    netkit(["udp-client", &server.address(), ""])
        .stdout("::1 UDP\n\n")
        .run();
}

#[test]
fn options_for_programs_are_refused_without_one() {
    let see = "see 'netkit udp-server --help'";
    for option in ["--idle-timeout 5", "--max-peers 5"] {
        is_refused(
            option,
            &format!(
                "the following required arguments were not provided: \
                 <--exec <PROGRAM> [ARG]...|--sh-exec <COMMAND>>; {see}"
            ),
        );
    }
    is_refused(
        "--sh-exec x --service echo",
        &format!(
            "the argument '--sh-exec <COMMAND>' cannot be used with '--service <NAME>'; {see}"
        ),
    );
    is_refused(
        "--sh-exec x -e y",
        &format!(
            "the argument '--sh-exec <COMMAND>' cannot be used with \
             '--exec <PROGRAM> [ARG]...'; {see}"
        ),
    );
}
