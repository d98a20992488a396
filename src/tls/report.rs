//! What is told of a connection: of the agreement and of the peer's certificate.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use super::certificate::{Certificate, fingerprint, sha256};
use super::session::Session;
use crate::json::milliseconds;

impl Session {
    /// What both sides agreed on, and the certificate of the peer, for `-v`.
    pub fn summary(&self) -> String {
        let agreed = self.agreed();
        let mut parts = vec![agreed.version.to_owned(), agreed.cipher, agreed.group];
        parts.extend(agreed.alpn);
        let parts = parts.join(", ");
        let chain = self.chain();
        let Some(own) = chain.first() else {
            return parts;
        };
        let pin = fingerprint(own);
        match Certificate::read(own) {
            Some(read) => format!(
                "{parts}; {} by {}, until {}, {pin}",
                read.subject,
                read.issuer,
                read.end(SystemTime::now())
            ),
            None => format!("{parts}; {pin}"),
        }
    }

    /// `TLS 1.3 in 24.1 ms, certificate until 2027-03-01 (96 days)`. Without a `handshake`, no time.
    pub fn result(&self, handshake: Option<Duration>) -> String {
        let mut line = self.agreed().version.to_owned();
        if let Some(time) = handshake.map(milliseconds) {
            let _ = write!(line, " in {time:.1} ms");
        }
        if let Some(read) = self.certificate() {
            let _ = write!(line, ", certificate until {}", read.end(SystemTime::now()));
        }
        line
    }

    /// When the peer's certificate ends, if that is sooner than `time` from now: `2027-03-01 (96 days)`.
    pub fn ends_within(&self, time: Duration) -> Option<String> {
        let read = self.certificate()?;
        let now = SystemTime::now();
        let left = read.not_after - DateTime::<Utc>::from(now);
        let is_soon = TimeDelta::from_std(time).is_ok_and(|time| left < time);
        is_soon.then(|| read.end(now))
    }

    /// The fields of JSON. `handshake`: how long it took. `distrust`: why the certificate is not trusted.
    pub fn fields(
        &self,
        handshake: Option<Duration>,
        distrust: Option<String>,
    ) -> Vec<(&'static str, Value)> {
        let agreed = self.agreed();
        let mut fields: Vec<(&'static str, Value)> = vec![
            (
                "tls_version",
                agreed.version.trim_start_matches("TLS ").into(),
            ),
            ("tls_cipher", agreed.cipher.into()),
            ("tls_group", agreed.group.into()),
            ("alpn", agreed.alpn.into()),
        ];
        fields.extend(handshake.map(|time| ("handshake_ms", milliseconds(time).into())));
        if let Some(read) = self.certificate() {
            let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
            fields.extend([
                ("subject", read.subject.clone().into()),
                ("issuer", read.issuer.clone().into()),
                ("names", read.names.clone().into()),
                ("not_before", time(read.not_before).into()),
                ("not_after", time(read.not_after).into()),
                ("days_left", read.days_left(SystemTime::now()).into()),
            ]);
        }
        if let Some(own) = self.chain().first() {
            fields.push(("sha256", sha256(own).into()));
        }
        fields.push(("trusted", distrust.is_none().into()));
        fields.push(("why", distrust.into()));
        fields
    }

    fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.chain().first()?)
    }
}
