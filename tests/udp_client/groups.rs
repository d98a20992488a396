//! Multicast and broadcast.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{mailbox, netkit};

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
