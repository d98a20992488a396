//! A TCP client races the addresses of a name.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::namespace::{add_address, black_hole, in_namespace};
use crate::harness::{Folder, Peer, Program, netkit, temporary_folder};

/// A hosts file that gives `both.test` an IPv6 and an IPv4 address of this machine.
fn hosts() -> Folder {
    add_address("2001:db8::1/128");
    add_address("192.0.2.1/32");
    let folder = temporary_folder();
    let names = "2001:db8::1 both.test\n192.0.2.1 both.test\n";
    std::fs::write(folder.path().join("hosts"), names).unwrap();
    folder
}

/// A client that uses the hosts file of this folder.
fn client(hosts: &Folder, words: &[&str]) -> Program {
    netkit(["tcp-client"].iter().chain(words)).with_file(&hosts.path().join("hosts"), "/etc/hosts")
}

/// A server at one of the addresses, which must receive `found`.
fn server(ip: &str) -> Peer {
    Peer::listen_on((ip, 0), |mut connection| {
        connection.expect("found");
        connection.expect_eof();
    })
}

#[test]
#[ignore = "needs root"]
fn a_silent_address_delays_the_next_by_a_quarter_of_a_second() {
    in_namespace(|| {
        let hosts = hosts();
        black_hole("2001:db8::/32");
        let server = server("192.0.2.1");
        let client = client(&hosts, &["both.test", server.port()]);
        // Trying the addresses one after another would take the whole time limit.
        let client = client.stdin("found").run();
        assert!(client.took >= Duration::from_millis(250), "{client:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_check_and_a_ping_tell_the_address_that_answered_and_its_own_time() {
    in_namespace(|| {
        let hosts = hosts();
        black_hole("2001:db8::/32");
        let listener = TcpListener::bind(("192.0.2.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for repeat in [&["-z"][..], &["-z", "-c", "1"]] {
            let words = [repeat, &["both.test", &port]].concat();
            let printed = client(&hosts, &words).any_stdout().run().stdout;
            let printed = String::from_utf8(printed).unwrap();
            assert!(printed.contains("192.0.2.1"), "{printed}");
            let (before, _) = printed.split_once(" ms").unwrap();
            let time = before.rsplit([' ', '=']).next().unwrap();
            // The silent address was tried for 250 ms before.
            assert!(time.parse::<f64>().unwrap() < 250.0, "{printed}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_refusing_address_does_not_delay_the_next() {
    in_namespace(|| {
        let hosts = hosts();
        // A quarter of a second for each of them would exceed the time limit.
        let refusing = (0..200).map(|number| format!("127.1.1.{number} both.test"));
        let mut names: Vec<String> = refusing.collect();
        names.push("192.0.2.1 both.test\n".to_owned());
        std::fs::write(hosts.path().join("hosts"), names.join("\n")).unwrap();
        let server = server("192.0.2.1");
        let client = client(&hosts, &["both.test", server.port()]);
        client.stdin("found").run();
    });
}

#[test]
#[ignore = "needs root"]
fn only_the_first_address_that_answers_sees_a_connection() {
    in_namespace(|| {
        let hosts = hosts();
        let server = server("2001:db8::1");
        let other = TcpListener::bind(("192.0.2.1", server.port().parse().unwrap()));
        let other = other.unwrap();
        let client = client(&hosts, &["both.test", server.port()]);
        client.stdin("found").run();
        other.set_nonblocking(true).unwrap();
        let error = other.accept().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
#[ignore = "needs root"]
fn silent_addresses_fail_at_the_connect_timeout() {
    in_namespace(|| {
        let hosts = hosts();
        black_hole("2001:db8::/32");
        black_hole("192.0.2.0/24");
        let client = client(&hosts, &["-w", "0.6", "both.test:9999"])
            .stderr(
                "netkit: could not connect to both.test:9999: \
                 2001:db8::1, 192.0.2.1 no answer within 600ms\n",
            )
            .code(4)
            .run();
        assert!(client.took >= Duration::from_millis(600), "{client:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn every_address_that_was_tried_is_named_with_its_reason() {
    in_namespace(|| {
        let hosts = hosts();
        client(&hosts, &["both.test:9999"])
            .stderr(
                "netkit: could not connect to both.test:9999: \
                 2001:db8::1, 192.0.2.1 connection refused\n",
            )
            .code(1)
            .run();
        black_hole("192.0.2.0/24");
        client(&hosts, &["-w", "0.3", "both.test:9999"])
            .stderr(
                "netkit: could not connect to both.test:9999: \
                 2001:db8::1 connection refused; 192.0.2.1 no answer within 300ms\n",
            )
            .code(4)
            .run();
    });
}

#[test]
#[ignore = "needs root"]
fn an_unreachable_network_is_exit_code_1() {
    in_namespace(|| {
        netkit(["tcp-client", "192.0.2.1:9999"])
            .stderr("netkit: could not connect to 192.0.2.1:9999: network is unreachable\n")
            .code(1)
            .run();
    });
}

/// The time of a port is that of the address that answered, without the 250 ms before it.
#[test]
#[ignore = "needs root"]
fn a_check_and_a_ping_time_the_address_that_answers() {
    in_namespace(|| {
        let hosts = hosts();
        black_hole("2001:db8::/32");
        let listener = std::net::TcpListener::bind(("192.0.2.1", 0)).unwrap();
        let target = format!("both.test:{}", listener.local_addr().unwrap().port());
        let check = client(&hosts, &["-z", &target]);
        let line = check
            .stdout(format!("{target} (192.0.2.1) open, {{N}} ms\n"))
            .run();
        let shown = String::from_utf8(line.stdout).unwrap();
        let time: f64 = shown.split(' ').nth(3).unwrap().parse().unwrap();
        assert!(time < 250.0, "{shown}");
        let ping = client(&hosts, &["-c", "3", "-i", "0.3", &target])
            .stdout(format!(
                "PING {target} (192.0.2.1) 0(40) bytes of data.\n\
                 0 bytes from {target} (192.0.2.1): tcp_seq=1 time={{N}} ms\n\
                 0 bytes from {target} (192.0.2.1): tcp_seq=2 time={{N}} ms\n\
                 0 bytes from {target} (192.0.2.1): tcp_seq=3 time={{N}} ms\n\n\
                 --- {target} ping statistics ---\n\
                 3 packets transmitted, 3 received, 0% packet loss, time {{N}}ms\n\
                 rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms{{*}}\n"
            ))
            .run();
        let shown = String::from_utf8(ping.stdout).unwrap();
        let longest = shown.lines().last().unwrap().split('/').nth(5).unwrap();
        assert!(longest.parse::<f64>().unwrap() < 250.0, "{shown}");
    });
}
