//! A datagram without an answer.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{mailbox, netkit};
use std::time::Duration;

#[test]
fn an_unanswered_datagram_is_named_and_the_others_are_sent() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "2", &target, "lo\nst", "found"])
        .stdout("answer\n")
        .stderr(format!(
            "netkit: no answer from {target} to \"lo\\nst\" within 2s\n"
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
        "netkit: no answer from localhost:{port} (127.0.0.1) to \"x\" within \
             100ms\n"
    ))
    .code(1)
    .run();
}

#[test]
fn retries_send_a_datagram_again() {
    let server = mailbox();
    let target = address(&server);
    let client = netkit(["udp-client", "-W", "0.1", "--retries", "2", &target, "x"])
        .stderr(format!(
            "netkit: no answer from {target} to \"x\" within 100ms (sent 3 times)\n"
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

/// The last datagram is not waited for again, and several addresses share its time.
#[test]
fn a_datagram_is_waited_for_exactly_as_long_as_told() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = mailbox();
    let port = server.local_addr().unwrap().port();
    // Where no socket is bound to ::1, the kernel refuses the datagram.
    let _other = std::net::UdpSocket::bind(("::1", port));
    for target in [address(&server), format!(":{port}")] {
        let client = netkit(["udp-client", "-W", "2", &target, "x"]);
        let client = client.any_stderr().code(1).run();
        assert!(client.took >= WAIT && client.took < WAIT * 2, "{client:?}");
        expect(&server, "x");
    }
}

#[test]
fn an_exchange_ends_at_its_deadline() {
    let server = mailbox();
    let target = address(&server);
    let gave_up = format!("netkit: gave up on {target} after 2s (--deadline)\n");
    let open = || {
        netkit(["udp-client", "-w", "2", &target])
            .stderr(&gave_up)
            .code(4)
    };
    // They wait for an answer, or for input.
    let waiting = [
        open().args(["-W", "1h", "x"]).start(),
        open().stdin_open().start(),
        open().arg("--no-wait").stdin_open().start(),
    ];
    let json = open().args(["--json", "-W", "1h", "x"]).any_stdout().run();
    for client in waiting {
        client.finish();
    }
    let summary = "\"sent\":1,\"answered\":0,\"unanswered\":1}\n";
    assert!(json.stdout.ends_with(summary.as_bytes()), "{json:?}");
}
