//! Real peers, as clients and as servers: conversations. Late answers have a file of their own.

use super::{client, server, usual};
use socket2::Type;

use crate::harness::{Program, ReservedPort, netkit, peer};

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
