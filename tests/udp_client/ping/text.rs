//! The text of a ping.

use super::{ping, send_back};
use crate::harness::datagrams::{address, receive};
use crate::harness::{DEADLINE, closed_port, mailbox, netkit, udp_server};

#[test]
fn every_answer_is_a_line_and_the_statistics_come_at_the_end() {
    let server = udp_server([]).listen();
    let target = server.address();
    netkit(["udp-client", "-c", "2", "-i", "1", &target])
        .stdout(format!(
            "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
             64 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms\n\
             64 bytes from {target}: udp_seq=2 ttl={{N}} time={{N}} ms\n\
             \n\
             --- {target} ping statistics ---\n\
             2 packets transmitted, 2 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
        ))
        .run();
}

#[test]
fn a_name_is_shown_with_its_address() {
    let server = udp_server(["--service", "echo"]).listen();
    let port = server.port();
    ping(&format!(":{port}"), ["-4", "-c", "1"])
        .stdout(format!(
            "PING localhost:{port} (127.0.0.1) 56(84) bytes of data.\n\
             56 bytes from localhost:{port} (127.0.0.1): udp_seq=1 ttl={{N}} time={{N}} ms\n\
             \n\
             --- localhost:{port} ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
        ))
        .run();
}

#[test]
fn the_first_line_of_an_ipv6_ping_is_that_of_ping() {
    let server = udp_server(["-b", "::1"]).listen();
    let port = server.port();
    ping(&server.address(), ["-c", "1", "-s", "100"])
        .stdout(format!(
            "PING [::1]:{port}(::1) 100 data bytes\n\
             108 bytes from [::1]:{port}: udp_seq=1 ttl={{N}} time={{N}} ms\n\
             \n\
             --- [::1]:{port} ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
        ))
        .run();
}

#[test]
fn quiet_prints_only_statistics_and_verbose_adds_percentiles() {
    let server = udp_server([]).listen();
    let target = server.address();
    let summary = format!(
        "\n--- {target} ping statistics ---\n\
         1 packets transmitted, 1 received, 0% packet loss, time {{N}}ms\n\
         rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms\n"
    );
    let header = format!("PING {target} (127.0.0.1) 56(84) bytes of data.\n");
    ping(&target, ["-c", "1", "-q"])
        .stdout([header.as_str(), &summary].concat())
        .run();
    let more = "rtt p50/p95/p99/jitter = {N}/{N}/{N}/{N} ms, RFC 3550 jitter {N} ms\n";
    let reply = format!("64 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms\n");
    ping(&target, ["-c", "1", "-v"])
        .stdout([header.as_str(), &reply, &summary, more].concat())
        .run();
    ping(&target, ["-c", "1", "-q", "-v"])
        .stdout([header.as_str(), &summary, more].concat())
        .run();
}

#[test]
fn each_line_may_carry_the_time_of_day() {
    let server = udp_server([]).listen();
    let mut client = ping(&server.address(), ["-c", "1", "-D"])
        .any_stdout()
        .start();
    client.receive_line("PING {*}");
    client.receive_line("[{N}] 64 bytes from {*}: udp_seq=1 ttl={N} time={N} ms");
    client.finish();
}

#[test]
fn duplicates_are_marked() {
    let server = mailbox();
    let client = ping(&address(&server), ["-c", "2", "-i", "0.01"])
        .any_stdout()
        .start();
    let first = receive(&server);
    send_back(&server, &first);
    send_back(&server, &first);
    send_back(&server, &receive(&server));
    let stdout = String::from_utf8(client.finish().stdout).unwrap();
    let duplicate = stdout.lines().nth(2).unwrap();
    assert!(duplicate.contains(": udp_seq=1 ttl="), "{stdout}");
    assert!(duplicate.ends_with(" ms (DUP!)"), "{stdout}");
    assert!(
        stdout.contains("2 packets transmitted, 2 received, +1 duplicates, 0% packet loss"),
        "{stdout}"
    );
}

#[test]
fn a_late_answer_is_printed_and_its_probe_counts_as_lost() {
    let server = mailbox();
    let target = address(&server);
    let mut client = ping(&target, ["-c", "2", "-i", "2.1", "-W", "2", "-O"])
        .code(1)
        .stdout(format!(
            "\n--- {target} ping statistics ---\n\
             2 packets transmitted, 1 received, +1 late, 50% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms, pipe 2\n"
        ))
        .start();
    client.receive_line("PING {*}");
    let first = receive(&server);
    // The first probe has timed out when the second is sent.
    let second = receive(&server);
    client.receive_line("no answer yet for udp_seq=1");
    send_back(&server, &second);
    client.receive_line(&format!(
        "56 bytes from {target}: udp_seq=2 ttl={{N}} time={{N}} ms"
    ));
    send_back(&server, &first);
    client.receive_line(&format!(
        "56 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms (late)"
    ));
    client.finish();
}

#[test]
fn an_unanswered_probe_is_reported_before_the_next_is_sent() {
    let server = mailbox();
    let target = address(&server);
    // -q does not silence what -O asks for.
    let runs = ["-O", "-Oq"].map(|options| {
        let arguments = ["-c", "3", "-i", "0.02", "-W", "2", options];
        let client = ping(&target, arguments).stdout(format!(
            "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
             no answer yet for udp_seq=1\n\
             no answer yet for udp_seq=2\n\
             \n\
             --- {target} ping statistics ---\n\
             3 packets transmitted, 0 received, 100% packet loss, time {{N}}ms\n\n"
        ));
        client.code(1).start()
    });
    for client in runs {
        client.finish();
    }
}

#[test]
fn an_unreachable_port_is_an_error_and_no_answer() {
    let closed = closed_port();
    let target = address(&closed);
    let client = ping(&target, ["-c", "2", "-i", "0.01", "-W", "1h"])
        .stdout(format!(
            "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
             From 127.0.0.1 udp_seq=1 Destination Port Unreachable\n\
             From 127.0.0.1 udp_seq=2 Destination Port Unreachable\n\
             \n\
             --- {target} ping statistics ---\n\
             2 packets transmitted, 0 received, +2 errors, 100% packet loss, time {{N}}ms\n\n"
        ))
        .code(1)
        .run();
    assert!(client.took < DEADLINE / 2, "{client:?}");
}

#[test]
fn of_addresses_that_all_refuse_the_first_is_pinged() {
    let closed = closed_port();
    let port = closed.local_addr().unwrap().port();
    ping(&format!(":{port}"), ["-c", "1"])
        .stdout(format!(
            "PING localhost:{port} (127.0.0.1) 56(84) bytes of data.\n\
             From 127.0.0.1 udp_seq=1 Destination Port Unreachable\n\
             \n\
             --- localhost:{port} ping statistics ---\n\
             1 packets transmitted, 0 received, +1 errors, 100% packet loss, time {{N}}ms\n\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_datagram_without_a_probe_is_no_answer() {
    let server = mailbox();
    let target = address(&server);
    let client = ping(&target, ["-c", "1", "-W", "2"])
        .any_stdout()
        .stderr(format!(
            "netkit: unexpected datagram from {target}: \"O\\x1bK\" (an answer holds what \
             was sent)\n"
        ))
        .code(1)
        .start();
    let (_, source) = receive(&server);
    for _ in 0..2 {
        server.send_to(b"O\x1bK", source).unwrap();
    }
    client.finish();
}

#[test]
fn a_flood_prints_dots_that_answers_erase() {
    let server = udp_server(["-q", "--service", "echo"]);
    let mut server = server.arg("--print-port").start();
    let port = server.receive_line("{N}");
    let target = format!("127.0.0.1:{port}");
    let client = ping(&target, ["-f", "-c", "500", "-W", "10"])
        .stdout(format!(
            "PING {target} (127.0.0.1) 56(84) bytes of data.\n{{*}}\n\
             --- {target} ping statistics ---\n\
             500 packets transmitted, 500 received, 0% packet loss, time {{N}}ms\n\
             rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms{{*}}, ipg/ewma {{N}}/{{N}} ms\n"
        ))
        .run();
    // A dot is a probe and an erased dot an answer, which never comes before its probe.
    let mut open = 0;
    let marks = client.stdout.split(|&byte| byte == b'\n').nth(1).unwrap();
    let shown = String::from_utf8_lossy(marks).replace("\u{8} \u{8}", "-");
    for mark in shown.chars() {
        open += if mark == '.' { 1 } else { -1 };
        assert!(open >= 0);
    }
    assert_eq!((open, shown.len()), (0, 1000));
}

/// The second and the third probe are lost, the fourth is answered before the others.
#[test]
fn outages_runs_of_losses_and_reordering_stand_before_the_statistics() {
    let server = mailbox();
    let target = address(&server);
    let arguments = ["-c", "5", "-i", "0.01", "-W", "2", "-v"];
    let client = ping(&target, arguments).env("TZ", "UTC").stdout(format!(
        "PING {target} (127.0.0.1) 56(84) bytes of data.\n\
         64 bytes from {target}: udp_seq=4 ttl={{N}} time={{N}} ms\n\
         64 bytes from {target}: udp_seq=1 ttl={{N}} time={{N}} ms\n\
         64 bytes from {target}: udp_seq=5 ttl={{N}} time={{N}} ms\n\
         \n\
         1 outage, {{N}} s: {{N}}:{{N}}:{{N}} to {{N}}:{{N}}:{{N}} (probes 2-3)\n\
         longest run of losses 2\n\
         1 reordered, by 1 at most\n\
         \n\
         --- {target} ping statistics ---\n\
         5 packets transmitted, 3 received, 40% packet loss, time {{N}}ms\n\
         rtt min/avg/max/mdev = {{N}}/{{N}}/{{N}}/{{N}} ms{{*}}\n\
         rtt p50/p95/p99/jitter = {{N}}/{{N}}/{{N}}/{{N}} ms, RFC 3550 jitter {{N}} ms\n"
    ));
    let mut client = client.any_stderr().code(1).start();
    let probes = [(); 5].map(|()| receive(&server));
    for number in [4, 1, 5] {
        let (probe, source) = &probes[number - 1];
        let answer = [b"Hello, ", probe.as_slice(), b"!"].concat();
        server.send_to(&answer, source).unwrap();
    }
    let since = "has not answered since {N}:{N}:{N} (probes 2-3){*}";
    client.expect_line(&format!("{{*}}INFO {target} {since}"));
    let after = "after {N} s: {N}:{N}:{N} to {N}:{N}:{N} (probes 2-3){*}";
    client.expect_line(&format!("{{*}}INFO {target} answers again {after}"));
    client.finish();
}
