//! Options that do not fit together, or have no effect, are refused.

use crate::harness::netkit;

#[test]
fn options_without_effect_are_refused() {
    for words in [
        "--relay --json",
        "--relay --ping",
        "--relay -W 1",
        "--relay --whole",
        "--relay -z",
        "--relay --no-wait",
        "-z -c 1",
        "-z --raw",
        "-z -w 1",
        "-z --retries 1",
        "-z --chunk 1",
    ] {
        let words = words.split(' ').chain(["127.0.0.1:9"]);
        let client = netkit(["udp-client"].into_iter().chain(words))
            .any_stderr()
            .code(2)
            .run();
        let advice = "see 'netkit udp-client -h'\n";
        assert!(client.stderr.ends_with(advice), "{client:?}");
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
fn no_wait_refuses_a_timeout() {
    netkit(["udp-client", "--no-wait", "-W", "2", "127.0.0.1:9"])
        .stderr(
            "netkit: the argument '--no-wait' cannot be used with '--timeout <TIME>'; \
             see 'netkit udp-client -h'\n",
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
