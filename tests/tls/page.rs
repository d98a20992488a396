//! The lines of docs/tls.md, run as they stand there: only names and ports are put in.

use super::openssl::pin_of;
use super::{Files, usual};
use crate::harness::{Program, netkit};

const PAGE: &str = include_str!("../../docs/tls.md");

/// The commands that begin with `start`.
fn commands(start: &str) -> Vec<&'static str> {
    let lines = PAGE.lines().filter(|line| line.starts_with(start));
    let commands = lines.map(|line| line.split('#').next().unwrap().trim());
    commands.collect()
}

/// `command`, in a folder with the files that it names.
fn run(files: &Files, command: &str, pairs: &[(&str, &str)]) -> Program {
    let words = command.split(' ').skip(1).map(|word| {
        let found = pairs.iter().find(|(name, _)| *name == word);
        found.map_or(word, |(_, value)| *value)
    });
    let program = netkit(words.collect::<Vec<_>>());
    program.current_dir(files.folder()).any_stderr()
}

#[test]
fn every_line_of_a_client_and_of_a_check_works() {
    let files = usual();
    let Some(pin) = pin_of(&files, "own") else {
        return;
    };
    let server = super::server(&files, "own", &[]);
    let address = server.address();
    let pairs = [
        ("HOST:PORT", &address[..]),
        ("HOST:443", &address),
        ("sha256:HEX", &pin),
    ];
    let commands = commands("netkit tcp-client");
    assert_eq!(commands.len(), 5);
    for command in commands {
        let client = run(&files, command, &pairs).env("SSL_CERT_FILE", files.path("ca.pem"));
        let client = client.env("SSL_CERT_DIR", "");
        if command.contains("-z") {
            client.stdout("{*} open, {*}\n").run();
        } else {
            client.stdin("exit").stdout("Welcome!").run();
        }
    }
}

#[test]
fn every_line_of_a_server_works() {
    let files = usual();
    for end in ["pem", "key"] {
        let bytes = std::fs::read(files.path(&format!("own.{end}"))).unwrap();
        files.write(if end == "pem" { "cert.pem" } else { "key.pem" }, bytes);
    }
    let commands = commands("netkit tcp-server");
    assert_eq!(commands.len(), 3);
    for command in commands {
        let server = run(&files, command, &[("9999", "0")]).listen();
        let client = netkit(["tcp-client", "--tls", "--tls-insecure", "-q"]);
        let client = client.args([&server.address(), "--tls-cert", "cert.pem"]);
        let client = client
            .args(["--tls-key", "key.pem"])
            .current_dir(files.folder());
        client.stdin("exit").stdout("Welcome!").run();
    }
}
