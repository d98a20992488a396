//! `netkit udp-client --ping`: what is counted, what is printed, and when it ends.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    DEADLINE, Process, Program, Terminal, closed_port, mailbox, netkit, temporary_folder,
    udp_server,
};

fn ping<'a>(target: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Program {
    let words = ["udp-client", "--ping", target];
    netkit(words.into_iter().chain(arguments))
}

fn address(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

/// Waits for a probe, and returns it and where it is from.
#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (count, source) = socket.recv_from(&mut buffer).expect("a probe should come");
    buffer.truncate(count);
    (buffer, source)
}

#[track_caller]
fn send_back(socket: &UdpSocket, (payload, source): &(Vec<u8>, SocketAddr)) {
    socket.send_to(payload, source).unwrap();
}

fn events(stdout: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(stdout).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The numbers of all events of a kind, in order.
fn numbers(events: &[Value], kind: &str) -> Vec<u64> {
    let events = events.iter().filter(|event| event["event"] == kind);
    events.map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[track_caller]
fn expect_event(client: &mut Process, kind: &str) -> Value {
    let line = client.receive_line("{*}");
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], kind, "{line}");
    event
}

mod text {
    use super::*;

    #[test]
    fn every_answer_is_a_line_and_the_statistics_come_at_the_end() {
        let server = udp_server([]).listen();
        let target = server.address();
        netkit(["udp-client", "-c", "2", "-i", "1", &target])
            .stdout(format!(
                "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
                 64 bytes from {target}: udp_seq=1 time={{N}} ms\n\
                 64 bytes from {target}: udp_seq=2 time={{N}} ms\n\
                 \n\
                 --- {target} ping statistics ---\n\
                 2 packets transmitted, 2 received, 0% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
            ))
            .run();
    }

    #[test]
    fn a_name_is_shown_with_its_address() {
        let server = udp_server(["--service", "echo"]).listen();
        let port = server.port();
        ping(&format!(":{port}"), ["-4", "-c", "1"])
            .stdout(format!(
                "PING localhost:{port} (127.0.0.1) 56(84) bytes of data.\n\
                 56 bytes from localhost:{port} (127.0.0.1): udp_seq=1 time={{N}} ms\n\
                 \n\
                 --- localhost:{port} ping statistics ---\n\
                 1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
            ))
            .run();
    }

    #[test]
    fn ipv6_has_larger_headers() {
        let server = udp_server(["-b", "::1"]).listen();
        let port = server.port();
        ping(&server.address(), ["-c", "1", "-s", "100"])
            .stdout(format!(
                "PING [::1]:{port} (::1) 100(148) bytes of data.\n\
                 108 bytes from [::1]:{port}: udp_seq=1 time={{N}} ms\n\
                 \n\
                 --- ::1 {port} ping statistics ---\n\
                 1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
            ))
            .run();
    }

    #[test]
    fn quiet_leaves_the_statistics_and_verbose_adds_to_them() {
        let server = udp_server([]).listen();
        let target = server.address();
        let summary = format!(
            "\n--- {target} ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
        );
        let header = format!("PING {target} (127.0.0.1) 56(84) bytes of data.\n");
        ping(&target, ["-c", "1", "-q"])
            .stdout([header.as_str(), &summary].concat())
            .run();
        let more = "rtt p50/p95/p99/jitter = {N}/{N}/{N}/{N} ms\n";
        let reply = format!("64 bytes from {target}: udp_seq=1 time={{N}} ms\n");
        ping(&target, ["-c", "1", "-v"])
            .stdout([header.as_str(), &reply, &summary, more].concat())
            .run();
        ping(&target, ["-c", "1", "-q", "-v"])
            .stdout([header.as_str(), &summary, more].concat())
            .run();
    }

    #[test]
    fn each_line_may_carry_the_time_of_day() {
        let server = udp_server([]).listen();
        let mut client = ping(&server.address(), ["-c", "1", "-D"])
            .any_stdout()
            .start();
        client.receive_line("PING {*}");
        client.receive_line("[{N}] 64 bytes from {*}: udp_seq=1 time={N} ms");
        client.finish();
    }

    #[test]
    fn duplicates_are_marked() {
        let server = mailbox();
        let client = ping(&address(&server), ["-c", "2", "-i", "0.01"])
            .any_stdout()
            .start();
        let first = receive(&server);
        send_back(&server, &first);
        send_back(&server, &first);
        send_back(&server, &receive(&server));
        let stdout = String::from_utf8(client.finish().stdout).unwrap();
        let duplicate = stdout.lines().nth(2).unwrap();
        assert!(duplicate.contains(": udp_seq=1 time="), "{stdout}");
        assert!(duplicate.ends_with(" ms (DUP!)"), "{stdout}");
        assert!(
            stdout.contains("2 packets transmitted, 2 received, +1 duplicates, 0% packet loss"),
            "{stdout}"
        );
    }

    #[test]
    fn a_late_answer_is_printed_and_the_probe_is_lost_all_the_same() {
        let server = mailbox();
        let target = address(&server);
        let mut client = ping(&target, ["-c", "2", "-i", "2.1", "-W", "2", "-O"])
            .code(1)
            .stdout(format!(
                "\n--- {target} ping statistics ---\n\
                 2 packets transmitted, 1 received, +1 late, 50% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms, pipe 2\n"
            ))
            .start();
        client.receive_line("PING {*}");
        let first = receive(&server);
        // Its time is up when the second is sent.
        let second = receive(&server);
        client.receive_line("no answer yet for udp_seq=1");
        send_back(&server, &second);
        client.receive_line(&format!("56 bytes from {target}: udp_seq=2 time={{N}} ms"));
        send_back(&server, &first);
        client.receive_line(&format!(
            "56 bytes from {target}: udp_seq=1 time={{N}} ms (late)"
        ));
        client.finish();
    }

    #[test]
    fn what_is_missing_is_said_before_the_next_is_sent() {
        let server = mailbox();
        let target = address(&server);
        // What was asked for is said in quiet too.
        let runs = ["-O", "-Oq"].map(|options| {
            let arguments = ["-c", "3", "-i", "0.02", "-W", "2", options];
            let client = ping(&target, arguments).stdout(format!(
                "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
                 no answer yet for udp_seq=1\n\
                 no answer yet for udp_seq=2\n\
                 \n\
                 --- {target} ping statistics ---\n\
                 3 packets transmitted, 0 received, 100% packet loss, time {{N}}ms\n\n"
            ));
            client.code(1).start()
        });
        for client in runs {
            client.finish();
        }
    }

    #[test]
    fn an_unreachable_port_is_an_error_and_no_answer() {
        let closed = closed_port();
        let target = address(&closed);
        let client = ping(&target, ["-c", "2", "-i", "0.01", "-W", "1h"])
            .stdout(format!(
                "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
                 From 127.0.0.1 udp_seq=1 Destination Port Unreachable\n\
                 From 127.0.0.1 udp_seq=2 Destination Port Unreachable\n\
                 \n\
                 --- {target} ping statistics ---\n\
                 2 packets transmitted, 0 received, +2 errors, 100% packet loss, time {{N}}ms\n\n"
            ))
            .code(1)
            .run();
        assert!(client.took < DEADLINE / 2, "{client:?}");
    }

    #[test]
    fn what_holds_no_probe_is_no_answer() {
        let server = mailbox();
        let target = address(&server);
        let client = ping(&target, ["-c", "1", "-W", "2"])
            .any_stdout()
            .stderr(format!(
                "netkit: unexpected datagram from {target}: \"O\\u{{1b}}K\" (an answer holds what \
                 was sent)\n"
            ))
            .code(1)
            .start();
        let (_, source) = receive(&server);
        for _ in 0..2 {
            server.send_to(b"O\x1bK", source).unwrap();
        }
        client.finish();
    }

    #[test]
    fn a_flood_is_dots_that_answers_take_back() {
        let server = udp_server(["-q", "--service", "echo"]);
        let mut server = server.arg("--print-port").start();
        let port = server.receive_line("{N}");
        let target = format!("127.0.0.1:{port}");
        let client = ping(&target, ["-f", "-c", "500", "-W", "10"])
            .stdout(format!(
                "PING {target} (127.0.0.1) 56(84) bytes of data.\n{{*}}\n\
                 --- {target} ping statistics ---\n\
                 500 packets transmitted, 500 received, 0% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms{{*}}, ipg/ewma {{N}}/{{N}} ms\n"
            ))
            .run();
        // One that was not answered at once has others behind it.
        let mut open = 0;
        let marks = client.stdout.split(|&byte| byte == b'\n').nth(1).unwrap();
        let shown = String::from_utf8_lossy(marks).replace("\u{8} \u{8}", "-");
        for mark in shown.chars() {
            open += if mark == '.' { 1 } else { -1 };
            assert!(open >= 0);
        }
        assert_eq!((open, shown.len()), (0, 1000));
    }
}

mod events {
    use super::*;

    #[test]
    fn everything_that_happens_is_an_object_a_line() {
        let server = mailbox();
        let target = address(&server);
        let arguments = ["-c", "2", "-i", "2.1", "-W", "2", "--json", "-O"];
        let mut client = ping(&target, arguments).any_stdout().code(1).start();
        let start = expect_event(&mut client, "start");
        assert_eq!(start["v"], 1);
        assert_eq!(start["target"], target.as_str());
        assert_eq!(start["address"], "127.0.0.1");
        assert_eq!(start["size_bytes"], 56);
        let first = receive(&server);
        assert_eq!(expect_event(&mut client, "lost")["seq"], 1);
        let second = receive(&server);
        assert_eq!(expect_event(&mut client, "missing")["seq"], 1);
        send_back(&server, &first);
        let late = expect_event(&mut client, "late");
        assert_eq!(late["seq"], 1);
        assert!(late["rtt_ms"].as_f64().unwrap() > 2000.0);
        send_back(&server, &first);
        assert_eq!(expect_event(&mut client, "duplicate")["seq"], 1);
        server.send_to(b"\xff", second.1).unwrap();
        assert_eq!(expect_event(&mut client, "unexpected")["hex"], "ff");
        send_back(&server, &second);
        let reply = expect_event(&mut client, "reply");
        assert_eq!((&reply["seq"], &reply["bytes"]), (&2.into(), &56.into()));
        let summary = expect_event(&mut client, "summary");
        for (key, value) in [
            ("transmitted", 2),
            ("received", 1),
            ("lost", 1),
            ("late", 1),
            ("duplicates", 1),
            ("errors", 0),
        ] {
            assert_eq!(summary[key], value, "{key}: {summary}");
        }
        assert_eq!(summary["loss_percent"], 50.0);
        for key in ["min", "avg", "max", "p50", "p95", "p99"] {
            assert_eq!(summary[format!("rtt_{key}_ms")], reply["rtt_ms"], "{key}");
        }
        assert_eq!(summary["rtt_mdev_ms"], 0.0);
        // The warning about the unexpected one.
        client.expect_line("netkit: unexpected datagram from {*}");
        client.finish();
    }

    #[test]
    fn an_error_is_an_event_and_times_are_null_where_there_are_none() {
        let closed = closed_port();
        let client = ping(&address(&closed), ["-c", "1", "--json", "-D"]);
        let events = events(&client.any_stdout().code(1).run().stdout);
        assert_eq!(events[1]["event"], "error");
        assert_eq!(events[1]["message"], "connection refused");
        assert!(events[1]["unix_s"].as_f64().unwrap() > 1.6e9);
        assert_eq!(events[2]["event"], "summary");
        assert_eq!(events[2]["rtt_min_ms"], Value::Null);
    }

    #[test]
    fn quiet_leaves_the_first_and_the_last() {
        let server = udp_server([]).listen();
        let client = ping(&server.address(), ["-c", "1", "--json", "-q"]);
        let events = events(&client.any_stdout().run().stdout);
        let kinds: Vec<_> = events.iter().map(|event| &event["event"]).collect();
        assert_eq!(kinds, ["start", "summary"]);
    }
}

mod ending {
    use super::*;

    /// Each row: the arguments; which of the probes that come are answered; whether an interrupt
    /// ends it then; and the exit code.
    #[test]
    fn the_exit_code_says_whether_every_probe_was_answered() {
        let rows: [(&str, &[bool], bool, i32); 18] = [
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
            // It comes before the time limit of a probe.
            ("-c 1 -W 1h -w 2", &[false], false, 1),
            ("-c 1 -W 1h -w 2 --max-loss 100", &[false], false, 0),
            // It comes before the last probes: as for ping(8), those are not answered.
            ("-c 2 -i 1h -w 2", &[true], false, 1),
            ("-c 2 -i 1h -w 2 --max-loss 50", &[true], false, 0),
            ("-c 4 -i 1h -w 2 --max-loss 50", &[true], false, 1),
            // It is the only end.
            ("-i 1h -w 2", &[true], false, 0),
            ("-i 1h -w 2", &[false], false, 1),
            // What was not sent before an interrupt was not wanted any more.
            ("-c 5 -i 1h", &[true], true, 0),
            ("-c 5 -i 1h -w 1h", &[true], true, 0),
            ("-i 1h -W 1h", &[false], true, 1),
            ("-i 1h -W 1h --max-loss 100", &[false], true, 0),
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
                    client.receive_line("{*}: udp_seq=1 time={N} ms");
                }
                client.signal(Signal::INT);
            }
            // The socket stays open: nothing is refused.
            clients.push((client, server));
        }
        for (client, _server) in clients {
            client.finish();
        }
    }

    #[test]
    fn no_limit_of_loss_excuses_what_is_wrong_here() {
        for (target, arguments, code, message) in [
            (
                "no-such-host.invalid:9",
                "-c 1",
                3,
                "resolve no-such-host.invalid: {*}",
            ),
            // Whoever may not broadcast may not connect to such an address either.
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
    fn a_refusal_is_a_loss_and_may_be_allowed() {
        let closed = closed_port();
        for (limit, code) in [("99.9", 1), ("100", 0)] {
            let client = ping(&address(&closed), ["-c", "1", "--max-loss", limit]);
            client.any_stdout().code(code).run();
        }
    }

    #[test]
    fn the_deadline_ends_it_whatever_happened() {
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
    fn the_last_answer_ends_it_at_once() {
        let server = udp_server([]).listen();
        let arguments = ["-c", "2", "-i", "0.01", "-W", "1h"];
        ping(&server.address(), arguments).any_stdout().run();
    }

    #[test]
    fn an_interrupt_prints_the_statistics() {
        let server = udp_server([]).listen();
        let mut client = ping(&server.address(), []).any_stdout().start();
        client.receive_line("PING {*}");
        client.receive_line("{*}: udp_seq=1 time={N} ms");
        client.signal(Signal::INT);
        let stdout = String::from_utf8(client.finish().stdout).unwrap();
        assert!(stdout.contains("1 packets transmitted, 1 received, 0% packet loss"));
    }

    #[test]
    fn an_interrupt_without_an_answer_is_a_loss() {
        let server = mailbox();
        let client = ping(&address(&server), ["-W", "1h"])
            .any_stdout()
            .code(1)
            .start();
        receive(&server);
        client.signal(Signal::INT);
        let stdout = String::from_utf8(client.finish().stdout).unwrap();
        assert!(stdout.contains("1 packets transmitted, 0 received, 100% packet loss"));
    }

    #[test]
    fn a_termination_is_no_end_of_the_measurement() {
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
    fn a_reader_that_leaves_ends_it_at_once() {
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

    /// In which nobody reads, so that nobody leaves.
    #[test]
    fn a_file_and_a_terminal_take_what_a_pipe_takes() {
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
}

mod meanwhile {
    use super::*;

    #[test]
    fn a_quit_signal_prints_interim_statistics() {
        let server = udp_server([]).listen();
        let mut client = ping(&server.address(), ["-i", "1h"]).any_stdout().start();
        client.receive_line("PING {*}");
        client.receive_line("{*}: udp_seq=1 time={N} ms");
        client.signal(Signal::QUIT);
        client.expect_line("1/1 packets, 0% loss, min/avg/ewma/max = {N}/{N}/{N}/{N} ms");
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
        // It goes on when nothing more can be typed.
        terminal.type_in(Terminal::END);
        client.signal(Signal::INT);
        client.finish();
    }

    #[test]
    fn an_answer_that_came_while_it_was_stopped_counts() {
        let server = mailbox();
        let target = address(&server);
        let mut client = ping(&target, ["-c", "1", "-W", "1h"])
            .stdout(format!(
                "56 bytes from {target}: udp_seq=1 time={{N}} ms\n\
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
}

mod usage {
    use super::*;

    #[test]
    fn what_would_do_nothing_is_refused() {
        for words in [
            "-D",
            "-O",
            "-A",
            "-f",
            "-w 1",
            "-s 100",
            "--max-loss 1",
            "-c 1 --retries 1",
            "-c 1 --no-wait",
            "-c 1 --raw",
            "-c 1 --whole",
            "-c 1 --chunk 1",
            "--ping -f -A",
            "--ping -f -D",
            "--ping -f -O",
            "-c 0",
            "-i 0",
            "-w 0 -c 1",
            "-c 1 --max-loss 101",
            "-c 1 -s 65528",
        ] {
            let client = netkit(
                ["udp-client", "127.0.0.1:9"]
                    .into_iter()
                    .chain(words.split(' ')),
            )
            .any_stderr()
            .code(2)
            .run();
            assert!(
                client.stderr.ends_with("see 'netkit udp-client --help'\n"),
                "{words}"
            );
        }
    }

    #[test]
    fn a_probe_has_a_least_and_a_largest_size() {
        let server = udp_server(["--service", "echo"]).listen();
        for size in ["16", "65507"] {
            ping(&server.address(), ["-c", "1", "-s", size])
                .any_stdout()
                .run();
        }
        ping("127.0.0.1:9", ["-c", "1", "-s", "15"])
            .stderr(
                "netkit: invalid value '15' for '--size <BYTES>': '15' has no room for what tells \
                 answers apart: that takes 16 bytes; see 'netkit udp-client --help'\n",
            )
            .code(2)
            .run();
        ping("127.0.0.1:9", ["-c", "1", "-s", "65508"])
            .stderr(
                "netkit: could not send to 127.0.0.1:9: a probe of 65508 bytes is too large for a \
                 datagram over IPv4, which carries 65507 at most\n",
            )
            .code(2)
            .run();
    }

    #[test]
    fn a_count_is_a_whole_number() {
        for (count, reason) in [
            ("-1", "is not a whole number; write 1, 2, 100"),
            ("0", "must be more than zero"),
            ("99999999999999999999", "is too large"),
        ] {
            ping("127.0.0.1:9", ["-c", count])
                .stderr(format!(
                    "netkit: invalid value '{count}' for '--count <N>': '{count}' {reason}; see \
                     'netkit udp-client --help'\n"
                ))
                .code(2)
                .run();
        }
    }

    #[test]
    fn data_is_for_the_exchange() {
        ping("127.0.0.1:9", ["data"])
            .stderr(
                "netkit: could not send DATA: a ping, which -c and -i imply, sends probes of its \
                 own\n",
            )
            .code(2)
            .run();
    }
}

#[test]
fn probes_are_not_sent_faster_than_asked_for() {
    let server = udp_server(["-q", "--service", "echo"]);
    let mut server = server.arg("--print-port").start();
    let target = format!("127.0.0.1:{}", server.receive_line("{N}"));
    let client = ping(&target, ["-c", "1000", "-i", "0.001", "--json"]);
    let events = events(&client.any_stdout().run().stdout);
    let time = events.last().unwrap()["time_ms"].as_f64().unwrap();
    // How much slower a busy machine is, no test can say.
    assert!(time >= 999.0, "{time}");
}

#[test]
fn adaptive_waits_for_the_answer_and_no_longer() {
    let server = udp_server(["-q", "--service", "echo"]);
    let mut server = server.arg("--print-port").start();
    let target = format!("127.0.0.1:{}", server.receive_line("{N}"));
    let client = ping(&target, ["-A", "-c", "50", "-i", "1h"]);
    client.any_stdout().run();
}

/// From when as many probes are remembered as ever are.
#[test]
#[ignore = "takes long"]
fn a_million_probes_take_no_more_memory_than_a_sixth_of_them() {
    let server = mailbox();
    let client = ping(&address(&server), ["-f", "-q"])
        .within(Duration::from_secs(300))
        .any_stdout()
        .any_code()
        .start();
    let answer = |count| -> u64 {
        let mut buffer = [0; 64];
        for _ in 0..count {
            let (size, source) = server.recv_from(&mut buffer).expect("a probe should come");
            server.send_to(&buffer[..size], source).unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let words = line.unwrap().split_whitespace();
        words.skip(1).find_map(|word| word.parse().ok()).unwrap()
    };
    let before = answer(150_000);
    let after = answer(850_000);
    assert!(after <= before + before / 20, "{before} kB, then {after}");
    client.signal(Signal::INT);
    client.finish();
}

mod through_a_bad_network {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Instant;

    use super::*;
    use crate::harness::spawn;

    const COUNT: usize = 20;

    /// What became of the probes, by their number.
    #[derive(Debug, Default, PartialEq)]
    struct Fates {
        replied: Vec<u64>,
        late: Vec<u64>,
        duplicated: Vec<u64>,
    }

    /// What comes later than that is late. A machine on which all this takes seconds must not be
    /// taken for a network that does.
    const LIMIT: u64 = 3000;

    /// Greets everybody, and loses, delays, doubles and reorders its greetings as `seed` has it.
    /// The last probe is the last to be answered.
    fn relay(socket: &UdpSocket, mut seed: u64) -> Fates {
        let mut random = |below: u64| {
            // xorshift64*
            seed ^= seed >> 12;
            seed ^= seed << 25;
            seed ^= seed >> 27;
            (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
        };
        let mut fates = Fates::default();
        let mut queue: BinaryHeap<Reverse<(Instant, Vec<u8>, SocketAddr)>> = BinaryHeap::new();
        let mut number = 0;
        loop {
            let due = queue.peek().map(|Reverse((due, ..))| *due);
            let wait = due.map_or(DEADLINE, |due: Instant| {
                due.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() {
                let Some(Reverse((_, answer, source))) = queue.pop() else {
                    break;
                };
                let _ = socket.send_to(&answer, source);
                if queue.is_empty() && number == COUNT as u64 {
                    break;
                }
                continue;
            }
            socket.set_read_timeout(Some(wait)).unwrap();
            let mut buffer = [0; 2048];
            let Ok((count, source)) = socket.recv_from(&mut buffer) else {
                assert!(!queue.is_empty(), "probes should come");
                continue;
            };
            number += 1;
            let answer = [b"Hello, ", &buffer[..count], b"!"].concat();
            let delay = match random(10) {
                _ if number == COUNT as u64 => LIMIT + 200,
                0..2 => continue,
                2..4 => LIMIT + 100 + random(30),
                _ => random(60),
            };
            match delay {
                0..60 => fates.replied.push(number),
                _ => fates.late.push(number),
            }
            let now = Instant::now();
            let at = |delay| now + Duration::from_millis(delay);
            queue.push(Reverse((at(delay), answer.clone(), source)));
            if random(4) == 0 && delay < LIMIT + 200 {
                fates.duplicated.push(number);
                queue.push(Reverse((at(delay + random(20)), answer, source)));
            }
        }
        fates.duplicated.sort_unstable();
        fates
    }

    /// What was printed for programs.
    #[track_caller]
    fn check_events(stdout: &[u8], fates: &Fates) {
        let events = events(stdout);
        let sorted = |kind| {
            let mut numbers = numbers(&events, kind);
            numbers.sort_unstable();
            numbers
        };
        let seen = Fates {
            replied: sorted("reply"),
            late: sorted("late"),
            duplicated: sorted("duplicate"),
        };
        assert_eq!(seen, *fates);
        let lost = COUNT - fates.replied.len();
        assert_eq!(numbers(&events, "lost").len(), lost);
        let summary = events.last().unwrap();
        for (key, value) in [
            ("transmitted", COUNT),
            ("received", fates.replied.len()),
            ("duplicates", fates.duplicated.len()),
            ("late", fates.late.len()),
            ("lost", lost),
            ("errors", 0),
        ] {
            assert_eq!(summary[key], value, "{key}");
        }
        let percent = u32::try_from(lost * 100 / COUNT).unwrap();
        assert_eq!(summary["loss_percent"], f64::from(percent));
    }

    /// What was printed for people.
    #[track_caller]
    fn check_text(stdout: &[u8], fates: &Fates) {
        let text = std::str::from_utf8(stdout).unwrap();
        let mut seen = Fates::default();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once(": udp_seq=") else {
                continue;
            };
            let (number, rest) = rest.split_once(" time=").unwrap();
            let numbers = match rest.split_once(" ms").unwrap().1 {
                "" => &mut seen.replied,
                " (late)" => &mut seen.late,
                " (DUP!)" => &mut seen.duplicated,
                other => panic!("{other}"),
            };
            numbers.push(number.parse().unwrap());
        }
        for numbers in [&mut seen.replied, &mut seen.late, &mut seen.duplicated] {
            numbers.sort_unstable();
        }
        assert_eq!(seen, *fates);
        let received = fates.replied.len();
        let lost = (COUNT - received) * 100 / COUNT;
        let some = |numbers: &[u64], what| match numbers.len() {
            0 => String::new(),
            count => format!(", +{count} {what}"),
        };
        let duplicates = some(&fates.duplicated, "duplicates");
        let late = some(&fates.late, "late");
        let counts = format!(
            "\n{COUNT} packets transmitted, {received} received{duplicates}{late}, {lost}% packet \
             loss, time "
        );
        assert!(text.contains(&counts), "{counts}{text}");
    }

    #[test]
    fn what_is_counted_is_what_happened() {
        // Half of them at a time: all at once would be a busy machine by themselves.
        for seeds in [1..=50_u64, 51..=100] {
            let runs: Vec<_> = seeds
                .map(|seed| {
                    let socket = mailbox();
                    let target = address(&socket);
                    let count = COUNT.to_string();
                    let limit = format!("{LIMIT}ms");
                    let arguments = ["-c", &count, "-i", "0.002", "-W", &limit];
                    let client = ping(&target, arguments).any_stdout().code(1);
                    let is_text = seed % 10 == 0;
                    let client = if is_text {
                        client
                    } else {
                        client.arg("--json")
                    };
                    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let relay = spawn(move || relay(&socket, mixed));
                    (seed, is_text, client.start(), relay)
                })
                .collect();
            for (seed, is_text, client, relay) in runs {
                let fates = relay.join().unwrap();
                let stdout = client.finish().stdout;
                // Shown if it fails.
                println!("seed {seed}");
                if is_text {
                    check_text(&stdout, &fates);
                } else {
                    check_events(&stdout, &fates);
                }
            }
        }
    }

    #[test]
    fn a_server_that_is_always_late_has_every_answer_reported_lost_and_then_late() {
        let server = mailbox();
        let arguments = ["-c", "3", "-i", "0.01", "-W", "2", "--json"];
        let mut client = ping(&address(&server), arguments)
            .any_stdout()
            .code(1)
            .start();
        expect_event(&mut client, "start");
        let probes = [(); 3].map(|()| receive(&server));
        for number in 1..=3 {
            assert_eq!(expect_event(&mut client, "lost")["seq"], number);
        }
        for probe in &probes {
            send_back(&server, probe);
        }
        for number in 1..=3 {
            assert_eq!(expect_event(&mut client, "late")["seq"], number);
        }
        let summary = expect_event(&mut client, "summary");
        assert_eq!((&summary["late"], &summary["lost"]), (&3.into(), &3.into()));
        client.finish();
    }
}

mod interop {
    use super::*;
    use crate::harness::{peer, python_udp_server, udp_echoes};

    #[test]
    fn python_is_pinged() {
        if let Some((_server, address)) = python_udp_server() {
            answers_a_hundred(&address);
        }
    }

    #[test]
    fn what_others_echo_counts() {
        for (_server, port) in udp_echoes() {
            answers_a_hundred(&format!("127.0.0.1:{}", port.text()));
        }
    }

    #[test]
    fn our_own_services_are_pinged() {
        for service in ["hello", "echo"] {
            let server = udp_server(["--service", service]).listen();
            answers_a_hundred(&server.address());
        }
    }

    #[track_caller]
    fn answers_a_hundred(target: &str) {
        let arguments = ["-c", "100", "-i", "0.01", "-W", "10"];
        let client = ping(target, arguments).any_stdout().run();
        let text = String::from_utf8_lossy(&client.stdout);
        let counts = "\n100 packets transmitted, 100 received, 0% packet loss, time ";
        assert!(text.contains(counts), "{text}");
    }

    /// The text and the events of the same replies and losses.
    #[test]
    fn the_parsers_that_people_use_read_the_text() {
        let (Some(jc), Some(_)) = (peer("jc", ["--ping"]), peer("pingparsing", [])) else {
            return;
        };
        drop(jc);
        for (target, arguments) in [
            ("hello", "-c 5 -i 0.01"),
            ("hello", "-c 5 -i 0.01 -v"),
            ("hello", "-c 5 -i 0.01 -q -v"),
            ("closed", "-c 3 -i 0.01"),
            ("mailbox", "-c 4 -i 0.01 -W 0.3 -O"),
            ("ipv6", "-c 3 -i 0.01"),
            ("localhost", "-4 -c 3 -i 0.01"),
        ] {
            let hello = udp_server(["-b", "127.0.0.1", "-b", "::1"]).listen();
            let addresses = hello.addresses(2);
            let (closed, mailbox) = (closed_port(), mailbox());
            let target = match target {
                "hello" => addresses[0].to_string(),
                "ipv6" => addresses[1].to_string(),
                "localhost" => format!("localhost:{}", addresses[0].port()),
                "closed" => address(&closed),
                _ => address(&mailbox),
            };
            let client = ping(&target, arguments.split(' '));
            let client = client.any_stdout().any_stderr().any_code().start();
            if target == address(&mailbox) {
                let probes = [(); 4].map(|()| receive(&mailbox));
                for index in [0, 0, 2] {
                    send_back(&mailbox, &probes[index]);
                }
            }
            let text = client.finish().stdout;
            let shown = String::from_utf8_lossy(&text).into_owned();
            let parse = |name, arguments: &[&str]| -> Value {
                let parser = peer(name, arguments.iter().copied()).unwrap().code(0);
                serde_json::from_slice(&parser.stdin(&text).run().stdout).unwrap()
            };
            let jc = parse("jc", &["--ping"]);
            let pingparsing = parse("pingparsing", &["-"]);
            let count = |word: &str| -> u64 {
                let line = shown.lines().find(|line| line.contains("transmitted"));
                let words: Vec<&str> = line.unwrap().split([' ', '+', ',', '%']).collect();
                let at = words.iter().position(|found| *found == word);
                at.map_or(0, |at| {
                    let mut words = words[..at].iter().rev();
                    words.find_map(|word| word.parse().ok()).unwrap()
                })
            };
            assert_eq!(jc["packets_transmitted"], count("packets"), "{shown}");
            assert_eq!(jc["packets_received"], count("received"), "{shown}");
            assert_eq!(jc["duplicates"], count("duplicates"), "{shown}");
            assert_eq!(pingparsing["packet_transmit"], count("packets"), "{shown}");
            assert_eq!(pingparsing["packet_receive"], count("received"), "{shown}");
            assert_eq!(pingparsing["packet_duplicate_count"], count("duplicates"));
            assert_eq!(jc["packet_loss_percent"], pingparsing["packet_loss_rate"]);
            if count("received") > 0 {
                for (jc_key, other) in [
                    ("round_trip_ms_min", "rtt_min"),
                    ("round_trip_ms_avg", "rtt_avg"),
                    ("round_trip_ms_max", "rtt_max"),
                    ("round_trip_ms_stddev", "rtt_mdev"),
                ] {
                    assert!(jc[jc_key].is_number(), "{jc}");
                    assert_eq!(jc[jc_key], pingparsing[other], "{shown}");
                }
            }
        }
    }
}
