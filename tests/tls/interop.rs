//! Real peers, as clients and as servers: the answer comes 0.8 s after the end of input.

use super::{client, server, usual};
use socket2::Type;

use crate::harness::{Program, ReservedPort, netkit, peer};

/// Reads to the end, waits, answers, and ends TLS in order. Its port stands on standard error.
const PYTHON_SERVER: &str = "
import socket, ssl, sys, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
listener = socket.create_server(('127.0.0.1', 0))
print('port', listener.getsockname()[1], file=sys.stderr, flush=True)
raw = listener.accept()[0]
tls = context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
data = b''
while True:
    piece = tls.recv(1000)
    if not piece: break
    data += piece
time.sleep(0.8)
peek = socket.socket(fileno=tls.fileno())
peek.setblocking(False)
try:
    print('FIN' if peek.recv(1, socket.MSG_PEEK) == b'' else 'bytes', file=sys.stderr)
except BlockingIOError:
    print('open', file=sys.stderr)
peek.detach()
tls.setblocking(True)
tls.sendall(b'got ' + data)
tls.unwrap()
";

const PYTHON_CLIENT: &str = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
raw = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
tls = context.wrap_socket(raw, server_hostname='localhost', suppress_ragged_eofs=False)
tls.sendall(b'ask\\n')
tls.setblocking(False)
try:
    tls.unwrap()
except ssl.SSLWantReadError:
    pass
tls.setblocking(True)
data = b''
while True:
    try: piece = tls.recv(1000)
    except ssl.SSLZeroReturnError: break
    data += piece
print(data.decode(), end='')
";

/// A server of ours that answers late.
const LATE: [&str; 2] = ["--sh-exec", "data=$(cat); sleep 0.8; echo \"got $data\""];

#[test]
fn python_as_a_server_answers_after_the_end_of_input_and_sees_no_fin() {
    let files = usual();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let (certificate, key) = (files.path("own.pem"), files.path("own.key"));
        let Some(server) = peer(
            "python3",
            ["-c", PYTHON_SERVER, &certificate, &key, version],
        ) else {
            return;
        };
        let server = server.code(0).start();
        let line = server.wait_for_line("port {N}");
        let port = line.strip_prefix("port ").unwrap();
        client(&files, &format!("127.0.0.1:{port}"))
            .stdin("ask\n")
            .stdout("got ask\n")
            .run();
        server.wait_for_line("open");
        server.finish();
    }
}

#[test]
fn clients_of_others_get_the_late_answer() {
    let files = usual();
    let ca = files.path("ca.pem");
    for version in ["TLSv1_2", "TLSv1_3"] {
        let server = server(&files, "own", &LATE);
        let port = server.port().to_string();
        if let Some(python) = peer("python3", ["-c", PYTHON_CLIENT, &ca, &port, version]) {
            python.stdout("got ask\n").code(0).run();
            server.wait_for_line("Connection from {*} closed.");
        }
    }
    let server = server(&files, "own", &LATE);
    let socat = format!("OPENSSL:localhost:{},cafile={ca}", server.port());
    if let Some(socat) = peer("socat", ["-t", "10", "-", &socat]) {
        socat.stdin("ask\n").stdout("got ask\n").code(0).run();
    }
}

#[test]
fn openssl_as_a_client_talks() {
    let files = usual();
    let server = server(&files, "own", &[]);
    let (ca, address) = (files.path("ca.pem"), format!("localhost:{}", server.port()));
    let arguments = [
        "s_client",
        "-quiet",
        "-verify_return_error",
        "-CAfile",
        &ca,
        "-connect",
        &address,
    ];
    if let Some(openssl) = peer("openssl", arguments) {
        let mut openssl = openssl.stdin_open().start();
        openssl.receive("Welcome!");
        openssl.send("Ronald\nQ\nexit\n");
        openssl.receive("Hello, Ronald!\nHello, Q!\n");
        server.wait_for_line("Connection from {*} closed.");
    }
}

#[test]
fn ncat_as_a_client_gets_its_answer_and_its_bare_fin_is_told() {
    let files = usual();
    let server = server(&files, "own", &[]);
    let port = server.port().to_string();
    if let Some(ncat) = peer("ncat", ["--ssl", "localhost", &port]) {
        // An answer that meets a reset is lost in ncat: its input ends after the answer.
        let mut ncat = ncat.stdin_open().start();
        ncat.send("x\n");
        ncat.receive("Welcome!Hello, x!\n");
        ncat.close_input();
        ncat.finish();
        server.wait_for_line("Connection from {*} closed: it ended without saying so {*}");
    }
}

/// Our client talks to `listener`, which is ready once a line matches.
fn talk(listener: Option<Program>, ready: &str, ends_well: bool) {
    let Some(listener) = listener else { return };
    let mut listener = listener.stdin_open().start();
    let line = listener.wait_for_line(ready);
    let address = format!("localhost:{}", last_word(&line));
    let ours = netkit(["tcp-client", "--tls", "--tls-insecure", "-q", &address]).stdin_open();
    let mut ours = if ends_well {
        ours.start()
    } else {
        ours.any_stderr().any_code().start()
    };
    ours.send("from netkit\n");
    listener.receive("from netkit\n");
    listener.send("from the peer\n");
    ours.receive("from the peer\n");
    ours.close_input();
    listener.close_input();
    ours.finish();
}

fn last_word(line: &str) -> String {
    line.rsplit([' ', ':']).next().unwrap().to_owned()
}

#[test]
fn socat_as_a_server_talks() {
    let files = usual();
    let listen = format!(
        "OPENSSL-LISTEN:0,bind=127.0.0.1,verify=0,cert={},key={}",
        files.path("own.pem"),
        files.path("own.key")
    );
    let socat = peer("socat", ["-d", "-d", "-", &listen]);
    talk(socat, "{*} listening on {*}", true);
}

#[test]
fn ncat_as_a_server_talks() {
    let files = usual();
    let port = ReservedPort::on([127, 0, 0, 1].into(), Type::STREAM);
    let port = port.text();
    let (certificate, key) = (files.path("own.pem"), files.path("own.key"));
    let ncat = peer(
        "ncat",
        [
            "-lv",
            "--ssl",
            "--ssl-cert",
            &certificate,
            "--ssl-key",
            &key,
            "127.0.0.1",
            &port,
        ],
    );
    // It ends without close_notify, or by a reset.
    talk(ncat, "Ncat: Listening on 127.0.0.1:{N}", false);
}

#[test]
fn openssl_as_a_server_talks() {
    let files = usual();
    let (certificate, key) = (files.path("own.pem"), files.path("own.key"));
    let arguments = [
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        &certificate,
        "-key",
        &key,
        "-naccept",
        "1",
    ];
    let Some(openssl) = peer("openssl", arguments) else {
        return;
    };
    let mut openssl = openssl.stdin_open().start();
    openssl.receive_line("Using default temp DH parameters");
    let line = openssl.receive_line("ACCEPT 127.0.0.1:{N}");
    let mut ours = client(&files, &format!("127.0.0.1:{}", last_word(&line)))
        .stdin_open()
        .start();
    openssl.send("from the peer\n");
    ours.receive("from the peer\n");
    ours.send("from netkit\n");
    ours.close_input();
    ours.finish();
    let said = openssl.finish().stdout;
    assert!(String::from_utf8_lossy(&said).contains("from netkit\n"));
}
