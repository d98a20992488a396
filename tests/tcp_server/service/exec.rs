//! `--exec` and `--sh-exec`: each connection runs a program.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Connection, Program, Server, Terminal, netkit, tcp_server, temporary_folder};

#[test]
fn the_end_of_input_ends_only_the_programs_input() {
    let server = tcp_server(["--sh-exec", "wc -c"]).listen();
    for size in [0, 4098, 3_000_000] {
        netkit(["tcp-client", &server.address()])
            .stdin(vec![b'x'; size])
            .stdout(format!("{size}\n"))
            .run();
    }
}

#[test]
#[ignore = "a hundred megabytes"]
fn a_program_counts_a_hundred_megabytes() {
    let server = tcp_server(["--sh-exec", "wc -c"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdin(vec![b'x'; 100_000_000])
        .stdout("100000000\n")
        .run();
}

#[test]
fn a_program_gets_its_arguments() {
    let server = tcp_server(["--exec", "/bin/echo", "-n", "-p", "two words"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdout("-p two words")
        .run();
}

#[test]
fn a_program_gets_the_addresses_of_its_connection() {
    let variables = "$NETKIT_REMOTE_ADDR $NETKIT_REMOTE_PORT $NETKIT_LOCAL_ADDR \
                     $NETKIT_LOCAL_PORT $NETKIT_PROTO $NCAT_REMOTE_ADDR $NCAT_REMOTE_PORT \
                     $NCAT_LOCAL_ADDR $NCAT_LOCAL_PORT $NCAT_PROTO";
    let server = tcp_server(["--sh-exec", &format!("echo {variables}")]).listen();
    let mut client = server.connect();
    let port = client.local().rsplit_once(':').unwrap().1.to_owned();
    let facts = format!("127.0.0.1 {port} 127.0.0.1 {} TCP", server.port());
    client.expect(format!("{facts} {facts}\n"));
    client.expect_eof();
}

/// Prints what a program knows of its peer, by whatever name.
const FACTS: &str = "env | grep -E '^(NETKIT|NCAT)_' | sort";

#[test]
fn a_program_gets_no_variable_of_another_peer() {
    let names = ["REMOTE_ADDR", "REMOTE_PORT", "LOCAL_ADDR", "LOCAL_PORT"];
    let mut program = tcp_server(["--sh-exec", FACTS]);
    for name in names.iter().chain(&["PROTO", "TLS_SUBJECT", "X"]) {
        program = program
            .env(&format!("NETKIT_{name}"), "stale")
            .env(&format!("NCAT_{name}"), "stale");
    }
    let server = program.env("NETKITX", "kept").listen();
    let mut client = server.connect();
    let port = client.local().rsplit_once(':').unwrap().1.to_owned();
    let server_port = server.port();
    let facts = ["NCAT", "NETKIT"].map(|prefix| {
        format!(
            "{prefix}_LOCAL_ADDR=127.0.0.1\n{prefix}_LOCAL_PORT={server_port}\n\
             {prefix}_PROTO=TCP\n\
             {prefix}_REMOTE_ADDR=127.0.0.1\n{prefix}_REMOTE_PORT={port}\n"
        )
    });
    client.expect(facts.concat());
    client.expect_eof();
}

#[test]
fn a_program_whose_client_resets_at_once_is_told_that_client() {
    let folder = temporary_folder();
    let server = tcp_server(["--sh-exec", "echo $NETKIT_REMOTE_PORT >> log"])
        .current_dir(folder.path())
        .env("NETKIT_REMOTE_PORT", "stale")
        .listen();
    let mut ports = Vec::new();
    // The server accepts all of these once they have been reset.
    server.signal(Signal::STOP);
    server.wait_until_stopped();
    for _ in 0..20 {
        let client = server.connect();
        ports.push(client.local().rsplit_once(':').unwrap().1.to_owned());
        client.reset();
    }
    server.signal(Signal::CONT);
    server.wait_for_lines("Connection from {*} closed{*}.", ports.len());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(
        !log.is_empty() && log.lines().all(|port| ports.iter().any(|own| own == port)),
        "{log}"
    );
}

#[test]
fn a_program_inherits_the_descriptor_limit_and_no_descriptor() {
    // ls(1) has the folder open as number 3.
    let server = tcp_server(["--sh-exec", "echo $(ulimit -Sn) $(ls /dev/fd)"]);
    let server = server.ulimit("-Sn 256").with_more_descriptors().listen();
    for _ in 0..2 {
        server.connect().expect("256 0 1 2 3\n");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_leads_a_session_without_a_terminal() {
    // proc(5): process, group, session and terminal.
    let line = "read -r pid name state parent group session terminal rest < /proc/self/stat; \
                echo $((pid - $$)) $((group - $$)) $((session - $$)) $terminal; \
                : 2>&- < /dev/tty && echo opened";
    let server = tcp_server(["--sh-exec", line]).listen();
    netkit(["tcp-client", &server.address()])
        .stdout("0 0 0 0\n")
        .run();
}

/// Runs a server in a session that `terminal` controls.
#[cfg(target_os = "linux")]
fn on(terminal: &Terminal, server: Program) -> Server {
    // The shell leads a process group, and only a process that does not can begin a session.
    let script = "exec setsid --fork --ctty --wait \"$0\" \"$@\"";
    let server = server.through(script).stdin_from(terminal.device());
    server.listen()
}

#[cfg(target_os = "linux")]
#[test]
fn an_interactive_shell_works_though_the_server_has_a_terminal() {
    let terminal = Terminal::open();
    let shell = ["--once", "-e", "/bin/bash", "--norc", "-i"];
    let server = on(&terminal, tcp_server(shell));
    netkit(["tcp-client", &server.address()])
        .stdin("echo a; : < /dev/tty || echo b; exit\n")
        .stdout("a\nb\n")
        .run();
    server.finish();
}

#[test]
fn a_program_may_stop_reading_and_still_answer() {
    let server = tcp_server(["--sh-exec", "head -n 1; exec 0<&-; echo done"]).listen();
    let mut input = b"one\n".to_vec();
    input.extend(vec![b'x'; 1 << 20]);
    netkit(["tcp-client", &server.address()])
        .stdin(input)
        .stdout("one\ndone\n")
        .run();
}

#[test]
fn a_program_that_cannot_be_run_is_refused() {
    for (program, cause) in [
        ("/no/such/program", "no such file or directory"),
        ("no-such-program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ] {
        netkit(["tcp-server", "-p", "0", "-e", program])
            .stderr(format!("netkit: could not run {program}: {cause}\n"))
            .code(2)
            .run();
    }
}

/// A server that runs `./program`, which has been deleted.
fn server_without_its_program(options: &[&str], code: i32) -> Server {
    let folder = temporary_folder();
    let file = folder.path().join("program");
    std::os::unix::fs::symlink("/bin/cat", &file).unwrap();
    let server = tcp_server(options.iter().copied().chain(["--exec", "./program"]))
        .current_dir(folder.path())
        .code(code)
        .listen();
    std::fs::remove_file(file).unwrap();
    server
}

#[test]
fn a_program_that_was_deleted_is_logged() {
    let server = server_without_its_program(&[], 0);
    server.connect().expect_reset();
    server.wait_for_line(
        "netkit: Connection from {*} closed: could not run ./program: no such file or directory.",
    );
}

#[test]
fn a_background_process_of_a_program_ends_with_the_connection() {
    // The background process would live for an hour. It holds no stream of the connection.
    let line = "sleep 3600 <&- >&- 2>&- & echo $!";
    let server = tcp_server(["--sh-exec", line]).listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive_all()).unwrap();
    server.wait_for_line("Connection from {*} closed.");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // A zombie has ended too.
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[test]
fn an_urgent_byte_does_not_stop_the_stream() {
    let server = tcp_server(["--exec", "/bin/cat"]).listen();
    let mut client = server.connect();
    client.send("abc");
    client.expect("abc");
    let flags = rustix::net::SendFlags::OOB;
    rustix::net::send(client.stream(), b"!", flags).unwrap();
    client.send("def");
    client.expect("def");
}

#[test]
fn a_reset_by_the_client_is_logged_while_the_program_still_prints() {
    let server = tcp_server(["--sh-exec", "yes"]).listen();
    let mut client = server.connect();
    client.expect("y\n");
    client.reset();
    server.wait_for_line("Connection from {*} closed: {*}.");
}

#[test]
fn options_of_stdio_are_refused_for_a_program() {
    netkit(["tcp-server", "-p", "0", "--no-shutdown", "--sh-exec", "cat"])
        .stderr("netkit: --no-shutdown needs -l or --service stdio; see 'netkit tcp-server -h'\n")
        .code(2)
        .run();
}

#[test]
fn max_session_is_logged_after_the_program_has_closed_its_output() {
    let server = tcp_server(["--max-session", "2", "--sh-exec", "exec >&-; exec sleep 60"]);
    let server = server.listen();
    let mut client = server.connect();
    client.expect_eof();
    server.wait_for_line("Connection from {*} closed: open for 2s (--max-session).");
}

#[test]
fn the_exit_status_of_a_failed_program_is_logged() {
    let server = tcp_server(["--sh-exec", "echo x; exit 3"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdout("x\n")
        .run();
    server.wait_for_line("Connection from {*} closed: 'echo x; exit 3' ended with exit status: 3.");
}

#[test]
fn once_fails_when_its_program_was_deleted() {
    let server = server_without_its_program(&["--once"], 2);
    server
        .connect_unless_reset()
        .iter_mut()
        .for_each(Connection::drain);
    server.wait_for_line("netkit: could not run ./program: no such file or directory");
    server.finish();
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let line = "trap '' TERM; echo $$; while :; do sleep 0.1; done";
    let server = tcp_server(["--sh-exec", line]).listen();
    let mut client = server.connect();
    let pid = String::from_utf8(client.receive()).unwrap();
    client.reset();
    server.wait_for_line("Connection from {*} closed{*}.");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_short_of_descriptors_serves_all_clients_and_tells_it_once() {
    const CLIENTS: usize = 100;
    let server = tcp_server(["-e", "/bin/cat"]).ulimit("-n 64").listen();
    // All are connected before the first sends: most wait in the backlog.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.wait_for_line(
        "netkit: could not run /bin/cat: too many open files; new connections have to wait",
    );
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(number.to_string());
        client.shutdown();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(number.to_string());
        client.expect_eof();
    }
    server.wait_for_lines("Connection from {*} closed.", CLIENTS);
    let log = server.log();
    assert_eq!(log.matches("could not run").count(), 1, "{log}");
    assert_eq!(server.children(), []);
}

#[test]
fn a_connection_that_waits_for_its_program_keeps_its_limits() {
    // Not even one program can start.
    let server = tcp_server(["--max-session", "0.2", "-e", "/bin/cat"])
        .ulimit("-n 20")
        .listen();
    let mut client = server.connect();
    client.drain();
    server.wait_for_line("Connection from {*} closed: open for 200ms (--max-session).");
    drop(server.connect());
    server.wait_for_lines("Connection from {*} closed: {*}", 2);
}

#[cfg(target_os = "linux")]
#[test]
fn many_connections_leave_no_process_and_no_descriptor() {
    let server = tcp_server(["--exec", "/bin/cat"]).listen();
    let mut first = None;
    for _ in 0..60 {
        let mut client = server.connect();
        client.send("x");
        client.shutdown();
        client.expect("x");
        client.expect_eof();
        first.get_or_insert_with(|| server.descriptors());
    }
    // Until then several connections may still be ending.
    server.wait_for_lines("Connection from {*} closed.", 60);
    assert!(server.descriptors() <= first.unwrap() + 2);
    assert_eq!(server.children(), []);
}

#[test]
fn stream_options_apply_to_programs() {
    let server = tcp_server(["-C", "--sh-exec", "printf 'a\\nb\\r\\n'"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdout("a\r\nb\r\n")
        .run();
    let server = tcp_server(["--send-only", "--sh-exec", "wc -c"]).listen();
    netkit(["tcp-client", &server.address()])
        .stdin("ignored")
        .stdout("0\n")
        .run();
    let folder = temporary_folder();
    let file = folder.path().join("got");
    let line = format!("cat > '{}'; echo unseen", file.display());
    let server = tcp_server(["--recv-only", "--sh-exec", &line]).listen();
    netkit(["tcp-client", &server.address()])
        .stdin("kept")
        .stdout("")
        .run();
    server.wait_for_line("Connection from {*} closed.");
    assert_eq!(fs::read(&file).unwrap(), b"kept");
}
