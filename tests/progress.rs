//! `--progress`: how far a transfer or a check is.

use std::fs::File;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Peer, Program, ReservedPort, Terminal, netkit, random_bytes, tcp_server, temporary_folder,
};

const ERASE: &str = "\r\x1b[K";

/// Sends `file` at 100 KiB a second to a server that discards it.
fn slow(file: &std::path::Path, address: &str) -> Program {
    netkit(["tcp-client", "--max-rate", "100k", address]).stdin_from(File::open(file).unwrap())
}

#[test]
fn a_file_shows_its_progress_on_a_terminal_after_two_seconds() {
    let server = tcp_server(["--service", "discard"]).listen();
    let folder = temporary_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, random_bytes(350 << 10)).unwrap();
    let (shown, typed) = (Terminal::open(), Terminal::open());
    let client = slow(&file, &server.address())
        .stderr_to(shown.device())
        .start();
    // Neither a pipe, nor a log file, nor -q.
    let pipe = netkit(["tcp-client", "--max-rate", "100k", &server.address()]);
    let pipe = pipe
        .stdin(vec![0; 350 << 10])
        .stderr_to(typed.device())
        .start();
    let plain = slow(&file, &server.address()).start();
    let quiet = slow(&file, &server.address())
        .arg("-q")
        .stderr_to(typed.device())
        .start();
    client.finish();
    plain.finish();
    pipe.finish();
    quiet.finish();
    let text = String::from_utf8(shown.rest()).unwrap();
    let lines: Vec<&str> = text.split(ERASE).collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.len() >= 2 && before[0].is_empty(), "{text:?}");
    for line in &before[1..] {
        assert!(
            line.contains(" KiB 0:00:0") && line.contains("% ETA "),
            "{text:?}"
        );
    }
    assert!(
        last.starts_with("350.0 KiB 0:00:0") && last.contains("] 100% ETA 0:00:00"),
        "{text:?}"
    );
    assert!(last.ends_with('\n'), "{text:?}");
    assert_eq!(String::from_utf8(typed.rest()).unwrap(), "");
}

#[test]
fn without_a_terminal_it_is_a_line_or_an_event() {
    let server = tcp_server(["--service", "echo"]).listen();
    let client = || {
        netkit(["tcp-client", "-P", &server.address()])
            .stdin("abc")
            .stdout("abc")
    };
    client().stderr("3 B 0:00:00 {*}B/s\n").run();
    client()
        .args(["--size", "6"])
        .stderr("3 B 0:00:00 {*}B/s {*} 50% ETA {*}\n")
        .run();
    // Alone, --size asks for it too.
    netkit(["tcp-client", "--size", "6", &server.address()])
        .stdin("abc")
        .stdout("abc")
        .stderr("3 B 0:00:00 {*}B/s {*} 50% ETA {*}\n")
        .run();
    client().arg("-q").run();
    let event = client()
        .args(["--log-format", "json"])
        .any_stderr()
        .run()
        .stderr;
    let event: Value = serde_json::from_str(event.trim_end()).unwrap();
    assert_eq!(event["event"], "progress");
    assert_eq!((&event["sent"], &event["received"]), (&3.into(), &3.into()));
    assert!(event["seconds"].as_f64().unwrap() > 0.0, "{event}");
    assert!(event["bytes_per_second"].as_f64().unwrap() > 0.0, "{event}");
}

#[test]
fn the_size_of_a_file_that_is_sent_is_not_that_of_the_answer() {
    let folder = temporary_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "abc").unwrap();
    let fetch = |answer: &'static str, options: &[&str]| {
        let peer = Peer::listen(move |mut connection| {
            connection.expect("abc");
            connection.send(answer);
        });
        let client = netkit(["tcp-client", "-P", peer.address()]).args(options);
        let client = client.stdin_from(File::open(&file).unwrap());
        client.stdout(answer).any_stderr().run().stderr
    };
    let larger = fetch("abcdef", &[]);
    assert!(
        larger.starts_with("6 B ") && !larger.contains('%'),
        "{larger}"
    );
    let smaller = fetch("ab", &[]);
    assert!(
        smaller.starts_with("3 B ") && smaller.contains(" 100% "),
        "{smaller}"
    );
    // A size that the user has told is that of the larger direction.
    let told = fetch("abcdef", &["--size", "12"]);
    assert!(told.starts_with("6 B ") && told.contains(" 50% "), "{told}");
}

/// What only fills the buffers of this system has not been sent.
#[cfg(target_os = "linux")]
#[test]
fn only_what_the_peer_has_acknowledged_counts_as_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // A receiver may have ended its own side long before.
    for has_ended in [false, true] {
        let options = ["-P", "--deadline", "0.5", "--log-format", "json"];
        let client = netkit(["tcp-client", &address]).args(options);
        let client = client.stdin(vec![0; 40 << 20]).any_stderr();
        let client = client.code(4).start();
        let connection = listener.accept().unwrap().0;
        if has_ended {
            connection.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let stderr = client.finish().stderr;
        let event: Value = serde_json::from_str(stderr.lines().next().unwrap()).unwrap();
        let sent = event["sent"].as_u64().unwrap();
        let arrived = rustix::io::ioctl_fionread(&connection).unwrap();
        assert!(sent > 0 && sent <= arrived, "{sent} of {arrived}");
    }
}

#[test]
fn a_log_line_does_not_tear_it() {
    let target = tcp_server(["--service", "echo"]).listen();
    let server = tcp_server(["--forward", &target.address(), "-P", "--size", "1M"]);
    let terminal = Terminal::open();
    let server = server.args(["--print-port"]).stderr_to(terminal.device());
    let mut server = server.any_stdout().start();
    let address = format!("127.0.0.1:{}", server.receive_line("{N}"));
    let mut first = netkit(["tcp-client", &address])
        .stdin_open()
        .stdout("abc")
        .start();
    first.send("abc");
    terminal.wait_for("0% ETA --:--");
    netkit(["tcp-client", &address]).stdin("").run();
    terminal.wait_for(" closed.");
    first.close_input();
    first.finish();
    server.signal(Signal::TERM);
    server.finish();
    let text = String::from_utf8(terminal.rest()).unwrap();
    for line in text
        .split_inclusive('\n')
        .map(|line| line.rsplit(ERASE).next().unwrap())
    {
        assert!(
            !line.contains("Connection") || line.starts_with("Connection"),
            "{text:?}"
        );
    }
}

#[test]
fn a_check_says_how_many_ports_are_left() {
    let (one, other) = (ReservedPort::tcp(), ReservedPort::tcp());
    let terminal = Terminal::open();
    let ports = format!("{},{}", one.text(), other.text());
    let options = [
        "tcp-client",
        "-P",
        "--wait",
        "1.3",
        "--retry-delay",
        "0.1",
        "-z",
        "127.0.0.1",
    ];
    netkit(options)
        .arg(ports)
        .stderr_to(terminal.device())
        .code(4)
        .run();
    let text = String::from_utf8(terminal.rest()).unwrap();
    assert!(text.contains(" of 2 ports, 0 open, 0:00:01"), "{text:?}");
    // The summary takes its place.
    assert!(
        text.contains(&format!("{ERASE}0 open, 2 closed")),
        "{text:?}"
    );
}

/// The line goes when the session begins, or when the error is told.
#[test]
fn a_retry_says_which_attempt_is_under_way() {
    let port = ReservedPort::tcp();
    let address = format!("127.0.0.1:{}", port.text());
    let options = [
        "tcp-client",
        "-P",
        "--retry",
        "2000",
        "--retry-delay",
        "0.05",
    ];
    let (served, refused) = (Terminal::open(), Terminal::open());
    let client = netkit(options).arg(&address);
    let client = client.stdin("x").stdout("x").stderr_to(served.device());
    let client = client.start();
    served.wait_for(": connection refused");
    let _server = netkit(["tcp-server", "--service", "echo", "-p", &port.text()])
        .any_stderr()
        .listen();
    client.finish();
    let text = String::from_utf8(served.rest()).unwrap();
    let lines: Vec<&str> = text.split(ERASE).collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.len() >= 2 && before[0].is_empty(), "{text:?}");
    let attempts: Vec<&str> = lines
        .iter()
        .copied()
        .filter(|line| !line.is_empty())
        .collect();
    assert!(attempts[0].starts_with("attempt "), "{text:?}");
    assert!(attempts[0].contains(" of 2,001, 0:00:0"), "{text:?}");
    // Of the session itself.
    assert!(last.starts_with("1 B 0:00:0"), "{text:?}");

    let port = ReservedPort::tcp();
    let down = format!("127.0.0.1:{}", port.text());
    netkit(options)
        .args(["--deadline", "1.3", &down])
        .stderr_to(refused.device())
        .code(4)
        .run();
    let text = String::from_utf8(refused.rest()).unwrap();
    let message =
        format!("{ERASE}netkit: could not connect to {down}: connection refused; gave up");
    assert!(text.contains(&message), "{text:?}");
}

#[test]
fn what_has_no_progress_is_refused() {
    let cases = [
        (
            &["tcp-client", "-z", ":1", "--size", "1k"][..],
            "--size does nothing with -z; see 'netkit tcp-client -h'",
        ),
        (
            &["tcp-server", "1", "--service", "echo", "-P"],
            "-P does nothing with --service echo; see 'netkit tcp-server -h'",
        ),
    ];
    for (words, message) in cases {
        netkit(words)
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
}

#[test]
fn a_session_that_is_typed_shows_none() {
    let peer = Peer::listen(|mut connection| {
        connection.expect("x\n");
        connection.send("y\n");
    });
    let terminal = Terminal::open();
    let client = netkit(["tcp-client", peer.address()])
        .stdin("x\n")
        .stdout("y\n");
    client.stderr_to(terminal.device()).run();
    assert_eq!(String::from_utf8(terminal.rest()).unwrap(), "");
}
