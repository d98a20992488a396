//! A UDP client asks a name that has two addresses.

use std::net::UdpSocket;

use crate::harness::datagrams::{expect, expect_nothing, send};
use crate::harness::{
    DEADLINE, Program, ReservedPort, closed_port, mailbox, netkit, temporary_folder, udp_server,
};

/// netkit with a hosts file that gives `both` the loopback addresses of both families.
fn with_two_addresses(arguments: &[&str]) -> Program {
    const SCRIPT: &str = "\
        unshare --mount bash -c 'mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    netkit(arguments).through(SCRIPT)
}

#[test]
#[ignore = "needs root"]
fn a_name_with_two_addresses_is_asked_at_both() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
    let server = udp_server([]).listen();
    let target = format!("both:{}", server.port());
    with_two_addresses(&["udp-client", &target, "a", "b"])
        .current_dir(folder.path())
        .stdout("Hello, a!\nHello, b!\n")
        .run();
    with_two_addresses(&["udp-client", "--no-wait", &target, "c"])
        .current_dir(folder.path())
        .run();
    server.wait_for_lines("Received from {*}", 3);

    let closed = closed_port();
    let port = closed.local_addr().unwrap().port();
    let reserved = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, port)).unwrap();
    reserved.connect(reserved.local_addr().unwrap()).unwrap();
    with_two_addresses(&["udp-client", &format!("both:{port}"), "a"])
        .current_dir(folder.path())
        .stderr(format!(
            "netkit: could not get an answer to datagram 1, \"a\" from both:{port}: \
             ::1, 127.0.0.1 connection refused\n"
        ))
        .code(1)
        .run();
}

#[test]
#[ignore = "needs root"]
fn a_datagram_goes_to_the_next_address_after_a_silent_one() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
    let server = udp_server([]).listen();
    let silent = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, server.port())).unwrap();
    let target = format!("both:{}", server.port());
    with_two_addresses(&["udp-client", "-W", "1h", &target, "a", "b"])
        .current_dir(folder.path())
        .stdout("Hello, a!\nHello, b!\n")
        .run();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    expect(&silent, "a");
    expect_nothing(&silent);
    with_two_addresses(&["udp-client", "-z", "-W", "0.2", &target])
        .current_dir(folder.path())
        .stdout(format!("{target} (127.0.0.1) open, {{N}} ms\n"))
        .run();
    drop(server);
    with_two_addresses(&["udp-client", "-z", "-W", "0.2", &target])
        .current_dir(folder.path())
        .stdout(format!("{target} (::1) open|filtered\n"))
        .run();
}

#[test]
#[ignore = "needs root"]
fn an_answer_of_the_first_address_counts_after_the_next_was_asked() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
    let (first, second) = both_families();
    let port = second.local_addr().unwrap().port();
    let target = format!("both:{port}");
    let client = with_two_addresses(&["udp-client", "-W", "10", &target, "a", "b"])
        .current_dir(folder.path())
        .stdout("to a\nto b\n")
        .stderr(format!(
            "netkit: second answer from 127.0.0.1:{port} to datagram 1, \"a\": \"again\"\n"
        ))
        .start();
    let source = expect(&first, "a");
    let other = expect(&second, "a");
    send(&first, "to a", source);
    assert_eq!(expect(&first, "b"), source);
    send(&second, "again", other);
    send(&first, "to b", source);
    client.finish();
    expect_nothing(&second);
}

#[test]
#[ignore = "needs root"]
fn a_given_port_remembers_its_datagrams_across_addresses() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("hosts"), "::1 both\n127.0.0.1 both\n").unwrap();
    let (first, second) = both_families();
    let target = format!("both:{}", second.local_addr().unwrap().port());
    let port = ReservedPort::udp();
    let options = [
        "udp-client",
        "-W",
        "2",
        "--reuse-port",
        "--source-port",
        &port.text(),
    ];
    let words = [&*target, "date", "year", "time"];
    let arguments: Vec<&str> = options.into_iter().chain(words).collect();
    let mut client = with_two_addresses(&arguments)
        .current_dir(folder.path())
        .code(1)
        .start();
    let source = expect(&first, "date");
    client.expect_line("netkit: no answer from {*} to \"date\" within {*}");
    expect(&second, "year");
    client.expect_line("netkit: no answer from {*} to \"year\" within {*}");
    assert_eq!(expect(&first, "time"), source);
    send(&first, "7.3.", source);
    client.expect_line("netkit: doubtful answer from {*} to datagram 3, \"time\": \"7.3.\"");
    client.expect_line("netkit: could not get an answer to datagram 3, {*}");
    client.finish();
}

/// Two sockets on one port, one on each loopback address.
fn both_families() -> (UdpSocket, UdpSocket) {
    let ipv4 = mailbox();
    let port = ipv4.local_addr().unwrap().port();
    let ipv6 = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, port)).unwrap();
    ipv6.set_read_timeout(Some(DEADLINE)).unwrap();
    (ipv6, ipv4)
}
