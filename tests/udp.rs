//! `netkit udp-client` and `netkit udp-server`: datagrams and their answers, each way and together.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Program, ReservedPort, Server, Terminal, closed_port, mailbox, netkit, udp_server,
};

pub fn address(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

/// Waits for a datagram, and returns it and where it is from.
#[track_caller]
pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((count, source)) => {
                buffer.truncate(count);
                return (buffer, source);
            }
            // socket(7): with a time limit it is not restarted after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a datagram should have come: {error}"),
        }
    }
}

/// Waits for a datagram, which has to be `payload`, and returns where it is from.
#[track_caller]
pub fn expect(socket: &UdpSocket, payload: impl AsRef<[u8]>) -> SocketAddr {
    let (received, source) = receive(socket);
    let payload = payload.as_ref();
    assert!(
        received == payload,
        "the datagram should be \"{}\", not \"{}\"",
        payload.escape_ascii(),
        received.escape_ascii()
    );
    source
}

/// Nothing has come; for when whoever could have sent something has ended.
#[track_caller]
pub fn expect_nothing(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    let received = socket.recv(&mut [0; 1]);
    assert_eq!(received.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[track_caller]
pub fn send(socket: &UdpSocket, payload: impl AsRef<[u8]>, target: SocketAddr) {
    let payload = payload.as_ref();
    assert_eq!(socket.send_to(payload, target).unwrap(), payload.len());
}

/// A datagram that was greeted so often.
fn greeting(depth: usize) -> Vec<u8> {
    let mut payload = b"x".to_vec();
    for _ in 0..depth {
        payload = [b"Hello, ", payload.as_slice(), b"!"].concat();
    }
    payload
}

mod client {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn every_argument_is_a_datagram_and_every_answer_a_line() {
        let server = mailbox();
        let client = netkit(["udp-client", &address(&server), "Michael", "", "Tracy"])
            .stdout(b"Hello, Michael!\n\n\0\x1b\xff\n")
            .start();
        let source = expect(&server, "Michael");
        send(&server, "Hello, Michael!", source);
        assert_eq!(expect(&server, ""), source);
        send(&server, "", source);
        assert_eq!(expect(&server, "Tracy"), source);
        send(&server, b"\0\x1b\xff", source);
        client.finish();
    }

    #[test]
    fn every_line_of_input_is_a_datagram() {
        let server = udp_server([]).listen();
        netkit(["udp-client", &server.address()])
            .stdin("Michael\n\n \r\nlast")
            .stdout("Hello, Michael!\nHello, !\nHello,  \r!\nHello, last!\n")
            .run();
    }

    #[test]
    fn a_line_is_sent_as_soon_as_it_is_complete() {
        let server = udp_server([]).listen();
        let mut client = netkit(["udp-client", &server.address()])
            .stdin_open()
            .start();
        client.send("one\ntw");
        client.receive("Hello, one!\n");
        client.send("o\nthree");
        client.receive("Hello, two!\n");
        client.close_input();
        client.receive("Hello, three!\n");
        client.finish();
    }

    #[test]
    fn no_input_is_no_datagram() {
        netkit(["udp-client", &address(&mailbox())]).run();
    }

    #[test]
    fn the_port_may_stand_apart_and_data_may_be_any_bytes() {
        let server = udp_server([]).listen();
        netkit(["udp-client", "127.0.0.1", &server.port().to_string()])
            .arg(OsStr::from_bytes(b"\xff"))
            .arg("9999")
            .stdout(b"Hello, \xff!\nHello, 9999!\n")
            .run();
    }

    #[test]
    fn a_name_is_asked_at_the_address_that_answers() {
        // localhost may be ::1 first, where nobody listens.
        let server = udp_server([]).listen();
        netkit(["udp-client", &format!(":{}", server.port()), "a", "b"])
            .stdout("Hello, a!\nHello, b!\n")
            .run();
    }

    #[test]
    fn ipv6_is_spoken() {
        let server = udp_server(["-b", "::1"]).listen();
        netkit(["udp-client", "-6", "-n", &server.address(), "a"])
            .stdout("Hello, a!\n")
            .run();
    }

    #[test]
    fn a_hundred_thousand_lines_are_answered_in_order() {
        let server = udp_server(["-q"]);
        let mut server = server.arg("--print-port").start();
        let port = server.receive_line("{N}");
        let lines: Vec<String> = (1..=100_000).map(|line| line.to_string()).collect();
        let answers = format!("Hello, {}!\n", lines.join("!\nHello, "));
        netkit(["udp-client", &format!("127.0.0.1:{port}")])
            .stdin(lines.join("\n"))
            .stdout(answers)
            .within(6 * DEADLINE)
            .run();
    }

    mod without_an_answer {
        use super::*;

        #[test]
        fn the_datagram_is_named_and_the_others_are_still_sent() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", "-W", "2", &target, "lo\nst", "found"])
                .stdout("answer\n")
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"lo\\nst\" from {target}: \
                     nothing came within 2s\n"
                ))
                .code(1)
                .start();
            expect(&server, "lo\nst");
            send(&server, "answer", expect(&server, "found"));
            client.finish();
        }

        #[test]
        fn a_name_is_shown_with_its_address() {
            let server = mailbox();
            let port = server.local_addr().unwrap().port();
            netkit([
                "udp-client",
                "-4",
                "-W",
                "0.1",
                &format!("localhost:{port}"),
                "x",
            ])
            .stderr(format!(
                "netkit: could not get an answer to datagram 1, \"x\" from localhost:{port} \
                     (127.0.0.1:{port}): nothing came within 100ms\n"
            ))
            .code(1)
            .run();
        }

        #[test]
        fn it_is_sent_again_as_often_as_asked() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", "-W", "0.1", "--retries", "2", &target, "x"])
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"x\" from {target}: nothing \
                     came within 100ms (sent 3 times)\n"
                ))
                .code(1)
                .start();
            let source = expect(&server, "x");
            assert_eq!(expect(&server, "x"), source);
            assert_eq!(expect(&server, "x"), source);
            client.finish();
        }

        #[test]
        fn an_answer_to_the_second_attempt_counts() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", "-W", "0.5", "--retries", "9", &target, "x"])
                .stdout("answer\n")
                .start();
            expect(&server, "x");
            send(&server, "answer", expect(&server, "x"));
            client.finish();
        }
    }

    mod refused {
        use super::*;

        #[test]
        fn it_is_an_error_at_once_and_never_an_answer() {
            let closed = closed_port();
            let target = address(&closed);
            let client = netkit(["udp-client", "-W", "1h", &target, "a", "b"])
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"a\" from {target}: connection \
                     refused\n\
                     netkit: could not get an answer to datagram 2, \"b\" from {target}: connection \
                     refused\n"
                ))
                .code(1)
                .run();
            assert!(client.took < DEADLINE / 2, "{client:?}");
        }

        #[test]
        fn there_is_time_before_it_is_sent_again() {
            let closed = closed_port();
            let target = address(&closed);
            let client = netkit(["udp-client", "-W", "0.2", "--retries", "2", &target, "a"])
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"a\" from {target}: connection \
                     refused (sent 3 times)\n"
                ))
                .code(1)
                .run();
            assert!(client.took >= Duration::from_millis(400), "{client:?}");
        }

        #[test]
        fn a_server_that_has_gone_and_come_back_is_asked_again_from_the_same_port() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", &target]).stdin_open().code(1).start();
            client.send("a\n");
            let source = expect(&server, "a");
            send(&server, "to a", source);
            client.receive("to a\n");
            // As if it was closed: it takes only what it sends itself.
            server.connect(server.local_addr().unwrap()).unwrap();
            client.send("b\n");
            client.expect_line(&format!(
                "netkit: could not get an answer to datagram 2, \"b\" from {target}: connection \
                 refused"
            ));
            server.connect(source).unwrap();
            client.send("c\n");
            assert_eq!(expect(&server, "c"), source);
            assert_eq!(server.send(b"to c").unwrap(), 4);
            client.receive("to c\n");
            client.close_input();
            client.finish();
        }
    }

    mod matching {
        use super::*;

        #[test]
        fn a_late_answer_is_reported_and_not_taken_for_the_next_ones() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", "-W", "2", &target, "a", "b"])
                .stdout("to b\n")
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"a\" from {target}: nothing \
                     came within 2s\n\
                     netkit: late answer from {target} to datagram 1, \"a\": \"to a\\u{{1b}}\"\n"
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
        fn a_late_answer_to_the_last_is_waited_for_as_long_again() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", "-W", "2", &target, "a"])
                .code(1)
                .start();
            let source = expect(&server, "a");
            client.expect_line("netkit: could not get an answer to datagram 1, \"a\" from {*}");
            send(&server, "to a", source);
            client.expect_line("netkit: late answer from {*} to datagram 1, \"a\": \"to a\"");
            client.finish();
        }

        #[test]
        fn a_late_answer_is_reported_while_there_is_nothing_to_send() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", "-W", "0.1", &target])
                .stdin_open()
                .code(1)
                .start();
            client.send("a\n");
            let source = expect(&server, "a");
            client.expect_line("netkit: could not get an answer to datagram 1, \"a\" from {*}");
            send(&server, "to a", source);
            client.expect_line(&format!(
                "netkit: late answer from {target} to datagram 1, \"a\": \"to a\""
            ));
            client.close_input();
            client.finish();
        }

        #[test]
        fn a_server_that_talks_only_to_the_first_port_is_told_from_a_closed_one() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", "-W", "2", &target])
                .stdin_open()
                .code(1)
                .start();
            client.send("a\n");
            server.connect(expect(&server, "a")).unwrap();
            client.expect_line("netkit: could not get an answer to datagram 1, \"a\" from {*}");
            client.send("b\n");
            client.expect_line(&format!(
                "netkit: could not get an answer to datagram 2, \"b\" from {target}: connection \
                 refused (if it talks only to the first port that it hears from, --source-port N \
                 keeps one)"
            ));
            client.close_input();
            client.finish();
        }

        /// One with a port of its own, that waits two seconds for each answer.
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
                    "netkit: could not get an answer to datagram 1, \"Michael\" from {target}: \
                     nothing came within 2s\n\
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
        fn with_a_given_port_an_answer_that_tells_nothing_is_doubtful_and_not_printed() {
            let server = mailbox();
            let target = address(&server);
            let port = ReservedPort::udp();
            let client = client_from(&port, &[&target, "date", "time", "year"])
                .stdout("2026\n")
                .stderr(format!(
                    "netkit: could not get an answer to datagram 1, \"date\" from {target}: \
                     nothing came within 2s\n\
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
            // Now everything has come, and there is no doubt any more.
            assert_eq!(expect(&server, "year"), source);
            send(&server, "2026", source);
            client.finish();
        }

        #[test]
        fn with_a_given_port_one_doubtful_answer_is_waited_on_after() {
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
            let client = netkit(["udp-client", &target, "a", "b"])
                .stdout("1\n1 again\n")
                .stderr(format!(
                    "netkit: unexpected datagram from {target}: \"2\"\n\
                     netkit: {target} sends more than it is asked for: answers up to datagram 2 \
                     may belong to the one before\n"
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
        fn what_answers_twice_gets_each_datagram_from_another_port() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", &target, "a", "b"])
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
        fn each_datagram_to_a_group_is_sent_from_a_port_of_its_own() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", "--broadcast", &target, "a", "b"])
                .stdout("1\n2\n")
                .stderr(format!(
                    "netkit: unexpected datagram from {target}: \"1 of another member\"\n"
                ))
                .start();
            let source = expect(&server, "a");
            send(&server, "1", source);
            let other = expect(&server, "b");
            assert_ne!(other, source);
            send(&server, "1 of another member", source);
            send(&server, "2", other);
            client.finish();
        }

        #[test]
        fn an_answer_that_turns_out_to_be_in_doubt_is_an_error() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", &target]).stdin_open().code(1).start();
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
        fn an_answer_that_comes_twice_is_taken_once() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit(["udp-client", &target, "a", "b", "c"])
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
        fn an_answer_to_each_of_two_attempts_is_one_answer() {
            let server = mailbox();
            let target = address(&server);
            let client = netkit([
                "udp-client",
                "-W",
                "0.5",
                "--retries",
                "9",
                &target,
                "a",
                "b",
            ])
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
        fn what_nobody_asked_for_is_reported_and_not_printed() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", &target]).stdin_open().start();
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
    }

    mod sending_only {
        use super::*;

        #[test]
        fn nothing_is_waited_for_and_nothing_is_printed() {
            let server = mailbox();
            let mut client = netkit(["udp-client", "--no-wait", &address(&server)])
                .stdin_open()
                .start();
            client.send("a\n");
            let source = expect(&server, "a");
            send(&server, "ignored", source);
            client.send("\nb");
            assert_eq!(expect(&server, ""), source);
            client.close_input();
            assert_eq!(expect(&server, "b"), source);
            client.finish();
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn a_hundred_thousand_lines_arrive_in_order() {
            let server = mailbox();
            let target = address(&server);
            let sink = crate::harness::spawn(move || {
                for line in 1..=100_000 {
                    expect(&server, line.to_string());
                }
            });
            let lines: Vec<String> = (1..=100_000).map(|line| line.to_string()).collect();
            netkit(["udp-client", "--no-wait", &target])
                .stdin(lines.join("\n"))
                .within(DEADLINE * 3)
                .run();
            sink.join().unwrap();
        }

        /// As many lines as no queue of a socket has room for, and their sender.
        #[cfg(target_os = "linux")]
        fn a_flood(target: &str, code: i32) -> crate::harness::Process {
            let lines: Vec<String> = (1..=5000).map(|line| line.to_string()).collect();
            let client = netkit(["udp-client", "-vv", "--no-wait", target]);
            let client = client
                .stdin(lines.join("\n"))
                .any_stderr()
                .code(code)
                .start();
            client.wait_for_line(&format!(
                "{{*}}waiting for {target} to take what it was sent{{*}}"
            ));
            client
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn a_receiver_that_is_busy_is_waited_for() {
            let server = mailbox();
            let client = a_flood(&address(&server), 0);
            for line in 1..=5000 {
                assert_eq!(receive(&server).0, line.to_string().as_bytes());
            }
            client.finish();
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn what_a_receiver_has_no_room_for_is_counted() {
            let server = mailbox();
            let target = address(&server);
            let client = a_flood(&target, 1).finish();
            server.set_nonblocking(true).unwrap();
            let received = std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
            let lost = format!(
                "could not deliver all datagrams to {target}: its queue was full, and {} of all that came were \
                 lost",
                5000 - received
            );
            assert!(client.stderr.contains(&lost), "{client:?}");
        }

        #[test]
        fn what_could_not_be_sent_is_named() {
            let closed = closed_port();
            let target = address(&closed);
            netkit(["udp-client", "--no-wait", &target, "a", "b"])
                .stderr(format!(
                    "netkit: could not send datagram 1, \"a\" to {target}: connection refused\n\
                     netkit: could not send datagram 2, \"b\" to {target}: connection refused\n"
                ))
                .code(1)
                .run();
        }

        #[test]
        fn a_closed_output_does_not_matter() {
            let server = mailbox();
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            netkit(["udp-client", "--no-wait", &address(&server), "a"])
                .stdout_to(writer)
                .run();
            expect(&server, "a");
        }
    }

    mod sizes {
        use super::*;

        const TOO_LARGE: &str = "datagram 1, \"xxxxxxxxxxxxxxxx...\"";

        #[test]
        fn all_of_input_is_one_datagram() {
            let server = udp_server(["--service", "echo"]).listen();
            let ask = |input: &[u8]| {
                netkit(["udp-client", "--whole", &server.address()])
                    .stdin(input)
                    .stdout([input, b"\n"].concat())
                    .run();
            };
            ask(b"");
            ask(b"a\nb\n");
            ask(&vec![b'x'; 65_507]);
        }

        #[test]
        fn input_is_cut_by_size() {
            let server = udp_server([]).listen();
            netkit(["udp-client", "--chunk", "2", &server.address()])
                .stdin("a\nbcd")
                .stdout("Hello, a\n!\nHello, bc!\nHello, d!\n")
                .run();
        }

        #[test]
        fn the_largest_datagram_over_ipv6_is_larger() {
            let server = udp_server(["-b", "::1", "--service", "echo"]).listen();
            let mut lines = vec![b'x'; 65_527];
            lines.push(b'\n');
            netkit(["udp-client", &server.address()])
                .stdin(&lines)
                .stdout(&lines)
                .run();
            lines.insert(0, b'x');
            netkit(["udp-client", &server.address()])
                .stdin(&lines)
                .stderr(format!(
                    "netkit: could not send {TOO_LARGE} to {}: it has 65528 bytes, and a datagram \
                     over IPv6 carries 65527 at most\n",
                    server.address()
                ))
                .code(2)
                .run();
        }

        #[test]
        fn what_is_too_large_is_an_error_and_the_others_are_still_sent() {
            let server = udp_server([]).listen();
            netkit(["udp-client", &server.address()])
                .stdin([vec![b'x'; 65_508].as_slice(), b"\nsmall"].concat())
                .stdout("Hello, small!\n")
                .stderr(format!(
                    "netkit: could not send {TOO_LARGE} to {}: it has 65508 bytes, and a datagram \
                     over IPv4 carries 65507 at most\n",
                    server.address()
                ))
                .code(2)
                .run();
        }

        #[test]
        fn what_is_too_large_costs_no_memory() {
            let server = mailbox();
            let target = address(&server);
            netkit(["udp-client", &target])
                .through(
                    "ulimit -v 100000; head -c 300000000 /dev/zero | tr '\\0' x | \"$0\" \"$@\"",
                )
                .stderr(format!(
                    "netkit: could not send {TOO_LARGE} to {target}: it has 300000000 bytes, and a \
                     datagram over IPv4 carries 65507 at most\n"
                ))
                .code(2)
                .run();
        }

        #[test]
        fn input_is_not_cut_where_it_is_not_read() {
            netkit(["udp-client", "--whole", "127.0.0.1:9", "data"])
                .stderr(
                    "netkit: --whole and --chunk cut standard input, which is not read when DATA \
                     is given\n",
                )
                .code(2)
                .run();
        }

        #[test]
        fn a_chunk_has_to_fit_into_a_datagram() {
            netkit(["udp-client", "--chunk", "64k", "127.0.0.1:9"])
                .stderr(
                    "netkit: invalid value '64k' for '--chunk <SIZE>': '64k' is more than a \
                     datagram carries: 65507 bytes over IPv4, 65527 over IPv6; \
                     see 'netkit udp-client --help'\n",
                )
                .code(2)
                .run();
        }
    }

    mod output {
        use super::*;

        #[test]
        fn a_reader_that_has_left_ends_the_client_quietly() {
            let server = udp_server([]).listen();
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            netkit(["udp-client", &server.address(), "a", "b"])
                .stdout_to(writer)
                .code(141)
                .run();
        }

        #[test]
        fn a_reader_that_leaves_ends_a_client_that_waits_for_input() {
            let server = mailbox();
            let (reader, writer) = std::io::pipe().unwrap();
            let client = netkit(["udp-client", &address(&server)])
                .stdin_open()
                .stdout_to(writer)
                .code(141)
                .start();
            client.send("a\n");
            send(&server, "answer", expect(&server, "a"));
            drop(reader);
            client.finish();
        }

        #[test]
        fn a_full_disk_is_an_error() {
            let server = udp_server([]).listen();
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            netkit(["udp-client", &server.address(), "a", "b"])
                .stdout_to(full)
                .stderr("netkit: could not write standard output: no space left on device\n")
                .code(2)
                .run();
        }

        #[test]
        fn a_terminal_is_shown_no_control_characters_save_with_raw() {
            let server = udp_server(["--service", "echo"]).listen();
            let mut terminal = Terminal::open();
            let text = "\x1b[31mred";
            netkit(["udp-client", &server.address(), text])
                .stdout_to(terminal.device())
                .run();
            terminal.expect("\\x1b[31mred\n");
            netkit(["udp-client", "--raw", &server.address(), text])
                .stdout_to(terminal.device())
                .run();
            terminal.expect("\x1b[31mred\n");
            terminal.finish();
        }
    }

    mod events {
        use super::*;

        #[test]
        fn everything_that_happens_is_an_object_a_line() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", "--json", "-W", "2", &target, "a", "b"])
                .any_stderr()
                .code(1)
                .start();
            client.receive_line(&format!(r#"{{"event":"start","v":1,"target":"{target}"}}"#));
            let first = expect(&server, "a");
            client.receive_line(&format!(
                r#"{{"event":"unanswered","number":1,"message":"{target}: nothing came within 2s"}}"#
            ));
            let second = expect(&server, "b");
            send(&server, "late", first);
            client.receive_line(&format!(
                r#"{{"event":"late","number":1,"address":"{target}","bytes":4,"text":"late"}}"#
            ));
            send(&server, b"\xff\0", second);
            client.receive_line(&format!(
                r#"{{"event":"answer","number":2,"address":"{target}","bytes":2,"rtt_ms":{{N}},"hex":"ff00"}}"#
            ));
            client.receive_line(r#"{"event":"summary","sent":2,"answered":1,"unanswered":1}"#);
            client.finish();
        }

        #[test]
        fn a_person_who_ends_it_gets_the_summary_too() {
            let server = mailbox();
            let mut client = netkit(["udp-client", "--json", "-W", "1h", &address(&server)])
                .stdin_open()
                .killed_by(Signal::INT)
                .start();
            client.receive_line(r#"{"event":"start",{*}"#);
            client.send("a\n");
            send(&server, "answer", expect(&server, "a"));
            client.receive_line(r#"{"event":"answer",{*}"#);
            client.send("b\n");
            expect(&server, "b");
            client.signal(Signal::INT);
            client.receive_line(r#"{"event":"summary","sent":2,"answered":1,"unanswered":1}"#);
            client.finish();
        }

        #[test]
        fn a_full_disk_is_an_error() {
            let server = udp_server([]).listen();
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            netkit(["udp-client", "--json", &server.address(), "a"])
                .stdout_to(full)
                .stderr("netkit: could not write standard output: no space left on device\n")
                .code(2)
                .run();
        }

        #[test]
        fn what_would_do_nothing_is_refused() {
            for option in ["--no-wait", "--raw"] {
                netkit(["udp-client", "--json", option, "127.0.0.1:9", "x"])
                    .stderr(format!(
                        "netkit: the argument '--json' cannot be used with '{option}'; \
                         see 'netkit udp-client --help'\n"
                    ))
                    .code(2)
                    .run();
            }
        }
    }

    mod relay {
        use super::*;

        fn relay(target: &str) -> crate::harness::Program {
            netkit(["udp-client", "--relay", "--wait-after-eof", "0.2", target])
        }

        #[test]
        fn input_becomes_datagrams_while_whatever_arrives_is_printed() {
            let server = mailbox();
            let mut client = relay(&address(&server)).stdin_open().start();
            client.send("one\n");
            let source = expect(&server, "one\n");
            send(&server, b"\xff\0", source);
            send(&server, "", source);
            send(&server, "unasked", source);
            client.receive(b"\xff\0unasked");
            client.send("two");
            assert_eq!(expect(&server, "two"), source);
            client.close_input();
            client.finish();
        }

        #[test]
        fn what_comes_after_the_end_of_input_is_printed() {
            let server = mailbox();
            let target = address(&server);
            let mut client = netkit(["udp-client", "--relay", &target])
                .stdin("x")
                .start();
            let source = expect(&server, "x");
            send(&server, "late", source);
            client.receive("late");
            client.finish();
        }

        #[test]
        fn a_large_input_is_cut_into_what_fits() {
            let server = udp_server(["--service", "echo"]).listen();
            let input = crate::harness::random_bytes(100_000);
            relay(&server.address()).stdin(&input).stdout(&input).run();
        }

        #[test]
        fn a_closed_port_is_said_once_and_in_the_exit_code() {
            let closed = closed_port();
            let target = address(&closed);
            let mut client = relay(&target).stdin_open().code(1).start();
            client.send("a");
            client.expect_line(&format!(
                "netkit: could not send to {target}: connection refused"
            ));
            client.send("b");
            client.close_input();
            client.finish();
        }

        #[test]
        fn a_name_is_tried_at_all_its_addresses() {
            // localhost may be ::1 first, where nobody listens.
            let server = udp_server([]).listen();
            relay(&format!(":{}", server.port()))
                .stdin("a")
                .stdout("Hello, a!")
                .run();
        }

        #[test]
        fn a_terminal_is_shown_no_control_characters() {
            let server = udp_server(["--service", "echo"]).listen();
            let mut terminal = Terminal::open();
            relay(&server.address())
                .stdin("\x1b[31mred\n")
                .stdout_to(terminal.device())
                .run();
            terminal.expect("\\x1b[31mred\n");
            terminal.finish();
        }

        #[test]
        fn a_reader_that_leaves_ends_it() {
            let server = mailbox();
            let (reader, writer) = std::io::pipe().unwrap();
            let client = relay(&address(&server))
                .stdin_open()
                .stdout_to(writer)
                .code(141)
                .start();
            client.send("a");
            expect(&server, "a");
            drop(reader);
            client.finish();
        }

        #[test]
        fn input_is_all_that_is_sent() {
            netkit(["udp-client", "--relay", "127.0.0.1:9", "x"])
                .stderr("netkit: could not send DATA: --relay sends standard input\n")
                .code(2)
                .run();
        }
    }

    mod check {
        use super::*;

        #[test]
        fn a_port_that_answers_is_open() {
            let server = udp_server([]).listen();
            let (target, port) = (server.address(), server.port());
            netkit(["udp-client", "-z", &target])
                .stdout(format!("{target} open, {{N}} ms\n"))
                .run();
            netkit(["udp-client", "-z", &format!(":{port}")])
                .stdout(format!("localhost:{port} (127.0.0.1) open, {{N}} ms\n"))
                .run();
        }

        #[test]
        fn a_port_that_is_unreachable_is_closed() {
            let closed = closed_port();
            let target = address(&closed);
            let client = netkit(["udp-client", "-z", "-W", "1h", &target])
                .stdout(format!("{target} closed, {{N}} ms\n"))
                .code(1)
                .run();
            assert!(client.took < DEADLINE / 2);
        }

        #[test]
        fn a_silent_port_is_one_or_the_other() {
            let silent = mailbox();
            let target = address(&silent);
            netkit(["udp-client", "-z", "-W", "0.2", &target])
                .stdout(format!("{target} open|filtered\n"))
                .run();
            expect(&silent, "");
            expect_nothing(&silent);
        }

        #[test]
        fn it_can_be_an_event() {
            let closed = closed_port();
            let port = closed.local_addr().unwrap().port();
            netkit(["udp-client", "-z", "--json", &address(&closed)])
                .stdout(format!(
                    "{{\"event\":\"start\",\"v\":1,\"target\":\"127.0.0.1:{port}\"}}\n\
                     {{\"event\":\"closed\",\"address\":\"127.0.0.1\",\"port\":{port},\"rtt_ms\":{{N}}}}\n"
                ))
                .code(1)
                .run();
        }
    }

    mod dump {
        use super::*;
        use crate::harness::temporary_folder;

        #[test]
        fn datagrams_of_both_directions_are_dumped() {
            let server = udp_server([]).listen();
            netkit(["udp-client", "-x", &server.address(), "a", ""])
                .stdout("Hello, a!\nHello, !\n")
                .stderr(
                    "> {*}Z 00000000: 61                                       a\n\
                     < {*}Z 00000000: 4865 6c6c 6f2c 2061 21                   Hello, a!\n\
                     > {*}Z 00000001:\n\
                     < {*}Z 00000009: 4865 6c6c 6f2c 2021                      Hello, !\n",
                )
                .run();
        }

        #[test]
        fn a_relay_is_recorded() {
            let server = udp_server(["--service", "echo"]).listen();
            let folder = temporary_folder();
            netkit([
                "udp-client",
                "--relay",
                "--wait-after-eof",
                "0.2",
                "--record",
                "all",
            ])
            .arg(server.address())
            .current_dir(folder.path())
            .stdin("abc")
            .stdout("abc")
            .run();
            assert_eq!(std::fs::read(folder.path().join("all")).unwrap(), b"abcabc");
        }

        #[test]
        fn a_dump_is_no_part_of_standard_output() {
            for option in ["--hex-dump", "--record"] {
                let folder = temporary_folder();
                let client = netkit(["udp-client", option, "-", "127.0.0.1:9", "x"])
                    .current_dir(folder.path())
                    .any_stderr()
                    .code(2)
                    .run();
                let reason = "standard output is for what the peer sends; -x without FILE dumps to \
                    standard error, and ./- is a file of that name; \
                    see 'netkit udp-client --help'\n";
                assert!(client.stderr.ends_with(reason), "{client:?}");
                assert!(!folder.path().join("-").exists());
            }
        }

        #[test]
        fn a_dump_that_cannot_be_written_is_an_error() {
            let server = udp_server([]).listen();
            netkit(["udp-client", "-x", "/dev/full", &server.address(), "a"])
                .stderr("netkit: could not write the dump or the record: no space left on device\n")
                .code(2)
                .run();
        }
    }

    mod groups {
        use super::*;

        #[test]
        fn options_that_do_not_suit_the_address_are_refused() {
            for (words, what) in [
                ("--broadcast", "--broadcast: ::1 is no broadcast address"),
                (
                    "--multicast-ttl 3",
                    "--multicast-ttl 3: ::1 is no multicast address",
                ),
                (
                    "--multicast-interface lo",
                    "--multicast-interface lo: ::1 is no multicast address",
                ),
                (
                    "--no-multicast-loop",
                    "--no-multicast-loop: ::1 is no multicast address",
                ),
            ] {
                let words = words.split(' ').chain(["[::1]:9", "x"]);
                netkit(["udp-client"].into_iter().chain(words))
                    .stderr(format!("netkit: could not send to [::1]:9: {what}\n"))
                    .code(2)
                    .run();
            }
        }
    }

    mod usage {
        use super::*;

        #[test]
        fn what_would_do_nothing_is_refused() {
            for words in [
                "--relay --json",
                "--relay --ping",
                "--relay -W 1",
                "--relay --whole",
                "--relay -z",
                "--relay --no-wait",
                "--wait-after-eof 1",
                "-z -c 1",
                "-z --raw",
                "-z --retries 1",
                "-z --chunk 1",
            ] {
                let words = words.split(' ').chain(["127.0.0.1:9"]);
                let client = netkit(["udp-client"].into_iter().chain(words))
                    .any_stderr()
                    .code(2)
                    .run();
                let advice = "see 'netkit udp-client --help'\n";
                assert!(client.stderr.ends_with(advice), "{client:?}");
            }
        }

        #[test]
        fn what_is_wrong_is_said_with_what_would_be_right() {
            let usage = "; see 'netkit udp-client --help'";
            for (words, message) in [
                (
                    "-w 5 127.0.0.1:9",
                    format!(
                        "an option that only a ping takes was given without --ping, -c or -i{usage}"
                    ),
                ),
                (
                    "-c 1 127.0.0.1:9 x",
                    "could not send DATA: a ping, which -c and -i imply, sends probes of its own"
                        .to_owned(),
                ),
                (
                    "-W -1 127.0.0.1:9 x",
                    format!(
                        "invalid value '-1' for '--timeout <TIME>': '-1' is not a duration; write \
                         seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h){usage}"
                    ),
                ),
                (
                    "--chunk -0.5 127.0.0.1:9",
                    format!(
                        "invalid value '-0.5' for '--chunk <SIZE>': '-0.5' is not a size; write \
                         bytes (512) or k, M, G (64k, 4M, 1G; powers of 1024){usage}"
                    ),
                ),
                (
                    "[fe80::1]:9 x",
                    "could not send to [fe80::1]:9: a link-local address needs its interface: \
                     write [fe80::1%eth0]:9"
                        .to_owned(),
                ),
            ] {
                netkit(["udp-client"].into_iter().chain(words.split(' ')))
                    .stderr(format!("netkit: {message}\n"))
                    .code(2)
                    .run();
            }
        }

        #[test]
        fn the_short_help_fits_on_a_screen() {
            let help = netkit(["udp-client", "-h"]).any_stdout().run();
            let lines = String::from_utf8(help.stdout).unwrap().lines().count();
            assert!(lines <= 40, "{lines}");
        }

        #[test]
        fn a_source_that_is_not_ours_is_an_error_that_names_the_option() {
            netkit(["udp-client", "--source", "192.0.2.1", "127.0.0.1:9", "x"])
                .stderr(
                    "netkit: could not send to 127.0.0.1:9: --source 192.0.2.1: cannot assign \
                     requested address\n",
                )
                .code(2)
                .run();
        }

        #[test]
        fn a_source_of_the_other_family_is_an_error() {
            netkit(["udp-client", "--source", "::1", "127.0.0.1:9", "x"])
                .stderr(
                    "netkit: could not send to 127.0.0.1:9: it has no address of the family of \
                     --source\n",
                )
                .code(2)
                .run();
        }

        #[test]
        fn a_source_address_is_sent_from() {
            let server = mailbox();
            let arguments = [
                "udp-client",
                "--source",
                "127.0.0.1",
                &address(&server),
                "x",
            ];
            let client = netkit(arguments).stdout("y\n").start();
            send(&server, "y", expect(&server, "x"));
            client.finish();
        }

        #[test]
        fn sending_only_has_no_time_limit() {
            netkit(["udp-client", "--no-wait", "-W", "2", "127.0.0.1:9"])
                .stderr(
                    "netkit: the argument '--no-wait' cannot be used with '--timeout <TIME>'; \
                     see 'netkit udp-client --help'\n",
                )
                .code(2)
                .run();
        }

        #[test]
        fn input_that_cannot_be_read_is_an_error() {
            let folder = std::fs::File::open("/").unwrap();
            netkit(["udp-client", "127.0.0.1:9"])
                .stdin_from(folder)
                .stderr("netkit: could not read standard input: is a directory\n")
                .code(2)
                .run();
        }
    }
}

pub mod server {
    use super::*;

    /// Sends `payload` from a socket of its own, and returns the answer.
    #[track_caller]
    pub fn ask(server: &Server, payload: impl AsRef<[u8]>) -> Vec<u8> {
        ask_from(&mailbox(), server, payload)
    }

    #[track_caller]
    pub fn ask_from(socket: &UdpSocket, server: &Server, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let target: SocketAddr = server.address().parse().unwrap();
        send(socket, payload, target);
        let (answer, source) = receive(socket);
        assert_eq!(source, target);
        answer
    }

    #[test]
    fn a_datagram_is_greeted_and_logged() {
        let server = udp_server([]);
        let client = mailbox();
        let server = server
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\n\
                 Bind UDP on 127.0.0.1:{{N}}...\n\
                 Received from {0}.\nReceived from {0}.\nReceived from {0}.\n",
                address(&client)
            ))
            .listen();
        assert_eq!(ask_from(&client, &server, "Michael"), b"Hello, Michael!");
        assert_eq!(ask_from(&client, &server, ""), b"Hello, !");
        let binary = b"\0\xff\n\x1b";
        let answer = [b"Hello, ", binary.as_slice(), b"!"].concat();
        assert_eq!(ask_from(&client, &server, binary), answer);
        server.stop();
    }

    #[test]
    fn the_port_is_printed_if_asked_for() {
        let mut server = udp_server(["--print-port"]).start();
        let port = server.receive_line("{N}");
        server.expect_line(&format!("Listening on 127.0.0.1:{port}"));
    }

    #[test]
    fn echo_sends_back_what_comes() {
        let server = udp_server(["--service", "echo"]).listen();
        assert_eq!(ask(&server, "Michael"), b"Michael");
        assert_eq!(ask(&server, ""), b"");
        let largest = vec![b'x'; 65_507];
        assert!(ask(&server, &largest) == largest);
    }

    #[test]
    fn discard_answers_nothing() {
        let client = mailbox();
        let server = udp_server(["--service", "discard"])
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\n\
                 Bind UDP on 127.0.0.1:{{N}}...\n\
                 Received from {}.\n",
                address(&client)
            ))
            .listen();
        send(&client, "Michael", server.address().parse().unwrap());
        server.wait_for_line("Received from {*}");
        server.stop();
        expect_nothing(&client);
    }

    #[test]
    fn an_unknown_service_is_refused_with_the_known_ones() {
        netkit(["udp-server", "-p", "0", "--service", "chargen"])
            .stderr(
                "netkit: invalid value 'chargen' for '--service <NAME>' [possible values: hello, \
                 echo, discard, stdio]; see 'netkit udp-server --help'\n",
            )
            .code(2)
            .run();
    }

    #[test]
    fn datagrams_are_received_whole_and_one_too_large_to_greet_is_logged() {
        let client = mailbox();
        let source = address(&client);
        let server = udp_server([])
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\n\
                 Bind UDP on 127.0.0.1:{{N}}...\n\
                 Received from {source}.\n\
                 Received from {source}.\n\
                 netkit: no answer to a datagram from {source}: the answer does not fit into a \
                 datagram\n\
                 Received from {source}.\n\
                 Received from {source}.\n\
                 netkit: no answer to 2 datagrams in all: the answer does not fit into a datagram\n"
            ))
            .listen();
        let answer = ask_from(&client, &server, vec![b'x'; 65_499]);
        assert_eq!(answer.len(), 65_507);
        let target = server.address().parse().unwrap();
        send(&client, vec![b'x'; 65_500], target);
        send(&client, vec![b'x'; 65_507], target);
        assert_eq!(ask_from(&client, &server, "x"), b"Hello, x!");
        server.stop();
    }

    #[test]
    fn it_listens_on_all_addresses_that_are_given() {
        let server = udp_server(["-b", "127.0.0.1", "-b", "::1"]).listen();
        for address in server.addresses(2) {
            netkit(["udp-client", &address.to_string(), "a"])
                .stdout("Hello, a!\n")
                .run();
        }
        let logged = server.wait_for_lines("Bind UDP on {*}...", 2);
        assert!(logged[1].starts_with("Bind UDP on [::1]:"), "{logged:?}");
    }

    #[test]
    fn a_greeting_eight_deep_is_not_answered_and_that_is_logged_once() {
        let client = mailbox();
        let source = address(&client);
        let server = udp_server([])
            .stderr(format!(
                "Listening on 127.0.0.1:{{N}}\n\
                 Bind UDP on 127.0.0.1:{{N}}...\n\
                 netkit: no answer to a datagram from {source}: it is a greeting of a greeting, 8 \
                 deep: two servers answering each other\n\
                 Received from {source}.\n\
                 netkit: no answer to 3 datagrams in all: it is a greeting of a greeting, 8 deep: \
                 two servers answering each other\n"
            ))
            .listen();
        let target = server.address().parse().unwrap();
        for depth in [8, 9, 50] {
            send(&client, greeting(depth), target);
        }
        assert_eq!(ask_from(&client, &server, greeting(7)), greeting(8));
        server.stop();
    }

    #[test]
    fn a_client_that_is_quick_for_long_is_answered_as_at_first() {
        for service in ["hello", "echo"] {
            let client = mailbox();
            let server = udp_server(["--service", service]).listen();
            for number in 0..2000 {
                let payload = number.to_string();
                let answer = match service {
                    "hello" => format!("Hello, {payload}!"),
                    _ => payload.clone(),
                };
                assert_eq!(ask_from(&client, &server, payload), answer.as_bytes());
            }
            server.stop();
        }
    }

    #[test]
    fn what_has_arrived_before_the_signal_is_answered() {
        for signal in [Signal::INT, Signal::TERM] {
            let server = udp_server([]).listen();
            let target = server.address().parse().unwrap();
            let client = mailbox();
            server.signal(Signal::STOP);
            server.wait_until_stopped();
            for payload in ["a", "b", "c"] {
                send(&client, payload, target);
            }
            server.signal(signal);
            server.signal(Signal::CONT);
            for answer in ["Hello, a!", "Hello, b!", "Hello, c!"] {
                expect(&client, answer);
            }
            server.finish();
        }
    }

    #[test]
    fn a_closed_standard_error_does_not_matter() {
        let mut server = udp_server(["--print-port"])
            .through("exec \"$0\" \"$@\" 2>&-")
            .start();
        let port = server.receive_line("{N}");
        netkit(["udp-client", &format!("127.0.0.1:{port}"), "a"])
            .stdout("Hello, a!\n")
            .run();
        server.signal(Signal::TERM);
        server.finish();
    }

    #[test]
    fn a_log_line_can_be_an_object() {
        let client = mailbox();
        let server = udp_server(["--log-format", "json"]).start();
        let line = server.wait_for_line("{*}Listening on {*}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let target = line["address"].as_str().unwrap().parse().unwrap();
        send(&client, "four", target);
        let line = server.wait_for_line("{*}Received from {*}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"], "datagram");
        assert_eq!(line["peer"], address(&client));
        assert_eq!(line["bytes"], 4);
        assert_eq!(line["level"], "INFO");
    }
}

mod interop {
    use super::*;
    use crate::harness::{peer, python_udp_server, udp_clients, udp_echoes};

    /// The client of the tutorial that the protocol is from; only the port is another.
    const PYTHON_CLIENT: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for data in [b'Michael', b'Tracy', b'Sarah']:
    s.sendto(data, ('127.0.0.1', int(sys.argv[1])))
    print(s.recv(1024).decode('utf-8'))
s.close()
";

    #[test]
    fn python_answers_the_client() {
        if let Some((_server, address)) = python_udp_server() {
            netkit(["udp-client", &address])
                .stdin("Michael\nTracy\nSarah\n")
                .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
                .run();
        }
    }

    #[test]
    fn python_is_answered_by_the_server() {
        let server = udp_server([]).listen();
        let port = server.port().to_string();
        if let Some(client) = peer("python3", ["-c", PYTHON_CLIENT, &port]) {
            client
                .stdout("Hello, Michael!\nHello, Tracy!\nHello, Sarah!\n")
                .run();
        }
    }

    #[test]
    fn clients_of_others_are_answered() {
        let server = udp_server([]).listen();
        for mut client in udp_clients(server.port()) {
            client.send("Michael");
            client.receive("Hello, Michael!");
        }
    }

    #[test]
    fn servers_of_others_answer_the_client() {
        for (_server, port) in udp_echoes() {
            netkit(["udp-client", "-W", "10", "127.0.0.1", &port.text()])
                .stdin("Michael\nTracy\n")
                .stdout("Michael\nTracy\n")
                .run();
        }
    }

    #[test]
    fn a_person_at_netcat_is_talked_to() {
        let Some(server) = peer("nc", ["-l", "-u", "-v", "127.0.0.1", "0"]) else {
            return;
        };
        let mut server = server.stdin_open().start();
        let line = server.wait_for_line("Bound on {*} {N}");
        let port = line.rsplit_once(' ').unwrap().1;
        let client = netkit([
            "udp-client",
            "-W",
            "10",
            "127.0.0.1",
            port,
            "Michael",
            "Tracy",
        ])
        .stdout("one\n\ntwo\n\n")
        .start();
        server.receive("Michael");
        server.send("one\n");
        server.receive("Tracy");
        server.send("two\n");
        client.finish();
    }
}

#[cfg(target_os = "linux")]
pub use privileged::forge;

mod privileged {
    use std::net::SocketAddrV4;

    use socket2::{Domain, Protocol, Socket, Type};

    use super::*;
    use crate::harness::temporary_folder;

    /// Sends a datagram from an address that is not ours; as only root can.
    pub fn forge(source: &str, target: &str, payload: &[u8]) {
        let source: SocketAddrV4 = source.parse().unwrap();
        let target: SocketAddrV4 = target.parse().unwrap();
        let length = |headers: usize| {
            u16::try_from(headers + payload.len())
                .unwrap()
                .to_be_bytes()
        };
        let mut packet = vec![0x45, 0];
        packet.extend(length(28));
        // No fragments, time to live 64, UDP; the system fills in the checksum.
        packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
        packet.extend(source.ip().octets());
        packet.extend(target.ip().octets());
        packet.extend(source.port().to_be_bytes());
        packet.extend(target.port().to_be_bytes());
        packet.extend(length(8));
        // RFC 768: no checksum.
        packet.extend([0, 0]);
        packet.extend(payload);
        // IPPROTO_RAW: the header is included (raw(7)).
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        let to = SocketAddrV4::new(*target.ip(), 0);
        socket.send_to(&packet, &to.into()).unwrap();
    }

    /// What `server` has received by the time that it answers an ordinary client.
    #[track_caller]
    fn received(server: &Server) -> Vec<String> {
        let client = mailbox();
        send(&client, "ordinary", server.address().parse().unwrap());
        expect(&client, "Hello, ordinary!");
        let ordinary = format!("Received from {}.", address(&client));
        // Its answer may be here before what it wrote.
        server.wait_for_line(&ordinary);
        let log = server.log();
        log.lines()
            .filter(|line| line.starts_with("Received from") && *line != ordinary)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn a_forged_datagram_from_the_servers_own_address_is_not_answered() {
        for bind in ["127.0.0.1", "0.0.0.0"] {
            let server = udp_server(["-b", bind]).listen();
            let own = format!("127.0.0.1:{}", server.port());
            forge(&own, &own, b"x");
            let client = mailbox();
            send(&client, "ordinary", own.parse().unwrap());
            expect(&client, "Hello, ordinary!");
            let log = server.stop().stderr;
            let refused = format!(
                "netkit: no answer to a datagram from {own}: the source is this server's own \
                 address\n"
            );
            assert!(log.contains(&refused), "{log}");
            assert_eq!(log.matches("Received from").count(), 1, "{log}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn two_servers_that_are_set_on_each_other_stop() {
        let one = udp_server([]).listen();
        let other = udp_server([]).listen();
        forge(&other.address(), &one.address(), b"x");
        one.wait_for_line("netkit: no answer to a datagram from {*}8 deep{*}");
        assert_eq!(received(&one).len() + received(&other).len(), 8);
    }

    #[test]
    #[ignore = "needs root"]
    fn sources_that_are_no_ordinary_client_are_not_answered() {
        let server = udp_server([]).listen();
        let target = server.address();
        for source in [
            "127.0.0.1:0",
            "127.0.0.1:7",
            "127.0.0.1:1023",
            "224.0.0.1:5000",
        ] {
            forge(source, &target, b"x");
        }
        assert!(received(&server).is_empty());
        let log = server.stop().stderr;
        assert!(log.contains(": the source port is below 1024\n"), "{log}");
        assert!(
            log.contains(": the source is a multicast, broadcast or"),
            "{log}"
        );
        assert!(
            log.contains("no answer to 3 datagrams in all: the source port"),
            "{log}"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn a_source_is_served_as_often_as_it_may_be() {
        let server = udp_server(["--rate-limit", "1"]).listen();
        for _ in 0..20 {
            forge("198.51.100.7:5000", &server.address(), b"x");
        }
        forge("198.51.100.8:5000", &server.address(), b"x");
        let lines = received(&server);
        let of = |source: &str| lines.iter().filter(|line| line.contains(source)).count();
        // A second may have passed.
        assert!((1..20).contains(&of("198.51.100.7")), "{lines:?}");
        assert_eq!(of("198.51.100.8"), 1);
        let log = server.stop().stderr;
        assert!(log.contains(": the source is over --rate-limit\n"), "{log}");
    }

    /// netkit in a world where `both` is the loopback address of both families.
    fn with_two_addresses(arguments: &[&str]) -> crate::harness::Program {
        const SCRIPT: &str = "\
            unshare --mount bash -c 'mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
        netkit(arguments).through(SCRIPT)
    }

    #[test]
    #[ignore = "needs root"]
    fn a_name_with_two_addresses_is_asked_at_both() {
        let folder = temporary_folder();
        std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
        let server = udp_server([]).listen();
        let target = format!("both:{}", server.port());
        with_two_addresses(&["udp-client", &target, "a", "b"])
            .current_dir(folder.path())
            .stdout("Hello, a!\nHello, b!\n")
            .run();
        with_two_addresses(&["udp-client", "--no-wait", &target, "c"])
            .current_dir(folder.path())
            .run();
        server.wait_for_lines("Received from {*}", 3);

        let closed = closed_port();
        let port = closed.local_addr().unwrap().port();
        let reserved = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, port)).unwrap();
        reserved.connect(reserved.local_addr().unwrap()).unwrap();
        with_two_addresses(&["udp-client", &format!("both:{port}"), "a"])
            .current_dir(folder.path())
            .stderr(format!(
                "netkit: could not get an answer to datagram 1, \"a\" from both:{port}: \
                 [::1]:{port}: connection refused; 127.0.0.1:{port}: connection refused\n"
            ))
            .code(1)
            .run();
    }

    #[test]
    #[ignore = "needs root"]
    fn after_an_address_that_is_silent_the_next_is_asked_for_the_same_answer() {
        let folder = temporary_folder();
        std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
        let server = udp_server([]).listen();
        let silent = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, server.port())).unwrap();
        let target = format!("both:{}", server.port());
        with_two_addresses(&["udp-client", "-W", "1h", &target, "a", "b"])
            .current_dir(folder.path())
            .stdout("Hello, a!\nHello, b!\n")
            .run();
        silent.set_read_timeout(Some(DEADLINE)).unwrap();
        expect(&silent, "a");
        expect_nothing(&silent);
        with_two_addresses(&["udp-client", "-z", "-W", "0.2", &target])
            .current_dir(folder.path())
            .stdout(format!("{target} (127.0.0.1) open, {{N}} ms\n"))
            .run();
        drop(server);
        with_two_addresses(&["udp-client", "-z", "-W", "0.2", &target])
            .current_dir(folder.path())
            .stdout(format!("{target} (::1) open|filtered\n"))
            .run();
    }

    #[test]
    #[ignore = "needs root"]
    fn an_address_that_answers_after_the_next_was_asked_is_still_heard() {
        let folder = temporary_folder();
        std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
        let (first, second) = both_families();
        let port = second.local_addr().unwrap().port();
        let target = format!("both:{port}");
        let client = with_two_addresses(&["udp-client", "-W", "10", &target, "a", "b"])
            .current_dir(folder.path())
            .stdout("to a\nto b\n")
            .stderr(format!(
                "netkit: second answer from 127.0.0.1:{port} to datagram 1, \"a\": \"again\"\n"
            ))
            .start();
        let source = expect(&first, "a");
        let other = expect(&second, "a");
        send(&first, "to a", source);
        assert_eq!(expect(&first, "b"), source);
        send(&second, "again", other);
        send(&first, "to b", source);
        client.finish();
        expect_nothing(&second);
    }

    #[test]
    #[ignore = "needs root"]
    fn what_a_given_port_has_sent_is_not_forgotten_with_the_address() {
        let folder = temporary_folder();
        std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
        let (first, second) = both_families();
        let target = format!("both:{}", second.local_addr().unwrap().port());
        let port = ReservedPort::udp();
        let options = [
            "udp-client",
            "-W",
            "2",
            "--reuse-port",
            "--source-port",
            &port.text(),
        ];
        let words = [&*target, "date", "year", "time"];
        let arguments: Vec<&str> = options.into_iter().chain(words).collect();
        let mut client = with_two_addresses(&arguments)
            .current_dir(folder.path())
            .code(1)
            .start();
        let source = expect(&first, "date");
        client.expect_line("netkit: could not get an answer to datagram 1, {*}");
        expect(&second, "year");
        client.expect_line("netkit: could not get an answer to datagram 2, {*}");
        assert_eq!(expect(&first, "time"), source);
        send(&first, "7.3.", source);
        client.expect_line("netkit: doubtful answer from {*} to datagram 3, \"time\": \"7.3.\"");
        client.expect_line("netkit: could not get an answer to datagram 3, {*}");
        client.finish();
    }

    /// A socket on each loopback address, on one port.
    fn both_families() -> (UdpSocket, UdpSocket) {
        let ipv4 = mailbox();
        let port = ipv4.local_addr().unwrap().port();
        let ipv6 = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, port)).unwrap();
        ipv6.set_read_timeout(Some(DEADLINE)).unwrap();
        (ipv6, ipv4)
    }
}
