//! Reads what people want to know of a certificate (RFC 5280): names, dates, fingerprint. Nothing here
//! decides whether one is trusted. Its key is read for the trust of a pin, and of `--tls-insecure`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, Utc};

use crate::escape::one_line;

/// What a certificate says. All text is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// Its subjectAltNames: DNS names and IP addresses.
    pub names: Vec<String>,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
}

/// SHA-256 of a whole certificate, in hex.
pub fn sha256(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    hex(digest.as_ref())
}

/// Each byte as two digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// As `--tls-pin` takes it.
pub fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", sha256(der))
}

/// The key of a certificate (RFC 5280, section 4.1.2.7).
pub struct PublicKey<'a> {
    /// The body of its `AlgorithmIdentifier`.
    pub algorithm: &'a [u8],
    pub bits: &'a [u8],
}

/// `None`: the certificate is malformed.
pub fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    const BIT_STRING: u8 = 0x03;
    let mut fields = fields(der)?;
    for _serial_number_algorithm_issuer_validity_subject in 0..5 {
        next(&mut fields)?;
    }
    let mut key = element(&mut fields, SEQUENCE)?;
    let algorithm = element(&mut key, SEQUENCE)?;
    // The first byte counts the bits that are no part of it.
    let bits = element(&mut key, BIT_STRING)?.strip_prefix(&[0])?;
    Some(PublicKey { algorithm, bits })
}

/// What is signed in a certificate, from the serial number on.
fn fields(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = element(&mut &der[..], SEQUENCE)?;
    let mut fields = element(&mut certificate, SEQUENCE)?;
    // The version. Without it, it is a certificate of version 1.
    if fields.first() == Some(&0xa0) {
        next(&mut fields)?;
    }
    Some(fields)
}

impl Certificate {
    /// `None`: it is malformed.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut fields = fields(der)?;
        let _serial_number = next(&mut fields)?;
        let _algorithm = element(&mut fields, SEQUENCE)?;
        let issuer = distinguished_name(element(&mut fields, SEQUENCE)?)?;
        let mut validity = element(&mut fields, SEQUENCE)?;
        let not_before = time(next(&mut validity)?)?;
        let not_after = time(next(&mut validity)?)?;
        let subject = distinguished_name(element(&mut fields, SEQUENCE)?)?;
        let _key = element(&mut fields, SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, body)) = next(&mut fields) {
            if tag == 0xa3 {
                names = alternative_names(body)?;
            }
        }
        let subject = match names.first() {
            Some(name) if subject.is_empty() => name.clone(),
            _ => subject,
        };
        Some(Self {
            subject,
            issuer,
            names,
            not_before,
            not_after,
        })
    }

    /// How many whole days it still lasts at `now`; less than zero once it has ended.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let left = self.not_after - DateTime::<Utc>::from(now);
        left.num_seconds().div_euclid(24 * 60 * 60)
    }

    /// `2027-03-01 (96 days)`
    pub fn end(&self, now: SystemTime) -> String {
        let days = self.days_left(now);
        let days = match days {
            1 => "1 day".to_owned(),
            ..=-1 => "ended".to_owned(),
            _ => format!("{days} days"),
        };
        format!("{} ({days})", self.not_after.format("%Y-%m-%d"))
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Takes the next element of DER (X.690): its tag and its body.
fn next<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [tag, length, rest @ ..] = *input else {
        return None;
    };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((*tag, body))
}

/// Takes the next element if it has this tag.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    next(input)
        .filter(|(other, _)| *other == tag)
        .map(|(_, body)| body)
}

/// `CN=db.lan, O=Lan`: the attributes that people know, in the order of the certificate.
fn distinguished_name(mut body: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !body.is_empty() {
        let mut set = element(&mut body, SET)?;
        while !set.is_empty() {
            let mut pair = element(&mut set, SEQUENCE)?;
            let oid = element(&mut pair, 0x06)?;
            let (tag, value) = next(&mut pair)?;
            let key = match oid {
                [0x55, 4, 3] => "CN",
                [0x55, 4, 6] => "C",
                [0x55, 4, 7] => "L",
                [0x55, 4, 8] => "ST",
                [0x55, 4, 10] => "O",
                [0x55, 4, 11] => "OU",
                _ => continue,
            };
            parts.push(format!("{key}={}", text(tag, value)));
        }
    }
    Some(parts.join(", "))
}

fn text(tag: u8, value: &[u8]) -> String {
    const BMP_STRING: u8 = 0x1e;
    let text = if tag == BMP_STRING {
        let pairs = value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        String::from_utf16_lossy(&pairs.collect::<Vec<_>>())
    } else {
        String::from_utf8_lossy(value).into_owned()
    };
    one_line(&text)
}

/// `UTCTime` or `GeneralizedTime` (RFC 5280, section 4.1.2.5), in UTC.
fn time((tag, body): (u8, &[u8])) -> Option<DateTime<Utc>> {
    let text = str::from_utf8(body).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, part(0)?, part(2)?)?;
    Some(date.and_hms_opt(part(4)?, part(6)?, part(8)?)?.and_utc())
}

fn number(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// The subjectAltNames among the extensions.
fn alternative_names(mut explicit: &[u8]) -> Option<Vec<String>> {
    let mut extensions = element(&mut explicit, SEQUENCE)?;
    let mut names = Vec::new();
    while !extensions.is_empty() {
        let mut extension = element(&mut extensions, SEQUENCE)?;
        if element(&mut extension, 0x06)? != [0x55, 0x1d, 17] {
            continue;
        }
        // Whether it is critical may stand before the value.
        let mut value = loop {
            if let (0x04, value) = next(&mut extension)? {
                break value;
            }
        };
        let mut list = element(&mut value, SEQUENCE)?;
        while !list.is_empty() {
            match next(&mut list)? {
                (0x82, name) => names.push(one_line(&String::from_utf8_lossy(name))),
                (0x87, ip) => names.extend(address(ip)),
                _ => {}
            }
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn made(common_name: &str, names: &[&str], years: (i32, i32)) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = date_time_ymd(years.0, 2, 3);
        params.not_after = date_time_ymd(years.1, 12, 31);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_names_and_dates() {
        let der = made("db.lan", &["db.lan", "127.0.0.1", "::1"], (1999, 2051));
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.subject, "CN=db.lan");
        assert_eq!(read.issuer, "CN=db.lan");
        assert_eq!(read.names, ["db.lan", "127.0.0.1", "::1"]);
        // UTCTime before 2050, GeneralizedTime from then on.
        assert_eq!(read.not_before.to_rfc3339(), "1999-02-03T00:00:00+00:00");
        assert_eq!(read.not_after.to_rfc3339(), "2051-12-31T00:00:00+00:00");
    }

    #[test]
    fn what_a_certificate_says_is_escaped() {
        let der = made("a\x1b[31m\nb", &[], (2020, 2030));
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.subject, "CN=a\\x1b[31m\\nb");
    }

    #[test]
    fn a_certificate_has_the_key_that_it_was_made_with() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let found = public_key(&der).unwrap();
        assert_eq!(found.bits, rcgen::PublicKeyData::der_bytes(&key));
    }

    #[test]
    fn the_days_that_are_left_are_whole() {
        let read = Certificate::read(&made("a", &[], (2020, 2030))).unwrap();
        let end = u64::try_from(read.not_after.timestamp()).unwrap();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(read.days_left(at(end - 2 * 86_400)), 2);
        assert_eq!(read.days_left(at(end - 2 * 86_400 + 1)), 1);
        assert_eq!(read.end(at(end - 86_400)), "2030-12-31 (1 day)");
        assert_eq!(read.end(at(end + 1)), "2030-12-31 (ended)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
            let _ = public_key(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_without_a_panic(at in 0..300_usize, byte: u8, length in 0..400_usize) {
            let mut der = made("a", &["b", "::1"], (2020, 2060));
            let at = at % der.len();
            der[at] = byte;
            der.truncate(length);
            let _ = Certificate::read(&der);
            let _ = public_key(&der);
        }
    }
}
