//! Runs of the servers: two connections one after the other, and then SIGTERM.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use super::{LIMIT, Outcome, Strace, torture};
use crate::harness::{Finished, Process, ReservedPort, netkit, random_bytes, spawn};
#[cfg(feature = "tls")]
use crate::tls;

/// How long a peer waits for an answer that may have been lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often peers try, until two of them were served. Each thread of a server fails once.
const ATTEMPTS: usize = 6;

/// Ends a server by SIGTERM, if it `has_started`. A call may fail in the signal handler, in each thread
/// that runs it: then a later signal ends the server.
fn stop(server: Process, has_started: bool) -> Finished {
    for _ in 0..5 {
        if has_started {
            server.signal(Signal::TERM);
        }
        if server.ends_within(PATIENCE) {
            break;
        }
    }
    server.finish_within(PATIENCE)
}

/// Sends `request` and its end, and returns what comes until the end.
fn converse(address: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let request = request.to_owned();
    let sender = spawn(move || {
        let sent = sending.write_all(&request);
        let _ = sending.shutdown(Shutdown::Write);
        sent
    });
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    let sent = sender.join().unwrap();
    (end.is_ok() && sent.is_ok()).then_some(received)
}

/// Two connections, each with `request`. A failure may break some, not all.
fn tcp(strace: &Strace, arguments: &[&str], request: &[u8]) -> Outcome {
    tcp_by(strace, arguments, |address| converse(address, request))
}

/// As [`tcp`], with clients that `converse` as they do. `None`: one saw a failure.
fn tcp_by(
    strace: &Strace,
    arguments: &[&str],
    converse: impl Fn(SocketAddr) -> Option<Vec<u8>>,
) -> Outcome {
    let port = ReservedPort::tcp();
    let number = port.text();
    let words = [
        &["tcp-server", "-p", &number, "--drain-timeout", "0.5"],
        arguments,
    ]
    .concat();
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    two_conversations(strace.netkit(&words).start(), || converse(address))
}

/// Serves until two clients have conversed, and stops `server`.
fn two_conversations(server: Process, converse: impl Fn() -> Option<Vec<u8>>) -> Outcome {
    let has_started = server.first_line().is_some();
    let attempts = if has_started { ATTEMPTS } else { 0 };
    let conversations = (0..attempts).filter_map(|_| converse());
    let conversations: Vec<_> = conversations.take(2).collect();
    let count = conversations.len();
    Outcome {
        finished: stop(server, has_started),
        received: conversations.concat(),
        broken: count < 2,
        dead: count == 0,
    }
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_hello() {
    torture(|strace| tcp(strace, &[], b"a\nb\nexit\n"));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_echo() {
    torture(|strace| tcp(strace, &["--service", "echo"], &random_bytes(200_000)));
}

/// Whoever has been served stands in the record.
#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_that_records() {
    torture(|strace| {
        let record = strace.file("record");
        let arguments = ["--service", "echo", "--record", record.to_str().unwrap()];
        let request = random_bytes(5000);
        let mut outcome = tcp(strace, &arguments, &request);
        // Each connection has received and sent that much.
        let most = 4 * request.len();
        let recorded = std::fs::metadata(record).map_or(0, |file| file.len());
        let is_whole = recorded > u64::try_from(most).unwrap();
        outcome.received.push(u8::from(is_whole));
        outcome
    });
}

/// A healthy client of `server`, which sends `request`.
fn client(server: &[&str], request: &[u8]) -> Option<Vec<u8>> {
    let client = netkit(["tcp-client"].iter().chain(server)).stdin(request);
    let finished = client.start().finish_within(LIMIT);
    finished.status.success().then_some(finished.stdout)
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_with_tls() {
    let files = tls::usual();
    let [ca, certificate, key] = ["ca.pem", "own.pem", "own.key"].map(|name| files.path(name));
    let own = ["--tls", "--tls-cert", &certificate, "--tls-key", &key];
    torture(|strace| {
        tcp_by(
            strace,
            &[&own[..], &["--service", "echo"]].concat(),
            |address| {
                let server = ["--tls", "--tls-ca", &ca, &address.to_string()];
                client(&server, &random_bytes(50_000))
            },
        )
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_on_a_unix_socket() {
    torture(|strace| {
        let name = format!("unix:{}", strace.file("socket").display());
        let words = [
            "tcp-server",
            &name,
            "--service",
            "echo",
            "--drain-timeout",
            "0.5",
        ];
        let server = strace.netkit(&words).start();
        two_conversations(server, || client(&[&name], b"request"))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_program() {
    torture(|strace| tcp(strace, &["-e", "/bin/cat"], &random_bytes(100_000)));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_forward() {
    torture(|strace| {
        let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = target.local_addr().unwrap().to_string();
        let accepting = target.try_clone().unwrap();
        let thread = spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let _ = std::io::copy(&mut &stream, &mut &stream);
            }
        });
        let outcome = tcp(strace, &["--forward", &address], &random_bytes(20_000));
        socket2::SockRef::from(&target)
            .shutdown(Shutdown::Both)
            .unwrap();
        thread.join().unwrap();
        outcome
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_stdio() {
    torture(|strace| {
        let port = ReservedPort::tcp();
        let number = port.text();
        let server = strace.netkit(&["tcp-server", "-l", &number, "--accept-timeout", "2"]);
        let server = server.stdin(random_bytes(100_000)).start();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let received = server
            .first_line()
            .and_then(|_| converse(address, &random_bytes(100_000)));
        Outcome {
            finished: server.finish_within(LIMIT),
            dead: received.is_none(),
            broken: false,
            received: received.unwrap_or_default(),
        }
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_server_chat() {
    torture(|strace| {
        let port = ReservedPort::tcp();
        let number = port.text();
        let words = [
            "tcp-server",
            "-p",
            &number,
            "--service",
            "chat",
            "--drain-timeout",
            "1",
        ];
        let server = strace.netkit(&words).start();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let has_started = server.first_line().is_some();
        let attempts = if has_started { ATTEMPTS } else { 0 };
        let count = (0..attempts)
            .filter_map(|_| said_and_heard(address))
            .take(2)
            .count();
        Outcome {
            finished: stop(server, has_started),
            received: Vec::new(),
            broken: count < 2,
            dead: count == 0,
        }
    });
}

/// One member says a line until another, which may join later, hears it.
fn said_and_heard(address: SocketAddr) -> Option<()> {
    let mut listener = TcpStream::connect(address).ok()?;
    listener.set_read_timeout(Some(PATIENCE / 10)).unwrap();
    let mut speaker = TcpStream::connect(address).ok()?;
    let mut heard = Vec::new();
    for _ in 0..10 {
        speaker.write_all(b"hi\n").ok()?;
        let mut buffer = [0; 100];
        match listener.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        if heard.ends_with(b"> hi\n") {
            return Some(());
        }
    }
    None
}

/// The port in the first line of a UDP server's log.
fn port(server: &Process) -> Option<u16> {
    let line = server.first_line()?;
    // Both `Listening on` and `Bind UDP on` end in the address.
    line.trim_end_matches('.').rsplit(':').next()?.parse().ok()
}

/// A socket that is connected to the server at `port`.
fn connected(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 3)).unwrap();
    socket
}

/// Three datagrams, each with an answer. A failure may cost some of them.
fn udp(strace: &Strace, arguments: &[&str]) -> Outcome {
    let words = [
        &["udp-server", "-p", "0", "--drain-timeout", "0.5"],
        arguments,
    ]
    .concat();
    let server = strace.netkit(&words).start();
    let port = port(&server);
    let socket = port.map(connected);
    let attempts = if port.is_some() { ATTEMPTS } else { 0 };
    let answers = (0..attempts).filter_map(|_| answer(socket.as_ref()?));
    let answers: Vec<_> = answers.take(3).collect();
    let count = answers.len();
    Outcome {
        finished: stop(server, port.is_some()),
        received: answers.concat(),
        broken: count < 3,
        dead: count == 0,
    }
}

fn answer(socket: &UdpSocket) -> Option<Vec<u8>> {
    socket.send(b"x").ok()?;
    let mut buffer = [0; 100];
    let count = socket.recv(&mut buffer).ok()?;
    Some(buffer[..count].to_owned())
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_server_hello() {
    torture(|strace| udp(strace, &[]));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_server_echo() {
    torture(|strace| udp(strace, &["--service", "echo"]));
}

/// Each answer that has come stands in the record.
#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_server_that_records() {
    torture(|strace| {
        let record = strace.file("record");
        let mut outcome = udp(strace, &["--record", record.to_str().unwrap()]);
        let recorded = std::fs::read_to_string(record).unwrap_or_default();
        let answers = recorded.lines().filter(|line| *line == "Hello, x!");
        outcome.received.extend(answers.take(3).map(|_| b'!'));
        outcome
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_server_program() {
    torture(|strace| udp(strace, &["-e", "/bin/cat"]));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_server_stdio() {
    torture(|strace| {
        let server = strace.netkit(&["udp-server", "-l", "-p", "0", "--idle-timeout", "0.3"]);
        let server = server.stdin("answer").start();
        let port = port(&server);
        let received = port.and_then(|port| answer(&connected(port)));
        Outcome {
            finished: stop(server, port.is_some()),
            broken: received.is_none(),
            dead: false,
            received: received.unwrap_or_default(),
        }
    });
}
