//! Addresses as people type them: `HOST:PORT`, `HOST PORT`, `[IPv6]:PORT`, `:PORT`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::escape;
use crate::net::services::{self, Protocol};
use crate::net::target::Address;
use crate::net::unix::UnixName;
use crate::units::ip;

/// A host, by name or address, and a port that is not zero. Nothing is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets; an IPv6 address may end in `%ZONE` (RFC 4007). Empty: this machine.
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// Reads an address from the front of `words`, and returns it with the rest. The second word is
    /// the port only if the first has none.
    pub fn take_from(words: &[String], protocol: Protocol) -> Result<(Self, &[String]), String> {
        let port = |text: &str| read_port(text, protocol);
        let Some((first, rest)) = words.split_first() else {
            return Err("no address; write HOST:PORT, for example localhost:9999".to_owned());
        };
        match (read(first, port)?, rest.split_first()) {
            ((host, Some(port)), _) => Ok((Self { host, port }, rest)),
            (_, None) => Err(without_port(first)),
            ((host, None), Some((second, rest))) => match port(second) {
                Ok(port) => Ok((Self { host, port }, rest)),
                // `::1:9999` is an address by itself. A next word that is no port shows that 9999 was one.
                Err(_) if glued_port(first).is_some() || is_only_port(first) => {
                    Err(without_port(first))
                }
                Err(error) => Err(error),
            },
        }
    }

    pub(super) fn read(text: &str, protocol: Protocol) -> Result<Self, String> {
        match read(text, |text| read_port(text, protocol))? {
            (host, Some(port)) => Ok(Self { host, port }),
            (_, None) => Err(without_port(text)),
        }
    }

    /// Moves the value of an option to the front of `words` if only then they begin with an address:
    /// `-x [FILE]` and `--get [PATH]` take the next word, which may have been the address.
    #[expect(
        clippy::option_option,
        reason = "absent, without a value, with a value"
    )]
    pub fn take_back<W: AsRef<OsStr> + From<String>, V: AsRef<OsStr>>(
        words: &mut Vec<W>,
        option: &mut Option<Option<V>>,
        protocol: Protocol,
    ) {
        let text = |word: &OsStr| word.to_string_lossy().into_owned();
        let typed = words.iter().take(2).map(|word| text(word.as_ref()));
        let typed: Vec<String> = typed.collect();
        let Some(Some(value)) = option else { return };
        let value = text(value.as_ref());
        let with_value = [std::slice::from_ref(&value), &typed].concat();
        let begins = |words: &[String]| Address::take_from(words, protocol).is_ok();
        if !begins(&typed) && begins(&with_value) {
            words.insert(0, value.into());
            *option = Some(None);
        }
    }

    /// The host in words.
    pub fn name(&self) -> &str {
        if self.host.is_empty() {
            "localhost"
        } else {
            &self.host
        }
    }

    /// The target as typed, and in parentheses the address it was resolved to, if that differs.
    pub fn at(&self, address: SocketAddr) -> impl fmt::Display {
        let typed = self.to_string();
        if typed == address.to_string() {
            typed
        } else {
            format!("{typed} ({})", ip(&address))
        }
    }

    /// The target, every address that was tried, and why each failed. Equal causes stand once.
    pub fn tried(&self, failures: impl IntoIterator<Item = (SocketAddr, String)>) -> String {
        let mut causes: Vec<(String, Vec<SocketAddr>)> = Vec::new();
        for (address, cause) in failures {
            match causes.iter_mut().find(|(other, _)| *other == cause) {
                Some((_, addresses)) => addresses.push(address),
                None => causes.push((cause, vec![address])),
            }
        }
        if let [(cause, addresses)] = &causes[..]
            && let [address] = addresses[..]
        {
            return format!("{}: {cause}", self.at(address));
        }
        let each = causes.iter().map(|(cause, addresses)| {
            let ips: Vec<String> = addresses.iter().map(ip).collect();
            format!("{} {cause}", ips.join(", "))
        });
        let each: Vec<String> = each.collect();
        format!("{self}: {}", each.join("; "))
    }

    /// The value of an HTTP `Host` field (RFC 9110, section 7.2): without port 80, and without a zone,
    /// which means nothing outside this machine (RFC 6874).
    pub fn host_field(&self, default_port: u16) -> String {
        let host = self.host.split('%').next().unwrap_or_default();
        let port = self.port;
        let field = Self {
            host: host.to_owned(),
            port,
        };
        let field = field.to_string();
        let default_port = format!(":{default_port}");
        let bare = field.strip_suffix(&default_port);
        bare.unwrap_or(&field).to_owned()
    }
}

/// Reads an address of TCP.
impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, Protocol::Tcp)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.name(), self.port);
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

pub(super) fn too_much(word: &str, address: impl fmt::Display) -> String {
    format!("'{word}' is too much: the address is {address} already")
}

/// A port from 1 to 65535, in decimal.
pub fn port(text: &str) -> Result<u16, String> {
    match number(text) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!(
            "'{text}' is not a port; a port is a number from 1 to 65535"
        )),
    }
}

/// As [`port`], or the name of a service of `protocol`.
pub(super) fn read_port(text: &str, protocol: Protocol) -> Result<u16, String> {
    // RFC 6335, section 5.1: a name has a letter.
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        return services::port(text, protocol);
    }
    port(text)
}

/// Where a server listens, typed as `[ADDRESS:]PORT`: `:PORT` is the port alone, and port 0 any that
/// is free.
pub fn place(text: &str, protocol: Protocol) -> Result<(Option<String>, u16), String> {
    let port = |text: &str| listen_port(text, protocol);
    if text.contains(':') {
        return match read(text, port)? {
            (host, Some(port)) => Ok((Some(host).filter(|host| !host.is_empty()), port)),
            (_, None) => Err(without_port(text)),
        };
    }
    let is_host = text.contains('.');
    match port(text) {
        Err(_) if is_host => Err(without_port(text)),
        Err(error) if host(text).is_ok() && text.contains(|c: char| c.is_ascii_alphabetic()) => {
            Err(format!("{error}; for an address write {text}:9999"))
        }
        port => Ok((None, port?)),
    }
}

/// A port to listen on: a number, 0 for any that is free, or the name of a service of `protocol`.
pub fn listen_port(text: &str, protocol: Protocol) -> Result<u16, String> {
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        return services::port(text, protocol);
    }
    number(text)
}

fn number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!(
            "'{text}' is not a port; a port is a number from 0 to 65535, and 0 takes a free one"
        )),
    }
}

/// Whether `host` is an address, which needs no resolver.
pub fn is_numeric(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok() || is_ipv6(host)
}

/// Reads a host, and by `port` the port if it has one.
pub(super) fn read(
    word: &str,
    port: impl Fn(&str) -> Result<u16, String>,
) -> Result<(String, Option<u16>), String> {
    if UnixName::read(word).is_some() {
        return Err(format!(
            "'{word}' is a Unix socket, which is for tcp-client and tcp-server"
        ));
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let usual = if scheme == "https" { 443 } else { 80 };
        return Err(match read_host(host, port) {
            Ok((host, port)) => {
                let port = port.unwrap_or(usual);
                format!("'{word}' is a URL; write {}", HostPort { host, port })
            }
            Err(_) => format!("'{word}' is a URL; write HOST:PORT"),
        });
    }
    read_host(word, port)
}

fn read_host(
    word: &str,
    port: impl Fn(&str) -> Result<u16, String>,
) -> Result<(String, Option<u16>), String> {
    if let Some(inner) = word.strip_prefix('[') {
        let Some((address, tail)) = inner.split_once(']') else {
            return Err(format!("'{word}' has no closing bracket; write [::1]:9999"));
        };
        if !is_ipv6(address) {
            return Err(format!(
                "'{address}' in brackets is not an IPv6 address; write [::1]:9999"
            ));
        }
        return match tail.strip_prefix(':') {
            Some("") => Err(format!("'{word}' has no port; write {word}9999")),
            Some(digits) => Ok((address.to_owned(), Some(port(digits)?))),
            None if tail.is_empty() => Ok((address.to_owned(), None)),
            None => Err(format!(
                "'{word}' does not go on with a port; write [{address}]:9999"
            )),
        };
    }
    match word.split_once(':') {
        None => Ok((host(word)?, None)),
        Some((_, "")) => Err(format!("'{word}' has no port; write {word}9999")),
        Some((name, digits)) if !digits.contains(':') => {
            // `:PORT` is this machine.
            let name = if name.is_empty() {
                Ok(String::new())
            } else {
                host(name)
            };
            Ok((name?, Some(port(digits)?)))
        }
        Some(_) if is_ipv6(word) => Ok((word.to_owned(), None)),
        Some(_) => Err(match word.rsplit_once(':') {
            Some((address, digits)) if is_ipv6(address) => {
                format!(
                    "'{word}' is an IPv6 address with a port glued on; write [{address}]:{digits}"
                )
            }
            _ => format!(
                "'{word}' has too many colons; write HOST:PORT, and an IPv6 address in brackets: [::1]:9999"
            ),
        }),
    }
}

/// An IPv6 address that also reads as an address and a port: those two.
pub(super) fn glued_port(word: &str) -> Option<(&str, &str)> {
    word.rsplit_once(':')
        .filter(|(address, digits)| is_ipv6(address) && port(digits).is_ok())
}

/// What to write in place of `word`, a host without a port.
fn is_only_port(word: &str) -> bool {
    port(word).is_ok()
}

fn without_port(word: &str) -> String {
    let word = word.trim_start_matches('[').trim_end_matches(']');
    if let Some((address, digits)) = glued_port(word) {
        return format!(
            "'{word}' is an IPv6 address without a port; if {digits} is the port, write [{address}]:{digits}"
        );
    }
    if word.contains(':') {
        format!("'{word}' has no port; write [{word}]:9999")
    } else if is_only_port(word) {
        format!("'{word}' is only a port; write :{word} or HOST:{word}")
    } else {
        format!("'{word}' has no port; write {word}:9999")
    }
}

fn host(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the host is empty; write HOST:PORT, for example localhost:9999".to_owned());
    }
    if text
        .chars()
        .any(|c| c.is_whitespace() || escape::is_hidden(c) || c == '/')
    {
        return Err(format!(
            "'{text}' is not a host; write HOST:PORT, for example localhost:9999"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text
        .split_once('%')
        .map_or((text, None), |(address, zone)| (address, Some(zone)));
    address.parse::<Ipv6Addr>().is_ok() && zone != Some("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn from_words(typed: &[String]) -> Result<HostPort, String> {
        let (address, rest) = HostPort::take_from(typed, Protocol::Tcp)?;
        assert_eq!(rest, [] as [String; 0]);
        Ok(address)
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        let cases: [(&[&str], &str, u16); 10] = [
            (&["example.com:80"], "example.com", 80),
            (&["example.com", "80"], "example.com", 80),
            (&["127.0.0.1:1"], "127.0.0.1", 1),
            (&["[::1]:9999"], "::1", 9999),
            (&["[::1]", "9999"], "::1", 9999),
            (&["::1", "9999"], "::1", 9999),
            (&["[fe80::1%eth0]:65535"], "fe80::1%eth0", 65535),
            (&["fe80::1%eth0", "7"], "fe80::1%eth0", 7),
            (&[":9999"], "", 9999),
            (&["[::ffff:1.2.3.4]:80"], "::ffff:1.2.3.4", 80),
        ];
        for (typed, host, port) in cases {
            let expected = HostPort {
                host: host.to_owned(),
                port,
            };
            assert_eq!(from_words(&words(typed)), Ok(expected), "{typed:?}");
        }
    }

    #[test]
    fn a_second_word_is_the_port_only_where_the_first_has_none() {
        let typed = words(&["localhost:9999", "5353"]);
        let (address, rest) = HostPort::take_from(&typed, Protocol::Tcp).unwrap();
        assert_eq!((address.port, rest), (9999, &typed[1..]));
        assert_eq!(
            Address::from_words(&typed),
            Err("'5353' is too much: the address is localhost:9999 already".to_owned())
        );
    }

    #[test]
    fn an_option_gives_the_address_back_that_it_took() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("a:1", &[], &["a:1"]),
            ("a", &["1"], &["a", "1"]),
            ("a:1", &["text"], &["a:1", "text"]),
            ("file", &["a:1"], &["a:1"]),
            ("file", &[], &[]),
            ("/", &["1"], &["1"]),
        ];
        for (value, typed, expected) in cases {
            let mut typed = words(typed);
            let mut option = Some(Some(value.to_owned()));
            HostPort::take_back(&mut typed, &mut option, Protocol::Tcp);
            assert_eq!(typed, words(expected), "{value}");
            let was_taken = expected.first() == Some(&value);
            assert_eq!(option == Some(None), was_taken, "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_an_example() {
        let cases: [(&[&str], &str); 20] = [
            (
                &["example.com"],
                "'example.com' has no port; write example.com:9999",
            ),
            (&["::1"], "'::1' has no port; write [::1]:9999"),
            (&["[::1]"], "'::1' has no port; write [::1]:9999"),
            (
                &["::1:80"],
                "'::1:80' is an IPv6 address without a port; if 80 is the port, write [::1]:80",
            ),
            (
                &["::1:80", "hello"],
                "'::1:80' is an IPv6 address without a port; if 80 is the port, write [::1]:80",
            ),
            (
                &["::1:99999"],
                "'::1:99999' is an IPv6 address with a port glued on; write [::1]:99999",
            ),
            (
                &["1:2:3"],
                "'1:2:3' has too many colons; write HOST:PORT, and an IPv6 address in brackets: [::1]:9999",
            ),
            (
                &["[::1:80"],
                "'[::1:80' has no closing bracket; write [::1]:9999",
            ),
            (
                &["[a]:80"],
                "'a' in brackets is not an IPv6 address; write [::1]:9999",
            ),
            (
                &["[::1]80"],
                "'[::1]80' does not go on with a port; write [::1]:9999",
            ),
            (&["a:"], "'a:' has no port; write a:9999"),
            (&["[::1]:"], "'[::1]:' has no port; write [::1]:9999"),
            (&[":"], "':' has no port; write :9999"),
            (
                &["a:0"],
                "'0' is not a port; a port is a number from 1 to 65535",
            ),
            (
                &["a:65536"],
                "'65536' is not a port; a port is a number from 1 to 65535",
            ),
            (
                &["a", "+80"],
                "'+80' is not a port; a port is a number from 1 to 65535",
            ),
            (
                &["http://a:8080/b?c"],
                "'http://a:8080/b?c' is a URL; write a:8080",
            ),
            (
                &["https://[::1]"],
                "'https://[::1]' is a URL; write [::1]:443",
            ),
            (&["http://"], "'http://' is a URL; write HOST:PORT"),
            (
                &["a b:80"],
                "'a b' is not a host; write HOST:PORT, for example localhost:9999",
            ),
        ];
        for (typed, message) in cases {
            assert_eq!(
                from_words(&words(typed)),
                Err(message.to_owned()),
                "{typed:?}"
            );
        }
    }

    #[test]
    fn the_host_field_has_a_port_only_where_it_is_not_80() {
        let field = |text: &str| text.parse::<HostPort>().unwrap().host_field(80);
        assert_eq!(field("www.sina.com.cn:80"), "www.sina.com.cn");
        assert_eq!(field("localhost:8080"), "localhost:8080");
        assert_eq!(field("[fe80::1%lo]:81"), "[fe80::1]:81");
    }

    proptest! {
        #[test]
        fn any_words_are_answered_without_a_panic(typed in proptest::collection::vec("[\\[\\]:%a1.]{0,12}|\\PC{0,9}", 0..4)) {
            let _ = HostPort::take_from(&typed, Protocol::Tcp);
        }

        #[test]
        fn an_address_is_read_back_as_it_is_shown(host in "[a-z][a-z0-9.-]{0,20}|[0-9a-f]{1,4}::[0-9a-f]{1,4}", port in 1_u16..) {
            let address = HostPort { host, port };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
