//! A session between our client and our server: services, ends, options, messages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::{Files, client, server, server_program, usual};
use crate::harness::{netkit, netkit_path, peer, random_bytes, tcp_server};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

#[test]
fn every_service_answers_through_tls() {
    let files = usual();
    let hello = server(&files, "own", &[]);
    client(&files, &hello.address())
        .stdin("a\nexit\n")
        .stdout("Welcome!Hello, a!\n")
        .run();
    let bytes = random_bytes(3_000_000);
    let echo = server(&files, "own", &["--service", "echo"]);
    client(&files, &echo.address())
        .stdin(&bytes)
        .stdout(&bytes)
        .run();
    let exec = server(
        &files,
        "own",
        &["--sh-exec", "wc -c; echo \"$NETKIT_PROTO\""],
    );
    client(&files, &exec.address())
        .stdin(&bytes)
        .stdout("3000000\nTCP\n")
        .run();
    let chargen = server(&files, "own", &["--service", "chargen"]);
    let mut reader = client(&files, &chargen.address()).any_code().any_stdout();
    reader = reader.arg("--recv-only");
    reader.start().wait_for_stdout(1_000_000);
    let discard = server(&files, "own", &["--service", "discard"]);
    client(&files, &discard.address()).stdin(&bytes).run();
    discard.wait_for_line("Connection from {*} closed.");
}

#[test]
fn members_of_a_chat_hear_each_other() {
    let files = usual();
    let chat = server(&files, "own", &["--service", "chat"]);
    let mut one = client(&files, &chat.address()).stdin_open().start();
    chat.wait_for_lines("Accept new connection {*}", 1);
    let two = client(&files, &chat.address()).stdin_open().start();
    chat.wait_for_lines("Accept new connection {*}", 2);
    two.send("hi\n");
    one.receive("<user2> hi\n");
}

#[test]
fn a_program_may_answer_long_after_the_end_of_input() {
    let files = usual();
    for version in VERSIONS {
        let answer = "data=$(cat); sleep 0.8; echo \"got $data\"";
        let exec = server(&files, "own", &["--sh-exec", answer, "--tls-min", version]);
        client(&files, &exec.address())
            .stdin("ask")
            .stdout("got ask\n")
            .run();
        exec.wait_for_line("Connection from {*} closed.");
    }
}

#[test]
fn a_server_of_one_connection_ends_as_it_does_without_tls() {
    let files = usual();
    let mut stdio = server(&files, "own", &["-l"]);
    client(&files, &stdio.address())
        .stdin("to the server")
        .run();
    stdio.receive("to the server");
    stdio.finish();
}

#[test]
fn a_made_certificate_is_printed_for_the_client() {
    let server = tcp_server(["--tls", "--service", "echo"]).listen();
    let line = server.wait_for_line("Certificate sha256:{*}");
    let (pin, command) = line.split_once(" (").unwrap();
    let pin = pin.strip_prefix("Certificate ").unwrap();
    assert_eq!(pin.len(), "sha256:".len() + 64);
    let expected = format!(
        "netkit tcp-client --tls --tls-pin {pin} {})",
        server.address()
    );
    assert_eq!(command, expected);
    netkit(["tcp-client", "--tls", "--tls-pin", pin, &server.address()])
        .stdin("x")
        .stdout("x")
        .run();
    let other = format!("sha256:{}", "0".repeat(64));
    netkit([
        "tcp-client",
        "--tls",
        "--tls-pin",
        &other,
        &server.address(),
    ])
    .stderr(format!(
        "netkit: could not trust {}: its certificate is {pin}, which is not pinned\n",
        server.address()
    ))
    .code(1)
    .run();
    netkit(["tcp-client", "--tls", "--tls-insecure", &server.address()])
        .stdin("x")
        .stdout("x")
        .stderr("netkit: any certificate is trusted (--tls-insecure)\n")
        .run();
}

#[test]
fn verbose_tells_what_was_agreed_and_with_whom() {
    let files = usual();
    let server = server(&files, "own", &["--tls-alpn", "h2,http/1.1"]);
    client(&files, &server.address())
        .args(["-v", "--tls-alpn", "http/1.1"])
        .any_stdout()
        .stdin("exit")
        .stderr(
            "{*} INFO connected to {*}\n\
             {*} INFO TLS 1.3, TLS_{*}, X25519, http/1.1; CN=own by CN=ca, until 2120-01-01 ({N} days), sha256:{*}\n\
             {*} INFO closed by the peer: {*}\n",
        )
        .run();
}

#[test]
fn timing_tells_when_the_handshake_was_over() {
    let files = usual();
    let server = server(&files, "own", &[]);
    client(&files, &server.address())
        .arg("--timing")
        .stdin("exit")
        .any_stdout()
        .stderr("resolve {*} ms, connect {*} ms, tls {*} ms, first byte {*} ms, total {*} ms\n")
        .run();
}

#[test]
fn a_url_of_https_and_get_speak_tls() {
    let files = usual();
    let server = server(&files, "own", &["--sh-exec", "head -n 3; echo; echo page"]);
    let url = format!("https://{}/a?b", server.address());
    let ca = files.path("ca.pem");
    netkit(["tcp-client", "--tls-ca", &ca, &url])
        .stdout(format!(
            "GET /a?b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\npage\n",
            server.address()
        ))
        .run();
}

#[test]
fn session_keys_are_written_for_their_owner_only() {
    let files = usual();
    let keys = files.path("keys");
    let server = server(&files, "own", &[]);
    for _ in 0..2 {
        client(&files, &server.address())
            .env("SSLKEYLOGFILE", &keys)
            .stdin("exit")
            .stdout("Welcome!")
            .stderr(format!(
                "netkit: {keys} gets the session keys (SSLKEYLOGFILE): who reads it can decrypt\n"
            ))
            .run();
    }
    let text = fs::read_to_string(&keys).unwrap();
    let mut labels: Vec<_> = text
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    labels.sort_unstable();
    labels.dedup();
    assert!(labels.contains(&"CLIENT_TRAFFIC_SECRET_0"), "{labels:?}");
    assert_eq!(text.matches("SERVER_TRAFFIC_SECRET_0").count(), 2);
    assert_eq!(
        fs::metadata(&keys).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // What is written there fails.
    let full = client(&files, &server.address()).env("SSLKEYLOGFILE", "/dev/full");
    full.stdin("exit")
        .stderr(
            "netkit: /dev/full gets the session keys (SSLKEYLOGFILE): who reads it can decrypt\n\
             netkit: could not write /dev/full (SSLKEYLOGFILE): no space left on device\n",
        )
        .code(2)
        .run();
    client(&files, &server.address())
        .env("SSLKEYLOGFILE", "/nonexistent/keys")
        .stderr("netkit: could not write /nonexistent/keys (SSLKEYLOGFILE): no such file or directory\n")
        .code(2)
        .run();
}

#[test]
fn a_server_tells_once_that_keys_could_not_be_written() {
    let files = usual();
    let server = server_program(&files, "own", &[]).env("SSLKEYLOGFILE", "/dev/full");
    let server = server.listen();
    for _ in 0..2 {
        client(&files, &server.address())
            .stdin("exit")
            .stdout("Welcome!")
            .run();
    }
    let log = server.stop().stderr;
    assert_eq!(log.matches("could not write /dev/full").count(), 1, "{log}");
}

#[test]
fn a_dump_shows_plaintext() {
    let files = usual();
    let server = server(&files, "own", &[]);
    client(&files, &server.address())
        .arg("-x")
        .stdin("exit")
        .stdout("Welcome!")
        .stderr("{*}exit\n{*}Welcome!\n")
        .run();
}

#[test]
fn an_option_without_tls_is_refused_by_name() {
    for option in [
        "--tls-ca=x",
        "--tls-insecure",
        "--tls-name=x",
        "--tls-cert=x",
        "--tls-alpn=x",
    ] {
        let name = option.split('=').next().unwrap();
        netkit(["tcp-client", option, ":1"])
            .stderr(format!(
                "netkit: {name} needs --tls; see 'netkit tcp-client -h'\n"
            ))
            .code(2)
            .run();
    }
    for option in ["--tls-client-ca=x", "--tls-key=x", "--tls-min=1.3"] {
        let name = option.split('=').next().unwrap();
        netkit(["tcp-server", option, "0"])
            .stderr(format!(
                "netkit: {name} needs --tls; see 'netkit tcp-server -h'\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn a_plain_run_reads_no_certificates() {
    // A file that is no certificate would be an error.
    let server = tcp_server([]).listen();
    netkit(["tcp-client", &server.address()])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSLKEYLOGFILE", "/nonexistent/keys")
        .stdin("exit")
        .stdout("Welcome!")
        .run();
}

#[test]
fn a_key_without_its_certificate_is_refused() {
    for (role, place) in [("tcp-client", ":1"), ("tcp-server", "0")] {
        netkit([role, "--tls", "--tls-key", "x", place])
            .stderr(format!(
                "netkit: --tls-key needs --tls-cert; see 'netkit {role} -h'\n"
            ))
            .code(2)
            .run();
    }
}

#[test]
fn what_is_no_protocol_and_no_name_is_refused() {
    let long = "x".repeat(256);
    for (value, why) in [
        ("", "'' is no protocol; write names, as in h2,http/1.1"),
        ("h2,,x", "'' is no protocol; write names, as in h2,http/1.1"),
        (&long, "a protocol has at most 255 bytes, not 256"),
    ] {
        for (role, place) in [("tcp-client", ":1"), ("tcp-server", "0")] {
            let run = netkit([role, "--tls", "--tls-alpn", value, place]);
            let run = run.any_stderr().code(2).run();
            let said = why.split(';').next().unwrap();
            assert!(
                run.stderr.contains(said) && run.stderr.contains("--tls-alpn"),
                "{}",
                run.stderr
            );
        }
    }
    for (role, place) in [("tcp-client", ":1"), ("tcp-server", "0")] {
        for name in ["", "a b", "ünï.lan", "a..b"] {
            netkit([role, "--tls", "--tls-name", name, place])
                .stderr(format!(
                    "netkit: '{name}' is no name for TLS: that is ASCII, as in xn--...; --tls-name NAME \
                     names another; see 'netkit {role} -h'\n"
                ))
                .code(2)
                .run();
        }
    }
}

/// Which files client and server of one connection open.
fn opened(files: &Files, service: &[&str], words: &[&str]) -> Option<String> {
    let traced = |name: &str| {
        let log = files.path(name);
        let strace = ["-f", "-qq", "-e", "trace=?open,openat", "-o", &log];
        Some(peer("strace", strace)?.arg(netkit_path()).code(0))
    };
    let server = traced("server.opened")?
        .args(["tcp-server", "-p", "0", "-l"])
        .args(service);
    let server = server.stdin("y").any_stdout().listen();
    let client = traced("client.opened")?.args(["tcp-client", &server.address()]);
    client.args(words).stdin("x").stdout("y").run();
    server.finish();
    let read = |name: &str| fs::read_to_string(files.path(name)).unwrap();
    Some(read("server.opened") + &read("client.opened"))
}

#[test]
fn a_plain_run_reads_no_certificate() {
    let files = usual();
    let [own, key, ca] = ["own.pem", "own.key", "ca.pem"].map(|name| files.path(name));
    let has_certificates = |opened: &str| opened.contains("/ssl") || opened.contains(".pem");
    let Some(plain) = opened(&files, &[], &[]) else {
        return;
    };
    assert!(!has_certificates(&plain), "{plain}");
    let with_tls = ["--tls", "--tls-cert", &own, "--tls-key", &key];
    let encrypted = opened(&files, &with_tls, &["--tls", "--tls-ca", &ca]).unwrap();
    assert!(has_certificates(&encrypted), "{encrypted}");
    // The system's authorities are read only if no others are named.
    assert!(!encrypted.contains("/ssl"), "{encrypted}");
}

#[test]
fn a_reader_that_leaves_ends_the_client() {
    let files = usual();
    let server = server(&files, "own", &["--service", "chargen"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    client(&files, &server.address())
        .stdin_open()
        .stdout_to(writer)
        .code(141)
        .within(Duration::from_secs(10))
        .run();
}

#[test]
fn the_environment_names_the_authorities() {
    let files = usual();
    let server = server(&files, "own", &[]);
    netkit(["tcp-client", "--tls", &server.address()])
        .env("SSL_CERT_FILE", files.path("ca.pem"))
        .stdin("exit")
        .stdout("Welcome!")
        .run();
    netkit(["tcp-client", "--tls", &server.address()])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .stderr(
            "netkit: could not find the certificates of this machine's authorities; --tls-ca FILE \
             names some, and so does SSL_CERT_FILE\n",
        )
        .code(2)
        .run();
}

#[test]
fn a_capture_has_the_plaintext_of_both_sides_and_the_ends_that_tls_told() {
    let files = usual();
    let bytes = random_bytes(300_000);
    let of_server = files.path("server.pcapng");
    let server = server(&files, "own", &["--sh-exec", "cat", "--record", &of_server]);
    client(&files, &server.address())
        .args(["--record", &files.path("client.pcapng")])
        .stdin(&bytes)
        .stdout(&bytes)
        .run();
    server.wait_for_line("Connection from {*} closed.");
    for file in [of_server, files.path("client.pcapng")] {
        let packets = crate::harness::pcapng::packets(&fs::read(&file).unwrap());
        let stream = crate::harness::pcapng::streams(&packets).remove(0);
        assert!(stream.to_server == bytes && stream.to_client == bytes);
        assert_eq!(stream.ends, "client FIN, server FIN", "{file}");
    }
}
