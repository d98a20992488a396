//! Runs of the clients.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use socket2::SockRef;

use super::{LIMIT, Outcome, Strace, torture, write};
use crate::harness::{DEADLINE, Program, netkit, random_bytes, spawn, temporary_folder};
#[cfg(feature = "tls")]
use crate::tls;

/// A TCP server that answers each connection with `answer` and collects what it receives. It forgives
/// all that a client does.
struct Server {
    listener: TcpListener,
    thread: JoinHandle<(Vec<u8>, bool)>,
}

impl Server {
    fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepting = listener.try_clone().unwrap();
        let thread = spawn(move || {
            let (mut received, mut broken) = (Vec::new(), false);
            while let Ok((stream, _)) = accepting.accept() {
                broken |= converse(&stream, answer.clone(), &mut received).is_err();
            }
            (received, broken)
        });
        Self { listener, thread }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Runs the client to its end, and then ends the server.
    #[track_caller]
    fn serve(self, client: Program) -> Outcome {
        let finished = client.start().finish_within(LIMIT);
        SockRef::from(&self.listener)
            .shutdown(Shutdown::Both)
            .unwrap();
        let (received, broken) = self.thread.join().unwrap();
        // A client that exits with 0 may not have reset a connection.
        let dead = broken;
        Outcome {
            finished,
            received,
            broken: false,
            dead,
        }
    }
}

/// Sends `answer` while it receives all until the end.
fn converse(stream: &TcpStream, answer: Vec<u8>, received: &mut Vec<u8>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut sending = stream.try_clone()?;
    let sender = spawn(move || {
        let sent = sending.write_all(&answer);
        let _ = sending.shutdown(Shutdown::Write);
        sent
    });
    let end = (&mut &*stream).read_to_end(received);
    sender.join().unwrap()?;
    end.map(drop)
}

/// A UDP server that sends back what it receives, until the run has ended.
fn with_echo(run: impl FnOnce(&str) -> Program) -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let echo = socket.try_clone().unwrap();
    let thread = spawn(move || {
        let (mut received, mut buffer) = (Vec::new(), [0; 2000]);
        // An empty datagram from the socket itself ends this thread.
        while let Ok((count, source)) = echo.recv_from(&mut buffer) {
            if source == address {
                break;
            }
            received.extend_from_slice(&buffer[..count]);
            let _ = echo.send_to(&buffer[..count], source);
        }
        received
    });
    let client = run(&address.to_string());
    let finished = client.start().finish_within(LIMIT);
    socket.send_to(&[], address).unwrap();
    let received = thread.join().unwrap();
    Outcome {
        finished,
        received,
        broken: false,
        dead: false,
    }
}

/// Numbers become `N`: times and ports differ from run to run.
fn without_numbers(mut outcome: Outcome) -> Outcome {
    for bytes in [&mut outcome.finished.stdout, &mut outcome.received] {
        let mut shown = Vec::new();
        for &byte in &*bytes {
            match byte {
                b'0'..=b'9' | b'.' if shown.ends_with(b"N") => {}
                b'0'..=b'9' => shown.push(b'N'),
                _ => shown.push(byte),
            }
        }
        *bytes = shown;
    }
    outcome
}

/// Of what a ping printed only how much was sent and received.
fn statistics(mut outcome: Outcome) -> Outcome {
    let text = String::from_utf8_lossy(&outcome.finished.stdout).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains(" packets transmitted"));
    let counts = line
        .unwrap_or_default()
        .split(", ")
        .take(2)
        .collect::<Vec<_>>();
    outcome.finished.stdout = counts.join(", ").into_bytes();
    // A probe has a token of its run, and a lost one is told.
    outcome.received.clear();
    outcome
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_through_pipes() {
    torture(|strace| {
        let server = Server::start(random_bytes(300_000));
        let address = server.address();
        server.serve(
            strace
                .netkit(&["tcp-client", &address])
                .stdin(random_bytes(200_000)),
        )
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_between_files() {
    torture(|strace| {
        let server = Server::start(random_bytes(300_000));
        let address = server.address();
        let input = write(&strace.file("input"), &random_bytes(200_000));
        let output = std::fs::File::create(strace.file("output")).unwrap();
        let client = strace.netkit(&["tcp-client", &address, "--timing"]);
        let mut outcome = server.serve(client.stdin_from(input).stdout_to(output));
        outcome.finished.stdout = std::fs::read(strace.file("output")).unwrap();
        outcome
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_that_records() {
    torture(|strace| {
        let server = Server::start(random_bytes(3000));
        let address = server.address();
        let record = strace.file("record");
        let record = record.to_str().unwrap();
        let client = strace.netkit(&["tcp-client", &address, "--record", record, "-C", "-n"]);
        let mut outcome = server.serve(client.stdin("a\nb\n"));
        let recorded = std::fs::read(record).unwrap_or_default();
        outcome
            .received
            .extend(recorded.len().to_string().into_bytes());
        outcome
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_that_fetches() {
    torture(|strace| {
        let server = Server::start(b"HTTP/1.0 200 OK\r\n\r\npage".to_vec());
        let address = server.address();
        without_numbers(server.serve(strace.netkit(&["tcp-client", "--get=/x", &address])))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_that_resolves_a_name() {
    torture(|strace| {
        let server = Server::start(b"answer".to_vec());
        let address = server.address().replace("127.0.0.1", "localhost");
        server.serve(strace.netkit(&["tcp-client", &address, "--send", "x"]))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_that_checks_ports() {
    torture(|strace| {
        let server = Server::start(Vec::new());
        let address = server.address();
        let client = strace.netkit(&["tcp-client", "-z", "-v", &address, &address]);
        without_numbers(server.serve(client))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_that_pings() {
    torture(|strace| {
        let server = Server::start(Vec::new());
        let address = server.address();
        let words = ["tcp-client", "-c", "3", "-i", "0.01", "-W", "1", &address];
        statistics(server.serve(strace.netkit(&words)))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_through_a_proxy() {
    torture(|strace| {
        let proxy = Server::start(b"HTTP/1.1 200 OK\r\n\r\nanswer".to_vec());
        let hop = format!("http://{}", proxy.address());
        let words = [
            "tcp-client",
            "--proxy",
            &hop,
            "example.com:9",
            "--send",
            "x",
        ];
        proxy.serve(strace.netkit(&words))
    });
}

/// A client of a healthy echo, which sees what was lost on either way.
fn of_echo(strace: &Strace, echo: &[&str]) -> Outcome {
    let words = [&["tcp-client"], echo].concat();
    let client = strace.netkit(&words).stdin(random_bytes(50_000));
    Outcome {
        finished: client.start().finish_within(LIMIT),
        received: Vec::new(),
        broken: false,
        dead: false,
    }
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_with_tls() {
    let files = tls::usual();
    let ca = files.path("ca.pem");
    let server = tls::server(&files, "own", &["--service", "echo"]);
    torture(|strace| of_echo(strace, &["--tls", "--tls-ca", &ca, &server.address()]));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn tcp_client_of_a_unix_socket() {
    let folder = temporary_folder();
    let name = format!("unix:{}", folder.path().join("socket").display());
    // A Unix socket that is connected fails no shutdown(2). If strace does, the server ends the run.
    let words = [
        "tcp-server",
        &name,
        "--service",
        "echo",
        "--idle-timeout",
        "4",
    ];
    let server = netkit(words).any_stderr().start();
    server.wait_for_line("Listening on {*}");
    torture(|strace| of_echo(strace, &[&name]));
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_client_that_exchanges() {
    torture(|strace| {
        with_echo(|address| {
            let words = ["udp-client", "-W", "0.5", address];
            strace.netkit(&words).stdin("a\nb\nc\n")
        })
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_client_that_pings() {
    torture(|strace| {
        statistics(with_echo(|address| {
            let words = ["udp-client", "-c", "3", "-i", "0.01", "-W", "0.5", address];
            strace.netkit(&words)
        }))
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_client_that_relays() {
    torture(|strace| {
        with_echo(|address| {
            let words = ["udp-client", "--relay", "--wait-after-eof", "0.3", address];
            strace.netkit(&words).stdin("a\nb\nc\n")
        })
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_client_that_only_sends() {
    torture(|strace| {
        with_echo(|address| {
            let words = ["udp-client", "--no-wait", address];
            strace.netkit(&words).stdin("a\nb\nc\n")
        })
    });
}

#[test]
#[ignore = "takes a minute and needs strace"]
fn udp_client_that_checks_ports() {
    torture(|strace| {
        without_numbers(with_echo(|address| {
            strace.netkit(&["udp-client", "-z", "-W", "0.5", address])
        }))
    });
}
