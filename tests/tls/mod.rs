//! TLS, both ends: how a session ends, whom it trusts, what it says.

mod bulk;
mod certificates;
mod check;
mod cutting;
mod forward;
mod handshakes;
mod interop;
mod keys;
mod late;
mod openssl;
mod page;
mod ping;
mod proxied;
mod sessions;
mod wire;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use crate::harness::{Program, Server, netkit, tcp_server, temporary_folder};

/// A folder of certificates and keys in PEM.
pub struct Files(crate::harness::Folder);

impl Files {
    pub fn new() -> Self {
        Self(temporary_folder())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.path(name));
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).unwrap();
        file.write_all(text.as_ref()).unwrap();
        self.path(name)
    }

    /// Writes a certificate and its key as `NAME.pem` and `NAME.key`.
    pub fn add(&self, name: &str, certificate: &rcgen::Certificate, key: &KeyPair) {
        self.write(&format!("{name}.pem"), certificate.pem());
        self.write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// A certificate for these names, which is valid today.
pub fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

/// An authority, which can sign others.
pub fn authority(files: &Files, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    files.add(name, &params.self_signed(&key).unwrap(), &key);
    Issuer::new(params, key)
}

/// A certificate that `signer` signs, as `NAME.pem` and `NAME.key`.
pub fn signed(files: &Files, name: &str, params: &CertificateParams, signer: &Issuer<'_, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    files.add(name, &params.signed_by(&key, signer).unwrap(), &key);
}

/// An authority `ca`, and `own` for 127.0.0.1 and localhost, which it has signed.
pub fn usual() -> Files {
    let files = Files::new();
    let ca = authority(&files, "ca");
    signed(
        &files,
        "own",
        &params("own", &["localhost", "127.0.0.1"]),
        &ca,
    );
    files
}

/// A TLS server that presents `NAME.pem`.
pub fn server(files: &Files, name: &str, arguments: &[&str]) -> Server {
    server_program(files, name, arguments).listen()
}

/// As [`server`], before it starts.
pub fn server_program(files: &Files, name: &str, arguments: &[&str]) -> Program {
    let certificate = files.path(&format!("{name}.pem"));
    let key = files.path(&format!("{name}.key"));
    let tls = ["--tls", "--tls-cert", &certificate, "--tls-key", &key];
    tcp_server(tls.into_iter().chain(arguments.iter().copied()))
}

/// A TLS client that trusts `ca`.
pub fn client(files: &Files, address: &str) -> Program {
    let ca = files.path("ca.pem");
    netkit(["tcp-client", "--tls", "--tls-ca", &ca, address])
}
