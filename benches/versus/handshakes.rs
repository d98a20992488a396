//! Full handshakes of TLS 1.3, as many a second as a server can: each connection is a new session.
//!
//! The clients verify nothing: the server is to be the busy one.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme,
};

use crate::contest::{Better, Measure, Row};
use crate::programs::{Program, Table, find, free_port, netkit};
use crate::tls::Files;

/// The argument that makes this program a bare server of rustls.
pub const BARE: &str = "--bare-tls-server";

/// How long a run lasts.
const TIME: Duration = Duration::from_secs(1);

const CLIENTS: usize = 2;

/// A thread for each connection: it shakes hands, reads to the end, and closes. The yardstick.
pub fn bare(port: u16, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut session = ServerConnection::new(Arc::clone(&config))?;
        thread::Builder::new().spawn(move || {
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            while let Ok(1..) = tls.read(&mut [0; 1024]) {}
            session.send_close_notify();
            session.write_tls(&mut stream)
        })?;
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Blind;

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn client_config() -> anyhow::Result<Arc<ClientConfig>> {
    // As netkit's own client offers them.
    let mut provider = default_provider();
    provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Shakes hands, tells the end, and reads until the server has closed.
fn shake_hands(config: &Arc<ClientConfig>, address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::from(address.ip());
    let mut session = ClientConnection::new(Arc::clone(config), name)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    // Tickets, close_notify, FIN.
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // ncat closes with unread bytes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// As many handshakes as the clients manage in [`TIME`]: their number, and the seconds they took.
fn shake_all_hands(config: &Arc<ClientConfig>, address: SocketAddr) -> anyhow::Result<(f64, f64)> {
    let start = Instant::now();
    let client = || -> anyhow::Result<u32> {
        let mut count = 0;
        while start.elapsed() < TIME {
            shake_hands(config, address)?;
            count += 1;
        }
        Ok(count)
    };
    let counts = thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(client));
        clients.map(thread::ScopedJoinHandle::join)
    });
    let mut all = 0;
    for count in counts {
        all += count.map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    ensure!(all > 0, "no handshake");
    Ok((f64::from(all), start.elapsed().as_secs_f64()))
}

/// The servers and their words, in which PORT stands for the port.
fn contestants(files: &Files) -> [(&'static str, String); 4] {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    [
        (
            "netkit",
            format!(
                "-q tcp-server --service discard --tls --tls-cert {certificate} --tls-key {key} -p PORT"
            ),
        ),
        ("bare rustls", format!("{BARE} PORT {certificate} {key}")),
        (
            "socat",
            format!(
                "-t 10 OPENSSL-LISTEN:PORT,bind=127.0.0.1,reuseaddr,fork,backlog=1024,verify=0,cert={certificate},key={key} OPEN:/dev/null"
            ),
        ),
        (
            "ncat",
            format!(
                "-lk --recv-only --ssl --ssl-cert {certificate} --ssl-key {key} 127.0.0.1 PORT"
            ),
        ),
    ]
}

pub fn a_second() -> anyhow::Result<Row> {
    let measures = vec![
        Measure {
            unit: "a second",
            better: Better::More,
        },
        Measure::less("us of CPU time of the server for each"),
    ];
    let title = "full handshakes, TLS 1.3, P-256; 2 clients";
    let mut row = Row::new(title, measures);
    let files = Arc::new(Files::new()?);
    let config = client_config()?;
    for (name, words) in contestants(&files) {
        let program = match name {
            "netkit" => Some(netkit().get_program().into()),
            "bare rustls" => Some(std::env::current_exe()?),
            name => find(name),
        };
        let Some(program) = program else {
            row.is_missing(name);
            continue;
        };
        let (config, files) = (Arc::clone(&config), Arc::clone(&files));
        let mut server = None;
        row.add(name, move |_| {
            // They are there as long as the row.
            let _files = &files;
            if server.is_none() {
                let port = free_port(Table::Tcp)?;
                let words = words.replace("PORT", &port.to_string());
                let mut command = Command::new(&program);
                command.args(words.split_whitespace());
                server = Some((Program::serve(&mut command, port, Table::Tcp)?, port));
            }
            let (server, port) = server.as_ref().context("it did not start")?;
            let address = (Ipv4Addr::LOCALHOST, *port).into();
            let before = server.cpu_time_of_all()?;
            let (count, time) = shake_all_hands(&config, address)?;
            let worked = server.cpu_time_of_all()? - before;
            Ok(vec![count / time, worked / count * 1e6])
        });
    }
    Ok(row)
}
