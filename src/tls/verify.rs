//! Whom netkit trusts: authorities, the certificates in a file themselves, pins, or anybody.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::args::{Pin, Prefix};
use super::certificate::{PublicKey, fingerprint, public_key, sha256};
use super::distrust::{Distrust, only_lacks_signer, why};
use super::files::Chain;
use crate::exit::Failure;

/// Which certificates a client trusts. Whatever it is, the peer has to own the key of its certificate:
/// the signature of the handshake is always verified.
#[derive(Debug)]
pub enum Trust {
    Anything,
    Pins(Vec<Pin>),
    Authorities(Authorities),
}

#[derive(Debug)]
pub struct Authorities {
    webpki: Arc<WebPkiServerVerifier>,
    /// Certificates that need no signer. Their names and dates count.
    listed: Chain,
    prefix: Prefix,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "--tls",
            Self::ForwardTls => "--forward-tls",
        })
    }
}

impl Authorities {
    /// The certificates of `--tls-ca`.
    pub fn of(
        listed: Chain,
        prefix: Prefix,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Failure> {
        let roots = store(&listed)?;
        Self::new(roots, listed, prefix, provider)
    }

    /// Those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or of the system.
    pub fn of_system(prefix: Prefix, provider: &Arc<CryptoProvider>) -> Result<Self, Failure> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Failure::local(format!(
                "could not find the certificates of this machine's authorities; {prefix}-ca FILE names some, \
                 and so does SSL_CERT_FILE"
            )));
        }
        Self::new(roots, Vec::new(), prefix, provider)
    }

    fn new(
        roots: RootCertStore,
        listed: Chain,
        prefix: Prefix,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Failure> {
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let webpki = builder.build();
        let webpki = webpki.map_err(|error| Failure::local(format!("could not trust: {error}")))?;
        Ok(Self {
            webpki,
            listed,
            prefix,
        })
    }

    pub fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Distrust> {
        let result = self.webpki.verify_server_cert(own, others, name, &[], now);
        let result = match result {
            // webpki has found the dates right: it looks at them first.
            Err(Error::InvalidCertificate(ref error))
                if self.listed.contains(own) && only_lacks_signer(error) =>
            {
                let parsed = ParsedCertificate::try_from(own);
                parsed.and_then(|own| verify_server_name(&own, name))
            }
            result => result.map(drop),
        };
        result.map_err(|error| {
            let why = why(&error, own, name);
            let pin = fingerprint(own);
            let advice = match self.prefix {
                Prefix::Tls => format!("; if {pin} is the one you expect, --tls-pin {pin}"),
                Prefix::ForwardTls => format!(
                    "; it is {pin}; --forward-tls-ca and --forward-tls-name say what to expect"
                ),
            };
            Distrust { why, advice }
        })
    }
}

fn store(certificates: &Chain) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| Failure::local(format!("could not use a certificate: {error}")))?;
    }
    Ok(roots)
}

/// Verifies a server's certificate as [`Trust`] says.
#[derive(Debug)]
pub struct Verifier {
    pub trust: Trust,
    pub provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// The key of a certificate that webpki cannot read, such as one of X.509 version 1. `None`: it can,
    /// or the certificate has to count.
    fn only_key<'a>(&self, certificate: &'a CertificateDer<'_>) -> Option<PublicKey<'a>> {
        if matches!(self.trust, Trust::Authorities(_))
            || ParsedCertificate::try_from(certificate).is_ok()
        {
            return None;
        }
        public_key(certificate)
    }

    /// Verifies the signature of the handshake, whatever the certificate of the key is.
    fn verify_by(
        &self,
        key: &PublicKey<'_>,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = self.provider.signature_verification_algorithms.mapping;
        let algorithms = known.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let mut algorithms = algorithms.flat_map(|(_, algorithms)| *algorithms);
        let is_valid = algorithms.any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm
                    .verify_signature(key.bits, message, signed.signature())
                    .is_ok()
        });
        if is_valid {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(CertificateError::BadSignature.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anything => {}
            Trust::Pins(pins) => {
                let found = sha256(own);
                if !pins.iter().any(|pin| pin.0 == found) {
                    let why = format!("its certificate is sha256:{found}, which is not pinned");
                    let advice = String::new();
                    return Err(Distrust { why, advice }.into());
                }
            }
            Trust::Authorities(authorities) => authorities.verify(own, others, name, now)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if let Some(key) = self.only_key(certificate) {
            return self.verify_by(&key, message, signed);
        }
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if let Some(key) = self.only_key(certificate) {
            return self.verify_by(&key, message, signed);
        }
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Lets in clients whose certificate an authority of `--tls-client-ca` has signed, or which stands in
/// that file itself.
#[derive(Debug)]
pub struct Clients {
    webpki: Arc<dyn ClientCertVerifier>,
    listed: Chain,
}

impl Clients {
    pub fn of(listed: Chain, provider: &Arc<CryptoProvider>) -> Result<Self, Failure> {
        let roots = Arc::new(store(&listed)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        let webpki = builder.build();
        let webpki = webpki.map_err(|error| Failure::local(format!("could not trust: {error}")))?;
        Ok(Self { webpki, listed })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.webpki.verify_client_cert(own, others, now) {
            Err(Error::InvalidCertificate(error))
                if self.listed.contains(own) && only_lacks_signer(&error) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::{
        CertificateError, ClientConfig, ClientConnection, ServerConfig, ServerConnection,
    };

    use super::*;

    /// Presents a certificate, and signs with a key that may be another's.
    #[derive(Debug)]
    struct Pair(Arc<CertifiedKey>);

    impl ResolvesServerCert for Pair {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// Shakes hands with a server whose `certificate` is trusted by `trust`, and whose key is `key`.
    fn shake_hands(
        trust: Trust,
        certificate: &CertificateDer<'static>,
        key: &KeyPair,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        let pair = Pair(Arc::new(CertifiedKey::new(vec![certificate.clone()], key)));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(pair));
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_trusted_certificate_without_its_key_proves_nothing() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = KeyPair::generate().unwrap();
        let der = own.cert.der();
        let provider = Arc::new(ring::default_provider());
        for version in rustls::ALL_VERSIONS {
            for number in 0..3 {
                let trust = || match number {
                    0 => Trust::Anything,
                    1 => Trust::Pins(vec![Pin(sha256(der))]),
                    _ => Trust::Authorities(
                        Authorities::of(vec![der.clone()], Prefix::Tls, &provider).unwrap(),
                    ),
                };
                shake_hands(trust(), der, &own.signing_key, version).unwrap();
                let result = shake_hands(trust(), der, &other, version);
                let error = Error::InvalidCertificate(CertificateError::BadSignature);
                assert_eq!(result, Err(error), "{number} {version:?}");
            }
        }
    }

    #[test]
    fn a_certificate_that_webpki_cannot_read_still_needs_its_key() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        assert!(ParsedCertificate::try_from(der).is_err());
        for version in rustls::ALL_VERSIONS {
            for pins in [Vec::new(), vec![Pin(sha256(der))]] {
                let trust = || match &pins[..] {
                    [] => Trust::Anything,
                    pins => Trust::Pins(pins.to_vec()),
                };
                shake_hands(trust(), der, &key, version).unwrap();
                let result = shake_hands(trust(), der, &other, version);
                let error = Error::InvalidCertificate(CertificateError::BadSignature);
                assert_eq!(result, Err(error), "{version:?}");
            }
        }
    }
}
