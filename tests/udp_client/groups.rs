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
    let client = netkit(["udp-client", "-W", "2", "--broadcast", &target, "a", "b"])
        .stdout(format!("{target}\t1\n{target}\t2\n"))
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
fn all_members_of_a_group_answer_until_the_time_is_over() {
    let (server, other) = (mailbox(), mailbox());
    let (target, member) = (address(&server), address(&other));
    let open = |options: &[&str]| {
        let arguments = ["udp-client", "-W", "2", "--broadcast"].iter();
        netkit(arguments.chain(options).chain(&[target.as_str(), "a"]))
    };
    let cases: [(&[&str], String); 2] = [
        (&[], format!("{target}\t1\n{member}\t2\n{target}\t1\n")),
        (&["--raw"], "121".to_owned()),
    ];
    for (options, printed) in cases {
        let client = open(options).stdout(printed).start();
        let source = expect(&server, "a");
        send(&server, "1", source);
        send(&other, "2", source);
        send(&server, "1", source);
        client.finish();
    }
    let client = open(&["--json"]).any_stdout().start();
    let source = expect(&server, "a");
    send(&server, "1", source);
    send(&other, "2", source);
    let events = String::from_utf8(client.finish().stdout).unwrap();
    assert_eq!(
        events.matches("\"event\":\"answer\"").count(),
        2,
        "{events}"
    );
    assert!(
        events.contains("\"sent\":1,\"answered\":1,\"unanswered\":0"),
        "{events}"
    );
    netkit(["udp-client", "-W", "0.1", "--broadcast", &target, "a"])
        .stderr(format!(
            "netkit: no answer from {target} to \"a\" within 100ms\n"
        ))
        .code(1)
        .run();
}

#[test]
fn all_answers_of_one_address_are_printed_with_all() {
    let server = mailbox();
    let client = netkit([
        "udp-client",
        "--all",
        "-W",
        "2",
        &address(&server),
        "a",
        "b",
    ])
    .stdout("1\n2\n3\n")
    .start();
    let source = expect(&server, "a");
    send(&server, "1", source);
    send(&server, "2", source);
    let source = expect(&server, "b");
    send(&server, "3", source);
    client.finish();
}
