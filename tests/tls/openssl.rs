//! openssl and what uses its library, with TLS 1.2 and 1.3.

use super::Files;
use super::wire::{Passed, is_tls12};
use crate::harness::{Process, Program, peer};

/// The newest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// As openssl's configuration and Python write it.
    pub fn name(self, point: &str) -> String {
        let digit = if self == Self::Tls12 { 2 } else { 3 };
        format!("TLSv1{point}{digit}")
    }

    /// A program that uses the library of openssl speaks no newer version.
    pub fn limit(self, files: &Files, program: Program) -> Program {
        let config = format!(
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\n\
             MaxProtocol = {}\n",
            self.name(".")
        );
        program.env("OPENSSL_CONF", files.write("openssl.cnf", config))
    }

    /// What passed is of this version.
    #[track_caller]
    pub fn expect(self, passed: &Passed) {
        assert_eq!(is_tls12(passed), self == Self::Tls12);
    }
}

pub const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// The number at the end of a line.
pub fn port(line: &str) -> u16 {
    let word = line.rsplit([' ', ':']).next().unwrap();
    word.parse().unwrap_or_else(|_| panic!("{line}"))
}

/// openssl as a server of one connection, which presents `NAME.pem` on a free port.
pub fn openssl_server(
    files: &Files,
    name: &str,
    version: Version,
    options: &[&str],
) -> Option<(Process, u16)> {
    let (certificate, key) = (
        files.path(&format!("{name}.pem")),
        files.path(&format!("{name}.key")),
    );
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
    let openssl = peer("openssl", arguments)?.args(options);
    let mut openssl = version.limit(files, openssl).stdin_open().start();
    openssl.receive_line("Using default temp DH parameters");
    let port = port(&openssl.receive_line("ACCEPT 127.0.0.1:{N}"));
    Some((openssl, port))
}

/// What `--tls-pin` takes for `NAME.pem`.
pub fn pin_of(files: &Files, name: &str) -> Option<String> {
    let pem = files.path(&format!("{name}.pem"));
    let arguments = ["x509", "-in", &pem, "-noout", "-fingerprint", "-sha256"];
    let run = peer("openssl", arguments)?.code(0).run();
    let line = String::from_utf8(run.stdout).unwrap();
    Some(format!(
        "sha256:{}",
        line.trim().rsplit('=').next().unwrap()
    ))
}
