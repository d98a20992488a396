//! One proxy: what it speaks, where it is, and who asks.

use std::fmt;

use crate::net::address::HostPort;
use crate::net::services::Protocol;

/// A proxy on the way.
#[derive(Clone)]
pub struct Hop {
    pub kind: Kind,
    pub address: HostPort,
    pub credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Socks4,
    Socks4a,
    Socks5,
    Socks5h,
    Http,
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: Vec<u8>,
    pub password: Vec<u8>,
}

impl Kind {
    const ALL: [(&str, Self); 5] = [
        ("socks4", Self::Socks4),
        ("socks4a", Self::Socks4a),
        ("socks5", Self::Socks5),
        ("socks5h", Self::Socks5h),
        ("http", Self::Http),
    ];

    /// Whether names are resolved here, and not by the proxy.
    pub fn resolves_here(self) -> bool {
        matches!(self, Self::Socks4 | Self::Socks5)
    }

    /// SOCKS 4 knows no IPv6.
    pub fn is_ipv4_only(self) -> bool {
        matches!(self, Self::Socks4 | Self::Socks4a)
    }

    fn usual_port(self) -> u16 {
        if self == Self::Http { 3128 } else { 1080 }
    }
}

impl Credentials {
    /// Reads `USER:PASSWORD` or `USER`, as they are.
    pub fn read(text: &[u8]) -> Self {
        let mut parts = text.splitn(2, |byte| *byte == b':');
        let mut part = || parts.next().unwrap_or_default().to_vec();
        let (user, password) = (part(), part());
        Self { user, password }
    }

    /// Whether `kind` can carry them.
    fn check(&self, kind: Kind) -> Result<(), &'static str> {
        const MOST: usize = 255;
        let Self { user, password } = self;
        match kind {
            _ if user.is_empty() => Err("the user is empty"),
            Kind::Socks5 | Kind::Socks5h if user.len().max(password.len()) > MOST => {
                Err("SOCKS5 takes 255 bytes of user and of password")
            }
            Kind::Socks4 | Kind::Socks4a if user.contains(&0) => {
                Err("SOCKS4 takes no zero byte in the user")
            }
            Kind::Http if user.contains(&b':') => Err("HTTP takes no colon in the user"),
            _ => Ok(()),
        }
    }
}

impl Hop {
    /// Reads `[SCHEME://][USER[:PASSWORD]@]HOST[:PORT]`. Errors never show credentials. `usual` are those
    /// of a URL that has none.
    pub fn read(url: &str, usual: Option<&Credentials>) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, rest),
        };
        let shown = if url.contains("://") {
            format!("{scheme}://{host}")
        } else {
            host.to_owned()
        };
        let refused = |why: String| format!("--proxy {shown}: {why}");
        let kinds = Kind::ALL.iter();
        let kind = kinds
            .clone()
            .find(|(name, _)| scheme.eq_ignore_ascii_case(name));
        let Some((_, kind)) = kind else {
            let why = match scheme {
                "https" => "a proxy that is spoken to with TLS is not supported; write http://",
                _ => "write socks5h://, socks5://, socks4a://, socks4:// or http://",
            };
            return Err(refused(why.to_owned()));
        };
        let words = [host.to_owned(), kind.usual_port().to_string()];
        let (address, _) = HostPort::take_from(&words, Protocol::Tcp).map_err(refused)?;
        let typed = credentials.map(|text| decode(text).map_err(|why| refused(why.to_owned())));
        let typed = typed.transpose()?;
        if kind.is_ipv4_only() && typed.as_ref().is_some_and(|it| !it.password.is_empty()) {
            return Err(refused("SOCKS4 has no password".to_owned()));
        }
        let credentials = typed.or_else(|| usual.cloned());
        if let Some(credentials) = &credentials {
            let checked = credentials.check(*kind);
            checked.map_err(|why| refused(why.to_owned()))?;
        }
        Ok(Self {
            kind: *kind,
            address,
            credentials,
        })
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Reads percent-encoded `USER[:PASSWORD]` (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<Credentials, &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            let digits = tail
                .get(..2)
                .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.ok_or("user or password has a % without two hex digits; write %25")?);
            rest = &tail[2..];
        }
        Ok::<_, &'static str>(bytes)
    };
    Ok(Credentials {
        user: decoded(user)?,
        password: decoded(password)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_names_the_proxy_and_who_asks() {
        let cases = [
            ("socks5h://h", Kind::Socks5h, "h:1080", None),
            ("SOCKS5://h:1/", Kind::Socks5, "h:1", None),
            ("socks4://u@h", Kind::Socks4, "h:1080", Some(("u", ""))),
            ("socks4a://[::1]", Kind::Socks4a, "[::1]:1080", None),
            (
                "http://u:p%40%3a@h",
                Kind::Http,
                "h:3128",
                Some(("u", "p@:")),
            ),
            ("h:8080", Kind::Http, "h:8080", None),
            (
                "socks5://a@b:c@d@[::1]:9",
                Kind::Socks5,
                "[::1]:9",
                Some(("a@b", "c@d")),
            ),
        ];
        for (url, kind, address, credentials) in cases {
            let hop = Hop::read(url, None).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (hop.kind, hop.to_string()),
                (kind, address.to_owned()),
                "{url}"
            );
            let read = hop.credentials.map(|it| (it.user, it.password));
            let expected = credentials.map(|(user, password)| (user.into(), password.into()));
            assert!(read == expected, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_without_its_credentials() {
        let long = format!("socks5://{}:secret@h", "u".repeat(256));
        for url in [
            "https://u:secret@h",
            "ftp://u:secret@h",
            "socks5://u:secret%4@h",
            "socks5://u:secret@h:0",
            "socks5://u:secret@",
            "socks5://:secret@h",
            "socks4://u:secret@h",
            "http://u%3a:secret@h",
            "socks4://u%00@h",
            "http://u:secret@h/path",
            &long,
        ] {
            let error = Hop::read(url, None)
                .err()
                .unwrap_or_else(|| panic!("{url}"));
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_url_is_answered_without_a_panic(url in "((socks[45][ah]?|http)://)?[a:@%/0-9\\[\\]]{0,20}|\\PC{0,20}") {
            let _ = Hop::read(&url, None);
        }

        #[test]
        fn credentials_are_what_was_encoded(user in proptest::collection::vec(1_u8.., 1..40), password in proptest::collection::vec(0_u8.., 0..40)) {
            let encoded = |bytes: &[u8]| {
                let digits = bytes.iter().map(|byte| format!("%{byte:02x}"));
                digits.collect::<Vec<_>>().concat()
            };
            let url = format!("socks5://{}:{}@h", encoded(&user), encoded(&password));
            let hop = Hop::read(&url, None).unwrap();
            let expected = Some(Credentials { user, password });
            prop_assert!(hop.credentials == expected, "other credentials");
        }
    }
}
