//! Multicast and broadcast.

use crate::harness::netkit;

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
