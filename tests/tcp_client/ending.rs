//! When a session ends, and with which exit code.

use std::fs::File;
use std::io::{PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{DEADLINE, Peer, Process, Terminal, event, netkit, random_bytes};

/// A peer that sends `greeting` and then expects the client to break off without sending anything.
fn greeter(greeting: &'static str) -> Peer {
    Peer::listen(move |mut connection| {
        connection.send(greeting);
        connection.expect_reset();
    })
}

#[test]
fn the_client_waits_for_an_answer_long_after_the_end_of_input() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.expect_eof();
        connection.hold_for(Duration::from_secs(3));
        connection.send("answer");
    });
    netkit(["tcp-client", peer.address()])
        .stdin("question")
        .stdout("answer")
        .run();
}

/// A peer that closes its direction and measures how long the client stays.
fn ending_peer() -> (Peer, mpsc::Receiver<Duration>) {
    let (sender, after) = mpsc::channel();
    let peer = Peer::listen(move |mut connection| {
        connection.send("bye");
        connection.shutdown();
        let end = Instant::now();
        connection.expect_eof();
        sender.send(end.elapsed()).unwrap();
    });
    (peer, after)
}

#[test]
fn the_client_leaves_when_the_peer_has_ended_and_input_is_silent() {
    let (peer, after) = ending_peer();
    netkit(["tcp-client", peer.address()])
        .stdin_open()
        .stdout("bye")
        .run();
    let after = after.recv().unwrap();
    // Half a second, plus what a busy machine adds.
    let allowed = Duration::from_millis(400)..DEADLINE / 2;
    assert!(allowed.contains(&after), "{after:?}");
}

#[test]
fn half_close_wait_0_leaves_with_the_peer() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("typed");
        connection.send("bye");
        connection.shutdown();
        connection.expect_eof();
    });
    // By default an input that has delivered something is read to its end.
    let client = netkit(["tcp-client", "--half-close-wait", "0", peer.address()])
        .stdin_open()
        .stdout("bye")
        .start();
    client.send("typed");
    client.finish();
}

#[test]
fn the_client_leaves_at_once_when_both_have_ended() {
    let peer = Peer::listen(|mut connection| {
        connection.expect_eof();
        connection.send("bye");
    });
    let client = netkit(["tcp-client", "--half-close-wait", "1h", peer.address()])
        .stdout("bye")
        .run();
    assert!(client.took < DEADLINE / 2, "{client:?}");
}

/// More than a server says before it waits for its client.
const TRANSFER: usize = 9 << 10;

#[test]
fn an_end_without_a_byte_does_not_interrupt_a_transfer() {
    let (empty, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send(vec![b'x'; TRANSFER]);
        next.wait();
        // nc and ncat stop here if they see an end.
        connection.expect_nothing_for(Duration::from_millis(100));
        connection.send(vec![b'y'; TRANSFER]);
    });
    let all = [vec![b'x'; TRANSFER], vec![b'y'; TRANSFER]].concat();
    let client = netkit(["tcp-client", peer.address()]);
    let mut client = client.stdin_open().stdout(all).start();
    client.wait_for_stdout(TRANSFER);
    client.close_input();
    empty.happen();
    client.finish();
}

#[test]
fn a_sender_that_never_ends_sees_the_end_of_an_empty_input_after_a_silence() {
    let peer = Peer::listen(|mut connection| {
        connection.send(vec![b'x'; TRANSFER]);
        connection.expect_eof();
    });
    // Half of the time instead of 10 s.
    let mut client = netkit(["tcp-client", "--idle-timeout", "3", peer.address()])
        .stdin_open()
        .stdout(vec![b'x'; TRANSFER])
        .stderr(
            "netkit: the peer is silent and has not ended; some senders need an option to end \
             (nc -N, nc -q 0), and --recv-only keeps this side open\n",
        )
        .start();
    client.wait_for_stdout(TRANSFER);
    client.close_input();
    client.finish();
}

#[test]
fn a_server_that_waits_for_its_client_sees_the_end_of_an_empty_input() {
    let inputs = [
        "</dev/null",
        "<&-",
        "</dev/null 2>&1 | cat; exit",
        "0>/dev/null",
    ];
    for input in inputs {
        let peer = Peer::listen(|mut connection| {
            connection.send("greeting ");
            connection.expect_eof();
            connection.send("answer");
        });
        netkit(["tcp-client", "-q", peer.address()])
            .through(&format!("\"$0\" \"$@\" {input}"))
            .stdout("greeting answer")
            .run();
    }
}

/// A client whose input has delivered `first` before the client starts: half a second without a byte
/// would end it.
fn with_input(peer: &Peer, first: impl AsRef<[u8]>) -> (Process, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(first.as_ref()).unwrap();
    let client = netkit(["tcp-client", peer.address()]).stdin_from(reader);
    (client.start(), writer)
}

#[test]
fn input_is_still_sent_after_the_peer_has_half_closed() {
    let (arrived, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.shutdown();
        for _ in 0..10 {
            connection.expect([b'x'; 100]);
            arrived.happen();
        }
        connection.expect_eof();
    });
    let (client, mut input) = with_input(&peer, [b'x'; 100]);
    for _ in 1..10 {
        next.wait();
        input.write_all(&[b'x'; 100]).unwrap();
    }
    next.wait();
    drop(input);
    client.finish();
}

#[test]
fn an_input_that_has_delivered_something_is_read_to_its_end() {
    let (half, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("row 1");
        connection.shutdown();
        half.happen();
        connection.expect("row 2");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
    client.send("row 1");
    next.wait();
    // Two seconds later.
    client.expect_line(
        "netkit: the peer has ended; input is still open (--half-close-wait 0 leaves at once)",
    );
    client.send("row 2");
    client.close_input();
    client.finish();
}

#[test]
fn an_input_may_deliver_its_first_byte_after_the_peer_has_ended() {
    let (arrived, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.shutdown();
        connection.expect("row 1");
        connection.hold_for(Duration::from_millis(800));
        arrived.happen();
        connection.expect("row 2");
        connection.expect_eof();
    });
    let (client, mut input) = with_input(&peer, "row 1");
    next.wait();
    input.write_all(b"row 2").unwrap();
    drop(input);
    client.finish();
}

#[test]
fn a_terminal_is_left_though_something_was_typed() {
    let (sender, after) = mpsc::channel();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("typed\n");
        connection.shutdown();
        let end = Instant::now();
        connection.expect_eof();
        sender.send(end.elapsed()).unwrap();
    });
    let mut terminal = Terminal::open();
    let client = netkit(["tcp-client", peer.address()])
        .stdin_from(terminal.device())
        .start();
    terminal.type_in("typed\n");
    client.finish();
    let after = after.recv().unwrap();
    assert!(after < DEADLINE / 2, "{after:?}");
}

#[test]
fn half_close_wait_by_hand_holds_for_an_input_that_has_delivered_something() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("row 1");
        connection.shutdown();
        connection.expect_eof();
    });
    let client = netkit(["tcp-client", "--half-close-wait", "0.1", peer.address()])
        .stdin_open()
        .start();
    client.send("row 1");
    client.finish();
}

#[cfg(target_os = "linux")]
#[test]
fn a_pause_after_the_peers_end_is_probed_by_keepalive() {
    for (options, most) in [(&[][..], 5_000), (&["--keepalive", "100"], 100_000)] {
        let (half, next) = event();
        let (seen, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.expect("row 1");
            connection.shutdown();
            half.happen();
            go_on.wait();
            connection.expect_eof();
        });
        let client = netkit(["tcp-client", peer.address()].iter().chain(options))
            .stdin_open()
            .start();
        client.send("row 1");
        next.wait();
        let timer = keepalive_timer(peer.port());
        assert!((most / 2..=most).contains(&timer), "{timer} ms");
        seen.happen();
        drop(client);
    }
}

/// Waits until the connection to `port` of this machine has a keepalive timer and its peer has ended.
/// Returns in how many milliseconds it expires.
#[cfg(target_os = "linux")]
fn keepalive_timer(port: &str) -> u64 {
    let port: u16 = port.parse().unwrap();
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        for line in table.lines() {
            // proc(5): address and state (08 is CLOSE-WAIT), queues, kind of timer (02) and its jiffies.
            let fields: Vec<_> = line.split_whitespace().collect();
            let timer = fields[5].strip_prefix("02:");
            if fields[2] == format!("0100007F:{port:04X}")
                && fields[3] == "08"
                && let Some(ticks) = timer
            {
                let ticks = u64::from_str_radix(ticks, 16).unwrap();
                return ticks * 1000 / rustix::param::clock_ticks_per_second();
            }
        }
    }
    panic!("the connection should have a keepalive timer");
}

#[test]
fn every_byte_of_input_restarts_the_half_close_wait() {
    let (arrived, next) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.shutdown();
        for _ in 0..9 {
            connection.expect("x");
            connection.hold_for(Duration::from_millis(400));
            arrived.happen();
        }
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--half-close-wait=3s", peer.address()])
        .stdin_open()
        .start();
    for _ in 0..9 {
        client.send("x");
        next.wait();
    }
    client.close_input();
    client.finish();
}

#[test]
fn half_close_wait_forever_leaves_with_the_end_of_input() {
    let (patient, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.shutdown();
        connection.expect_nothing_for(Duration::from_millis(800));
        patient.happen();
        connection.expect("late");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--half-close-wait", "forever", peer.address()])
        .stdin_open()
        .start();
    go_on.wait();
    client.send("late");
    client.close_input();
    client.finish();
}

#[test]
fn a_reset_is_an_error() {
    let (received, reset) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.send("data");
        reset.wait();
        connection.reset();
    });
    let mut client = netkit(["tcp-client", peer.address()])
        .stdin_open()
        .stderr(format!(
            "netkit: could not receive from {}: connection reset by peer\n",
            peer.address()
        ))
        .code(1)
        .start();
    client.receive("data");
    received.happen();
    client.finish();
}

#[test]
fn bytes_received_before_a_reset_are_printed() {
    let peer = Peer::listen(move |mut connection| {
        // After a reset before it knows that it is connected, the client could read nothing.
        connection.expect("ready");
        connection.send(random_bytes(100_000));
        connection.reset();
    });
    let client = netkit(["tcp-client", peer.address()])
        .stdin_open()
        .stdout(random_bytes(100_000))
        .stderr(
            "netkit: could not receive from {*}: connection reset by peer; \
             5 bytes were sent\n",
        )
        .code(1)
        .start();
    client.send("ready");
    client.finish();
}

#[test]
fn what_a_peer_says_before_it_resets_at_once_is_printed() {
    // In many of these the reset arrives before the client looks whether it is connected.
    for number in 0..20 {
        let words = ["421 too busy\r\n", ""][number % 2];
        let peer = Peer::listen(move |mut connection| {
            connection.send(words);
            connection.reset();
        });
        // A second connection would be refused.
        let retry = ["tcp-client", "--recv-only", "--retry", "1"];
        netkit(retry.into_iter().chain([peer.address()]))
            .stdout(words)
            .stderr(format!(
                "netkit: could not receive from {}: connection reset by peer\n",
                peer.address()
            ))
            .code(1)
            .run();
    }
}

#[test]
fn bytes_that_the_peer_did_not_read_are_an_error() {
    let peer = Peer::listen(|mut connection| {
        // After this much one call moves many bytes. It meets the reset and does not report it.
        connection.expect(vec![b'x'; 2_000_000]);
        connection.reset();
    });
    let client = netkit(["tcp-client", peer.address()])
        .stdin(vec![b'x'; 30_000_000])
        // Either direction may meet the reset first.
        .stderr("netkit: could not {*}: connection reset by peer; {N} bytes were sent\n")
        .code(1)
        .run();
    let sent = client.stderr.split(' ').rev().nth(3).unwrap();
    let sent: u64 = sent.parse().unwrap();
    assert!((2_000_000..30_000_000).contains(&sent), "{client:?}");
}

#[test]
fn bytes_sent_after_the_peer_has_gone_are_an_error() {
    let (closed, go_on) = event();
    let peer = Peer::listen(move |connection| {
        drop(connection);
        closed.happen();
    });
    let mut client = netkit(["tcp-client", peer.address()])
        .stdin_open()
        .stderr("netkit: could not send everything to {*}; {N} bytes were sent\n")
        .code(1)
        .start();
    go_on.wait();
    client.send("lost");
    client.close_input();
    client.finish();
}

#[test]
fn an_answer_is_printed_although_the_peer_did_not_read_the_question() {
    // A server that refuses a large request without reading it, and closes without a reset.
    let peer = Peer::listen(|mut connection| {
        connection.send("413 too large");
        connection.shutdown();
        connection.receive_all();
    });
    netkit(["tcp-client", peer.address()])
        .stdin(vec![b'x'; 3_000_000])
        .stdout("413 too large")
        .run();
}

#[test]
fn no_shutdown_keeps_the_sending_side_open() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("question");
        connection.expect_nothing_for(Duration::from_millis(300));
        connection.send("answer");
    });
    netkit(["tcp-client", "--no-shutdown", peer.address()])
        .stdin("question")
        .stdout("answer")
        .run();
}

#[test]
fn a_peer_that_takes_our_end_for_a_hang_up_is_explained() {
    let hang_up = || {
        Peer::listen(|mut connection| {
            connection.receive_all();
        })
    };
    let request = "GET / HTTP/1.0\r\n\r\n";
    let explained = "netkit: {*} ended without an answer; some proxies take the end of input for a \
                     hang-up: try --no-shutdown\n";
    let peer = hang_up();
    netkit(["tcp-client", peer.address()])
        .stdin(request)
        .stderr(explained)
        .run();
    let peer = hang_up();
    netkit(["tcp-client", peer.address()])
        .args(["--send", r"POST / HTTP/1.0\r\n\r\n"])
        .stderr(explained)
        .run();
    // What is no request, or has an answer, needs no explanation.
    let peer = hang_up();
    netkit(["tcp-client", peer.address()]).stdin("data").run();
    let peer = Peer::listen(|mut connection| {
        connection.receive_all();
        connection.send("HTTP/1.0 200 OK\r\n\r\n");
    });
    netkit(["tcp-client", peer.address()])
        .stdin(request)
        .stdout("HTTP/1.0 200 OK\r\n\r\n")
        .run();
    let peer = Peer::listen(move |mut connection| connection.expect(request));
    netkit(["tcp-client", "--no-shutdown", peer.address()])
        .stdin(request)
        .run();
}

#[test]
fn wait_after_eof_leaves_a_peer_that_does_not_end() {
    let (left, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect("question");
        connection.expect_eof();
        connection.send("answer");
        go_on.wait();
    });
    let client = netkit(["tcp-client", "--wait-after-eof", "2", peer.address()])
        .stdin("question")
        .stdout("answer")
        .run();
    left.happen();
    assert!(client.took >= Duration::from_secs(2), "{client:?}");
}

#[test]
fn wait_after_eof_begins_at_the_end_of_input() {
    let (patient, go_on) = event();
    let peer = Peer::listen(move |mut connection| {
        connection.expect_nothing_for(Duration::from_millis(300));
        patient.happen();
        connection.expect("question");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--wait-after-eof", "0.1", peer.address()])
        .stdin_open()
        .start();
    go_on.wait();
    client.send("question");
    client.close_input();
    client.finish();
}

#[test]
fn idle_timeout_ends_a_silent_session() {
    let peer = greeter("data");
    netkit(["tcp-client", "--idle-timeout", "2s", peer.address()])
        .stdin_open()
        .stdout("data")
        .stderr(format!(
            "netkit: gave up on {}: no data for 2s (--idle-timeout)\n",
            peer.address()
        ))
        .code(4)
        .run();
}

#[test]
fn every_byte_in_either_direction_restarts_the_idle_timeout() {
    let (arrived, next) = event();
    let peer = Peer::listen(move |mut connection| {
        for _ in 0..6 {
            connection.hold_for(Duration::from_millis(200));
            connection.send(".");
        }
        for _ in 0..6 {
            connection.hold_for(Duration::from_millis(200));
            arrived.happen();
            connection.expect(".");
        }
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", "--idle-timeout", "2s", peer.address()])
        .stdin_open()
        .start();
    client.receive("......");
    for _ in 0..6 {
        next.wait();
        client.send(".");
    }
    client.close_input();
    client.finish();
}

#[test]
fn deadline_ends_a_session_in_which_bytes_move() {
    let peer = Peer::listen(|mut connection| {
        connection.send_until_left();
    });
    let client = netkit(["tcp-client", "--deadline", "1", peer.address()])
        .any_stdout()
        .stderr(format!(
            "netkit: gave up on {} after 1s (--deadline)\n",
            peer.address()
        ))
        .code(4)
        .run();
    assert!(!client.stdout.is_empty());
}

/// Standard outputs that nobody reads, each with what keeps it open.
fn stuck_outputs() -> [(Stdio, OwnedFd); 3] {
    let (reader, pipe) = std::io::pipe().unwrap();
    let (other, socket) = UnixStream::pair().unwrap();
    let (keyboard, terminal) = Terminal::unread();
    [
        (pipe.into(), reader.into()),
        (OwnedFd::from(socket).into(), other.into()),
        (terminal.into(), keyboard.into()),
    ]
}

#[test]
fn time_limits_end_a_session_whose_output_is_stuck() {
    for options in [&["--raw"][..], &["-x", "/dev/null"]] {
        let limits = [
            ("--deadline", "gave up on {*} after 1s (--deadline)"),
            (
                "--idle-timeout",
                "gave up on {*}: no data for 1s (--idle-timeout)",
            ),
        ];
        // Side by side, as each takes a second.
        let running = limits.map(|(option, message)| {
            stuck_outputs().map(|(output, open)| {
                let peer = Peer::listen(|mut connection| {
                    connection.send_until_left();
                });
                let client = netkit(["tcp-client", option, "1", peer.address()])
                    .args(options)
                    .stdout_to(output)
                    .stderr(format!("netkit: {message}\n"))
                    .code(4);
                (client.start(), peer, open)
            })
        });
        for (client, _peer, _open) in running.into_iter().flatten() {
            client.finish();
        }
    }
}

#[test]
fn a_signal_ends_a_session_whose_output_is_stuck() {
    for (output, _open) in stuck_outputs() {
        let (full, is_full) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.send_until_stuck();
            full.happen();
            connection.send_until_left();
        });
        let client = netkit(["tcp-client", peer.address()]).stdout_to(output);
        let client = client.killed_by(Signal::INT).start();
        is_full.wait();
        client.signal(Signal::INT);
        client.finish();
    }
}

#[test]
fn a_client_that_cannot_write_what_it_receives_resets_the_connection() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let to_output = netkit(["tcp-client"])
        .stdout_to(full())
        .stderr("netkit: could not write standard output: no space left on device\n");
    let to_record = netkit(["tcp-client", "--record", "/dev/full"])
        .any_stdout()
        .stderr("netkit: could not write {*}: no space left on device\n");
    for client in [to_output, to_record] {
        let peer = greeter("data");
        client.arg(peer.address()).stdin_open().code(2).run();
    }
}

#[test]
fn deadline_resets_a_session_that_is_not_over() {
    let peer = greeter("data");
    netkit(["tcp-client", "--deadline", "2", peer.address()])
        .stdin_open()
        .stdout("data")
        .stderr("netkit: gave up on {*} after 2s (--deadline)\n")
        .code(4)
        .run();
}

#[test]
fn the_client_exits_with_141_when_its_reader_leaves() {
    let peer = greeter("one\ntwo\n");
    netkit(["tcp-client", peer.address()])
        .stdin_open()
        .through("\"$0\" \"$@\" | head -n 1; exit \"${PIPESTATUS[0]}\"")
        .stdout("one\n")
        .code(141)
        .run();
}

#[test]
fn a_client_that_is_stopped_and_continued_loses_nothing() {
    let bytes = random_bytes(3_000_000);
    let expected = bytes.clone();
    let (halfway, stop) = event();
    let (stopped, go_on) = event();
    let (half, rest) = bytes.split_at(1_000_000);
    let (half, rest) = (half.to_vec(), rest.to_vec());
    let peer = Peer::listen(move |mut connection| {
        connection.send(half);
        halfway.happen();
        go_on.wait();
        connection.send(rest);
        connection.shutdown();
        connection.expect_eof();
    });
    let client = netkit(["tcp-client", "--idle-timeout", "15s", peer.address()])
        .stdout(expected)
        .start();
    stop.wait();
    client.signal(rustix::process::Signal::STOP);
    client.wait_until_stopped();
    client.signal(rustix::process::Signal::CONT);
    stopped.happen();
    client.finish();
}
