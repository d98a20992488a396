//! Which certificates are trusted, and what is said of the others.

use std::fs::File;
use std::io::Write as _;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, NameConstraints, date_time_ymd,
};

use super::{Files, authority, client, params, server, signed, usual};
use crate::harness::{Program, named_pipe, netkit, spawn, tcp_server};

/// Our client must refuse a server that presents `own`, for `why`.
fn refused(files: &Files, why: &str) {
    let server = server(files, "own", &[]);
    client(files, &server.address())
        .stderr(format!(
            "netkit: could not trust {}: {why}\n",
            server.address()
        ))
        .code(1)
        .run();
}

/// A folder where `ca` has signed `own`.
fn with(params: &CertificateParams) -> Files {
    let files = Files::new();
    let ca = authority(&files, "ca");
    signed(&files, "own", params, &ca);
    files
}

fn accepted(files: &Files, arguments: &[&str]) {
    let server = server(files, "own", &[]);
    client(files, &server.address())
        .args(arguments)
        .stdin("exit")
        .stdout("Welcome!")
        .run();
}

const PIN: &str = "if sha256:{*} is the one you expect, --tls-pin sha256:{*}";

#[test]
fn the_name_counts_as_it_was_typed() {
    accepted(&usual(), &[]);
    accepted(
        &with(&params("own", &["*.db.lan"])),
        &["--tls-name", "a.db.lan"],
    );
    accepted(&usual(), &["--tls-name", "localhost"]);
    // A star is one label.
    let files = with(&params("own", &["*.db.lan"]));
    let server = server(&files, "own", &[]);
    client(&files, &server.address())
        .args(["--tls-name", "a.b.db.lan"])
        .stderr(format!(
            "netkit: could not trust {}: its certificate is for *.db.lan, and not for a.b.db.lan; {PIN}\n",
            server.address()
        ))
        .code(1)
        .run();
    let files = with(&params("own", &["a.lan", "b.lan"]));
    refused(
        &files,
        &format!("its certificate is for a.lan, b.lan, and not for 127.0.0.1; {PIN}"),
    );
    let files = with(&params("127.0.0.1", &[]));
    refused(
        &files,
        &format!(
            "its certificate is only for CN=127.0.0.1, which is no subjectAltName, and not for 127.0.0.1; {PIN}"
        ),
    );
}

#[test]
fn the_dates_count() {
    let mut old = params("own", &["127.0.0.1"]);
    old.not_after = date_time_ymd(2021, 2, 3);
    refused(
        &with(&old),
        &format!("its certificate ended on 2021-02-03; {PIN}"),
    );
    let mut new = params("own", &["127.0.0.1"]);
    new.not_before = date_time_ymd(2119, 2, 3);
    refused(
        &with(&new),
        &format!("its certificate begins on 2119-02-03; {PIN}"),
    );
}

#[test]
fn of_very_many_names_some_are_told() {
    let names: Vec<String> = (0..300).map(|number| format!("h{number}.lan")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    refused(
        &with(&params("own", &names)),
        &format!(
            "its certificate is for h0.lan, h1.lan, h2.lan, h3.lan, h4.lan, h5.lan, h6.lan and 293 \
             others, and not for 127.0.0.1; {PIN}"
        ),
    );
}

/// `own` is signed by `between`, which `ca` has signed as `change` says. The server sends both.
fn with_between(change: impl FnOnce(&mut CertificateParams)) -> Files {
    let files = Files::new();
    let ca = authority(&files, "ca");
    let mut between = params("between", &[]);
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut between);
    let key = KeyPair::generate().unwrap();
    let pem = between.signed_by(&key, &ca).unwrap().pem();
    let between = rcgen::Issuer::new(between, key);
    signed(&files, "own", &params("own", &["127.0.0.1"]), &between);
    let own = std::fs::read_to_string(files.path("own.pem")).unwrap();
    files.write("own.pem", own + &pem);
    files
}

#[test]
fn the_certificate_of_a_signer_counts_too() {
    accepted(&with_between(|_| {}), &[]);
    let files = with_between(|between| between.not_after = date_time_ymd(2021, 2, 3));
    let why = "the certificate of its signer ended on 2021-02-03";
    refused(&files, &format!("{why}; {PIN}"));
    let files = with_between(|between| between.not_before = date_time_ymd(2119, 2, 3));
    let why = "the certificate of its signer begins on 2119-02-03";
    refused(&files, &format!("{why}; {PIN}"));
    let files = with_between(|between| between.is_ca = IsCa::ExplicitNoCa);
    let why = "its certificate is not valid (end entity used as ca)";
    refused(&files, &format!("{why}; {PIN}"));
    let files = with_between(|between| {
        between.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::IpAddress(CidrSubnet::V4(
                [10, 0, 0, 0],
                [255, 0, 0, 0],
            ))],
            excluded_subtrees: Vec::new(),
        });
    });
    let why = "its certificate is not valid (name constraint violation)";
    refused(&files, &format!("{why}; {PIN}"));
}

#[test]
fn a_certificate_for_clients_is_refused_unless_it_is_pinned() {
    let mut of_client = params("own", &["127.0.0.1"]);
    of_client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let files = with(&of_client);
    let why = "its certificate is not for servers (extendedKeyUsage)";
    refused(&files, &format!("{why}; {PIN}"));
    let server = server(&files, "own", &[]);
    let pin = pin(&files);
    netkit(["tcp-client", "--tls", "--tls-pin", &pin, &server.address()])
        .stdin("exit")
        .stdout("Welcome!")
        .run();
}

#[test]
fn names_with_control_characters_are_escaped() {
    let files = with(&params("a\x1b[31m\u{202e}\nb", &[]));
    refused(
        &files,
        &format!(
            "its certificate is only for CN=a\\x1b[31m\\xe2\\x80\\xae\\nb, which is no subjectAltName, \
             and not for 127.0.0.1; {PIN}"
        ),
    );
}

/// A certificate that is signed by itself, as `own`, and as `ca`.
fn by_itself(params: &CertificateParams) -> Files {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    files.add("own", &certificate, &key);
    files.add("ca", &certificate, &key);
    files
}

#[test]
fn a_certificate_in_the_file_itself_needs_no_signer_but_the_right_name_and_dates() {
    let mut all = params("own", &["127.0.0.1"]);
    accepted(&by_itself(&all), &[]);
    // As `openssl req -x509` makes them.
    all.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    accepted(&by_itself(&all), &[]);
    let mut old = all.clone();
    old.not_after = date_time_ymd(2021, 2, 3);
    refused(
        &by_itself(&old),
        &format!("its certificate ended on 2021-02-03; {PIN}"),
    );
    let mut other = params("own", &["a.lan"]);
    other.is_ca = all.is_ca;
    refused(
        &by_itself(&other),
        &format!("its certificate is for a.lan, and not for 127.0.0.1; {PIN}"),
    );
}

#[test]
fn one_that_is_signed_by_itself_or_by_strangers_is_refused() {
    let files = by_itself(&params("own", &["127.0.0.1"]));
    authority(&files, "ca");
    refused(
        &files,
        &format!("its certificate is signed by itself; {PIN}"),
    );
    let files = usual();
    authority(&files, "strangers");
    std::fs::copy(files.path("strangers.pem"), files.path("ca.pem")).unwrap();
    refused(
        &files,
        &format!("its certificate is signed by CN=ca, {{*}}; {PIN}"),
    );
}

#[test]
fn a_certificate_between_has_to_be_sent() {
    let files = Files::new();
    let ca = authority(&files, "ca");
    let mut between = params("between", &[]);
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = between.signed_by(&key, &ca).unwrap().pem();
    let between = rcgen::Issuer::new(between, key);
    signed(&files, "own", &params("own", &["127.0.0.1"]), &between);
    refused(
        &files,
        &format!("its certificate is signed by CN=between, {{*}}; {PIN}"),
    );
    let own = std::fs::read_to_string(files.path("own.pem")).unwrap();
    files.write("own.pem", own + &pem);
    accepted(&files, &[]);
    let chain = files.path("chain.pem");
    accepted(&files, &["--tls-save-chain", &chain]);
    let saved = std::fs::read_to_string(chain).unwrap();
    assert_eq!(saved.matches("BEGIN CERTIFICATE").count(), 2);
    let sent = std::fs::read_to_string(files.path("own.pem")).unwrap();
    assert_eq!(saved.replace("\r\n", "\n"), sent.replace("\r\n", "\n"));
}

/// What the pin of `own.pem` is.
fn pin(files: &Files) -> String {
    let server = server(files, "own", &[]);
    let run = netkit([
        "tcp-client",
        "--tls",
        "--tls-insecure",
        "-v",
        &server.address(),
    ]);
    let log = run.stdin("exit").any_stdout().any_stderr().run().stderr;
    let at = log.find("sha256:").unwrap();
    log[at..at + "sha256:".len() + 64].to_owned()
}

#[test]
fn without_a_host_the_name_is_localhost() {
    for (name, code) in [("localhost", 0), ("other.test", 1)] {
        let files = with(&params("own", &[name]));
        let server = server(&files, "own", &[]);
        let (ca, port) = (files.path("ca.pem"), format!(":{}", server.port()));
        netkit(["tcp-client", "--tls", "--tls-ca", &ca, &port])
            .stdin("exit")
            .any_stdout()
            .any_stderr()
            .code(code)
            .run();
    }
}

#[test]
fn a_pin_trusts_whatever_else_is_wrong() {
    let mut bad = params("own", &["a.lan"]);
    bad.not_after = date_time_ymd(2021, 2, 3);
    let files = with(&bad);
    let pin = pin(&files);
    let server = server(&files, "own", &[]);
    for pin in [pin.clone(), pin.to_uppercase().replace("SHA256", "sha256")] {
        netkit(["tcp-client", "--tls", "--tls-pin", &pin, &server.address()])
            .stdin("exit")
            .stdout("Welcome!")
            .run();
    }
    let ca = files.path("ca.pem");
    netkit([
        "tcp-client",
        "--tls",
        "--tls-pin",
        &pin,
        "--tls-ca",
        &ca,
        ":1",
    ])
    .stderr("{*} cannot be used with {*}\n")
    .code(2)
    .run();
}

/// To open a named pipe for reading blocks until it has a writer (fifo(7)).
#[test]
fn a_pipe_is_waited_for_until_the_deadline() {
    let files = usual();
    let pipe = files.path("pipe");
    named_pipe(pipe.as_ref());
    for option in ["--tls-ca", "--tls-cert"] {
        for limit in [&["--deadline", "200ms"][..], &["-c", "1", "-w", "200ms"]] {
            netkit(["tcp-client", "--tls", option, &pipe, "127.0.0.1:1"])
                .args(limit)
                .stderr(format!(
                    "netkit: could not read {pipe}: it has not ended after 200ms (--deadline)\n"
                ))
                .code(4)
                .run();
        }
    }
    let server = server(&files, "own", &[]);
    let (path, pem) = (pipe.clone(), std::fs::read(files.path("ca.pem")).unwrap());
    let writer = spawn(move || {
        let mut pipe = File::options().write(true).open(path).unwrap();
        for piece in pem.chunks(100) {
            pipe.write_all(piece).unwrap();
        }
    });
    netkit(["tcp-client", "--tls", "--tls-ca", &pipe, &server.address()])
        .stdin("exit")
        .stdout("Welcome!")
        .run();
    writer.join().unwrap();
}

#[test]
fn a_certificate_and_the_key_of_another_are_refused() {
    let files = usual();
    let key = KeyPair::generate().unwrap();
    files.write("other.key", key.serialize_pem());
    for role in ["tcp-client", "tcp-server"] {
        let (cert, other) = (files.path("own.pem"), files.path("other.key"));
        let place = if role == "tcp-client" { ":1" } else { "0" };
        netkit([
            role,
            "--tls",
            "--tls-cert",
            &cert,
            "--tls-key",
            &other,
            place,
        ])
        .env("SSL_CERT_FILE", files.path("ca.pem"))
        .stderr("netkit: could not use the certificate of --tls-cert with its key: they do not belong together\n")
        .code(2)
        .run();
    }
}

#[test]
fn files_that_do_not_serve_are_told_by_name() {
    let files = usual();
    let empty = files.write("empty", "");
    let encrypted = files.write(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let own = files.path("own.pem");
    let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let malformed = files.write("malformed", malformed);
    let cases: [(&[&str], String); 5] = [
        (
            &["--tls-ca", &malformed],
            format!("could not read {malformed}: a certificate in it is malformed"),
        ),
        (
            &["--tls-ca", &empty],
            format!("could not read {empty}: it has no certificate in PEM"),
        ),
        (
            &["--tls-ca", "/nonexistent"],
            "could not read /nonexistent: no such file or directory".to_owned(),
        ),
        (
            &["--tls-ca", &own, "--tls-cert", &own],
            format!("could not read {own}: it has no key in PEM"),
        ),
        (
            &[
                "--tls-ca",
                &own,
                "--tls-cert",
                &own,
                "--tls-key",
                &encrypted,
            ],
            format!(
                "could not read {encrypted}: its key is encrypted; openssl pkey -in {encrypted} -out PLAIN writes a plain one"
            ),
        ),
    ];
    for (arguments, message) in cases {
        netkit(["tcp-client", "--tls", ":1"])
            .args(arguments)
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
}

#[test]
fn certificate_and_key_may_come_through_one_pipe() {
    let files = usual();
    let [pem, key] = ["own.pem", "own.key"].map(|name| std::fs::read(files.path(name)).unwrap());
    let server = tcp_server(["--tls", "--tls-cert", "/dev/stdin", "--service", "echo"]);
    let server = server.stdin([pem, key].concat()).listen();
    client(&files, &server.address())
        .stdin("x")
        .stdout("x")
        .run();
}

/// A client that presents `NAME.pem`.
fn with_certificate(files: &Files, name: &str, address: &str) -> Program {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    client(files, address).args([
        "--tls-cert",
        &files.path(&certificate),
        "--tls-key",
        &files.path(&key),
    ])
}

#[test]
fn a_server_lets_in_only_clients_of_its_authority() {
    let files = usual();
    let ca = authority(&files, "clients");
    signed(&files, "alice", &params("alice\n", &[]), &ca);
    authority(&files, "strangers");
    let clients = files.path("clients.pem");
    for version in ["1.2", "1.3"] {
        let script = "printf 'I am %s' \"$NETKIT_TLS_SUBJECT\"";
        let server = server(
            &files,
            "own",
            &[
                "--tls-client-ca",
                &clients,
                "--sh-exec",
                script,
                "--tls-min",
                version,
            ],
        );
        with_certificate(&files, "alice", &server.address())
            .stdout("I am CN=alice\\n")
            .run();
        server.wait_for_line("127.0.0.1:{N} is CN=alice\\n.");
        client(&files, &server.address())
            .stderr("netkit: could not {*}: the peer says certificate required{*}\n")
            .code(1)
            .run();
        with_certificate(&files, "strangers", &server.address())
            .stderr("netkit: could not {*}: the peer says {*}\n")
            .code(1)
            .run();
        // Also one that only sends.
        client(&files, &server.address())
            .arg("--send-only")
            .stdin("lost")
            .stderr("netkit: could not {*}: the peer says certificate required{*}\n")
            .code(1)
            .run();
    }
}

#[test]
fn a_client_in_the_file_itself_needs_no_signer() {
    let files = usual();
    authority(&files, "self");
    let own = files.path("self.pem");
    let server = server(&files, "own", &["--tls-client-ca", &own]);
    with_certificate(&files, "self", &server.address())
        .stdin("exit")
        .stdout("Welcome!")
        .run();
}
