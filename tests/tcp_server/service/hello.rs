//! `--service hello`: how messages are framed and answered.

use std::time::{Duration, Instant};

use crate::harness::{Connection, netkit, spawn, tcp_server};

/// Everything that a `hello` server sends to a client that sends `input` and closes.
fn answer(arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let server = tcp_server(arguments.iter().copied()).listen();
    let mut client = server.connect();
    client.send(input);
    client.shutdown();
    let answer = client.receive_all();
    server.stop();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_greeting_has_the_escapes_of_send() {
    let server = tcp_server(["--welcome", "220 ready\\r\\n\\xff"]).listen();
    server.connect().expect(b"220 ready\r\n\xff");
}

#[test]
fn messages_without_a_newline_are_answered_one_by_one() {
    let server = tcp_server([]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    for name in ["Michael", "Tracy", "Sarah"] {
        client.send(name);
        client.expect(format!("Hello, {name}!"));
    }
    client.send("exit");
    client.expect_eof();
    server.wait_for_line(&format!("Connection from {} closed.", client.local()));
}

#[test]
fn a_slow_message_is_answered_after_many_quick_ones() {
    let server = tcp_server(["--idle-timeout", "3s"]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    for number in 0..2000 {
        client.send(format!("{number}\n"));
        client.expect(format!("Hello, {number}!\n"));
    }
    client.send("slow");
    client.expect_nothing_for(Duration::from_millis(50));
    client.send("er\n");
    client.expect("Hello, slower!\n");
    // The idle timeout still holds.
    client.expect_reset();
    let local = client.local();
    server.wait_for_line(&format!(
        "Connection from {local} closed: no data for 3s (--idle-timeout)."
    ));
}

#[test]
fn lines_in_one_segment_are_answered_as_lines() {
    assert_eq!(
        answer(&[], "a\nb\nexit\n"),
        "Welcome!Hello, a!\nHello, b!\n"
    );
}

#[test]
fn exit_with_any_line_ending_ends_the_connection() {
    for exit in ["exit", "exit\n", "exit\r\n"] {
        let server = tcp_server([]).listen();
        let mut client = server.connect();
        client.expect("Welcome!");
        client.send(exit);
        client.expect_eof();
    }
}

#[test]
fn lines_after_exit_are_not_answered() {
    assert_eq!(answer(&[], "a\nexit\nb\n"), "Welcome!Hello, a!\n");
    assert_eq!(answer(&[], "exit now\n"), "Welcome!Hello, exit now!\n");
}

#[test]
fn an_answer_keeps_the_line_ending_of_its_line() {
    assert_eq!(
        answer(&[], "a\r\n\n\r\nb\n"),
        "Welcome!Hello, a!\r\nHello, !\nHello, !\r\nHello, b!\n"
    );
}

#[test]
fn an_incomplete_last_line_is_answered_at_the_end() {
    assert_eq!(answer(&[], "a\nb"), "Welcome!Hello, a!\nHello, b!");
}

#[test]
fn a_client_that_sends_nothing_is_only_welcomed() {
    assert_eq!(answer(&[], ""), "Welcome!");
}

#[test]
fn the_first_newline_switches_to_lines_for_good() {
    let server = tcp_server([]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    client.send("Michael");
    client.expect("Hello, Michael!");
    client.send("a\nb");
    client.expect("Hello, a!\n");
    client.send("c");
    client.expect_nothing_for(Duration::from_millis(100));
    client.send("\r");
    client.send("\n");
    client.expect("Hello, bc!\r\n");
    client.shutdown();
    client.expect_eof();
}

#[test]
fn a_message_may_hold_any_bytes() {
    let server = tcp_server([]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    client.send(b"\xff\0\x1b[2J");
    client.expect(b"Hello, \xff\0\x1b[2J!");
}

#[test]
fn framing_by_line_waits_for_the_end_of_the_line() {
    let server = tcp_server(["--framing", "line"]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    client.send("Mic");
    client.expect_nothing_for(Duration::from_millis(100));
    client.send("hael\n");
    client.expect("Hello, Michael!\n");
}

#[test]
fn framing_by_read_treats_newlines_as_data() {
    let server = tcp_server(["--framing", "read"]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    client.send("a\nb\n");
    client.expect("Hello, a\nb\n!");
    client.send("exit\r\n");
    client.expect_eof();
}

#[test]
fn welcome_replaces_the_first_message() {
    assert_eq!(answer(&["--welcome", "Grüß Gott! "], ""), "Grüß Gott! ");
    assert_eq!(answer(&["--welcome", ""], "a\n"), "Hello, a!\n");
}

#[test]
fn delay_comes_before_every_answer() {
    let server = tcp_server(["--delay", "0.2"]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    let start = Instant::now();
    client.send("a\nb\n");
    client.expect("Hello, a!\n");
    let first = start.elapsed();
    client.expect("Hello, b!\n");
    let second = start.elapsed();
    let delay = Duration::from_millis(200);
    assert!(
        first >= delay && second >= 2 * delay,
        "{first:?} {second:?}"
    );
}

#[test]
fn a_message_that_is_too_long_ends_the_connection() {
    let server = tcp_server(["--max-message", "3"]).listen();
    let mut client = server.connect();
    client.send("abc\nabcd\nabc\n");
    client.expect("Welcome!Hello, abc!\n");
    client.expect_reset();
    server.wait_for_line(&format!(
        "Connection from {} closed: a message is longer than 3 bytes (--max-message).",
        client.local()
    ));
}

#[test]
fn a_message_may_have_64_kib() {
    let longest = "x".repeat(64 << 10);
    let line = &["--framing", "line"];
    assert!(answer(line, format!("{longest}\n")) == format!("Welcome!Hello, {longest}!\n"));
    let server = tcp_server(line.iter().copied()).listen();
    let mut client = server.connect();
    client.send(format!("{longest}x\n"));
    client.expect("Welcome!");
    client.expect_reset();
}

#[test]
fn answers_are_sent_while_more_messages_arrive() {
    let server = tcp_server([]).listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    let writer = client.stream().try_clone().unwrap();
    let sending = spawn(move || {
        let mut writer = Connection::new(writer);
        writer.send("x\n".repeat(300_000));
        writer.shutdown();
    });
    assert!(client.receive_all() == "Hello, x!\n".repeat(300_000).as_bytes());
    sending.join().unwrap();
}

#[test]
fn two_hundred_clients_each_see_their_own_answers() {
    let server = tcp_server([]).listen();
    let mut clients: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.expect("Welcome!");
    }
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("{number} in {round}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(format!("Hello, {number} in {round}!"));
        }
    }
    for client in &mut clients {
        client.send("exit");
        client.expect_eof();
    }
    server.wait_for_lines("Connection from {*} closed.", 200);
    server.stop();
}

#[test]
fn options_of_another_service_are_refused() {
    for (words, message) in [
        (
            "--service echo --welcome x",
            "--welcome needs --service hello",
        ),
        ("--framing line -e cat", "--framing needs --service hello"),
        ("-C", "-C needs -l, --service stdio, -e or --sh-exec"),
        ("--raw", "--raw needs -l or --service stdio"),
    ] {
        netkit(
            ["tcp-server", "-p", "0"]
                .into_iter()
                .chain(words.split(' ')),
        )
        .stderr(format!("netkit: {message}; see 'netkit tcp-server -h'\n"))
        .code(2)
        .run();
    }
}
