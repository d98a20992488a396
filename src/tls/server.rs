//! Shakes hands as a server, with a certificate from a file or one that is made at the start.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use super::args::ServerTlsArgs;
use super::certificate::fingerprint;
use super::client::{provider, typed_name, unfit, versions};
use super::files::{self, Chain, KeyFile};
use super::session::{Session, Socket};
use super::verify::Clients;
use super::words::{self, Refused};
use crate::exit::Failure;
use crate::wait::Deadline;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Encrypts connections of clients. Its files have been read, or its certificate was made.
pub struct Acceptor {
    config: Arc<ServerConfig>,
    allows_cut: bool,
    /// The fingerprint of the certificate, if it was made here.
    pub made: Option<String>,
    keys: KeyFile,
}

impl Acceptor {
    /// `addresses` are what a certificate that is made is for, beside `localhost`, the name of this
    /// machine and `--tls-name`.
    pub fn new(args: &ServerTlsArgs, addresses: &[IpAddr]) -> Result<Self, Failure> {
        let own = &args.own;
        let (chain, key) = match &own.tls_cert {
            Some(path) => files::identity(path, own.tls_key.as_ref(), Deadline::NEVER)?,
            None => make(&args.tls_name, addresses)?,
        };
        let made = own.tls_cert.is_none().then(|| fingerprint(&chain[0]));
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(own.tls_min))
            .map_err(|error| Failure::local(format!("could not use TLS: {error}")))?;
        let builder = if args.tls_client_ca.is_empty() {
            builder.with_no_client_auth()
        } else {
            let listed = files::authorities(&args.tls_client_ca, Deadline::NEVER)?;
            builder.with_client_cert_verifier(Arc::new(Clients::of(listed, &provider)?))
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unfit(&error))?;
        // A client that never reads would find tickets unread when it closes: its close would be a
        // reset, which may destroy what it has sent.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = own.protocols();
        let keys = KeyFile::of_environment()?;
        config.key_log = keys.log();
        Ok(Self {
            config: Arc::new(config),
            allows_cut: own.tls_allow_cut,
            made,
            keys,
        })
    }

    /// Encrypts a connection. Blocks until the client has agreed, or until `limit` or 10 s. Returns why
    /// it has not; `None`: `limit` has passed.
    pub fn shake_hands(&self, socket: Socket, limit: Deadline) -> Result<Session, Option<String>> {
        let own_limit = Deadline::after(HANDSHAKE);
        let result = self.try_to(socket, limit.min(own_limit));
        self.keys.tell();
        result.map_err(|error| match words::refused(&error) {
            Refused::TimedOut if !own_limit.has_passed() => None,
            Refused::TimedOut => Some(format!("no end of the TLS handshake within {HANDSHAKE:?}")),
            Refused::Distrusted(why) | Refused::Failed(why) => Some(why),
        })
    }

    /// A connection whose handshake has not begun.
    pub fn begin(&self, socket: Socket) -> io::Result<Session> {
        let engine = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Session::new(socket, engine.into(), self.allows_cut)
    }

    fn try_to(&self, socket: Socket, limit: Deadline) -> io::Result<Session> {
        let session = self.begin(socket)?;
        session.shake_hands(limit)?;
        Ok(session)
    }
}

/// Makes a key and a certificate that is signed by itself, valid for 30 days.
fn make(
    names: &[String],
    addresses: &[IpAddr],
) -> Result<(Chain, PrivateKeyDer<'static>), Failure> {
    for name in names {
        typed_name(name.strip_prefix("*.").unwrap_or(name))?;
    }
    let mut all = vec!["localhost".to_owned()];
    all.extend(names.iter().cloned());
    all.extend(addresses.iter().map(ToString::to_string));
    let machine = rustix::system::uname();
    all.extend(machine.nodename().to_str().ok().map(str::to_owned));
    let mut seen = Vec::new();
    all.retain(|name| {
        let is_new = !name.is_empty() && name.is_ascii() && !seen.contains(name);
        seen.push(name.clone());
        is_new
    });
    let failed = |error| Failure::local(format!("could not make a certificate: {error}"));
    let mut params = CertificateParams::new(all).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let common_name = names.first().map_or("localhost", String::as_str);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let today = DateTime::<Utc>::from(SystemTime::now());
    // The clock of a client may be behind.
    let midnight = |day: DateTime<Utc>| {
        let part = |number: u32| u8::try_from(number).unwrap_or(1);
        date_time_ymd(day.year(), part(day.month()), part(day.day()))
    };
    params.not_before = midnight(today - TimeDelta::days(1));
    params.not_after = midnight(today + TimeDelta::days(31));
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der());
    let key = key.map_err(|error| Failure::local(format!("could not make a key: {error}")))?;
    Ok((vec![certificate.der().clone()], key))
}
