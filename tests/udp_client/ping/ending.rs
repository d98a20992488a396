//! When a ping ends, and with which exit code.

use std::time::Duration;

use rustix::process::Signal;

use super::{ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{
    DEADLINE, Terminal, closed_port, full_pipe, mailbox, read_all, temporary_folder, udp_server,
};

/// Each row: the arguments, which of the probes are answered, whether an interrupt follows, and the
/// exit code.
#[test]
fn the_exit_code_says_whether_every_probe_was_answered() {
    let rows: [(&str, &[bool], bool, i32); 21] = [
        ("-c 2 -i 0.01", &[true, true], false, 0),
        ("-c 2 -i 0.01 -W 1", &[false, false], false, 1),
        ("-c 2 -i 0.01 -W 2", &[true, false], false, 1),
        (
            "-c 2 -i 0.01 -W 2 --max-loss 49.9%",
            &[true, false],
            false,
            1,
        ),
        ("-c 2 -i 0.01 -W 2 --max-loss 50", &[true, false], false, 0),
        (
            "-c 2 -i 0.01 -W 1 --max-loss 100",
            &[false, false],
            false,
            0,
        ),
        // The deadline is far away.
        ("-c 2 -i 0.01 -W 1h -w 1h", &[true, true], false, 0),
        // A probe in flight at the deadline is not counted, but one of `-c 1` was not answered.
        ("-c 1 -W 1h -w 2", &[false], false, 1),
        ("-c 1 -W 1h -w 2 --max-loss 100", &[false], false, 0),
        // The deadline comes before the last probes. As in ping(8), those count as unanswered.
        ("-c 2 -i 1h -w 2", &[true], false, 1),
        ("-c 2 -i 1h -w 2 --max-loss 50", &[true], false, 0),
        ("-c 4 -i 1h -w 2 --max-loss 50", &[true], false, 1),
        // The deadline is the only end.
        ("-i 1h -w 2", &[true], false, 0),
        ("-i 1h -W 1 -w 2", &[false], false, 1),
        // Nothing was answered, and nothing lost: that is no answer.
        ("-i 1h -W 1h -w 2", &[false], false, 1),
        // Probes that an interrupt leaves unsent do not count.
        ("-c 5 -i 1h", &[true], true, 0),
        ("-c 5 -i 1h -w 1h", &[true], true, 0),
        ("-i 0.01 -W 1h", &[true, false, false], true, 0),
        ("-i 1h -W 1h", &[false], true, 1),
        ("-i 1h -W 1h --max-loss 100", &[false], true, 0),
        // The last are in flight at the deadline: of those that count, all were answered.
        ("-i 1 -W 1h -w 2.5", &[true, false], false, 0),
    ];
    let runs = rows.map(|row| {
        let server = mailbox();
        let client = ping(&address(&server), row.0.split(' '));
        (client.any_stdout().code(row.3).start(), server, row)
    });
    let mut clients = Vec::new();
    for (mut client, server, (_, answered, is_interrupted, _)) in runs {
        let probes: Vec<_> = answered.iter().map(|_| receive(&server)).collect();
        for (probe, is_answered) in probes.iter().zip(answered) {
            if *is_answered {
                send_back(&server, probe);
            }
        }
        if is_interrupted {
            client.receive_line("PING {*}");
            if answered[0] {
                client.receive_line("{*}: udp_seq=1 ttl={N} time={N} ms");
            }
            client.signal(Signal::INT);
        }
        // The socket stays open, so that no probe is refused.
        clients.push((client, server));
    }
    for (client, _server) in clients {
        client.finish();
    }
}

#[test]
fn max_loss_excuses_no_local_error() {
    for (target, arguments, code, message) in [
        (
            "no-such-host.invalid:9",
            "-c 1",
            3,
            "resolve no-such-host.invalid: {*}",
        ),
        // Without SO_BROADCAST the kernel refuses to connect to this address.
        (
            "255.255.255.255:9",
            "-c 1",
            2,
            "send to 255.255.255.255:9: {*}",
        ),
    ] {
        let arguments = arguments.split(' ').chain(["--max-loss", "100"]);
        ping(target, arguments)
            .stderr(format!("netkit: could not {message}\n"))
            .code(code)
            .run();
    }
}

#[test]
fn a_refused_probe_counts_as_lost_for_max_loss() {
    let closed = closed_port();
    for (limit, code) in [("99.9", 1), ("100", 0)] {
        let client = ping(&address(&closed), ["-c", "1", "--max-loss", limit]);
        client.any_stdout().code(code).run();
    }
}

#[test]
fn the_deadline_ends_a_ping_with_and_without_answers() {
    let echo = udp_server(["--service", "echo"]).listen();
    let silent = mailbox();
    for (target, arguments) in [
        (echo.address(), "-i 0.05 -w 0.3 -c 1000"),
        (address(&silent), "-i 0.05 -w 0.3 -W 1h"),
    ] {
        let client = ping(&target, arguments.split(' '));
        let client = client.any_stdout().code(1).run();
        assert!(client.took >= Duration::from_millis(300), "{client:?}");
        assert!(client.took < DEADLINE / 2, "{client:?}");
    }
}

#[test]
fn the_last_answer_ends_a_ping_at_once() {
    let server = udp_server([]).listen();
    let arguments = ["-c", "2", "-i", "0.01", "-W", "1h"];
    ping(&server.address(), arguments).any_stdout().run();
}

#[test]
fn an_interrupt_prints_the_statistics() {
    let server = udp_server([]).listen();
    let mut client = ping(&server.address(), []).any_stdout().start();
    client.receive_line("PING {*}");
    client.receive_line("{*}: udp_seq=1 ttl={N} time={N} ms");
    client.signal(Signal::INT);
    let stdout = String::from_utf8(client.finish().stdout).unwrap();
    assert!(stdout.contains("1 packets transmitted, 1 received, 0% packet loss"));
}

#[test]
fn a_ping_that_is_interrupted_without_an_answer_fails() {
    let server = mailbox();
    let client = ping(&address(&server), ["-W", "1h"])
        .any_stdout()
        .code(1)
        .start();
    receive(&server);
    client.signal(Signal::INT);
    let stdout = String::from_utf8(client.finish().stdout).unwrap();
    assert!(
        stdout.contains("\n0 packets transmitted, 0 received\n"),
        "{stdout}"
    );
}

#[test]
fn sigterm_kills_a_ping() {
    let server = mailbox();
    let client = ping(&address(&server), [])
        .any_stdout()
        .killed_by(Signal::TERM)
        .start();
    receive(&server);
    client.signal(Signal::TERM);
    client.finish();
}

#[test]
fn a_ping_ends_as_soon_as_its_reader_leaves() {
    let server = mailbox();
    let (reader, writer) = std::io::pipe().unwrap();
    let client = ping(&address(&server), ["-W", "1h", "-i", "1h"])
        .stdout_to(writer)
        .code(141)
        .start();
    receive(&server);
    drop(reader);
    client.finish();
}

#[test]
fn a_reader_that_stops_holds_up_neither_the_deadline_nor_an_interrupt() {
    let server = mailbox();
    let target = address(&server);
    let stopped = "netkit: could not write standard output: nothing reads it\n";
    let (_reader, writer) = full_pipe();
    ping(&target, ["-w", "1"])
        .stdout_to(writer.try_clone().unwrap())
        .stderr(stopped)
        .code(2)
        .run();
    receive(&server);
    let client = ping(&target, ["-i", "1h"]).stdout_to(writer);
    let client = client.stderr(stopped).code(2).start();
    receive(&server);
    client.signal(Signal::INT);
    client.finish();
}

/// Another program has set `O_NONBLOCK` on the pipe, and its reader is slow.
#[test]
fn a_standard_output_that_does_not_block_gets_every_line() {
    let server = mailbox();
    let (reader, writer) = full_pipe();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    // The socket holds so many, should this thread be late.
    let client = ping(&address(&server), ["-c", "100", "-i", "0.0001", "-W", "1h"]);
    let client = client.stdout_to(writer).start();
    for _ in 0..100 {
        send_back(&server, &receive(&server));
    }
    let text = String::from_utf8(read_all(reader)).unwrap();
    client.finish();
    let replies = text.lines().filter(|line| line.contains(" bytes from "));
    assert_eq!(replies.count(), 100);
    assert!(text.contains("100 packets transmitted, 100 received, 0% packet loss"));
}

/// Neither has a reader that could leave.
#[test]
fn a_ping_prints_to_a_file_and_to_a_terminal() {
    let server = udp_server([]).listen();
    let arguments = ["-c", "3", "-i", "0.01"];
    let folder = temporary_folder();
    let path = folder.path().join("output");
    let file = std::fs::File::create(&path).unwrap();
    ping(&server.address(), arguments).stdout_to(file).run();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("3 packets transmitted, 3 received"), "{text}");
    let terminal = Terminal::open();
    let client = ping(&server.address(), arguments);
    client.stdout_to(terminal.device()).run();
}

#[test]
fn a_full_disk_is_an_error() {
    let server = udp_server([]).listen();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    ping(&server.address(), ["-c", "1"])
        .stdout_to(full.unwrap())
        .stderr("netkit: could not write standard output: no space left on device\n")
        .code(2)
        .run();
}
