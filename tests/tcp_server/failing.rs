//! A receiver that fails resets its connection, so that the sender fails too.

use rustix::process::Signal;

use crate::harness::{Connection, Program, Server, netkit, tcp_server};

/// More than the buffers of both ends hold.
const MUCH: usize = 30_000_000;

fn stdio() -> Program {
    tcp_server(["--service", "stdio"])
}

/// A sender of much, which must notice that not all of it was received.
fn fails_to_send(server: &Server) -> Program {
    netkit(["tcp-client", &server.address()])
        .stdin(vec![b'x'; MUCH])
        .stderr("netkit: could not {*}; {N} bytes were sent\n")
        .code(1)
}

#[test]
fn a_full_disk_fails_the_sender() {
    let server = stdio().through("exec \"$0\" \"$@\" > /dev/full").code(2);
    let server = server.listen();
    fails_to_send(&server).run();
    server.wait_for_line("netkit: could not write standard output: no space left on device");
    server.finish();
}

#[test]
fn a_reader_that_leaves_fails_the_sender() {
    let script = "set -o pipefail; \"$0\" \"$@\" | head -c 1000";
    let server = stdio().through(script).stdout([b'x'; 1000]).code(141);
    let server = server.listen();
    fails_to_send(&server).run();
    server.finish();
}

#[test]
fn a_quiet_server_tells_what_failed_on_this_machine() {
    let full_disk = "could not write /dev/full: no space left on device.\n";
    for (options, reason) in [
        (
            &["--service", "echo", "--record", "/dev/full"][..],
            full_disk,
        ),
        (&["--sh-exec", "cat", "--record", "/dev/full"], full_disk),
        (&["--forward", "127.0.0.1:1"], ""),
    ] {
        let closed = format!("netkit: Connection from {{*}} closed: {reason}");
        let mut server = tcp_server(["-q", "--print-port"])
            .args(options.iter().copied())
            .any_stdout()
            .stderr(if reason.is_empty() { "" } else { &closed })
            .start();
        let port = server.receive_line("{N}");
        netkit(["tcp-client", ":PORT"].map(|word| word.replace("PORT", &port)))
            .stdin("a")
            .any_stdout()
            .any_stderr()
            .code(1)
            .run();
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
fn a_record_on_a_full_disk_fails_the_sender() {
    let server = stdio().arg("--record=/dev/full").any_stdout().code(2);
    let server = server.listen();
    fails_to_send(&server).run();
    server.finish();
}

#[test]
fn a_program_that_ends_before_its_input_fails_the_sender() {
    let server = tcp_server(["--sh-exec", "head -c 1000"]).listen();
    fails_to_send(&server).stdout([b'x'; 1000]).run();
}

#[test]
fn a_killed_program_fails_the_receiver_of_its_output() {
    let server = tcp_server(["--sh-exec", "echo half; kill -9 $$"]).listen();
    let mut client = server.connect();
    client.expect("half\n");
    client.expect_reset();
    server.wait_for_line("Connection from {*} closed: {*} ended with signal: 9 (SIGKILL).");
}

#[test]
fn the_end_of_a_programs_output_does_not_wait_for_the_program() {
    let server = tcp_server(["--sh-exec", "echo done; exec >&-; exec sleep 60"]).listen();
    let mut client = server.connect();
    client.expect("done\n");
    client.expect_eof();
}

#[test]
fn a_server_of_one_connection_exits_with_the_code_of_its_program() {
    for (command, most, code) in [
        ("exit 3", "1h", 0),
        ("kill -9 $$", "1h", 1),
        ("sleep 60", "0.3", 4),
    ] {
        let server = tcp_server(["--once", "--max-session", most, "--sh-exec", command]);
        let server = server.code(code).listen();
        server
            .connect_unless_reset()
            .iter_mut()
            .for_each(Connection::drain);
        server.finish();
    }
}

#[test]
fn what_was_answered_arrives_before_the_reset() {
    // The client reads nothing until the server has broken off.
    let server = tcp_server(["--max-message", "8", "--framing", "line"]).listen();
    let mut client = server.connect();
    let lines = "x\n".repeat(1_000);
    client.send(format!("{lines}much too long\n"));
    server.wait_for_line(
        "Connection from {*} closed: a message is longer than 8 bytes (--max-message).",
    );
    client.expect(format!("Welcome!{}", "Hello, x!\n".repeat(1_000)));
    client.expect_reset();
}
