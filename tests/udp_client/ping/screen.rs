//! What only people at a terminal see or hear.

use std::net::TcpListener;

use super::{ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{Terminal, mailbox, netkit, udp_server};

#[test]
fn a_terminal_shows_a_histogram_at_the_end() {
    let server = udp_server([]).listen();
    for (locale, bar) in [("C.UTF-8", "█"), ("C", "@")] {
        let mut terminal = Terminal::open().with_columns(80);
        ping(&server.address(), ["-c", "1", "-q"])
            .env("LC_ALL", locale)
            .stdout_to(terminal.device())
            .run();
        while !terminal.expect_line().starts_with("rtt ") {}
        let line = terminal.expect_line();
        let (start, end) = line.split_once(&format!(" ms {bar} ")).unwrap();
        assert!(end.starts_with(&format!("{start} ms   p50 ")), "{line}");
        assert!(end.contains("  p95 ") && end.contains("  p99 "), "{line}");
        terminal.finish();
    }
}

#[test]
fn an_answer_may_ring_the_bell() {
    let server = udp_server([]).listen();
    let target = server.address();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    for (subcommand, target, options, marks) in [
        ("udp-client", &target, "-ac1", " ms\u{7}\n"),
        ("tcp-client", &tcp, "-ac1", " ms\u{7}\n"),
        ("udp-client", &target, "-afc1", "\u{8} \u{8}\u{7}\n"),
    ] {
        let client = netkit([subcommand, options, target]);
        let printed = String::from_utf8(client.any_stdout().run().stdout).unwrap();
        assert!(printed.contains(marks), "{printed:?}");
    }
}

#[test]
fn what_only_a_terminal_shows_is_refused_where_nothing_would_come_of_it() {
    for (options, message) in [
        (
            "-ac1 --json",
            "the argument '--audible' cannot be used with '--json'",
        ),
        ("-aqc1", "-a does nothing with -q"),
        ("--live -qc1", "--live does nothing with -q"),
        (
            "--live --json -c1",
            "the argument '--live' cannot be used with '--json'",
        ),
        (
            "-Oc1 --live",
            "the argument '--report-missing' cannot be used with '--live'",
        ),
        ("--live -c1", "--live needs a terminal as standard output"),
        ("-a", "-a needs --ping, -c or -i"),
    ] {
        for subcommand in ["tcp-client", "udp-client"] {
            let words = [subcommand, "127.0.0.1:9"].into_iter();
            netkit(words.chain(options.split(' ')))
                .stderr(format!("netkit: {message}; see 'netkit {subcommand} -h'\n"))
                .code(2)
                .run();
        }
    }
}

/// What the terminal shows of a strip that was drawn last, with its status line.
fn last_drawn(screen: &[u8]) -> (String, String) {
    let screen = String::from_utf8_lossy(screen).into_owned();
    let (before, _) = screen.rsplit_once("\r\u{1b}[A").unwrap();
    let (before, status) = before.rsplit_once("\u{1b}[J\r\n").unwrap();
    let (_, strip) = before.rsplit_once('\r').unwrap();
    (strip.to_owned(), status.to_owned())
}

#[test]
fn a_live_strip_has_a_character_for_each_probe() {
    for (locale, bar) in [("C.UTF-8", "▁"), ("C", "_")] {
        let server = mailbox();
        let terminal = Terminal::open().with_columns(80);
        let target = address(&server);
        let client = ping(&target, ["--live", "-c", "4", "-i", "0.02", "-W", "2"])
            .env("LC_ALL", locale)
            .stdout_to(terminal.device())
            .code(1)
            .start();
        let probes = [(); 4].map(|()| receive(&server));
        for index in [0, 2, 2] {
            send_back(&server, &probes[index]);
        }
        client.finish();
        let screen = terminal.rest();
        let (strip, status) = last_drawn(&screen);
        assert_eq!(strip, format!("{bar}!+!"));
        assert!(status.starts_with("last "), "{status}");
        assert!(status.ends_with(", 2 of 4 lost (50.0%)"), "{status}");
        let screen = String::from_utf8_lossy(&screen).into_owned();
        let header = format!("PING {target} (127.0.0.1) 56(84) bytes of data.\n");
        assert!(screen.starts_with(&header), "{screen}");
        // The status line is erased, and the statistics follow.
        let end = format!("\u{1b}[J\r\n\n--- {target} ping statistics ---\n");
        assert!(screen.contains(&end), "{screen:?}");
    }
}

#[test]
fn a_tcp_ping_draws_the_same_strip() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let terminal = Terminal::open().with_columns(20);
    let words = ["tcp-client", "--live", "-c", "25", "-i", "0.001", &target];
    netkit(words).stdout_to(terminal.device()).run();
    let screen = terminal.rest();
    let (_, status) = last_drawn(&screen);
    // 19 columns have room for no more.
    assert_eq!(status.len(), 19);
    assert!(status.starts_with("last "), "{status}");
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_is_refused() {
    let terminal = Terminal::open();
    ping("127.0.0.1:9", ["--live"])
        .env("TERM", "dumb")
        .stdout_to(terminal.device())
        .stderr(
            "netkit: --live needs a terminal that can move its cursor, and TERM is dumb; \
             see 'netkit udp-client -h'\n",
        )
        .code(2)
        .run();
}

/// Messages on the same terminal begin on a line of their own.
#[test]
fn a_message_erases_the_status_line_and_the_strip_goes_on_below() {
    let server = mailbox();
    let terminal = Terminal::open().with_columns(80);
    let target = address(&server);
    let client = ping(&target, ["--live", "-c", "2", "-i", "0.2", "-W", "10"])
        .stdout_to(terminal.device())
        .stderr_to(terminal.device())
        .start();
    let first = receive(&server);
    send_back(&server, &first);
    let second = receive(&server);
    server.send_to(b"other", second.1).unwrap();
    send_back(&server, &second);
    client.finish();
    let screen = String::from_utf8_lossy(&terminal.rest()).into_owned();
    let message = format!("\u{1b}[J\nnetkit: unexpected datagram from {target}: ");
    assert!(screen.contains(&message), "{screen:?}");
    let (_, after) = screen.split_once(&message).unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    assert!(after.starts_with('\r'), "{after:?}");
}
