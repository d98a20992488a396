//! Shakes hands as a client.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, SupportedCipherSuite, SupportedProtocolVersion};

use super::args::{ClientTlsArgs, OwnArgs, Version};
use super::files::KeyFile;
use super::session::{Session, Socket};
use super::verify::{Authorities, Trust, Verifier};
use super::{files, words};
use crate::exit::{Exit, Failure};
use crate::units::told;
use crate::wait::Deadline;

/// Encrypts connections to servers. Its files have been read.
pub struct Connector {
    config: Arc<ClientConfig>,
    name: Option<String>,
    allows_cut: bool,
    save_chain: Option<PathBuf>,
    /// Those that tell the verdict although `--tls-insecure` trusts anybody.
    unasked: Option<Authorities>,
    keys: KeyFile,
}

impl Connector {
    /// Reads the files that `args` names, until `limit`. Only without them, those of the system's
    /// authorities.
    pub fn new(args: &ClientTlsArgs, limit: Deadline) -> Result<Self, Failure> {
        let provider = provider();
        match args.tls_name.as_deref() {
            Some("") => typed_name("").map(drop)?,
            name => name.map_or(Ok(()), |name| server_name(name).map(drop))?,
        }
        let trust = if args.tls_insecure {
            let prefix = args.prefix;
            tracing::warn!("any certificate is trusted ({prefix}-insecure)");
            Trust::Anything
        } else if !args.tls_pin.is_empty() {
            Trust::Pins(args.tls_pin.clone())
        } else if args.tls_ca.is_empty() {
            Trust::Authorities(Authorities::of_system(args.prefix, &provider)?)
        } else {
            let listed = files::authorities(&args.tls_ca, limit)?;
            Trust::Authorities(Authorities::of(listed, args.prefix, &provider)?)
        };
        let keys = KeyFile::of_environment()?;
        Ok(Self {
            config: config(&args.own, trust, provider, &keys, limit)?,
            name: args.tls_name.clone(),
            allows_cut: args.own.tls_allow_cut,
            save_chain: args.tls_save_chain.clone(),
            unasked: None,
            keys,
        })
    }

    /// A connection to `host`, whose handshake has not begun.
    pub fn begin(&self, socket: Socket, host: &str) -> Result<Session, Failure> {
        let name = server_name(self.name.as_deref().unwrap_or(host))?;
        let engine = ClientConnection::new(Arc::clone(&self.config), name);
        let engine = engine.map_err(|error| Failure::local(words::told(&error)))?;
        Ok(Session::new(socket, engine.into(), self.allows_cut)?)
    }

    /// Encrypts a connection to `host`, which messages call `peer`. Blocks until the server has agreed
    /// and is trusted, or until `limit`.
    pub fn shake_hands(
        &self,
        socket: Socket,
        host: &str,
        peer: impl Display,
        limit: Deadline,
    ) -> Result<Session, Failure> {
        let session = self.begin(socket, host)?;
        let shaken = session.shake_hands(limit);
        if let Some(path) = &self.save_chain {
            let chain = session.chain();
            if !chain.is_empty() {
                files::save(path, &chain)?;
            }
        }
        match shaken {
            Ok(()) => self.check_keys().map(|()| session),
            Err(error) => Err(Self::failure(&error, peer, limit)),
        }
    }

    /// Fails if session keys could not be written (`SSLKEYLOGFILE`).
    pub fn check_keys(&self) -> Result<(), Failure> {
        self.keys.check()
    }

    /// Why the handshake with `peer` failed with `error`.
    pub fn failure(error: &io::Error, peer: impl Display, limit: Deadline) -> Failure {
        match words::refused(error) {
            words::Refused::Distrusted(why) => {
                let message = format!("could not trust {peer}: {why}");
                Failure::new(Exit::Network, message).that_stays()
            }
            words::Refused::TimedOut => {
                let length = told(limit.length());
                let message =
                    format!("gave up on {peer}: no end of the TLS handshake within {length}");
                Failure::new(Exit::Timeout, message)
            }
            words::Refused::Failed(why) => {
                let advice = words::advice(error);
                let message = format!("could not speak TLS with {peer}: {why}{advice}");
                Failure::new(Exit::Network, message)
            }
        }
    }

    /// Why the certificate of a peer on `host` would not be trusted without `--tls-insecure`. `None`: it
    /// is trusted.
    pub fn distrust(&self, session: &Session, host: &str) -> Option<String> {
        let authorities = self.unasked.as_ref()?;
        let chain = session.chain();
        let (own, others) = chain.split_first()?;
        let name = server_name(self.name.as_deref().unwrap_or(host)).ok()?;
        let verdict = authorities.verify(own, others, &name, UnixTime::now());
        verdict.err().map(|distrust| distrust.why)
    }

    /// As [`Self::new`], and able to tell whether a certificate is trusted which `--tls-insecure` lets
    /// pass.
    pub fn with_verdict(args: &ClientTlsArgs, limit: Deadline) -> Result<Self, Failure> {
        let mut connector = Self::new(args, limit)?;
        if args.tls_insecure {
            connector.unasked = Some(Authorities::of_system(args.prefix, &provider())?);
        }
        Ok(connector)
    }
}

/// The cipher suites of ring, those of AES-128 first: no attack comes near it, and it is a quarter faster
/// than AES-256.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let is_first =
        |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).contains("AES_128");
    provider
        .cipher_suites
        .sort_by_key(|suite| (suite.tls13().is_none(), !is_first(suite)));
    Arc::new(provider)
}

fn config(
    own: &OwnArgs,
    trust: Trust,
    provider: Arc<CryptoProvider>,
    keys: &KeyFile,
    limit: Deadline,
) -> Result<Arc<ClientConfig>, Failure> {
    let unusable = |error: rustls::Error| Failure::local(format!("could not use TLS: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(own.tls_min))
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }));
    let mut config = match &own.tls_cert {
        Some(certificate) => {
            let (chain, key) = files::identity(certificate, own.tls_key.as_ref(), limit)?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| unfit(&error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = own.protocols();
    config.key_log = keys.log();
    Ok(Arc::new(config))
}

/// A certificate and a key do not go together.
pub fn unfit(error: &rustls::Error) -> Failure {
    Failure::local(match error {
        rustls::Error::InvalidCertificate(error) => format!(
            "could not use the certificate of --tls-cert: {}",
            words::of_certificate(error)
        ),
        error => format!(
            "could not use the certificate of --tls-cert with its key: {}",
            words::told(error)
        ),
    })
}

const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The versions from `least` on.
pub fn versions(least: Option<Version>) -> &'static [&'static SupportedProtocolVersion] {
    match least {
        Some(Version::Tls13) => TLS13,
        _ => rustls::ALL_VERSIONS,
    }
}

impl OwnArgs {
    /// The application protocols, in the order of preference.
    pub fn protocols(&self) -> Vec<Vec<u8>> {
        let list = self.tls_alpn.iter();
        list.map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// The name that is sent (SNI; not of an address) and verified.
fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    // A zone belongs to this machine only.
    let host = host.split('%').next().unwrap_or_default();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ServerName::from(ip));
    }
    // `:PORT` is this machine.
    let host = if host.is_empty() { "localhost" } else { host };
    let host = host.strip_suffix('.').unwrap_or(host);
    typed_name(host)
}

/// A name of a host that `--tls-name` may be.
pub fn typed_name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let host = crate::escape::one_line(host);
        let message = format!(
            "'{host}' is no name for TLS: that is ASCII, as in xn--...; --tls-name NAME names another"
        );
        Failure::usage(message)
    })
}
