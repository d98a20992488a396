//! What TLS says, in words for people.

use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::verify::Distrust;
use crate::exit::cause;

const OLDER: &str =
    "it may speak only what is older than TLS 1.2 (openssl s_client can still talk to it)";

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
        Some(Error::InvalidCertificate(CertificateError::Other(other))) => {
            match other.0.downcast_ref::<Distrust>() {
                Some(distrust) => Refused::Distrusted(distrust.to_string()),
                None => Refused::Failed(other.to_string()),
            }
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

/// An error of an open connection, or of a handshake.
pub fn told(error: &Error) -> String {
    match error {
        Error::AlertReceived(
            alert @ (AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion),
        ) => format!("the peer says {}; {OLDER}", words(*alert)),
        Error::AlertReceived(alert) => format!("the peer says {}", words(*alert)),
        Error::PeerIncompatible(why) => format!("nothing in common ({why:?}); {OLDER}"),
        Error::NoCertificatesPresented => {
            "it presented no certificate (--tls-client-ca)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::DecryptError => "what came was changed on the way (TLS bad record)".to_owned(),
        Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
        Error::InvalidMessage(_) => "it sent what is not TLS".to_owned(),
        error => crate::escape::one_line(&cause(&io::Error::other(error.clone()))),
    }
}

/// The name of an alert (RFC 8446, section 6) as words: `certificate required`.
fn words(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut words = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if was_lower && letter.is_uppercase() {
            words.push(' ');
        }
        was_lower = letter.is_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words.replace("unknown ca", "unknown CA")
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
