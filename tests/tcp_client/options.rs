//! Socket options, read back from the system.

use std::net::TcpListener;

use crate::harness::{Program, matches, netkit, ss};

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
        ("--mss", "1", "invalid argument"),
        ("--keepalive", "999999", "invalid argument"),
    ];
    for (option, value, cause) in cases {
        let client = netkit(["tcp-client", option, value, "127.0.0.1:9"]);
        let log = client.any_stderr().code(2).run().stderr;
        let value = if option == "--keepalive" {
            "999999s"
        } else {
            value
        };
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
    netkit(["tcp-server", "-p", "0", "--mss", "1"])
        .stderr("netkit: could not listen on 127.0.0.1:0: --mss 1: invalid argument\n")
        .code(2)
        .run();
}
