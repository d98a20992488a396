//! `--exec` and `--sh-exec`: each peer has a program.

mod ending;
#[cfg(target_os = "linux")]
mod many;

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

use super::{ask, ask_from, is_wrong_usage};
use crate::harness::datagrams::{address, receive, send, target};
use crate::harness::{
    DEADLINE, Program, mailbox, netkit, random_bytes, temporary_folder, udp_clients, udp_server,
};

fn running(command: &str) -> Program {
    udp_server(["--sh-exec", command])
}

/// Waits for a condition that no event announces.
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
fn a_program_gets_its_arguments_and_the_address_of_its_peer() {
    let script = "echo \"$1 $NETKIT_PROTO $NCAT_PROTO $NETKIT_REMOTE_ADDR:$NETKIT_REMOTE_PORT \
                  $NCAT_LOCAL_ADDR:$NETKIT_LOCAL_PORT\"";
    let server = udp_server(["-e", "/bin/sh", "-c", script, "x", "-p"]).listen();
    let client = mailbox();
    let answer = ask_from(&client, &server, "");
    let expected = format!("-p UDP UDP {} {}\n", address(&client), server.address());
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[test]
fn a_program_gets_no_variable_of_another_peer() {
    let facts = "echo $(env | grep -c =stale) $(env | grep -c ^NETKIT_)";
    let server = running(facts)
        .env("NETKIT_REMOTE_ADDR", "stale")
        .env("NCAT_X", "stale")
        .listen();
    assert_eq!(ask(&server, ""), b"0 5\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_leads_a_session_without_a_terminal() {
    let line = "read -r pid name state parent group session terminal rest < /proc/self/stat; \
                echo $((session - $$)) $terminal";
    assert_eq!(ask(&running(line).listen(), ""), b"0 0\n");
}

#[test]
fn datagrams_of_any_size_go_both_ways_whole() {
    let server = running("exec cat").listen();
    let client = mailbox();
    for size in [1, 4096, 4097, 30_000, 65_507] {
        let payload = random_bytes(size);
        send(&client, &payload, target(&server));
        // cat(1) may read and write in other pieces.
        let mut answer = Vec::new();
        while answer.len() < size {
            answer.extend(receive(&client).0);
        }
        assert!(answer == payload, "{size}");
    }
}

#[test]
fn the_last_output_of_a_program_is_sent() {
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
fn a_program_that_reads_nothing_delays_no_other_peer() {
    // The program of the first peer reads nothing.
    let command = "read x; [ $x = deaf ] && exec sleep 1000; echo $x; exec cat";
    let server = running(command).args(["--drain-timeout", "0.2"]).code(4);
    let server = server.listen();
    let (deaf, other) = (mailbox(), mailbox());
    send(&deaf, "deaf\n", target(&server));
    for _ in 0..4 {
        send(&deaf, vec![b'x'; 50_000], target(&server));
        // This answer shows that the server has dealt with the datagram before.
        let payload = "y\n";
        assert_eq!(ask_from(&other, &server, payload), payload.as_bytes());
    }
    let line = format!(
        "netkit: no answer to a datagram from {}: its program does not read what is sent to it",
        address(&deaf)
    );
    server.wait_for_line(&line);
    let stopped = server.stop();
    // The pipe took one datagram and the beginning of the next.
    assert!(
        stopped
            .stderr
            .contains("netkit: no answer to 2 datagrams in all: its"),
        "{stopped:?}"
    );
    assert!(stopped.took < Duration::from_secs(10), "{stopped:?}");
}

#[test]
fn a_program_that_closes_its_input_gets_no_more_datagrams() {
    let command = "exec <&-; echo closed; exec sleep 1000";
    let server = running(command).args(["--drain-timeout", "0.2"]).code(4);
    let server = server.listen();
    let client = mailbox();
    assert_eq!(ask_from(&client, &server, ""), b"closed\n");
    send(&client, "x", target(&server));
    server.wait_for_line("netkit: no answer to a datagram {*}: its program does not read {*}");
    #[cfg(target_os = "linux")]
    assert!(server.cpu_time() < Duration::from_secs(1));
    server.stop();
}

#[test]
fn over_max_peers_no_peer_gets_a_program_until_one_has_ended() {
    let server = udp_server(["--max-peers", "2", "--sh-exec", "exec cat"]).listen();
    let (one, two, three) = (mailbox(), mailbox(), mailbox());
    for peer in [&one, &two, &one, &two] {
        ask_from(peer, &server, "a");
    }
    send(&three, "c", target(&server));
    server.wait_for_line(&format!(
        "netkit: no answer to a datagram from {}: programs run for as many peers as --max-peers \
         allows",
        address(&three)
    ));
    assert_eq!(ask_from(&one, &server, "d"), b"d");
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, kill_process};

        kill_process(server.children()[0], Signal::KILL).unwrap();
        server.wait_for_line("Ended {*}: it ended with signal: 9 (SIGKILL).");
        assert_eq!(ask_from(&three, &server, "e"), b"e");
    }
    server.stop();
}

#[test]
fn over_max_peers_a_new_peer_replaces_the_oldest_of_a_single_datagram() {
    let server = udp_server(["--max-peers", "3", "--sh-exec", "exec cat"]).listen();
    let [steady, old, young, new] = [(); 4].map(|()| mailbox());
    for peer in [&steady, &old, &young, &steady] {
        ask_from(peer, &server, "a");
    }
    assert_eq!(ask_from(&new, &server, "b"), b"b");
    server.wait_for_line(&format!(
        "Ended 'exec cat' for {}: {} takes its place (--max-peers).",
        address(&old),
        address(&new)
    ));
    for peer in [&steady, &young, &new] {
        assert_eq!(ask_from(peer, &server, "c"), b"c");
    }
    // All go on now.
    send(&old, "d", target(&server));
    server.wait_for_line("netkit: no answer to a datagram {*}: programs run for {*}");
    let log = server.stop().stderr;
    assert_eq!(log.matches("Started").count(), 4, "{log}");
}

#[test]
fn on_loopback_one_datagram_may_cause_any_amount() {
    // No more than a receive buffer of the usual size holds: nothing is lost, however slowly the test reads.
    let server = running("read x; seq 5000; exec cat").listen();
    let client = mailbox();
    send(&client, "x\n", target(&server));
    let mut size = 0;
    while size < 23_893 {
        size += receive(&client).0.len();
    }
    assert_eq!(size, 23_893);
}

#[test]
fn a_program_inherits_the_descriptor_limit_and_no_descriptor() {
    // ls(1) has the folder open as number 3.
    let server = running("echo $(ulimit -Sn) $(ls /dev/fd)");
    let server = server.ulimit("-Sn 256").with_more_descriptors().listen();
    for _ in 0..2 {
        assert_eq!(ask(&server, ""), b"256 0 1 2 3\n");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_refused() {
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
fn a_program_that_was_deleted_is_logged_once_and_the_server_goes_on() {
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
fn nc_ncat_and_socat_talk_to_a_program() {
    let server = udp_server(["-e", "/bin/cat"]).listen();
    for mut client in udp_clients(server.port()) {
        client.send("there\n");
        client.receive("there\n");
        client.send("and back\n");
        client.receive("and back\n");
    }
}

#[test]
fn a_program_answers_over_ipv6() {
    let command = "echo $NETKIT_REMOTE_ADDR $NCAT_PROTO";
    let server = udp_server(["-b", "::1", "--sh-exec", command]).listen();
    netkit(["udp-client", &server.address(), ""])
        .stdout("::1 UDP\n\n")
        .run();
}

#[test]
fn options_of_programs_are_refused_without_a_program() {
    is_wrong_usage("--max-peers 5", "--max-peers needs -e or --sh-exec");
    is_wrong_usage(
        "--sh-exec x --service echo",
        "the argument '--sh-exec <COMMAND>' cannot be used with '--service <NAME>'",
    );
    is_wrong_usage(
        "--sh-exec x -e y",
        "the argument '--sh-exec <COMMAND>' cannot be used with '--exec <PROGRAM>...'",
    );
}
