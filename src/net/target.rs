//! What a client is told to connect to: `HOST:PORT`, or a Unix socket.

use std::fmt;
use std::str::FromStr;

use super::address::{HostPort, glued_port, is_ipv6, port, read, read_port, too_much};
use super::peer::Endpoint;
use super::services::Protocol;
use super::unix::UnixName;

/// An address as it was typed. Nothing is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Inet(HostPort),
    Unix(UnixName),
}

impl Address {
    /// Reads an address from the front of `words`, and returns it with the rest.
    pub fn take_from(words: &[String], protocol: Protocol) -> Result<(Self, &[String]), String> {
        if let Some((first, rest)) = words.split_first()
            && let Some(name) = unix(first, protocol)
        {
            return Ok((Self::Unix(name?), rest));
        }
        let (address, rest) = HostPort::take_from(words, protocol)?;
        Ok((Self::Inet(address), rest))
    }

    /// Reads an address of a stream that takes all of `words`.
    pub fn from_words(words: &[String]) -> Result<Self, String> {
        match Self::take_from(words, Protocol::Tcp)? {
            (address, []) => Ok(address),
            (address, [extra, ..]) => Err(too_much(extra, address)),
        }
    }

    /// `None`: a Unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(address) => Some(address.port),
            Self::Unix(_) => None,
        }
    }

    /// The host as it was typed. For a Unix socket it is this machine.
    pub fn host(&self) -> &str {
        match self {
            Self::Inet(address) => &address.host,
            Self::Unix(_) => "localhost",
        }
    }

    /// The value of an HTTP `Host` field. For a Unix socket it is this machine.
    pub fn host_field(&self, default_port: u16) -> String {
        match self {
            Self::Inet(address) => address.host_field(default_port),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The target as typed, and in parentheses the address it was resolved to, if that differs.
    pub fn at(&self, endpoint: &Endpoint) -> String {
        match (self, endpoint) {
            (Self::Inet(typed), Endpoint::Inet(address)) => typed.at(*address).to_string(),
            (typed, _) => typed.to_string(),
        }
    }

    /// What was tried and why it failed. Equal causes stand once.
    pub fn tried(&self, failures: impl IntoIterator<Item = (Endpoint, String)>) -> String {
        let mut failures = failures.into_iter().peekable();
        match (self, failures.peek()) {
            (Self::Unix(name), Some((_, cause))) => format!("{name}: {cause}"),
            (Self::Unix(name), None) => name.to_string(),
            (Self::Inet(address), _) => {
                let inet = |(endpoint, cause): (Endpoint, _)| Some((endpoint.inet()?, cause));
                address.tried(failures.filter_map(inet))
            }
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_words(&[text.to_owned()])
    }
}

impl From<HostPort> for Address {
    fn from(address: HostPort) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(name) => name.fmt(f),
        }
    }
}

/// The Unix socket that `word` names, if it names one. UDP has none.
fn unix(word: &str, protocol: Protocol) -> Option<Result<UnixName, String>> {
    let name = UnixName::read(word)?;
    Some(match protocol {
        Protocol::Tcp => name,
        Protocol::Udp => Err(format!(
            "'{word}' is a Unix socket, which is for tcp-client and tcp-server"
        )),
    })
}

/// Reads the targets of a check: `HOST:PORTS` each, or `HOST PORTS`. At least one.
pub fn targets(words: &[String], protocol: Protocol) -> Result<Vec<Address>, String> {
    let ports = |list: &str| ports(list, protocol);
    if let [first, second] = words
        && let Ok((host, None)) = read(first, |text| read_port(text, protocol))
        && glued_port(first).is_none_or(|_| ports(second).is_ok())
    {
        return Ok(at_ports(&host, &ports(second)?));
    }
    let mut targets = Vec::new();
    for word in words {
        if let Some(name) = unix(word, protocol) {
            targets.push(Address::Unix(name?));
            continue;
        }
        let list = word.rsplit_once(':').filter(|(_, list)| {
            let is_list = list.contains([',', '-']);
            is_list && !is_ipv6(word) && !word.contains("://")
        });
        match list {
            Some((host, list)) => {
                let ports = ports(list)?;
                let one = HostPort::read(&format!("{host}:{}", ports[0]), protocol)?;
                targets.extend(at_ports(&one.host, &ports));
            }
            None => targets.push(Address::Inet(HostPort::read(word, protocol)?)),
        }
    }
    if targets.is_empty() {
        return Err(
            "no address; write HOST:PORTS, for example localhost:22,80,8000-8010".to_owned(),
        );
    }
    Ok(targets)
}

/// Reads the targets of a check over UDP, as [`targets`] does.
pub fn udp_targets(words: &[String]) -> Result<Vec<HostPort>, String> {
    let targets = targets(words, Protocol::Udp)?;
    let inet = targets.into_iter().filter_map(|target| match target {
        Address::Inet(target) => Some(target),
        Address::Unix(_) => None,
    });
    Ok(inet.collect())
}

fn at_ports(host: &str, ports: &[u16]) -> Vec<Address> {
    let at_port = |port: &u16| {
        let (host, port) = (host.to_owned(), *port);
        Address::Inet(HostPort { host, port })
    };
    ports.iter().map(at_port).collect()
}

/// Ports typed as `22,80,8000-8010,https`: in that order, none twice.
fn ports(text: &str, protocol: Protocol) -> Result<Vec<u16>, String> {
    let mut seen = vec![false; 1 << 16];
    let mut ports = Vec::new();
    for part in text.split(',') {
        if part.is_empty() {
            return Err(format!(
                "'{text}' lacks a port beside a comma; write 22,80,8000-8010"
            ));
        }
        // A name may contain a dash: only two numbers are a range.
        let is_number =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) if is_number(first) && is_number(last) => {
                (port(first)?, port(last)?)
            }
            _ => [read_port(part, protocol)?; 2].into(),
        };
        if first > last {
            return Err(format!(
                "'{part}' ends before it begins; write {last}-{first}"
            ));
        }
        for port in first..=last {
            if !std::mem::replace(&mut seen[usize::from(port)], true) {
                ports.push(port);
            }
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_unix_socket_is_an_address_by_itself() {
        let read = |typed: &[&str]| Address::from_words(&words(typed));
        let name = UnixName::Path("a:80".into());
        assert_eq!(read(&["unix:a:80"]), Ok(Address::Unix(name)));
        let error = read(&["unix:/a", "80"]).unwrap_err();
        assert_eq!(error, "'80' is too much: the address is unix:/a already");
        let typed = words(&["unix:/a"]);
        let udp = Address::take_from(&typed, Protocol::Udp);
        let error = "'unix:/a' is a Unix socket, which is for tcp-client and tcp-server";
        assert_eq!(udp, Err(error.to_owned()));
    }

    #[test]
    fn a_list_of_ports_has_ranges_and_keeps_its_order() {
        assert_eq!(ports("80", Protocol::Tcp), Ok(vec![80]));
        assert_eq!(
            ports("443,22,80-82,81", Protocol::Tcp),
            Ok(vec![443, 22, 80, 81, 82])
        );
        assert_eq!(
            ports("1-65535", Protocol::Tcp).map(|ports| ports.len()),
            Ok(65535)
        );
        for text in [
            "", ",", "80,", "0", "1-", "-1", "a", "1-2-3", "65536", "9-8", "1 2",
        ] {
            assert!(ports(text, Protocol::Tcp).is_err(), "{text}");
        }
        for (text, wrong) in [("0-5", "'0'"), ("1-65536", "'65536'"), ("22,7-x", "'7-x'")] {
            let error = ports(text, Protocol::Tcp).unwrap_err();
            assert!(
                error.starts_with(&format!("{wrong} is not a port")),
                "{error}"
            );
        }
    }

    #[test]
    fn ports_to_check_follow_a_host_or_are_part_of_the_address() {
        let read = |typed: &[&str]| {
            let targets = targets(&words(typed), Protocol::Tcp)?;
            Ok::<_, String>(targets.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let cases: [(&[&str], &[&str]); 9] = [
            (&["db", "1,2"], &["db:1", "db:2"]),
            (&["db:1,2"], &["db:1", "db:2"]),
            (&["db:7-9", "db:1"], &["db:7", "db:8", "db:9", "db:1"]),
            (&["a-b:1", "c-d:2"], &["a-b:1", "c-d:2"]),
            (&["::1", "7"], &["[::1]:7"]),
            (&["[::1]:7,9", ":1"], &["[::1]:7", "[::1]:9", "localhost:1"]),
            (&["[::1]", "7-8"], &["[::1]:7", "[::1]:8"]),
            (&[":1,2"], &["localhost:1", "localhost:2"]),
            (&["a:1", "b:1", "c:1"], &["a:1", "b:1", "c:1"]),
        ];
        for (typed, expected) in cases {
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(read(typed), Ok(expected), "{typed:?}");
        }
        assert_eq!(
            read(&["unix:/a,1-2", "db:1", "unix:@b"]),
            Ok(vec!["unix:/a,1-2".into(), "db:1".into(), "unix:@b".into()])
        );
        let wrong: [&[&str]; 9] = [
            &["db:1", "2"],
            &["db"],
            &[],
            &["db:2-1"],
            &["db:1,"],
            &["db", "1", "2"],
            &["http://a-b:80"],
            &["unix:"],
            &["unix:/a", "80"],
        ];
        for typed in wrong {
            assert!(read(typed).is_err(), "{typed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_answered_without_a_panic(typed in proptest::collection::vec("(unix:)?[\\[\\]:%@a1.,-]{0,12}|\\PC{0,9}", 0..4)) {
            let _ = Address::from_words(&typed);
            let _ = targets(&typed, Protocol::Tcp);
        }
    }
}
