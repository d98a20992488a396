//! A TCP ping: a check that repeats, with the statistics of ping.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Connection, Program, ReservedPort, full_pipe, matches, netkit, spawn, temporary_folder,
};

fn ping<'a>(target: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Program {
    let words = ["tcp-client", "--ping", target];
    netkit(words.into_iter().chain(arguments))
}

/// Each line of what was printed matches a pattern.
#[track_caller]
fn expect_lines(printed: &[u8], expected: &[&str]) {
    let printed = std::str::from_utf8(printed).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{printed}");
    for (line, pattern) in lines.iter().zip(expected) {
        let is_like = matches(pattern.as_bytes(), line.as_bytes());
        assert!(is_like, "{line} should be {pattern}");
    }
}

/// A listener to which no connection is established: its queue is full.
struct Silent {
    listener: Socket,
    _waiting: Vec<Socket>,
}

impl Silent {
    fn listen() -> Self {
        let open = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = open();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = [(); 4].map(|()| {
            let client = open();
            client.set_nonblocking(true).unwrap();
            // EINPROGRESS.
            let _ = client.connect(&address);
            client
        });
        Self {
            listener,
            _waiting: waiting.into(),
        }
    }

    fn address(&self) -> String {
        let address = self.listener.local_addr().unwrap();
        address.as_socket().unwrap().to_string()
    }
}

#[test]
fn a_repeated_check_prints_the_statistics_of_ping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let check = netkit(["tcp-client", "-c", "3", "-i", "0.3", &address]);
    expect_lines(
        &check.any_stdout().run().stdout,
        &[
            &format!("PING {address} (127.0.0.1) 0(40) bytes of data."),
            &format!("0 bytes from {address}: tcp_seq=1 time={{*}} ms"),
            &format!("0 bytes from {address}: tcp_seq=2 time={{*}} ms"),
            &format!("0 bytes from {address}: tcp_seq=3 time={{*}} ms"),
            "",
            &format!("--- {address} ping statistics ---"),
            "3 packets transmitted, 3 received, 0% packet loss, time {*}ms",
            "rtt min/avg/max/mdev = {*}/{*}/{*}/{*} ms",
        ],
    );
}

#[test]
fn a_server_that_resets_at_once_is_no_loss() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = spawn(move || {
        for stream in listener.incoming().take(10) {
            Connection::new(stream.unwrap()).reset();
        }
    });
    let ping = netkit([
        "tcp-client",
        "-z",
        "-q",
        "-c",
        "10",
        "-i",
        "0.001",
        &address,
    ]);
    let printed = String::from_utf8(ping.any_stdout().run().stdout).unwrap();
    assert!(printed.contains("10 received, 0% packet loss"), "{printed}");
    server.join().unwrap();
}

#[test]
fn a_repeated_check_counts_failures_until_an_interrupt() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    let check = netkit(["tcp-client", "-z", "--json", "-i", "0.01", &address]);
    let mut check = check.any_stdout().any_stderr().code(1).start();
    check.receive_line("{*}\"event\":\"start\",\"unix_s\":{N},\"v\":1{*}");
    check.receive_line("{*}\"event\":\"error\",{*}\"seq\":1,{*}connection refused{*}");
    check.signal(Signal::INT);
    let printed = String::from_utf8(check.finish().stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&summary["event"], &summary["received"]),
        (&"summary".into(), &0.into())
    );
    assert_eq!(summary["errors"], summary["transmitted"]);
}

#[test]
fn an_interrupt_ends_a_hanging_probe_at_once_and_does_not_count_it() {
    let silent = Silent::listen();
    let address = silent.address();
    let mut check = ping(&address, ["-i", "0.01", "-W", "1h", "-O"])
        .any_stdout()
        .code(1)
        .start();
    check.receive_line(&format!("PING {address} (127.0.0.1) 0(40) bytes of data."));
    // The second is sent although the first hangs.
    check.receive_line("no answer yet for tcp_seq=1");
    check.receive_line("no answer yet for tcp_seq=2");
    check.signal(Signal::INT);
    let printed = String::from_utf8(check.finish().stdout).unwrap();
    let end = format!("\n--- {address} ping statistics ---\n0 packets transmitted, 0 received\n\n");
    assert!(printed.ends_with(&end), "{printed}");
}

#[test]
fn a_probe_is_lost_after_its_time_limit() {
    let silent = Silent::listen();
    let address = silent.address();
    ping(&address, ["-c", "3", "-i", "0.05", "-W", "0.02"])
        .stdout(format!(
            "PING {address} (127.0.0.1) 0(40) bytes of data.\n\n\
             --- {address} ping statistics ---\n\
             3 packets transmitted, 0 received, 100% packet loss, time {{N}}ms\n\n"
        ))
        .code(1)
        .run();
    ping(&address, ["-c", "1", "-W", "0.02", "--max-loss", "100"])
        .any_stdout()
        .run();
}

/// Each row: the options, and the exit code of a ping of an open port.
#[test]
fn the_deadline_gives_a_ping_a_result() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let runs = [
        ("-i 1h -w 2", 0),
        ("-i 1h --deadline 2", 0),
        ("-c 2 -i 1h -w 2", 1),
        ("-c 2 -i 1h -w 2 --max-loss 50", 0),
        ("-c 2 -i 0.01 -w 1h", 0),
    ]
    .map(|(options, code)| {
        let client = ping(&address, options.split(' '));
        client.any_stdout().code(code).start()
    });
    for client in runs {
        client.finish();
    }
}

#[test]
fn an_interrupted_ping_without_a_loss_has_done_its_work() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = ping(&address, ["-i", "1h", "-D"]).any_stdout().start();
    client.receive_line("PING {*}");
    client.receive_line("[{N}] 0 bytes from {*}: tcp_seq=1 time={N} ms");
    client.signal(Signal::QUIT);
    client.expect_line("1/1 packets, 0% loss, min/avg/ewma/max = {N}/{N}/{N}/{N} ms");
    client.signal(Signal::INT);
    client.finish();
}

#[test]
fn a_refused_probe_is_an_error_in_a_line_of_its_own() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    ping(&address, ["-c", "1"])
        .stdout(format!(
            "PING {address} (127.0.0.1) 0(40) bytes of data.\n\
             From 127.0.0.1 tcp_seq=1 Connection refused\n\n\
             --- {address} ping statistics ---\n\
             1 packets transmitted, 0 received, +1 errors, 100% packet loss, time {{N}}ms\n\n"
        ))
        .code(1)
        .run();
}

#[test]
fn a_ping_refuses_what_does_nothing_in_it() {
    for (options, message) in [
        (
            "-c 1 --connect-timeout 1",
            "--connect-timeout does nothing with -c",
        ),
        ("-c 1 --retry 1", "--retry does nothing with -c"),
        ("--ping --parallel 2", "--parallel needs -z"),
        ("-z -W 1", "-W needs --ping, -c or -i"),
        ("-z -D", "-D needs --ping, -c or -i"),
        ("-O", "-O needs --ping, -c or -i"),
        (
            "-i 1",
            "-i alone is a ping; netcat's -i is --line-delay (a ping: --ping -i)",
        ),
        ("-C -i 1", "-C does nothing with -i"),
        ("-c 3 --timing", "--timing does nothing with -c"),
    ] {
        let words = ["tcp-client", "127.0.0.1:9"].into_iter();
        netkit(words.chain(options.split(' ')))
            .stderr(format!("netkit: {message}; see 'netkit tcp-client -h'\n"))
            .code(2)
            .run();
    }
}

#[test]
fn an_option_of_ping_that_a_tcp_ping_lacks_is_refused_with_what_to_do() {
    let size = "a TCP ping connects and sends no data; -s is for udp-client";
    let pace = |option| {
        format!("a TCP ping connects at its interval; write -i TIME; {option} is for udp-client")
    };
    for (options, unexpected, advice) in [
        ("-c 1 -s 1", "-s", size.to_owned()),
        ("-s 1", "-s", "write --source IP".to_owned()),
        ("-c 1 -A", "-A", pace("-A")),
        ("--adaptive", "--adaptive", pace("-A")),
        ("-i 1 -f", "-f", pace("-f")),
        ("-c1 -t 9", "-t", "write --ttl N".to_owned()),
        ("-t 9", "-t", "netkit answers no Telnet options".to_owned()),
    ] {
        let words = ["tcp-client", "127.0.0.1:9"].into_iter();
        netkit(words.chain(options.split(' ')))
            .stderr(format!(
                "netkit: unexpected argument '{unexpected}' found; {advice}; \
                 see 'netkit tcp-client -h'\n"
            ))
            .code(2)
            .run();
    }
    // That of a transfer.
    netkit(["tcp-client", "127.0.0.1:9", "--ping", "--size=1"])
        .stderr("netkit: --size does nothing with --ping; see 'netkit tcp-client -h'\n")
        .code(2)
        .run();
}

#[test]
fn a_reader_that_has_left_ends_a_ping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (reader, writer) = std::io::pipe().unwrap();
    let client = ping(&address, ["-i", "1h"]).stdout_to(writer).code(141);
    let client = client.start();
    listener.accept().unwrap();
    drop(reader);
    client.finish();
}

#[test]
fn a_reader_that_stops_holds_up_neither_the_deadline_nor_an_interrupt() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stopped = "netkit: could not write standard output: nothing reads it\n";
    let (_reader, writer) = full_pipe();
    ping(&address, ["-w", "1"])
        .stdout_to(writer.try_clone().unwrap())
        .stderr(stopped)
        .code(2)
        .run();
    listener.accept().unwrap();
    let client = ping(&address, ["-i", "1h"]).stdout_to(writer);
    let client = client.stderr(stopped).code(2).start();
    listener.accept().unwrap();
    client.signal(Signal::INT);
    client.finish();
}

/// A SOCKS 5 proxy that is asked for `a.test:258` as often as `codes` has values, and answers with them.
fn proxy(codes: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = spawn(move || {
        for code in codes {
            let mut connection = Connection::new(listener.accept().unwrap().0);
            connection.expect([5, 1, 0]);
            connection.send([5, 0]);
            connection.expect(b"\x05\x01\x00\x03\x06a.test\x01\x02");
            // The peer's greeting is glued to the answer.
            connection.send([5, *code, 0, 1, 0, 0, 0, 0, 0, 0, b'!']);
            connection.drain();
        }
    });
    (address, thread)
}

#[test]
fn a_ping_through_a_proxy_times_the_way_to_the_target() {
    let (address, thread) = proxy(&[0, 5, 0]);
    let url = format!("socks5h://{address}");
    let options = ["-c", "3", "-i", "0.3", "--proxy", &url, "-W", "1h"];
    let run = ping("a.test:258", options).any_stdout().code(1).run();
    expect_lines(
        &run.stdout,
        &[
            &format!("PING a.test:258 (through {address}) 0 bytes of data."),
            "0 bytes from a.test:258: tcp_seq=1 time={*} ms",
            &format!("From {address} tcp_seq=2 the proxy says connection refused"),
            "0 bytes from a.test:258: tcp_seq=3 time={*} ms",
            "",
            "--- a.test:258 ping statistics ---",
            "3 packets transmitted, 2 received, +1 errors, 33.3333% packet loss, time {*}ms",
            "rtt min/avg/max/mdev = {*}/{*}/{*}/{*} ms{*}",
        ],
    );
    thread.join().unwrap();
    let (address, thread) = proxy(&[0, 5]);
    let url = format!("socks5h://{address}");
    let options = [
        "-c", "2", "-i", "0.3", "--proxy", &url, "-W", "1h", "--json",
    ];
    let run = ping("a.test:258", options).any_stdout().code(1).run();
    let target = "\"target\":\"a.test:258\",\"address\":null,\"port\":258";
    expect_lines(
        &run.stdout,
        &[
            &format!("{{*}}\"event\":\"start\",{{*}}{target},\"size_bytes\":0,{{*}}"),
            "{*}\"event\":\"reply\",{*}\"seq\":1,\"address\":null,\"port\":258,{*}\"rtt_ms\":{*}",
            "{*}\"event\":\"error\",{*}\"seq\":2,\"error\":\"the proxy says connection refused\"}",
            "{*}\"event\":\"summary\",{*}\"received\":1,\"lost\":1,{*}",
        ],
    );
    thread.join().unwrap();
}

#[test]
fn a_proxy_that_is_down_or_silent_is_told_as_such() {
    let down = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", down.text());
    let url = format!("http://{address}");
    let run = ping("a.test:258", ["-c", "1", "--proxy", &url])
        .any_stdout()
        .code(1)
        .run();
    expect_lines(
        &run.stdout,
        &[
            &format!("PING a.test:258 (through {address}) 0 bytes of data."),
            &format!("From {address} tcp_seq=1 Connection refused"),
            "",
            "--- a.test:258 ping statistics ---",
            "1 packets transmitted, 0 received, +1 errors, 100% packet loss, time {*}ms",
            "",
        ],
    );
    // It accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    let run = ping("a.test:258", ["-c", "1", "-W", "0.02", "--proxy", &url])
        .any_stdout()
        .code(1)
        .run();
    let lost = "1 packets transmitted, 0 received, 100% packet loss, time {*}ms";
    let first = format!("PING a.test:258 (through {address}) 0 bytes of data.");
    let title = "--- a.test:258 ping statistics ---";
    expect_lines(&run.stdout, &[&first, "", title, lost, ""]);
    // What no proxy can be asked for is an error before the first probe.
    let long = format!("{}:1", "x".repeat(256));
    ping(
        &long,
        ["-c", "1", "--proxy", &format!("socks5h://{address}")],
    )
    .stderr("netkit: could not connect to x{*}: the name has 256 bytes, and a proxy takes 255\n")
    .code(2)
    .run();
}

#[test]
fn a_unix_socket_can_be_pinged() {
    let folder = temporary_folder();
    let path = folder.path().join("socket");
    let target = format!("unix:{}", path.display());
    let listener = UnixListener::bind(&path).unwrap();
    let run = ping(&target, ["-c", "2", "-i", "0.3"]).any_stdout().run();
    expect_lines(
        &run.stdout,
        &[
            &format!("PING {target} 0 bytes of data."),
            &format!("0 bytes from {target}: tcp_seq=1 time={{*}} ms"),
            &format!("0 bytes from {target}: tcp_seq=2 time={{*}} ms"),
            "",
            &format!("--- {target} ping statistics ---"),
            "2 packets transmitted, 2 received, 0% packet loss, time {*}ms",
            "rtt min/avg/max/mdev = {*}/{*}/{*}/{*} ms",
        ],
    );
    let run = ping(&target, ["-c", "1", "--json"]).any_stdout().run();
    let typed = format!("\"target\":\"{target}\",\"address\":null,\"port\":null");
    expect_lines(
        &run.stdout,
        &[
            &format!("{{*}}\"event\":\"start\",{{*}}{typed},{{*}}"),
            "{*}\"event\":\"reply\",{*}\"address\":null,\"port\":null,{*}",
            "{*}\"event\":\"summary\",{*}",
        ],
    );
    drop(listener);
    let run = ping(&target, ["-c", "1"]).any_stdout().code(1).run();
    let refused = format!("From {target} tcp_seq=1 Connection refused");
    assert!(String::from_utf8(run.stdout).unwrap().contains(&refused));
    // Without the file it is this machine's fault, each time.
    std::fs::remove_file(&path).unwrap();
    let why = format!("netkit: could not connect to {target}: no such file or directory\n");
    ping(&target, ["-c", "2", "-i", "0.01"])
        .any_stdout()
        .stderr(why.repeat(2))
        .code(2)
        .run();
}
