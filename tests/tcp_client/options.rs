//! Socket options, read back from the system.

use std::net::TcpListener;

use crate::harness::{Program, matches, netkit, ss, tcp_server};

#[test]
fn the_socket_of_a_client_has_the_given_options() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = [
        "--interface",
        "lo",
        "--dscp",
        "af41",
        "--recv-buffer",
        "20k",
        "--send-buffer",
        "30k",
        "--mss",
        "1000",
        "--keepalive",
        "77",
    ];
    let address = listener.local_addr().unwrap().to_string();
    let client = netkit(["tcp-client", &address]).arg("--ttl").arg("9");
    let client = options.iter().fold(client, Program::arg);
    let client = client.stdin_open().start();
    let (stream, _) = listener.accept().unwrap();
    if let Some(text) = ss(&["-tneimo", "--tos"], &format!("dst {address}")) {
        for part in [
            "%lo",
            "tos:0x88",
            "rb40960",
            "tb61440",
            "timer:(keepalive,1min1",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let mss = text
            .split(" mss:")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        assert!(mss.parse::<u32>().unwrap() <= 1000, "{text}");
    }
    drop(stream);
    drop(client);
}

#[test]
fn an_option_that_the_system_refuses_is_named() {
    let cases = [
        ("--interface", "nosuch0", "no such device"),
        (
            "--recv-buffer",
            "1G",
            "the system allows no more than {*} bytes",
        ),
    ];
    for (option, value, cause) in cases {
        let client = netkit(["tcp-client", option, value, "127.0.0.1:9"]);
        let log = client.any_stderr().code(2).run().stderr;
        let value = if option == "--recv-buffer" {
            "1073741824"
        } else {
            value
        };
        let line = format!("netkit: could not connect to 127.0.0.1:9: {option} {value}: {cause}\n");
        assert!(
            matches(line.as_bytes(), log.as_bytes()),
            "{log} should be {line}"
        );
    }
}

#[test]
fn a_value_that_the_system_would_refuse_is_refused_with_the_limit() {
    const MSS: &str = "is not a whole number from 88 to 32767";
    for (option, value, cause) in [
        ("--mss", "87", MSS),
        ("--mss", "32768", MSS),
        (
            "--keepalive",
            "32768",
            "is too long: a probe comes after 32767 seconds at most",
        ),
        ("--interface", "", "is not the name of an interface"),
    ] {
        for (subcommand, address) in [("tcp-client", "127.0.0.1:9"), ("tcp-server", "0")] {
            netkit([subcommand, option, value, address])
                .stderr(format!(
                    "netkit: '{value}' {cause} ({option}); see 'netkit {subcommand} -h'\n"
                ))
                .code(2)
                .run();
        }
    }
}

/// The limits are the kernel's.
#[test]
fn the_system_takes_the_least_and_the_most_of_each_option() {
    for (option, value) in [
        ("--mss", "88"),
        ("--mss", "32767"),
        ("--keepalive", "1"),
        ("--keepalive", "32767"),
        ("--ttl", "1"),
        ("--ttl", "255"),
        ("--dscp", "63"),
        ("--recv-buffer", "1"),
        ("--send-buffer", "1"),
    ] {
        for address in ["127.0.0.1", "::1"] {
            let server = tcp_server(["-b", address, option, value]).listen();
            server.stop();
        }
    }
}
