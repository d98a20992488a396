//! The source of datagrams, and the options of their socket.

use crate::harness::datagrams::{address, expect, send};
use crate::harness::{mailbox, netkit, peer};

#[test]
fn a_source_of_another_machine_is_an_error_that_names_the_option() {
    netkit(["udp-client", "--source", "192.0.2.1", "127.0.0.1:9", "x"])
        .stderr(
            "netkit: could not send to 127.0.0.1:9: --source 192.0.2.1: cannot assign \
             requested address\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_source_of_the_other_family_is_an_error() {
    netkit(["udp-client", "--source", "::1", "127.0.0.1:9", "x"])
        .stderr(
            "netkit: could not send to 127.0.0.1:9: it has no address of the family of \
             --source\n",
        )
        .code(2)
        .run();
}

#[test]
fn the_client_sends_from_the_given_source() {
    let server = mailbox();
    let arguments = [
        "udp-client",
        "--source",
        "127.0.0.1",
        &address(&server),
        "x",
    ];
    let client = netkit(arguments).stdout("y\n").start();
    send(&server, "y", expect(&server, "x"));
    client.finish();
}

#[test]
fn a_peer_sees_the_ttl_and_the_service_class() {
    // ip(7): 12 is IP_RECVTTL and 13 is IP_RECVTOS. Both values arrive as ancillary data.
    let script = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('127.0.0.1', 0)); s.settimeout(15)\n\
        s.setsockopt(socket.IPPROTO_IP, 12, 1)\n\
        s.setsockopt(socket.IPPROTO_IP, 13, 1)\n\
        print(s.getsockname()[1], flush=True)\n\
        for part in sorted(s.recvmsg(9, 99)[1]): print(part[1], part[2][0])\n";
    let Some(python) = peer("python3", ["-c", script]) else {
        return;
    };
    let mut python = python.code(0).start();
    let address = format!("127.0.0.1:{}", python.receive_line("{N}"));
    netkit([
        "udp-client",
        "--no-wait",
        "--ttl",
        "9",
        "--dscp",
        "ef",
        &address,
        "x",
    ])
    .run();
    python.receive("1 184\n2 9\n");
    python.finish();
}
