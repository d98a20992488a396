//! What only people at a terminal see or hear.

use super::ping;
use crate::harness::{Terminal, netkit, udp_server};

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
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
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
