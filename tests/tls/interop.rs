//! Real peers, as clients and as servers: conversations. Late answers have a file of their own.

use super::openssl::{VERSIONS, Version, openssl_server, pin_of};
use super::{Files, authority, client, params, server, signed, usual};
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
    let Some((openssl, port)) = openssl_server(&files, "own", Version::Tls13, &[]) else {
        return;
    };
    let mut ours = client(&files, &format!("127.0.0.1:{port}"))
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

/// For `openssl s_client` and `s_server`, which do not speak it otherwise.
const OLDER: [&str; 3] = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];

#[test]
fn a_peer_that_speaks_only_what_is_older_is_told_apart() {
    let files = usual();
    let Some((openssl, port)) = openssl_server(&files, "own", Version::Tls12, &OLDER) else {
        return;
    };
    client(&files, &format!("127.0.0.1:{port}"))
        .stderr(
            "netkit: could not speak TLS with {*}: the peer says protocol version; it may speak only \
             what is older than TLS 1.2 or --tls-min (openssl s_client can still talk to it)\n",
        )
        .code(1)
        .run();
    drop(openssl);
    let server = server(&files, "own", &[]);
    let address = server.address();
    let arguments = ["s_client", "-connect", &address];
    peer("openssl", arguments).unwrap().args(OLDER).run();
    server.wait_for_line(
        "netkit: refused {*}: {*}; it may speak only what is older than TLS 1.2 or --tls-min",
    );
}

#[test]
fn a_peer_that_speaks_only_tls_1_2_is_refused_by_one_that_demands_1_3() {
    let files = usual();
    let Some((_openssl, port)) = openssl_server(&files, "own", Version::Tls12, &[]) else {
        return;
    };
    client(&files, &format!("127.0.0.1:{port}"))
        .args(["--tls-min", "1.3"])
        .stderr("netkit: could not speak TLS with {*}; it may speak only what is older than {*}\n")
        .code(1)
        .run();
    let server = server(&files, "own", &["--tls-min", "1.3"]);
    let address = server.address();
    let arguments = ["s_client", "-tls1_2", "-connect", &address];
    peer("openssl", arguments).unwrap().run();
    server.wait_for_line("netkit: refused {*}; it may speak only what is older than {*}");
}

#[test]
fn what_breaks_the_rules_is_told_in_words() {
    let files = usual();
    for (version, commands, message) in [
        // Too many keys, or one more handshake, which rustls refuses.
        (
            Version::Tls13,
            "k\n",
            "it broke the rules of TLS (too many key update requests).",
        ),
        (Version::Tls12, "R\n", "the peer says handshake failure."),
    ] {
        let server = server(&files, "own", &["--service", "echo"]);
        let address = server.address();
        let arguments = ["s_client", "-brief", "-connect", &address];
        let Some(openssl) = peer("openssl", arguments) else {
            return;
        };
        let openssl = version.limit(&files, openssl).stdin_open().any_stdout();
        let mut openssl = openssl.start();
        openssl.wait_for_line("Server Temp Key: {*}");
        // The server, too, is then beyond its handshake.
        openssl.send("begun\n");
        openssl.receive("begun\n");
        let name = if version == Version::Tls13 {
            "KEYUPDATE"
        } else {
            "RENEGOTIATING"
        };
        // A command is a read of its own.
        for count in 1..=if version == Version::Tls13 { 33 } else { 1 } {
            openssl.send(commands);
            openssl.wait_for_lines(name, count);
        }
        server.wait_for_line(&format!("Connection from {{*}} closed: {message}"));
    }
}

#[test]
fn a_client_whose_certificate_cannot_be_read_is_refused_in_words() {
    let files = usual();
    if peer("openssl", ["version"]).is_none() {
        return;
    }
    made_by_openssl(&files, "odd", &P256, &[]);
    let [ca, odd, key] = ["ca.pem", "odd.pem", "odd.key"].map(|name| files.path(name));
    let server = server(&files, "own", &["--tls-client-ca", &ca]);
    let address = server.address();
    let client = [
        "s_client", "-connect", &address, "-cert", &odd, "-key", &key,
    ];
    peer("openssl", client).unwrap().run();
    server.wait_for_line(
        "netkit: refused {*}: its certificate is not valid (it is of X.509 version 1)",
    );
}

/// openssl makes a key and a certificate, which `ca` signs, as `NAME.pem`.
fn made_by_openssl(files: &Files, name: &str, key: &[&str], sign: &[&str]) {
    let [ca, ca_key] = ["ca.pem", "ca.key"].map(|name| files.path(name));
    let [own_key, request, pem] =
        ["key", "csr", "pem"].map(|end| files.path(&format!("{name}.{end}")));
    let run = |arguments: &[&str]| {
        let openssl = peer("openssl", arguments.iter().copied()).unwrap();
        openssl.code(0).run();
    };
    run(&[&["genpkey", "-out", &own_key][..], key].concat());
    run(&[
        "req", "-new", "-key", &own_key, "-subj", "/CN=own", "-out", &request,
    ]);
    let own = [
        "x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-out", &pem,
    ];
    run(&[&own[..], sign].concat());
}

const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn a_certificate_that_no_authority_may_vouch_for_can_be_pinned() {
    let files = usual();
    if peer("openssl", ["version"]).is_none() {
        return;
    }
    let unknown = files.write("unknown.ext", "1.2.3.4=critical,DER:0500\n");
    for (sign, why) in [
        (&[][..], "it is of X.509 version 1"),
        (&["-extfile", &unknown], "unsupported critical extension"),
    ] {
        made_by_openssl(&files, "odd", &P256, sign);
        for version in VERSIONS {
            for trust in ["--tls-ca", "--tls-pin", "--tls-insecure"] {
                let (openssl, port) = openssl_server(&files, "odd", version, &[]).unwrap();
                let ours = netkit(["tcp-client", "--tls", &format!("127.0.0.1:{port}"), trust]);
                let ours = match trust {
                    "--tls-ca" => ours.arg(files.path("ca.pem")),
                    "--tls-pin" => ours.arg(pin_of(&files, "odd").unwrap()),
                    _ => ours.arg("-q"),
                };
                if trust == "--tls-ca" {
                    let message = format!("its certificate is not valid ({why})");
                    let message = format!("netkit: could not trust {{*}}: {message}; if {{*}}\n");
                    ours.stderr(message).code(1).run();
                } else {
                    let mut ours = ours.stdin_open().start();
                    openssl.send("from the peer\n");
                    ours.receive("from the peer\n");
                    ours.close_input();
                    ours.finish();
                    openssl.finish();
                }
            }
        }
    }
}

#[test]
fn a_key_that_netkit_does_not_know_is_one_of_the_reasons_that_are_told() {
    let files = usual();
    if peer("openssl", ["version"]).is_none() {
        return;
    }
    let p521 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
    made_by_openssl(&files, "odd", &p521, &[]);
    let (_openssl, port) = openssl_server(&files, "odd", Version::Tls13, &[]).unwrap();
    client(&files, &format!("127.0.0.1:{port}"))
        .stderr(
            "netkit: could not speak TLS with {*}: the peer says handshake failure; {*}, or have a key \
             that netkit does not know (P-521, Ed448), or demand a certificate (--tls-cert)\n",
        )
        .code(1)
        .run();
}

#[test]
fn keys_of_rsa_and_ed25519_are_spoken_with() {
    let files = usual();
    if peer("openssl", ["version"]).is_none() {
        return;
    }
    let names = files.write("names.ext", "subjectAltName=IP:127.0.0.1\n");
    for key in [
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..],
        &["-algorithm", "ED25519"],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ] {
        made_by_openssl(&files, "odd", key, &["-extfile", &names]);
        for version in VERSIONS {
            let (openssl, port) = openssl_server(&files, "odd", version, &["-www"]).unwrap();
            let page = client(&files, &format!("127.0.0.1:{port}"))
                .stdin("GET / HTTP/1.0\r\n\r\n")
                .any_stdout()
                .run();
            assert!(page.stdout.starts_with(b"HTTP/1.0 200 ok\r\n"));
            openssl.finish();
            // netkit presents it too.
            let ours = server(&files, "odd", &[]);
            let [address, ca] = [ours.address(), files.path("ca.pem")];
            let arguments = ["s_client", "-connect", &address, "-CAfile", &ca];
            let openssl = peer("openssl", arguments).unwrap();
            let openssl = openssl
                .args(["-brief", "-verify_return_error"])
                .stdin("exit\n");
            let run = version.limit(&files, openssl).code(0).run();
            assert!(run.stderr.contains("Verification: OK"), "{}", run.stderr);
        }
    }
}

/// With a certificate of alice, whom the authority `clients` has signed, and one of mallory.
fn of_clients() -> Files {
    let files = usual();
    let clients = authority(&files, "clients");
    signed(&files, "alice", &params("alice", &[]), &clients);
    let strangers = authority(&files, "strangers");
    signed(&files, "mallory", &params("mallory", &[]), &strangers);
    files
}

#[test]
fn openssl_as_a_server_demands_a_certificate() {
    let files = of_clients();
    let ca = files.path("clients.pem");
    let options = ["-Verify", "1", "-verify_return_error", "-CAfile", &ca];
    for (version, refusal) in [
        (Version::Tls12, "handshake failure; {*}"),
        (Version::Tls13, "certificate required; 4 bytes were sent"),
    ] {
        let run = |present: Option<&str>, check: &dyn Fn(Program) -> Program| {
            let (openssl, port) = openssl_server(&files, "own", version, &options)?;
            let mut ours = client(&files, &format!("127.0.0.1:{port}")).stdin("ask\n");
            if let Some(name) = present {
                let [pem, key] = ["pem", "key"].map(|end| files.path(&format!("{name}.{end}")));
                ours = ours.args(["--tls-cert", &pem, "--tls-key", &key]);
            }
            check(ours).run();
            drop(openssl);
            Some(())
        };
        let refused = |why: &str| {
            let message = format!("netkit: could not {{*}}: the peer says {why}\n");
            move |ours: Program| ours.stderr(&message).code(1)
        };
        if run(Some("alice"), &|ours| ours).is_none() {
            return;
        }
        run(None, &refused(refusal)).unwrap();
        run(Some("mallory"), &refused("unknown CA{*}")).unwrap();
    }
}

#[test]
fn openssl_as_a_client_presents_a_certificate() {
    let files = of_clients();
    let ca = files.path("clients.pem");
    for version in VERSIONS {
        let server = server(&files, "own", &["--tls-client-ca", &ca]);
        let address = server.address();
        let run = |present: &[&str]| {
            let arguments = ["s_client", "-connect", &address, "-brief", "-ign_eof"];
            let openssl = peer("openssl", arguments)?.args(present).stdin("exit\n");
            Some(version.limit(&files, openssl).run().stderr)
        };
        let [own, key, other, other_key] =
            ["alice.pem", "alice.key", "mallory.pem", "mallory.key"].map(|name| files.path(name));
        if run(&["-cert", &own, "-key", &key]).is_none() {
            return;
        }
        server.wait_for_line("127.0.0.1:{N} is CN=alice.");
        let said = run(&[]).unwrap();
        assert!(said.contains("certificate required"), "{said}");
        let said = run(&["-cert", &other, "-key", &other_key]).unwrap();
        assert!(said.contains("unknown ca"), "{said}");
        let log = server.stop().stderr;
        assert!(
            log.contains(": it presented no certificate (--tls-client-ca)"),
            "{log}"
        );
    }
}
