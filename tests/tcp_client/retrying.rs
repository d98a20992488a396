//! `--retry`: a client waits for a server that is not there yet.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::harness::{ReservedPort, matches, netkit};

#[test]
fn a_client_waits_for_a_server_that_starts_late() {
    let port = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", port.text());
    let client = netkit([
        "tcp-client",
        "-v",
        "--retry",
        "1000",
        "--retry-delay",
        "0.02",
        &address,
    ]);
    let client = client.stdin("x").stdout("x").any_stderr().start();
    client.wait_for_line("{*} attempt 2 of 1001: connection refused; next in 20ms");
    let _server = netkit(["tcp-server", "--service", "echo", "-p", &port.text()])
        .any_stderr()
        .listen();
    client.finish();
}

#[test]
fn a_check_waits_for_a_port_that_opens_late() {
    let port = ReservedPort::tcp();
    let port = (port.text(), port);
    let check = netkit([
        "tcp-client",
        "-v",
        "--retry",
        "1000",
        "--retry-delay",
        "0.02",
        "-z",
    ]);
    let check = check
        .arg("127.0.0.1")
        .arg(&port.0)
        .any_stdout()
        .any_stderr()
        .start();
    check.wait_for_line("{*} attempt 2 of 1001: connection refused; next in 20ms");
    let _server = netkit(["tcp-server", "-p", &port.0]).any_stderr().listen();
    let printed = String::from_utf8(check.finish().stdout).unwrap();
    let line = format!("127.0.0.1:{} open, {{*}} ms\n", port.0);
    assert!(matches(line.as_bytes(), printed.as_bytes()), "{printed}");
}

#[test]
fn retries_end_at_their_count_or_at_the_deadline() {
    let port = ReservedPort::tcp();
    let down = format!("127.0.0.1:{}", port.text());
    let message = format!("netkit: could not connect to {down}: connection refused");
    netkit(["tcp-client", "--retry", "3", "--retry-delay", "0", &down])
        .stderr(format!("{message}\n"))
        .code(1)
        .run();
    netkit([
        "tcp-client",
        "--retry",
        "100",
        "--retry-delay",
        "10",
        "--deadline",
        "1",
        &down,
    ])
    .stderr(format!("{message}; gave up after 1s\n"))
    .code(4)
    .run();
}

#[test]
fn an_attempt_that_the_end_cuts_off_does_not_hide_what_was_known() {
    let ends: [(&[&str], &str); 3] = [
        (&["-z", "--wait", "1"], " (--wait)"),
        (&["-z", "--retry", "9", "--deadline", "1"], " (--deadline)"),
        (&["--retry", "9", "--deadline", "1"], ""),
    ];
    for (options, end) in ends {
        let port = ReservedPort::tcp();
        let proxy = format!("socks5://127.0.0.1:{}", port.text());
        let client = netkit(["tcp-client", "-v", "--retry-delay", "0.2", "127.0.0.1:1"])
            .args(["--proxy", &proxy])
            .args(options)
            .any_stderr()
            .code(4)
            .start();
        client.wait_for_line("{*}attempt 1{*}: connection refused; next in 200ms");
        // The next attempt gets no answer.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.set_reuse_address(true).unwrap();
        silent.set_reuse_port(true).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        silent.bind(&address.into()).unwrap();
        silent.listen(8).unwrap();
        let printed = client.finish().stderr;
        let last = printed.lines().last().unwrap();
        let expected = format!("connection refused; gave up after 1s{end}");
        assert!(last.ends_with(&expected), "{options:?}: {printed}");
    }
}
