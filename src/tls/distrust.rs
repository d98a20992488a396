//! Why a certificate is not trusted, in words for people.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, OtherError};

use super::certificate::Certificate;
use super::words;

/// Why a certificate is not trusted: a finished sentence.
#[derive(Clone, Debug)]
pub struct Distrust {
    pub why: String,
    /// What the user can do about it, from the separator on.
    pub advice: String,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.why, self.advice)
    }
}

impl std::error::Error for Distrust {}

impl From<Distrust> for Error {
    fn from(distrust: Distrust) -> Self {
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }
}

/// What a certificate that stands in the file itself may lack: `openssl req -x509` marks it as an
/// authority, which no server may be.
pub fn only_lacks_signer(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(other) => {
            let text = format!("{other:?}");
            text.contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

/// Why webpki does not trust a server's certificate.
pub fn why(error: &Error, own: &CertificateDer<'_>, name: &ServerName<'_>) -> String {
    let Error::InvalidCertificate(error) = error else {
        return format!("its certificate is malformed ({error})");
    };
    let Some(read) = Certificate::read(own) else {
        return "its certificate is malformed".to_owned();
    };
    match error {
        CertificateError::Expired => ended(OWN, read.not_after),
        CertificateError::ExpiredContext { not_after, .. } => {
            let (whose, date) = dated(read.not_after, *not_after);
            ended(whose, date)
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let (whose, date) = dated(read.not_before, *not_before);
            format!("{whose} begins on {}", date.format("%Y-%m-%d"))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = names(&read);
            format!("{OWN} is {names}, and not for {}", name.to_str())
        }
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            // Somebody of that name is trusted, or stands between.
            format!("{OWN} is not signed with the known key of {}", read.issuer)
        }
        error if only_lacks_signer(error) && read.issuer == read.subject => {
            format!("{OWN} is signed by itself")
        }
        CertificateError::UnknownIssuer => format!(
            "{OWN} is signed by {}, whom nobody here trusts, or the server does not send the certificates between",
            read.issuer
        ),
        error if only_lacks_signer(error) => format!("{OWN} is an authority's"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{OWN} is not for servers (extendedKeyUsage)")
        }
        error => format!("{OWN} is not valid ({})", words::of_certificate(error)),
    }
}

const OWN: &str = "its certificate";

fn ended(whose: &str, date: DateTime<Utc>) -> String {
    format!("{whose} ended on {}", date.format("%Y-%m-%d"))
}

/// Which certificate of the chain has the date that was `found`: the server's with the date `own`, or
/// another.
fn dated(own: DateTime<Utc>, found: UnixTime) -> (&'static str, DateTime<Utc>) {
    let found = i64::try_from(found.as_secs()).ok();
    match found.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        Some(found) if found != own => ("the certificate of its signer", found),
        _ => (OWN, own),
    }
}

/// What a certificate is for.
fn names(read: &Certificate) -> String {
    /// More are no help.
    const MOST: usize = 8;
    match &read.names[..] {
        [] => format!("only for {}, which is no subjectAltName", read.subject),
        names if names.len() <= MOST => format!("for {}", names.join(", ")),
        names => {
            let (first, others) = names.split_at(MOST - 1);
            format!("for {} and {} others", first.join(", "), others.len())
        }
    }
}
