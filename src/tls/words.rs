//! What TLS says, in words for people.

use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::distrust::Distrust;
use crate::exit::cause;

const OLDER: &str = "it may speak only what is older than TLS 1.2 or --tls-min";

/// Why a handshake failed.
pub enum Refused {
    /// The peer's certificate is not trusted.
    Distrusted(String),
    /// The peer was too slow.
    TimedOut,
    Failed(String),
}

/// Why [`super::Session::shake_hands`] failed with `error`.
pub fn refused(error: &io::Error) -> Refused {
    let inner = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if other.0.is::<Distrust>() =>
        {
            Refused::Distrusted(other.to_string())
        }
        Some(Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )) => Refused::Failed("it does not speak TLS".to_owned()),
        Some(error) => Refused::Failed(told(error)),
        None if error.kind() == ErrorKind::TimedOut && error.raw_os_error().is_none() => {
            Refused::TimedOut
        }
        None if error.kind() == ErrorKind::UnexpectedEof => {
            Refused::Failed("it ended the connection during the handshake".to_owned())
        }
        None => Refused::Failed(cause(error)),
    }
}

/// What a client may think of where the server's part of the handshake failed with `error`, from the
/// separator on.
pub fn advice(error: &io::Error) -> String {
    const OTHER_TOOL: &str = "(openssl s_client can still talk to it)";
    let inner = error.get_ref();
    match inner.and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            format!("; {OLDER} {OTHER_TOOL}")
        }
        // ring verifies no signature of these keys. With TLS 1.2 openssl says so too where a client has
        // no certificate.
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure)) => format!(
            "; {OLDER} {OTHER_TOOL}, or have a key that netkit does not know (P-521, Ed448), or demand \
             a certificate (--tls-cert)"
        ),
        Some(Error::PeerIncompatible(_)) => format!(" {OTHER_TOOL}"),
        _ => String::new(),
    }
}

/// An error of an open connection, or of a handshake.
pub fn told(error: &Error) -> String {
    const RULES: &str = "it broke the rules of TLS";
    match error {
        Error::AlertReceived(alert) => format!("the peer says {}", words(*alert)),
        Error::PeerIncompatible(why) => {
            format!(
                "nothing in common ({}); {OLDER}",
                split(&format!("{why:?}"))
            )
        }
        Error::PeerMisbehaved(why) => format!("{RULES} ({})", split(&format!("{why:?}"))),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            format!("{RULES} (a message out of order)")
        }
        Error::NoCertificatesPresented => {
            "it presented no certificate (--tls-client-ca)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<Distrust>() => {
            other.to_string()
        }
        Error::InvalidCertificate(error) => {
            format!("its certificate is not valid ({})", of_certificate(error))
        }
        Error::DecryptError => "what came was changed on the way (TLS bad record)".to_owned(),
        Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
        Error::InvalidMessage(_) => "it sent what is not TLS".to_owned(),
        error => crate::escape::one_line(&cause(&io::Error::other(error.clone()))),
    }
}

/// What is wrong with a certificate, by the name of the error: `path len constraint violated`.
pub fn of_certificate(error: &CertificateError) -> String {
    let name = format!("{error:?}");
    let name = name.strip_prefix("Other(OtherError(").unwrap_or(&name);
    let end = name.find(|letter: char| !letter.is_alphanumeric());
    let name = &name[..end.unwrap_or(name.len())];
    match name.strip_suffix("Context").unwrap_or(name) {
        "UnsupportedCertVersion" => "it is of X.509 version 1".to_owned(),
        "UnsupportedSignatureAlgorithm" => {
            "it is signed in a way that nobody trusts any more".to_owned()
        }
        name => split(name),
    }
}

/// The name of an alert (RFC 8446, section 6) as words: `certificate required`.
fn words(alert: AlertDescription) -> String {
    split(&format!("{alert:?}")).replace("unknown ca", "unknown CA")
}

/// `ABadName` as `a bad name`.
fn split(name: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if was_lower && letter.is_uppercase() {
            words.push(' ');
        }
        was_lower = letter.is_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_in_words() {
        assert_eq!(
            words(AlertDescription::CertificateRequired),
            "certificate required"
        );
        assert_eq!(words(AlertDescription::UnknownCA), "unknown CA");
        assert_eq!(words(AlertDescription::BadRecordMac), "bad record mac");
    }
}
