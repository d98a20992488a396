//! `netkit tcp-client`: how a session ends, what is sent, and what is printed.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::Type;

use crate::harness::{
    DEADLINE, Peer, ReservedPort, Terminal, event, netkit, peer, random_bytes, read_all,
    temporary_folder,
};

/// A peer that sends `greeting` and then waits for the client to go, which must not send anything.
fn greeter(greeting: &'static str) -> Peer {
    Peer::listen(move |mut connection| {
        connection.send(greeting);
        connection.expect_eof();
    })
}

/// A peer that receives exactly `bytes` and the end of input.
fn receiver(bytes: impl AsRef<[u8]> + Send + 'static) -> Peer {
    Peer::listen(move |mut connection| {
        connection.expect(bytes);
        connection.expect_eof();
    })
}

#[test]
fn input_goes_to_the_peer_and_its_answer_to_output() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("ping");
        connection.expect_eof();
        connection.send("pong");
    });
    netkit(["tcp-client", peer.address()])
        .stdin("ping")
        .stdout("pong")
        .run();
}

#[test]
fn a_dialogue_goes_step_by_step() {
    let peer = Peer::listen(|mut connection| {
        connection.send("Welcome!");
        connection.expect("Michael");
        connection.send("Hello, Michael!");
        connection.expect_eof();
    });
    let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
    client.receive("Welcome!");
    client.send("Michael");
    client.receive("Hello, Michael!");
    client.close_input();
    client.finish();
}

mod ending {
    use super::*;

    #[test]
    fn the_answer_may_come_long_after_the_end_of_input() {
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

    /// A peer that ends, and says how long after that the client left.
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
        // Half a second, and what a busy machine adds.
        let allowed = Duration::from_millis(400)..Duration::from_millis(1500);
        assert!(allowed.contains(&after), "{after:?}");
    }

    #[test]
    fn half_close_wait_0_leaves_with_the_peer() {
        let (peer, after) = ending_peer();
        netkit(["tcp-client", "--half-close-wait", "0", peer.address()])
            .stdin_open()
            .stdout("bye")
            .run();
        let after = after.recv().unwrap();
        assert!(after < Duration::from_millis(450), "{after:?}");
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
        let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
        for _ in 0..10 {
            client.send([b'x'; 100]);
            next.wait();
        }
        client.close_input();
        client.finish();
    }

    #[test]
    fn the_half_close_wait_begins_anew_with_every_byte_of_input() {
        let (arrived, next) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.shutdown();
            for _ in 0..12 {
                connection.expect("x");
                connection.hold_for(Duration::from_millis(150));
                arrived.happen();
            }
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", "--half-close-wait=1.5s", peer.address()])
            .stdin_open()
            .start();
        for _ in 0..12 {
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
    fn what_came_before_a_reset_is_printed() {
        let peer = Peer::listen(move |mut connection| {
            // A reset before the client knows that it is connected leaves it nothing to read.
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
    fn bytes_that_a_peer_did_not_take_are_an_error() {
        let peer = Peer::listen(|mut connection| {
            // By then one call moves much at once: it meets the reset, and does not tell of it.
            connection.expect(vec![b'x'; 2_000_000]);
            connection.reset();
        });
        let client = netkit(["tcp-client", peer.address()])
            .stdin(vec![b'x'; 30_000_000])
            // Which of the two directions meets the reset first is chance.
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
    fn an_answer_is_printed_though_the_question_was_not_taken() {
        // A server that refuses a request too large without reading it, and closes gently.
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
    fn wait_after_eof_leaves_a_peer_that_does_not_end() {
        let (left, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.expect("question");
            connection.expect_eof();
            connection.send("answer");
            go_on.wait();
        });
        let client = netkit(["tcp-client", "--wait-after-eof", "0.3", peer.address()])
            .stdin("question")
            .stdout("answer")
            .run();
        left.happen();
        assert!(client.took >= Duration::from_millis(300), "{client:?}");
    }

    #[test]
    fn wait_after_eof_does_not_begin_before_the_end() {
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
        netkit(["tcp-client", "--idle-timeout", "300ms", peer.address()])
            .stdin_open()
            .stdout("data")
            .stderr(format!(
                "netkit: could not go on with {}: nothing moved for 300ms\n",
                peer.address()
            ))
            .code(4)
            .run();
    }

    #[test]
    fn idle_timeout_begins_anew_with_every_byte_in_either_direction() {
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
        let client = netkit(["tcp-client", "--deadline", "0.3", peer.address()])
            .any_stdout()
            .stderr(format!(
                "netkit: could not finish with {}: 300ms have passed\n",
                peer.address()
            ))
            .code(4)
            .run();
        assert!(client.stdout.len() > 100_000);
    }

    #[test]
    fn deadline_ends_a_session_whose_output_is_stuck() {
        let peer = Peer::listen(|mut connection| {
            connection.send_until_left();
        });
        let (reader, writer) = std::io::pipe().unwrap();
        netkit(["tcp-client", "--deadline", "0.3", peer.address()])
            .stdout_to(writer)
            .stderr("netkit: could not finish with {*}: 300ms have passed\n")
            .code(4)
            .run();
        drop(reader);
    }

    #[test]
    fn the_exit_is_141_when_the_reader_of_output_goes_away() {
        let peer = greeter("one\ntwo\n");
        netkit(["tcp-client", peer.address()])
            .stdin_open()
            .through("\"$0\" \"$@\" | head -n 1; exit \"${PIPESTATUS[0]}\"")
            .stdout("one\n")
            .code(141)
            .run();
    }

    #[test]
    fn a_stop_in_the_middle_loses_nothing() {
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
}

/// Every order in which the two inputs can end.
mod orders {
    use super::*;

    #[test]
    fn neither_has_anything_to_say() {
        netkit(["tcp-client", receiver("").address()]).run();
    }

    #[test]
    fn peer_ends_before_input_delivers_anything() {
        let (ended, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.send("answer");
            connection.shutdown();
            ended.happen();
            connection.expect("question");
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
        client.receive("answer");
        go_on.wait();
        client.send("question");
        client.close_input();
        client.finish();
    }

    #[test]
    fn peer_ends_and_then_input_without_another_byte() {
        let peer = Peer::listen(|mut connection| {
            connection.expect("question");
            connection.send("answer");
            connection.shutdown();
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", "--half-close-wait=forever", peer.address()])
            .stdin_open()
            .start();
        client.send("question");
        client.receive("answer");
        client.close_input();
        client.finish();
    }

    #[test]
    fn input_has_ended_before_the_connection_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::of_listener(listener, |mut connection| {
            connection.expect_eof();
            connection.send("late");
        });
        netkit(["tcp-client", peer.address()])
            .stdin("")
            .stdout("late")
            .run();
    }

    #[test]
    fn input_ends_with_its_last_byte_and_no_answer_comes() {
        let peer = receiver("last words");
        netkit(["tcp-client", peer.address()])
            .stdin("last words")
            .run();
    }

    #[test]
    fn peer_answers_and_ends_between_the_last_byte_and_the_end_of_input() {
        let peer = Peer::listen(|mut connection| {
            connection.expect("question");
            connection.send("answer");
            connection.shutdown();
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", peer.address()]).stdin_open().start();
        client.send("question");
        client.receive("answer");
        client.close_input();
        client.finish();
    }

    #[test]
    fn both_say_everything_and_end_at_once() {
        let peer = Peer::listen(|mut connection| {
            connection.send(random_bytes(300_000));
            connection.shutdown();
            connection.expect(random_bytes(300_000));
            connection.expect_eof();
        });
        netkit(["tcp-client", peer.address()])
            .stdin(random_bytes(300_000))
            .stdout(random_bytes(300_000))
            .run();
    }

    #[test]
    fn both_send_more_than_the_connection_holds_before_either_reads() {
        let peer = Peer::listen(|mut connection| {
            let sent = connection.send_until_full();
            connection.shutdown();
            connection.expect(vec![b'y'; 10_000_000]);
            connection.expect_eof();
            assert!(sent > 0);
        });
        netkit(["tcp-client", peer.address()])
            .stdin(vec![b'y'; 10_000_000])
            .any_stdout()
            .run();
    }

    #[test]
    fn peer_ends_while_input_goes_on_without_a_pause() {
        let peer = Peer::listen(|mut connection| {
            connection.shutdown();
            connection.expect(vec![b'y'; 10_000_000]);
            connection.expect_eof();
        });
        netkit(["tcp-client", peer.address()])
            .stdin(vec![b'y'; 10_000_000])
            .run();
    }

    #[test]
    fn input_ends_while_the_peer_goes_on_without_a_pause() {
        let peer = Peer::listen(|mut connection| {
            connection.expect("question");
            connection.expect_eof();
            connection.send(random_bytes(10_000_000));
        });
        netkit(["tcp-client", peer.address()])
            .stdin("question")
            .stdout(random_bytes(10_000_000))
            .run();
    }
}

mod sending {
    use super::*;

    #[test]
    fn send_takes_the_place_of_input() {
        let peer = receiver(b"a\r\n\t\0\\\xffb -c");
        netkit(["tcp-client", "--send", r"a\r\n\t\0\\\xFF"])
            .arg("--send=b")
            .arg("--send")
            .arg(" -c")
            .arg(peer.address())
            .stdin("not this")
            .run();
    }

    #[test]
    fn crlf_ends_every_line() {
        let peer = receiver("one\r\ntwo\r\n\r\nfour\r\rfive\r\n\rsix");
        netkit(["tcp-client", "-C", peer.address()])
            .stdin("one\ntwo\r\n\nfour\r\rfive\n\rsix")
            .run();
    }

    #[test]
    fn crlf_knows_a_line_end_that_is_split_over_two_reads() {
        let (arrived, next) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.expect("one\r");
            arrived.happen();
            connection.expect("\ntwo");
            arrived.happen();
            connection.expect("\r\n");
            connection.expect_eof();
        });
        let mut client = netkit(["tcp-client", "--crlf", peer.address()])
            .stdin_open()
            .start();
        for piece in ["one\r", "\ntwo"] {
            client.send(piece);
            next.wait();
        }
        client.send("\n");
        client.close_input();
        client.finish();
    }

    #[test]
    fn crlf_is_for_what_is_sent_by_option_too() {
        let peer = receiver("a\r\nb\r\n");
        netkit(["tcp-client", "-C", "--send", r"a\r\nb\n", peer.address()]).run();
    }

    #[test]
    fn send_only_prints_nothing_and_does_not_wait() {
        let (left, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.send("answer");
            connection.expect("data");
            connection.expect_eof();
            go_on.wait();
        });
        netkit(["tcp-client", "--send-only", peer.address()])
            .stdin("data")
            .run();
        left.happen();
    }

    #[test]
    fn recv_only_sends_nothing_and_no_end() {
        let peer = Peer::listen(|mut connection| {
            connection.expect_nothing_for(Duration::from_millis(200));
            connection.send("data");
        });
        netkit(["tcp-client", "--recv-only", peer.address()])
            .stdin("not this")
            .stdout("data")
            .run();
    }

    #[test]
    fn input_from_a_file_is_sent_whole() {
        let folder = temporary_folder();
        let path = folder.path().join("input");
        fs::write(&path, random_bytes(1_000_000)).unwrap();
        let peer = receiver(random_bytes(1_000_000));
        netkit(["tcp-client", peer.address()])
            .stdin_from(File::open(&path).unwrap())
            .run();
    }

    #[test]
    fn input_from_a_socket_is_sent_whole() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (received, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.expect("one");
            received.happen();
            connection.expect("two");
            connection.expect_eof();
        });
        let client = netkit(["tcp-client", peer.address()])
            .stdin_from(std::os::fd::OwnedFd::from(theirs))
            .start();
        ours.write_all(b"one").unwrap();
        go_on.wait();
        ours.write_all(b"two").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        client.finish();
    }

    #[test]
    fn input_that_cannot_be_read_is_an_error() {
        let peer = Peer::listen(|mut connection| {
            connection.receive_all();
        });
        let folder = temporary_folder();
        netkit(["tcp-client", peer.address()])
            .stdin_from(File::open(folder.path()).unwrap())
            .stderr("netkit: could not read standard input: is a directory\n")
            .code(2)
            .run();
    }

    #[test]
    fn source_is_where_the_peer_sees_the_client() {
        let port = ReservedPort::on(IpAddr::from([127, 0, 0, 2]), Type::STREAM);
        let expected = format!("127.0.0.2:{}", port.number());
        let peer = Peer::listen(move |connection| {
            assert_eq!(connection.peer(), expected);
        });
        netkit(["tcp-client", "--source", "127.0.0.2", "--source-port"])
            .arg(port.text())
            .arg(peer.address())
            .run();
    }

    #[test]
    fn a_source_that_cannot_be_had_is_named() {
        let in_use = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = in_use.local_addr().unwrap().port();
        // RFC 5737: 192.0.2.1 is nobody's.
        for (option, value, cause) in [
            ("--source", "192.0.2.1", "cannot assign requested address"),
            ("--source-port", &port.to_string(), "address already in use"),
        ] {
            netkit(["tcp-client", option, value, "127.0.0.1:9999"])
                .stderr(format!(
                    "netkit: could not connect to 127.0.0.1:9999: {option} {value}: {cause}\n"
                ))
                .code(2)
                .run();
        }
    }

    #[test]
    fn a_link_local_address_needs_its_interface() {
        netkit(["tcp-client", "[fe80::1]:9999"])
            .stderr(
                "netkit: could not connect to [fe80::1]:9999: a link-local address needs its \
                 interface: write [fe80::1%eth0]:9999\n",
            )
            .code(2)
            .run();
    }

    #[test]
    fn source_has_to_be_of_the_family_of_the_target() {
        netkit(["tcp-client", "--source", "::1", "127.0.0.1:9999"])
            .stderr(
                "netkit: could not connect to 127.0.0.1:9999: \
                 it has no address of the family of --source\n",
            )
            .code(2)
            .run();
    }
}

mod receiving {
    use super::*;

    #[test]
    fn a_terminal_shows_control_characters_escaped() {
        let peer = Peer::listen(|mut connection| connection.send("a\x1b[2J\u{9b}1mb\x07\r\n\tü\n"));
        let mut terminal = Terminal::open();
        netkit(["tcp-client", peer.address()])
            .stdout_to(terminal.device())
            .run();
        terminal.expect("a\\x1b[2J\\xc2\\x9b1mb\\x07\r\n\tü\n");
        terminal.finish();
    }

    #[test]
    fn a_character_in_two_segments_is_shown_whole() {
        let (shown, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.send(b"a\xe6\xbc");
            go_on.wait();
            connection.send(b"\xa2b\xe6");
        });
        let mut terminal = Terminal::open();
        let client = netkit(["tcp-client", peer.address()])
            .stdout_to(terminal.device())
            .start();
        terminal.expect("a");
        shown.happen();
        terminal.expect("漢b\\xe6");
        client.finish();
        terminal.finish();
    }

    #[test]
    fn raw_shows_a_terminal_everything() {
        let peer = Peer::listen(|mut connection| connection.send("a\x1b[2Jb"));
        let mut terminal = Terminal::open();
        netkit(["tcp-client", "--raw", peer.address()])
            .stdout_to(terminal.device())
            .run();
        terminal.expect("a\x1b[2Jb");
        terminal.finish();
    }

    #[test]
    fn a_pipe_gets_every_byte_as_it_is() {
        let all: Vec<u8> = (0..=255).collect();
        let sent = all.clone();
        let peer = Peer::listen(move |mut connection| connection.send(sent));
        netkit(["tcp-client", peer.address()]).stdout(all).run();
    }

    #[test]
    fn a_person_at_a_terminal_has_a_dialogue() {
        let peer = Peer::listen(|mut connection| {
            connection.send("Welcome!");
            connection.expect("Michael\n");
            connection.send("Hello, Michael!\n");
            connection.expect_eof();
        });
        let mut terminal = Terminal::open();
        let client = netkit(["tcp-client", peer.address()])
            .stdin_from(terminal.device())
            .stdout_to(terminal.device())
            .start();
        terminal.expect("Welcome!");
        terminal.type_in("Michael\n");
        terminal.expect("Hello, Michael!\n");
        terminal.type_in(Terminal::END);
        client.finish();
        terminal.finish();
    }

    #[test]
    fn output_is_appended_to_a_file() {
        let folder = temporary_folder();
        let path = folder.path().join("output");
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .unwrap();
        file.write_all(b"before;").unwrap();
        let peer = Peer::listen(|mut connection| connection.send(random_bytes(1_000_000)));
        netkit(["tcp-client", peer.address()])
            .stdout_to(file.try_clone().unwrap())
            .run();
        file.rewind().unwrap();
        let expected = [b"before;".as_slice(), &random_bytes(1_000_000)].concat();
        assert!(fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn a_slow_reader_gets_everything() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (full, go_on) = event();
        let peer = Peer::listen(move |mut connection| {
            connection.send_until_full();
            full.happen();
            connection.send("end");
        });
        let client = netkit(["tcp-client", peer.address()])
            .stdout_to(writer)
            .start();
        go_on.wait();
        let everything = read_all(reader);
        assert!(everything.ends_with(b"xend"));
        client.finish();
    }
}

mod fetching {
    use super::*;

    /// A server that gets exactly this request, and no end of input, before it answers.
    fn server(request: impl Fn(&str) -> String + Send + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let request = request(&listener.local_addr().unwrap().to_string());
        Peer::of_listener(listener, move |mut connection| {
            connection.expect(request);
            connection.expect_nothing_for(Duration::from_millis(100));
            connection.send("HTTP/1.1 404 Not Found\r\n\r\nno");
        })
    }

    #[test]
    fn get_sends_a_request_and_prints_the_answer_as_received() {
        let server = server(|host| {
            format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        });
        netkit(["tcp-client", "--get", "/a?b=c", server.address()])
            .stdin("not this")
            .stdout("HTTP/1.1 404 Not Found\r\n\r\nno")
            .run();
    }

    #[test]
    fn get_without_a_path_is_for_the_root() {
        let root =
            |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = "HTTP/1.1 404 Not Found\r\n\r\nno";
        let first = server(root);
        netkit(["tcp-client", "--get", first.address()])
            .stdout(answer)
            .run();
        let last = server(root);
        netkit(["tcp-client", last.address(), "--get"])
            .stdout(answer)
            .run();
        let apart = server(root);
        netkit(["tcp-client", "--get", "127.0.0.1", apart.port()])
            .stdout(answer)
            .run();
    }

    #[test]
    fn get_names_the_host_as_it_was_typed() {
        let server = server(|address| {
            let port = address.rsplit(':').next().unwrap();
            format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")
        });
        netkit(["tcp-client", "-4", "localhost", server.port(), "--get"])
            .any_stdout()
            .run();
    }

    #[test]
    fn a_port_other_than_80_is_sent_only_what_it_is_given() {
        let peer = receiver("");
        netkit(["tcp-client", peer.address()]).run();
    }

    #[test]
    fn fifty_megabytes_arrive_byte_by_byte() {
        let folder = temporary_folder();
        let page = random_bytes(50_000_000);
        fs::write(folder.path().join("page"), &page).unwrap();
        let arguments = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"];
        let Some(server) = peer("python3", arguments) else {
            return;
        };
        let mut server = server.current_dir(folder.path()).start();
        let line = server.receive_line("Serving HTTP on 127.0.0.1 port {N} {*}");
        let port = line.split(' ').nth(5).unwrap();
        let client = netkit(["tcp-client", "--get", "/page", "127.0.0.1", port])
            .any_stdout()
            .run();
        let head = client.stdout.windows(4).position(|end| end == b"\r\n\r\n");
        let (head, body) = client.stdout.split_at(head.unwrap() + 4);
        assert!(head.starts_with(b"HTTP/1.0 200 OK\r\n"));
        assert!(body == page);
    }
}

mod connecting {
    use super::*;

    #[test]
    fn the_port_may_stand_apart() {
        let peer = receiver("");
        netkit(["tcp-client", "127.0.0.1", peer.port()]).run();
    }

    #[test]
    fn no_host_is_this_machine() {
        // localhost may be ::1 first, where nobody listens.
        let peer = receiver("");
        netkit(["tcp-client", &format!(":{}", peer.port())]).run();
    }

    #[test]
    fn ipv6_addresses_are_in_brackets() {
        let peer = Peer::listen_on("[::1]:0", |mut connection| connection.expect_eof());
        assert!(peer.address().starts_with("[::1]:"));
        netkit(["tcp-client", "-6", peer.address()]).run();
    }

    #[test]
    fn numeric_and_family_options_allow_what_fits() {
        let peer = receiver("");
        netkit(["tcp-client", "-n", "-4", peer.address()]).run();
    }

    #[test]
    fn options_may_follow_the_address() {
        let peer = receiver("x");
        netkit(["tcp-client", peer.address(), "-w", "5", "--send", "x"]).run();
    }

    #[test]
    fn the_connect_timeout_ends_with_the_connecting() {
        let peer = Peer::listen(|mut connection| {
            connection.hold_for(Duration::from_millis(600));
            connection.send("late");
        });
        netkit(["tcp-client", "-w", "0.3", peer.address()])
            .stdout("late")
            .run();
    }
}

/// Who speaks first, and how the two come to their ends, with our sending side closed or left open.
mod ends_of_input {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum First {
        Client,
        Peer,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum End {
        /// The peer closes while our input is open.
        Plain,
        /// Our input ends, and the peer answers then.
        OfInput,
        /// Our input has ended before the peer reads anything.
        OfInputBeforeReading,
        /// The peer says everything and shuts down before it reads.
        ShutdownThenRead,
        /// The peer reads to our end, answers and shuts down.
        ReadThenShutdown,
    }

    fn session(first: First, end: End, no_shutdown: bool) {
        let peer = Peer::listen(move |mut connection| {
            if end == End::OfInputBeforeReading {
                connection.hold_for(Duration::from_millis(50));
            }
            if first == First::Peer {
                connection.send("greeting ");
            }
            if end == End::ShutdownThenRead {
                connection.send("answer");
                connection.shutdown();
                connection.expect("question");
                connection.expect_eof();
                return;
            }
            connection.expect("question");
            if end != End::Plain && no_shutdown {
                connection.expect_nothing_for(Duration::from_millis(50));
            } else if end != End::Plain {
                connection.expect_eof();
            }
            connection.send("answer");
            if end == End::ReadThenShutdown {
                connection.shutdown();
                connection.drain();
            }
        });
        let options = if no_shutdown {
            &["--no-shutdown"][..]
        } else {
            &[]
        };
        let client = netkit(["tcp-client", peer.address()].iter().chain(options));
        let greeting = if first == First::Peer {
            "greeting "
        } else {
            ""
        };
        let client = client.stdin_open().any_stdout();
        let mut client = client.start();
        client.send("question");
        if end != End::Plain {
            client.close_input();
        }
        client.receive(format!("{greeting}answer"));
        client.finish();
        peer.finish();
    }

    macro_rules! sessions {
        ($($name:ident: $first:ident, $end:ident, $no_shutdown:literal;)*) => {
            $(
                #[test]
                fn $name() {
                    session(First::$first, End::$end, $no_shutdown);
                }
            )*
        };
    }

    sessions! {
        client_first_plain: Client, Plain, false;
        client_first_end_of_input: Client, OfInput, false;
        client_first_end_of_input_before_reading: Client, OfInputBeforeReading, false;
        client_first_shutdown_then_read: Client, ShutdownThenRead, false;
        client_first_read_then_shutdown: Client, ReadThenShutdown, false;
        peer_first_plain: Peer, Plain, false;
        peer_first_end_of_input: Peer, OfInput, false;
        peer_first_end_of_input_before_reading: Peer, OfInputBeforeReading, false;
        peer_first_shutdown_then_read: Peer, ShutdownThenRead, false;
        peer_first_read_then_shutdown: Peer, ReadThenShutdown, false;
        client_first_plain_without_shutdown: Client, Plain, true;
        client_first_end_of_input_without_shutdown: Client, OfInput, true;
        client_first_end_of_input_before_reading_without_shutdown: Client, OfInputBeforeReading, true;
        client_first_shutdown_then_read_without_shutdown: Client, ShutdownThenRead, true;
        client_first_read_then_shutdown_without_shutdown: Client, ReadThenShutdown, true;
        peer_first_plain_without_shutdown: Peer, Plain, true;
        peer_first_end_of_input_without_shutdown: Peer, OfInput, true;
        peer_first_end_of_input_before_reading_without_shutdown: Peer, OfInputBeforeReading, true;
        peer_first_shutdown_then_read_without_shutdown: Peer, ShutdownThenRead, true;
        peer_first_read_then_shutdown_without_shutdown: Peer, ReadThenShutdown, true;
    }
}

/// Much enough for the ways that copy nothing, and cut where nobody expects it.
const MUCH: usize = (8 << 20) + 12_345;

#[test]
fn a_file_is_sent_whole_from_where_it_stands() {
    let bytes = random_bytes(MUCH);
    let folder = temporary_folder();
    let path = folder.path().join("input");
    fs::write(&path, [b"skipped", &bytes[..]].concat()).unwrap();
    let mut file = File::open(&path).unwrap();
    file.seek(std::io::SeekFrom::Start(7)).unwrap();
    let peer = receiver(bytes);
    netkit(["tcp-client", peer.address()])
        .stdin_from(file)
        .run();
    peer.finish();
}

#[test]
fn much_goes_to_a_new_file_and_to_the_end_of_an_old_one() {
    for append in [false, true] {
        let bytes = random_bytes(MUCH);
        let folder = temporary_folder();
        let path = folder.path().join("output");
        let begin: &[u8] = if append { b"what was there" } else { b"" };
        fs::write(&path, begin).unwrap();
        let sent = bytes.clone();
        let peer = Peer::listen(move |mut connection| {
            connection.expect_eof();
            connection.send(sent);
        });
        let file = File::options().append(append).write(true).open(&path);
        netkit(["tcp-client", peer.address()])
            .stdout_to(file.unwrap())
            .run();
        peer.finish();
        assert!(fs::read(&path).unwrap() == [begin, &bytes[..]].concat());
    }
}
