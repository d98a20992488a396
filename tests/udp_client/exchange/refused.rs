//! A datagram that an unreachable port refuses.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{DEADLINE, closed_port, mailbox, netkit, peer, udp_server};

#[test]
fn a_refusal_is_an_error_at_once() {
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
fn addresses_with_the_same_cause_stand_together() {
    let closed = closed_port();
    let port = closed.local_addr().unwrap().port();
    let Ok(reserved) = UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) else {
        return;
    };
    // A connected socket hears only its peer.
    reserved.connect(reserved.local_addr().unwrap()).unwrap();
    netkit(["udp-client", &format!(":{port}"), "a"])
        .stderr(format!(
            "netkit: could not get an answer to datagram 1, \"a\" from localhost:{port}: \
             127.0.0.1, ::1 connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_refused_datagram_is_sent_again_only_after_the_timeout() {
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
fn a_server_that_comes_back_is_asked_from_the_same_port() {
    let server = mailbox();
    let target = address(&server);
    let mut client = netkit(["udp-client", "-W", "10", &target])
        .stdin_open()
        .code(1)
        .start();
    client.send("a\n");
    let source = expect(&server, "a");
    send(&server, "to a", source);
    client.receive("to a\n");
    // Like a closed port: the socket now accepts only its own datagrams.
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

/// The datagram was sent: only its answer is missing.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_could_not_be_received_is_told_as_such() {
    if peer("strace", []).is_none() {
        return;
    }
    let server = udp_server([]).listen();
    let target = server.address();
    netkit(["udp-client", "-W", "10", &target, "a"])
        .through(
            "exec strace -f -o /dev/null -e trace='?recvfrom,?recvmsg' \
             -e inject='?recvfrom,?recvmsg:error=ENOMEM' \"$0\" \"$@\"",
        )
        .stderr(format!(
            "netkit: could not get an answer to datagram 1, \"a\" from {target}: cannot allocate \
             memory\n"
        ))
        .code(2)
        .run();
}
