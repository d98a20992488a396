//! The end of input comes first and the answer later, between netkit and real peers.
//!
//! The answer is sent by one who has seen the end, so that it cannot come earlier. No FIN of netkit may
//! come before the end of the other side. What a peer loses itself is stated here as it is.

use socket2::Type;

use super::openssl::Version::{self, Tls13};
use super::openssl::{VERSIONS, openssl_server, port};
use super::wire::{expect_no_early_fin, recorder};
use super::{Files, client, server, server_program, usual};
use crate::harness::{Process, Program, ReservedPort, Server, netkit, peer, tcp_server};

/// Answers without TLS, once it has read to the end.
fn answers() -> Server {
    tcp_server(["--sh-exec", "echo \"got $(cat)\""]).listen()
}

/// Our client prints the answer of a server on `port`.
#[track_caller]
fn our_client_gets_it(files: &Files, port: u16, version: Version) {
    let (wire, passed) = recorder(port);
    client(files, wire.address())
        .stdin("ask\n")
        .stdout("got ask\n")
        .run();
    wire.finish();
    expect_no_early_fin(&passed, true);
    version.expect(&passed);
}

/// stunnel with one service, whose port it tells.
fn stunnel(options: &str) -> Option<(Process, u16)> {
    let config = format!(
        "foreground = yes\ndebug = 6\npid =\nsyslog = no\n[s]\naccept = 127.0.0.1:0\n{options}"
    );
    let stunnel = peer("stunnel", ["-fd", "0"])?.stdin(config).start();
    let port = port(&stunnel.wait_for_line("{*} bound to 127.0.0.1:{N}"));
    Some((stunnel, port))
}

/// Python on one end. It answers 0.8 s after it has read to the end, or asks and reads to the end.
const PYTHON: &str = "
import socket, ssl, sys, time
role, task, version, authority, certificate, key, port = sys.argv[1:]
is_server = role == 'server'
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
context.maximum_version = getattr(ssl.TLSVersion, version)
if is_server:
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(('127.0.0.1', 0))
    print('port', listener.getsockname()[1], file=sys.stderr, flush=True)
    raw = listener.accept()[0]
else:
    context.load_verify_locations(authority)
    raw = socket.create_connection(('127.0.0.1', int(port)))
name = None if is_server else 'localhost'
tls = context.wrap_socket(raw, is_server, server_hostname=name, suppress_ragged_eofs=False)

def read_to_the_end():
    data = b''
    while True:
        try: piece = tls.recv(1000)
        except ssl.SSLZeroReturnError: break
        if not piece: break
        data += piece
    return data

if task == 'answer':
    data = read_to_the_end()
    time.sleep(0.8)
    tls.sendall(b'got ' + data)
    tls.unwrap()
else:
    tls.sendall(b'ask\\n')
    tls.setblocking(False)
    try: tls.unwrap()
    except ssl.SSLWantReadError: pass
    tls.setblocking(True)
    print(read_to_the_end().decode(), end='')
";

fn python(files: &Files, role: &str, task: &str, version: Version, port: u16) -> Option<Program> {
    let [authority, certificate, key] =
        ["ca.pem", "own.pem", "own.key"].map(|name| files.path(name));
    let (version, port) = (version.name("_"), port.to_string());
    let arguments = [
        "-c",
        PYTHON,
        role,
        task,
        &version,
        &authority,
        &certificate,
        &key,
        &port,
    ];
    Some(peer("python3", arguments)?.code(0))
}

#[test]
fn python_answers_our_client() {
    let files = usual();
    for version in VERSIONS {
        let Some(server) = python(&files, "server", "answer", version, 0) else {
            return;
        };
        let server = server.start();
        let port = port(&server.wait_for_line("port {N}"));
        our_client_gets_it(&files, port, version);
        server.finish();
    }
}

fn socat_of(files: &Files, version: Version, address: &str, other: &str) -> Option<Program> {
    // It waits 0.5 s for an answer unless it is told otherwise.
    let socat = peer("socat", ["-d", "-d", "-t", "20", address, other])?;
    Some(version.limit(files, socat).code(0))
}

fn socat_listens(files: &Files) -> String {
    format!(
        "OPENSSL-LISTEN:0,bind=127.0.0.1,verify=0,cert={},key={}",
        files.path("own.pem"),
        files.path("own.key")
    )
}

#[test]
fn socat_answers_our_client() {
    let files = usual();
    let backend = answers();
    let target = format!("TCP:{}", backend.address());
    for version in VERSIONS {
        let Some(socat) = socat_of(&files, version, &socat_listens(&files), &target) else {
            return;
        };
        let socat = socat.start();
        let port = port(&socat.wait_for_line("{*} listening on {*}"));
        our_client_gets_it(&files, port, version);
        socat.finish();
    }
}

#[test]
fn stunnel_answers_our_client() {
    let files = usual();
    let backend = answers();
    for version in VERSIONS {
        let stunnel = stunnel(&format!(
            "cert = {}\nkey = {}\nconnect = {}\nsslVersionMax = {}\n",
            files.path("own.pem"),
            files.path("own.key"),
            backend.address(),
            version.name("."),
        ));
        let Some((_stunnel, port)) = stunnel else {
            return;
        };
        our_client_gets_it(&files, port, version);
    }
}

#[test]
fn our_server_answers_our_client() {
    let files = usual();
    let backend = answers();
    for service in [
        &["--forward", &backend.address()][..],
        &["--sh-exec", "data=$(cat); sleep 0.8; echo \"got $data\""],
    ] {
        let server = server(&files, "own", service);
        our_client_gets_it(&files, server.port(), Tls13);
        server.wait_for_line("Connection from {*} closed.");
    }
}

#[test]
fn openssl_answers_a_request_of_our_client_that_has_ended() {
    let files = usual();
    for version in VERSIONS {
        let Some((openssl, port)) = openssl_server(&files, "own", version, &["-www"]) else {
            return;
        };
        let (wire, passed) = recorder(port);
        let ours = client(&files, wire.address()).stdin("GET / HTTP/1.0\r\n\r\n");
        let page = ours.any_stdout().run().stdout;
        wire.finish();
        let page = String::from_utf8_lossy(&page);
        assert!(
            page.contains("200 ok") && page.trim_end().ends_with("</HTML>"),
            "{page}"
        );
        expect_no_early_fin(&passed, true);
        version.expect(&passed);
        openssl.finish();
    }
}

#[test]
fn openssl_with_a_person_ends_at_the_end_of_our_client() {
    let files = usual();
    for version in VERSIONS {
        let Some((openssl, port)) = openssl_server(&files, "own", version, &[]) else {
            return;
        };
        // It sends nothing after that: its input is still open.
        let address = format!("127.0.0.1:{port}");
        client(&files, &address).stdin("ask\n").run();
        openssl.finish();
    }
}

#[test]
fn ncat_ends_at_the_end_of_our_client() {
    let files = usual();
    for version in VERSIONS {
        let port = ReservedPort::on([127, 0, 0, 1].into(), Type::STREAM);
        let number = port.text();
        let (certificate, key) = (files.path("own.pem"), files.path("own.key"));
        let arguments = [
            "-lv",
            "--ssl",
            "--ssl-cert",
            &certificate,
            "--ssl-key",
            &key,
            "127.0.0.1",
            &number,
            "--sh-exec",
            "cat >/dev/null; echo lost",
        ];
        let Some(ncat) = peer("ncat", arguments) else {
            return;
        };
        let ncat = version.limit(&files, ncat).start();
        ncat.wait_for_line("Ncat: Listening on 127.0.0.1:{N}");
        let (wire, passed) = recorder(port.number());
        // It answers our close_notify with its own.
        client(&files, wire.address()).stdin("ask\n").run();
        wire.finish();
        expect_no_early_fin(&passed, true);
        version.expect(&passed);
    }
}

/// A client of our server gets the answer.
#[track_caller]
fn client_gets_it(files: &Files, version: Version, client: impl Fn(u16) -> Option<Program>) {
    let backend = answers();
    let server = server(files, "own", &["--forward", &backend.address()]);
    let (wire, passed) = recorder(server.port());
    let Some(client) = client(port(wire.address())) else {
        // The wire waits for somebody.
        drop(std::net::TcpStream::connect(wire.address()));
        return;
    };
    client.stdout("got ask\n").code(0).run();
    wire.finish();
    server.wait_for_line("Connection from {*} closed.");
    expect_no_early_fin(&passed, false);
    version.expect(&passed);
}

#[test]
fn our_server_answers_python() {
    let files = usual();
    for version in VERSIONS {
        client_gets_it(&files, version, |port| {
            python(&files, "client", "ask", version, port)
        });
    }
}

#[test]
fn our_server_answers_socat() {
    let files = usual();
    let ca = files.path("ca.pem");
    for version in VERSIONS {
        client_gets_it(&files, version, |port| {
            let address = format!("OPENSSL:localhost:{port},cafile={ca}");
            Some(socat_of(&files, version, "-", &address)?.stdin("ask\n"))
        });
    }
}

#[test]
fn our_server_answers_stunnel() {
    let files = usual();
    let ca = files.path("ca.pem");
    for version in VERSIONS {
        let backend = answers();
        let server = server(&files, "own", &["--forward", &backend.address()]);
        let (wire, passed) = recorder(server.port());
        let stunnel = stunnel(&format!(
            "client = yes\nCAfile = {ca}\nverifyChain = yes\ncheckHost = localhost\n\
             connect = {}\nsslVersionMax = {}\n",
            wire.address(),
            version.name("."),
        ));
        let Some((_stunnel, port)) = stunnel else {
            drop(std::net::TcpStream::connect(wire.address()));
            return;
        };
        netkit(["tcp-client", &format!("127.0.0.1:{port}")])
            .stdin("ask\n")
            .stdout("got ask\n")
            .run();
        wire.finish();
        server.wait_for_line("Connection from {*} closed.");
        expect_no_early_fin(&passed, false);
        version.expect(&passed);
    }
}

#[test]
fn our_server_whose_input_ends_first_gets_the_answer() {
    let files = usual();
    let ca = files.path("ca.pem");
    let backend = answers();
    let ours = || {
        server_program(&files, "own", &["-l"])
            .stdin("ask\n")
            .stdout("got ask\n")
            .listen()
    };
    for version in VERSIONS {
        let server = ours();
        let (wire, passed) = recorder(server.port());
        let number = port(wire.address());
        if let Some(client) = python(&files, "client", "answer", version, number) {
            client.run();
            wire.finish();
            server.finish();
            expect_no_early_fin(&passed, false);
            version.expect(&passed);
        }
        let server = ours();
        let (wire, passed) = recorder(server.port());
        let address = format!("OPENSSL:localhost:{},cafile={ca}", port(wire.address()));
        let target = format!("TCP:{}", backend.address());
        if let Some(client) = socat_of(&files, version, &address, &target) {
            client.run();
            wire.finish();
            server.finish();
            expect_no_early_fin(&passed, false);
            version.expect(&passed);
        }
    }
}

#[test]
fn openssl_as_a_client_leaves_at_its_end() {
    let files = usual();
    for version in VERSIONS {
        let backend = answers();
        let server = server(&files, "own", &["--forward", &backend.address()]);
        let (ca, address) = (files.path("ca.pem"), format!("localhost:{}", server.port()));
        let arguments = ["s_client", "-brief", "-CAfile", &ca, "-connect", &address];
        let Some(openssl) = peer("openssl", arguments) else {
            return;
        };
        // It sends close_notify and closes: nobody is there for the answer.
        let openssl = version.limit(&files, openssl).stdin("ask\n");
        openssl.stdout("").run();
        server.wait_for_line("Connection from {*} closed{*}");
    }
}

#[test]
fn ncat_as_a_client_sends_a_bare_fin_and_loses_the_answer() {
    let files = usual();
    for version in VERSIONS {
        let backend = answers();
        let server = server(&files, "own", &["--forward", &backend.address()]);
        let port = server.port().to_string();
        let Some(ncat) = peer("ncat", ["--ssl", "localhost", &port]) else {
            return;
        };
        let ncat = version.limit(&files, ncat);
        ncat.stdin("ask\n").stdout("").run();
        server.wait_for_line("Connection from {*} closed: it ended without saying so {*}");
    }
}
