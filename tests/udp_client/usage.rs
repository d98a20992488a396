//! Options that do not fit together, or have no effect, are refused.

use crate::harness::netkit;

/// How a command line of the client ends: refused, or with the name that is not resolved.
fn ends(words: &str) -> (bool, String) {
    let words = words.split_whitespace();
    let client = netkit(["udp-client", "-n"].into_iter().chain(words)).arg("name:9");
    let client = client.any_stdout().any_stderr().any_code();
    let log = client.run().stderr;
    let is_refused = log.ends_with("; see 'netkit udp-client -h'\n");
    let is_unresolved = log.contains("could not resolve");
    assert!(is_refused != is_unresolved, "{log}");
    (is_refused, log)
}

#[test]
fn each_option_is_applied_or_refused_in_each_mode() {
    const MODES: [(char, &str); 5] = [
        ('e', ""),
        ('n', "--no-wait"),
        ('r', "--relay"),
        ('z', "-z"),
        ('p', "--ping"),
    ];
    // The modes in which the option does something.
    let options = [
        ("-6", "enrzp"),
        ("--source 127.0.0.1", "enrzp"),
        ("--source-port 9", "enrzp"),
        ("--ttl 9", "enrzp"),
        ("--broadcast", "enrzp"),
        ("-x", "enrzp"),
        ("-W 1", "ezp"),
        ("-w 1", "enrp"),
        ("--retries 1", "e"),
        ("--all", "e"),
        ("--raw", "er"),
        ("--send x", "en"),
        ("--whole", "en"),
        ("--chunk 1", "en"),
        ("--json", "ezp"),
        ("-C", "r"),
        ("--wait-after-eof 1", "r"),
        ("--idle-timeout 1", "r"),
        ("-c 1", "p"),
        ("-i 1", "p"),
        ("-s 100", "p"),
        ("--max-loss 1", "p"),
        ("-D", "p"),
        ("-O", "p"),
        ("-A", "p"),
        ("-f", "p"),
    ];
    for (option, modes) in options {
        let name = option.split(' ').next().unwrap();
        let is_choice = ["-c", "-i"].contains(&name);
        for (letter, mode) in MODES {
            let (is_refused, log) = ends(&format!("{option} {mode}"));
            // -c and -i make a ping of an exchange, and exclude the other modes.
            let is_meant = modes.contains(letter) || is_choice && letter == 'e';
            assert_eq!(is_refused, !is_meant, "{option} {mode}: {log}");
            let refused = if is_choice { mode } else { name };
            assert!(
                !is_refused || log.starts_with(&format!("netkit: {refused} ")),
                "{log}"
            );
        }
    }
    for (index, (_, mode)) in MODES.iter().enumerate().skip(1) {
        for (_, other) in &MODES[index + 1..] {
            assert!(ends(&format!("{mode} {other}")).0, "{mode} {other}");
        }
    }
}

#[test]
fn what_another_option_excludes_is_still_required() {
    for words in [
        "--json --no-wait --send x",
        "--wait-after-eof 1 -c 1",
        "-C -z",
    ] {
        assert!(ends(words).0, "{words}");
    }
}

#[test]
fn a_usage_error_says_what_would_be_right() {
    let usage = "; see 'netkit udp-client -h'";
    for (words, message) in [
        ("-C 127.0.0.1:9", format!("-C needs --relay{usage}")),
        (
            "--idle-timeout 1 127.0.0.1:9",
            format!("--idle-timeout needs --relay{usage}"),
        ),
        (
            "--wait-after-eof 1 127.0.0.1:9",
            format!("--wait-after-eof needs --relay{usage}"),
        ),
        (
            "-c 1 127.0.0.1:9 x",
            format!(
                "could not send DATA: a ping, which -c and -i imply, sends probes of its own{usage}"
            ),
        ),
        (
            "-W -1 127.0.0.1:9 x",
            format!(
                "'-1' is not a duration (--timeout); write \
                 seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h){usage}"
            ),
        ),
        (
            "--chunk -0.5 127.0.0.1:9",
            format!(
                "'-0.5' is not a size (--chunk); write \
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
fn no_wait_refuses_a_timeout() {
    netkit(["udp-client", "--no-wait", "-W", "2", "127.0.0.1:9"])
        .stderr("netkit: -W does nothing with --no-wait; see 'netkit udp-client -h'\n")
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
