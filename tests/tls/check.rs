//! `-z --tls`: what a port says of its certificate.

use super::{authority, params, server, signed, usual};
use crate::harness::{Program, netkit, tcp_server};
use serde_json::Value;

fn check(ca: &str, address: &str) -> Program {
    netkit(["tcp-client", "-z", "--tls", "--tls-ca", ca, address])
}

#[test]
fn a_port_tells_its_version_and_its_certificate() {
    let files = usual();
    let server = server(&files, "own", &[]);
    check(&files.path("ca.pem"), &server.address())
        .stdout(format!(
            "{} open, {{*}} ms, TLS 1.3 in {{*}} ms, certificate until 2120-01-01 ({{N}} days)\n",
            server.address()
        ))
        .run();
}

#[test]
fn a_certificate_that_ends_too_soon_is_a_failure() {
    let files = usual();
    let server = server(&files, "own", &[]);
    let ca = files.path("ca.pem");
    check(&ca, &server.address())
        .args(["--tls-expiry", "30d"])
        .any_stdout()
        .run();
    // One that a server makes lasts 30 days.
    let short = tcp_server(["--tls"]).listen();
    let line = short.wait_for_line("Certificate sha256:{*}");
    let pin = line.split(' ').nth(1).unwrap();
    for (expiry, code) in [("29d", 0), ("32d", 1)] {
        let check = netkit(["tcp-client", "-z", "--tls", "--tls-pin", pin]);
        let check = check.args(["--tls-expiry", expiry, "--retry", "3", &short.address()]);
        let message = "netkit: the certificate of {*} lasts until {*} (30 days), less than 32d (--tls-expiry)\n";
        let message = if code == 0 { "" } else { message };
        check.any_stdout().stderr(message).code(code).run();
    }
    netkit(["tcp-client", "-z", "--tls-expiry", "1", ":1"])
        .stderr("netkit: --tls-expiry needs --tls; see 'netkit tcp-client -h'\n")
        .code(2)
        .run();
    netkit(["tcp-client", "--tls", "--tls-expiry", "1", ":1"])
        .stderr("netkit: --tls-expiry needs -z, --ping, -c or -i; see 'netkit tcp-client -h'\n")
        .code(2)
        .run();
}

#[test]
fn a_port_that_is_not_trusted_or_speaks_no_tls_is_not_open() {
    let files = usual();
    authority(&files, "other");
    let ours = server(&files, "own", &[]);
    // It is not tried again.
    check(&files.path("other.pem"), &ours.address())
        .args(["--wait", "10"])
        .stderr("netkit: could not trust {*}: its certificate is signed by CN=ca, {*}\n")
        .code(1)
        .run();
    let plain = tcp_server([]).listen();
    check(&files.path("ca.pem"), &plain.address())
        .stderr("netkit: could not speak TLS with {*}: it does not speak TLS\n")
        .code(1)
        .run();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    check(
        &files.path("ca.pem"),
        &silent.local_addr().unwrap().to_string(),
    )
    .args(["-w", "1"])
    .stderr("netkit: gave up on {*}: no end of the TLS handshake within 1s\n")
    .code(4)
    .run();
}

#[test]
fn a_client_certificate_that_is_refused_late_is_seen() {
    let files = usual();
    let clients = authority(&files, "clients");
    signed(&files, "alice", &params("alice", &[]), &clients);
    let ask = ["--tls-client-ca", &files.path("clients.pem")];
    let server = server(&files, "own", &ask);
    let ca = files.path("ca.pem");
    check(&ca, &server.address())
        .stderr("netkit: could not speak TLS with {*}: the peer says certificate required\n")
        .code(1)
        .run();
    let (own, key) = (files.path("alice.pem"), files.path("alice.key"));
    check(&ca, &server.address())
        .args(["--tls-cert", &own, "--tls-key", &key])
        .any_stdout()
        .run();
}

#[test]
fn json_tells_all_of_it() {
    let files = usual();
    let server = server(&files, "own", &["--tls-alpn", "h2"]);
    let event = |program: Program| {
        let run = program
            .args(["--json", "--tls-alpn", "h2"])
            .any_stdout()
            .any_stderr();
        let lines = String::from_utf8(run.run().stdout).unwrap();
        serde_json::from_str::<Value>(lines.lines().nth(1).unwrap()).unwrap()
    };
    let seen = event(check(&files.path("ca.pem"), &server.address()));
    for (key, value) in [
        ("event", "open".into()),
        ("tls_version", "1.3".into()),
        ("tls_cipher", "TLS_AES_128_GCM_SHA256".into()),
        ("tls_group", "X25519".into()),
        ("alpn", "h2".into()),
        ("subject", "CN=own".into()),
        ("issuer", "CN=ca".into()),
        ("names", vec!["localhost", "127.0.0.1"].into()),
        ("not_before", "2020-01-01T00:00:00Z".into()),
        ("not_after", "2120-01-01T00:00:00Z".into()),
        ("trusted", true.into()),
        ("why", Value::Null),
    ] {
        assert_eq!(seen[key], value, "{key}: {seen}");
    }
    assert!(seen["handshake_ms"].is_number() && seen["days_left"].is_number());
    assert_eq!(seen["sha256"].as_str().unwrap().len(), 64);
    let run = netkit([
        "tcp-client",
        "-z",
        "--tls",
        "--tls-insecure",
        &server.address(),
    ]);
    let seen = event(run);
    assert_eq!(seen["trusted"], false);
    let why = seen["why"].as_str().unwrap();
    assert!(
        why.starts_with("its certificate is signed by CN=ca, "),
        "{why}"
    );
}

#[test]
fn an_authority_of_the_same_name_with_another_key_signs_nothing() {
    let (files, others) = (usual(), usual());
    let server = server(&files, "own", &[]);
    check(&others.path("ca.pem"), &server.address())
        .stderr(format!(
            "netkit: could not trust {}: its certificate is not signed with the known key of \
             CN=ca; if {{*}}\n",
            server.address()
        ))
        .code(1)
        .run();
}
