//! Socket options, read back from the system.

use crate::harness::{netkit, ss, tcp_server};

#[test]
fn the_sockets_of_connections_have_the_given_options() {
    let server = tcp_server([
        "--dscp",
        "ef",
        "--recv-buffer",
        "20k",
        "--send-buffer",
        "30k",
        "--mss",
        "1000",
        "--keepalive",
        "77s",
        "--interface",
        "lo",
    ]);
    let server = server.listen();
    let mut client = server.connect();
    client.expect("Welcome!");
    if let Some(text) = ss(
        &["-tneimo", "--tos"],
        &format!("src 127.0.0.1:{}", server.port()),
    ) {
        for part in [
            "%lo",
            "tos:0xb8",
            "rb40960",
            "tb61440",
            "timer:(keepalive,1min1",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn reuse_port_lets_a_second_server_have_the_port() {
    let first = tcp_server(["--reuse-port"]).listen();
    let port = first.port().to_string();
    netkit(["tcp-server", "-p", &port])
        .stderr(format!(
            "netkit: could not listen on 127.0.0.1:{port}: address already in use (another \
             program uses the port; -p 0 takes a free one)\n"
        ))
        .code(2)
        .run();
    let second = netkit(["tcp-server", "-p", &port, "--reuse-port"])
        .any_stderr()
        .listen();
    assert_eq!(second.port(), first.port());
}

#[test]
fn a_size_that_is_too_large_is_refused_with_the_most_that_is_possible() {
    const BUFFER: &str = "is too large: a socket buffer is smaller than 2G (--recv-buffer)";
    for (option, most) in [
        (
            "--max-message",
            "is too large (--max-message); at most 1G is possible",
        ),
        ("--recv-buffer", BUFFER),
        ("--send-buffer", &BUFFER.replace("recv", "send")),
    ] {
        for size in [
            "2G",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999G",
        ] {
            netkit(["tcp-server", "-p", "0", option, size])
                .stderr(format!(
                    "netkit: '{size}' {most}; see 'netkit tcp-server -h'\n"
                ))
                .code(2)
                .run();
        }
    }
}
