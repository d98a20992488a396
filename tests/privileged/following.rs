//! A ping whose target moves to another address.

use rustix::process::Signal;

use crate::harness::{ReservedPort, netkit, tcp_server, temporary_folder, udp_server};

#[test]
#[ignore = "needs root"]
fn a_long_ping_follows_its_name_to_a_new_address() {
    for (subcommand, label) in [("udp-client", "udp_seq"), ("tcp-client", "tcp_seq")] {
        let is_udp = subcommand == "udp-client";
        let server = if is_udp { udp_server } else { tcp_server };
        let server = server(["--bind", "127.0.0.2", "-q"]).arg("--print-port");
        let mut server = server.start();
        let port = server.receive_line("{N}");
        let target = format!("moving:{port}");
        let folder = temporary_folder();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 moving\n").unwrap();
        let client = netkit([subcommand, "--ping", "-i", "0.02", "-W", "0.5", &target]);
        let mut client = client
            .with_file(&hosts, "/etc/hosts")
            .any_stdout()
            .any_stderr()
            .code(1)
            .start();
        client.expect_line(&format!(
            "no answer; resolved {target} again: still 127.0.0.1"
        ));
        std::fs::write(&hosts, "127.0.0.2 moving\n").unwrap();
        client.expect_line(&format!(
            "no answer; resolved {target} again: now 127.0.0.2, no longer 127.0.0.1"
        ));
        let reply = format!("{{N}} bytes from {target} (127.0.0.2): {label}={{*}}");
        let mut line = client.receive_line("{*}");
        while !crate::harness::matches(reply.as_bytes(), line.as_bytes()) {
            line = client.receive_line("{*}");
        }
        client.signal(Signal::INT);
        client.finish();
        server.signal(Signal::TERM);
        server.finish();
    }
}

#[test]
#[ignore = "needs root"]
fn a_name_that_is_gone_is_told_and_the_ping_goes_on() {
    let folder = temporary_folder();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 moving\n").unwrap();
    let down = ReservedPort::tcp();
    let target = format!("moving:{}", down.text());
    let client = netkit(["tcp-client", "--ping", "-i", "0.02", &target]);
    let mut client = client
        .with_file(&hosts, "/etc/hosts")
        .any_stdout()
        .any_stderr()
        .code(1)
        .start();
    client.receive_line("PING {*}");
    std::fs::write(&hosts, "").unwrap();
    client.wait_for_line("netkit: could not resolve moving: {*}");
    client.signal(Signal::INT);
    client.finish();
}
