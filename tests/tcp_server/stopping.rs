//! How a server stops, and what happens to its connections and programs.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{
    Connection, DEADLINE, Server, Terminal, event, program, random_bytes, spawn, tcp_server,
    udp_server,
};
use crate::udp_server::ask;

/// Whether a process exists.
fn is_running(pid: &str) -> bool {
    let pid = pid.trim_end().parse().ok().and_then(Pid::from_raw);
    rustix::process::test_kill_process(pid.unwrap()).is_ok()
}

/// Waits until a process that was killed has ended. It is init(1) that reaps it.
#[track_caller]
fn until_ended(pid: &str) {
    let end = Instant::now() + DEADLINE;
    let stat = format!("/proc/{}/stat", pid.trim_end());
    let is_zombie = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
    while is_running(pid) && !is_zombie() {
        assert!(Instant::now() < end, "{pid} should have ended");
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_server_leaves_no_program_running() {
    let server = tcp_server(["--drain-timeout", "0.3", "--sh-exec"])
        .arg("echo $$; exec sleep 60")
        .code(4)
        .listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive()).unwrap();
    assert!(is_running(&pid));
    server.signal(Signal::TERM);
    server.finish();
    until_ended(&pid);
}

#[test]
fn a_program_does_not_outlive_its_client() {
    let server = tcp_server(["--sh-exec", "echo $$; exec sleep 60"]).listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive()).unwrap();
    assert!(is_running(&pid));
    client.shutdown();
    client.reset();
    server.wait_for_line("Connection from {*} closed{*}");
    assert!(!is_running(&pid));
}

#[test]
fn a_server_without_connections_stops_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = tcp_server([])
            .stderr("Listening on {*}\nWaiting for connection...\n")
            .listen();
        server.wait_for_line("Waiting for connection...");
        server.signal(signal);
        server.finish();
    }
}

#[test]
fn a_transfer_is_completed_while_new_connections_are_refused() {
    let bytes = random_bytes(2_000_000);
    let (half, rest) = bytes.split_at(1_000_000);
    let server = tcp_server(["--service", "echo", "--drain-timeout", "1h"]).listen();
    let address: SocketAddr = server.address().parse().unwrap();
    let mut client = server.connect();
    client.send(&half[..1000]);
    client.expect(&half[..1000]);
    server.signal(Signal::TERM);
    server.wait_for_line("Waiting for 1 connection to end ({N}{*} at most)");
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let writer = client.stream().try_clone().unwrap();
    let (half, rest) = (half[1000..].to_vec(), rest.to_vec());
    let (received, go_on) = event();
    let expected = half.clone();
    let sending = spawn(move || {
        let mut writer = Connection::new(writer);
        writer.send(half);
        go_on.wait();
        writer.send(rest);
        writer.shutdown();
    });
    client.expect(expected);
    received.happen();
    assert!(client.receive_all() == bytes[1_000_000..]);
    sending.join().unwrap();
    drop(client);
    let server = server.finish();
    assert!(server.stderr.ends_with(" closed.\n"), "{server:?}");
}

#[test]
fn a_connection_that_does_not_end_is_cut_off() {
    let server = tcp_server(["--drain-timeout", "0.3"]).code(4).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    let start = Instant::now();
    server.signal(Signal::INT);
    client.expect_reset();
    assert!(start.elapsed() >= Duration::from_millis(300));
    server.wait_for_line(
        "netkit: closed 1 connection that was still open after 300ms (--drain-timeout)",
    );
    server.finish();
}

#[test]
fn every_service_can_be_cut_off() {
    for service in ["hello", "echo", "discard", "chargen"] {
        let server = tcp_server(["--service", service, "--drain-timeout", "0"]);
        let server = server.code(4).listen();
        let client = server.connect();
        server.wait_for_line("Accept new connection from {*}");
        server.signal(Signal::TERM);
        let waiting = "Waiting for 1 connection to end (0s at most)";
        server.wait_for_line(waiting);
        let closed = "netkit: closed 1 connection that was still open after 0s (--drain-timeout)";
        server.wait_for_line(closed);
        server.finish();
        drop(client);
    }
}

#[test]
fn a_second_signal_resets_connections_and_ends_the_server_at_once() {
    let server = tcp_server(["--drain-timeout", "1h"])
        .killed_by(Signal::TERM)
        .listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    server.signal(Signal::INT);
    server.wait_for_line("Waiting for 1 connection to end ({N}{*} at most)");
    server.signal(Signal::TERM);
    client.expect_reset();
    server.finish();
}

#[test]
fn a_person_at_a_terminal_is_told_how_to_stop_at_once() {
    let mut terminal = Terminal::open();
    let server = tcp_server([]).stdin_from(terminal.device());
    let server = server
        .stdout_to(terminal.device())
        .stderr_to(terminal.device())
        .killed_by(Signal::INT)
        .start();
    let line = terminal.expect_line();
    let address: SocketAddr = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
    terminal.expect("Waiting for connection...\n");
    let mut clients = [(); 2].map(|()| Connection::to(address));
    for client in &mut clients {
        client.expect("Welcome!");
        terminal.expect_line();
    }
    server.signal(Signal::INT);
    // The first newline ends the line in which the terminal shows ^C.
    terminal.expect("\nWaiting for 2 connections to end (5s at most; Ctrl-C again to stop now)\n");
    server.signal(Signal::INT);
    server.finish();
}

#[test]
fn at_a_terminal_the_prompt_does_not_stand_behind_the_typed_interrupt() {
    for server in [tcp_server([]), udp_server([])] {
        let mut terminal = Terminal::open();
        let server = server
            .stdin_from(terminal.device())
            .stdout_to(terminal.device())
            .stderr_to(terminal.device())
            .start();
        terminal.expect_line();
        terminal.expect_line();
        server.signal(Signal::INT);
        server.finish();
        terminal.expect("\n");
    }
}

#[test]
fn sighup_without_lists_drains_as_sigterm_does() {
    let server = tcp_server([]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    server.signal(Signal::HUP);
    server.wait_for_line("Waiting for 1 connection to end ({N}{*} at most)");
    client.send("exit");
    client.expect_eof();
    server.finish();
    let server = udp_server([]).listen();
    server.signal(Signal::HUP);
    server.finish();
}

#[cfg(target_os = "linux")]
#[test]
fn sighup_that_was_ignored_at_the_start_stays_ignored() {
    for program in [tcp_server([]), udp_server([]), tcp_server(["-e", "cat"])] {
        let server = program
            .through("trap '' HUP; exec \"$0\" \"$@\"")
            .killed_by(Signal::USR1)
            .listen();
        server.signal(Signal::HUP);
        // Of two signals the kernel delivers the lower number first.
        server.signal(Signal::USR1);
        server.finish();
    }
}

/// Below nohup(1), and as a background job of a script, this suite runs with signals that are ignored.
#[cfg(target_os = "linux")]
#[test]
fn signals_that_the_tests_ignore_end_what_they_start() {
    let tests = std::env::current_exe().unwrap();
    let name = "tcp_server::stopping::programs_do_not_outlive_a_server_that_a_signal_ends";
    let finished = program(tests, ["--exact", name])
        .through("trap '' HUP INT QUIT TERM TSTP; exec \"$0\" \"$@\"")
        .any_stdout()
        .run();
    let told = String::from_utf8(finished.stdout).unwrap();
    assert!(told.contains("1 passed"), "{told}");
}

/// A server of each protocol, with a program that does not end by itself and its pid.
fn with_programs() -> Vec<(Server, String)> {
    let command = [
        "--drain-timeout",
        "1h",
        "--sh-exec",
        "echo $$; exec sleep 1000",
    ];
    let (tcp, udp) = (tcp_server(command).listen(), udp_server(command).listen());
    let pid = |bytes| String::from_utf8(bytes).unwrap();
    let mut client = tcp.connect();
    let of_tcp = pid(client.receive());
    // The end of the client would end the program.
    std::mem::forget(client);
    let of_udp = pid(ask(&udp, ""));
    vec![(tcp, of_tcp), (udp, of_udp)]
}

#[test]
fn programs_do_not_outlive_a_server_that_a_signal_ends() {
    let at_once = [Signal::QUIT, Signal::USR1, Signal::ALARM, Signal::ABORT];
    let cases = at_once.map(|signal| vec![signal]).into_iter();
    let twice = [
        vec![Signal::TERM, Signal::INT],
        vec![Signal::INT, Signal::TERM],
        vec![Signal::HUP, Signal::HUP],
    ];
    for signals in cases.chain(twice) {
        for (mut server, pid) in with_programs() {
            assert!(is_running(&pid));
            server.expect_end_by(*signals.last().unwrap());
            for (number, signal) in signals.iter().enumerate() {
                if number > 0 {
                    server.wait_for_line("Waiting for 1 {*} to end{*}");
                }
                server.signal(*signal);
            }
            server.finish();
            until_ended(&pid);
        }
    }
}

#[test]
fn the_input_of_a_program_ends_with_a_server_that_is_killed() {
    let server = tcp_server(["--sh-exec", "cat; echo the program has ended >&2"]).listen();
    let mut client = server.connect();
    client.send("x");
    client.expect("x");
    server.signal(Signal::KILL);
    server.wait_for_line("the program has ended");
}
