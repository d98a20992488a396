//! SOCKS 4, 4a and 5 (RFC 1928, RFC 1929): what a client says, and what it hears.

use std::net::{IpAddr, SocketAddr};

use super::hop::{Credentials, Kind};
use super::route::Point;
use super::tunnel::{Expect, Refusal, Turn};
use crate::exit::Exit;

/// A dialogue with a SOCKS 5 proxy.
pub struct Socks5 {
    state: State,
    request: Vec<u8>,
    credentials: Option<Credentials>,
    sends_name: bool,
}

enum State {
    Greeting,
    Method,
    LoggedIn,
    Reply,
    Length,
    Bound,
}

impl Socks5 {
    pub fn new(point: &Point, credentials: Option<Credentials>) -> Self {
        /// Version 5, CONNECT, reserved.
        const CONNECT: [u8; 3] = [5, 1, 0];
        let mut request = CONNECT.to_vec();
        match point {
            Point::Address(SocketAddr::V4(address)) => {
                request.push(1);
                request.extend(address.ip().octets());
            }
            Point::Address(SocketAddr::V6(address)) => {
                request.push(4);
                request.extend(address.ip().octets());
            }
            Point::Name(name) => {
                // `Route` has refused one that is longer.
                request.push(3);
                request.push(u8::try_from(name.host.len()).unwrap_or(u8::MAX));
                request.extend(name.host.as_bytes());
            }
        }
        request.extend(point.port().to_be_bytes());
        Self {
            state: State::Greeting,
            request,
            credentials,
            sends_name: matches!(point, Point::Name(_)),
        }
    }

    /// Takes what was expected, at first nothing.
    pub fn next(&mut self, received: &[u8]) -> Result<Turn, Refusal> {
        let (state, turn) = match (&self.state, received) {
            (State::Greeting, _) => {
                let greeting = match self.credentials {
                    Some(_) => vec![5, 2, 0, 2],
                    None => vec![5, 1, 0],
                };
                (State::Method, Turn::new(greeting, Expect::Bytes(2)))
            }
            (State::Method, [5, 0]) | (State::LoggedIn, [_, 0]) => self.ask(),
            (State::Method, [5, 2]) => {
                let Some(Credentials { user, password }) = &self.credentials else {
                    return Err(Refusal::of_credentials("the proxy wants credentials"));
                };
                let mut login = vec![1];
                for text in [user, password] {
                    login.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                    login.extend(text);
                }
                (State::LoggedIn, Turn::new(login, Expect::Bytes(2)))
            }
            (State::Method, [5, ..]) => {
                let why = match self.credentials {
                    Some(_) => "the proxy takes neither a password nor no credentials",
                    None => "the proxy wants credentials",
                };
                return Err(Refusal::of_credentials(why));
            }
            (State::LoggedIn, _) => {
                return Err(Refusal::of_credentials("the proxy refuses the credentials"));
            }
            (State::Reply, [5, 0, _, 1]) => (State::Bound, Turn::expect(4 + 2)),
            (State::Reply, [5, 0, _, 4]) => (State::Bound, Turn::expect(16 + 2)),
            (State::Reply, [5, 0, _, 3]) => (State::Length, Turn::expect(1)),
            (State::Reply, [5, code, ..]) if *code != 0 => return Err(self.refusal(*code)),
            (State::Length, [length]) => (State::Bound, Turn::expect(usize::from(*length) + 2)),
            (State::Bound, _) => return Ok(Turn::DONE),
            _ => return Err(Refusal::no_proxy("SOCKS5")),
        };
        self.state = state;
        Ok(turn)
    }

    fn ask(&self) -> (State, Turn) {
        let request = self.request.clone();
        (State::Reply, Turn::new(request, Expect::Bytes(4)))
    }

    /// RFC 1928, section 6.
    fn refusal(&self, code: u8) -> Refusal {
        const HOST_UNREACHABLE: u8 = 4;
        let words = match code {
            1 => "general failure",
            2 => "not allowed by its rules",
            3 => "network unreachable",
            HOST_UNREACHABLE => "host unreachable",
            5 => "connection refused",
            6 => "hop limit reached",
            7 => "command not supported",
            8 => "address type not supported",
            _ => return Refusal::new(Exit::Network, format!("the proxy says error {code}")),
        };
        // Proxies say so of a name, too, that they cannot resolve.
        let exit = match code {
            HOST_UNREACHABLE if self.sends_name => Exit::Resolve,
            _ => Exit::Network,
        };
        Refusal::new(exit, format!("the proxy says {words}"))
    }
}

/// What a SOCKS 4 or 4a proxy is asked.
pub fn socks4(point: &Point, credentials: Option<&Credentials>) -> Turn {
    /// An address that cannot be: a name follows (SOCKS 4a).
    const NAMED: [u8; 4] = [0, 0, 0, 1];
    let mut request = vec![4, 1];
    request.extend(point.port().to_be_bytes());
    let name = match point {
        Point::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => request.extend(ip.octets()),
                // `Route` has refused it.
                IpAddr::V6(_) => request.extend([0; 4]),
            }
            None
        }
        Point::Name(name) => {
            request.extend(NAMED);
            Some(&name.host)
        }
    };
    request.extend(credentials.map(|it| &it.user[..]).unwrap_or_default());
    request.push(0);
    if let Some(name) = name {
        request.extend(name.as_bytes());
        request.push(0);
    }
    Turn::new(request, Expect::Bytes(8))
}

/// Reads the answer of a SOCKS 4 proxy.
pub fn socks4_answer(received: &[u8]) -> Result<Turn, Refusal> {
    match received {
        // Some proxies repeat the version here.
        [0 | 4, 90, ..] => Ok(Turn::DONE),
        [0 | 4, 91, ..] => Err(Refusal::says("request rejected or failed")),
        [0 | 4, 92, ..] => Err(Refusal::says("it cannot reach identd on this machine")),
        [0 | 4, 93, ..] => Err(Refusal::says("identd names another user")),
        _ => Err(Refusal::no_proxy("SOCKS4")),
    }
}

/// Whether `kind` can be asked for `point`.
pub fn check(kind: Kind, point: &Point) -> Result<(), String> {
    /// Both versions (RFC 1928, section 5; SOCKS 4a has no limit of its own).
    const LONGEST: usize = 255;
    match point {
        Point::Address(SocketAddr::V6(_)) if kind.is_ipv4_only() => {
            Err("SOCKS4 knows no IPv6".to_owned())
        }
        Point::Name(name) if name.host.len() > LONGEST => Err(format!(
            "the name has {} bytes, and a proxy takes {LONGEST}",
            name.host.len()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(text: &str) -> Point {
        Point::of(&text.parse().unwrap())
    }

    /// What is sent while the proxy answers so.
    fn play(mut dialogue: Socks5, answers: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
        let mut sent = Vec::new();
        let mut turn = dialogue.next(&[]).map_err(|refusal| refusal.why)?;
        for answer in answers {
            assert!(matches!(turn.expect, Expect::Bytes(count) if count == answer.len()));
            sent.push(turn.send);
            turn = dialogue.next(answer).map_err(|refusal| refusal.why)?;
        }
        assert!(matches!(turn.expect, Expect::Nothing));
        Ok(sent)
    }

    #[test]
    fn a_request_has_the_bytes_of_the_rfc() {
        let answers: [&[u8]; 3] = [&[5, 0], &[5, 0, 0, 1], &[0; 6]];
        let sent = play(Socks5::new(&point("1.2.3.4:258"), None), &answers).unwrap();
        assert_eq!(
            sent[..2],
            [vec![5, 1, 0], vec![5, 1, 0, 1, 1, 2, 3, 4, 1, 2]]
        );
        let sent = play(Socks5::new(&point("ab:258"), None), &answers).unwrap();
        assert_eq!(sent[1], [5, 1, 0, 3, 2, b'a', b'b', 1, 2]);
        let sent = play(Socks5::new(&point("[::1]:1"), None), &answers).unwrap();
        let mut expected = vec![5, 1, 0, 4];
        expected.extend([0; 15]);
        expected.extend([1, 0, 1]);
        assert_eq!(sent[1], expected);
        assert_eq!(
            socks4(&point("1.2.3.4:258"), None).send,
            [4, 1, 1, 2, 1, 2, 3, 4, 0]
        );
        let credentials = Credentials::read(b"me");
        let named = socks4(&point("ab:258"), Some(&credentials)).send;
        assert_eq!(named, b"\x04\x01\x01\x02\0\0\0\x01me\0ab\0");
    }

    #[test]
    fn credentials_are_sent_when_they_are_asked_for() {
        let dialogue = || Socks5::new(&point("ab:1"), Some(Credentials::read(b"u:pw")));
        let sent = play(
            dialogue(),
            &[&[5, 2], &[1, 0], &[5, 0, 0, 3], &[2], &[0; 4]],
        )
        .unwrap();
        assert_eq!(sent[..2], [vec![5, 2, 0, 2], b"\x01\x01u\x02pw".to_vec()]);
        let error = play(dialogue(), &[&[5, 2], &[1, 1]]).unwrap_err();
        assert!(
            error.starts_with("the proxy refuses the credentials ("),
            "{error}"
        );
    }

    #[test]
    fn only_a_name_that_is_unreachable_counts_as_unresolved() {
        for (target, code, exit) in [
            ("name:1", 4, Exit::Resolve),
            ("1.2.3.4:1", 4, Exit::Network),
            ("name:1", 5, Exit::Network),
        ] {
            let refusal = Socks5::new(&point(target), None).refusal(code);
            assert_eq!(refusal.exit, exit, "{target} {code}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_ends_the_dialogue(bytes in proptest::collection::vec(0_u8.., 0..400), login in proptest::bool::ANY) {
            let credentials = login.then(|| Credentials::read(b"u:p"));
            let mut dialogue = Socks5::new(&point("a:1"), credentials);
            let mut turn = dialogue.next(&[]).ok();
            let mut rest = &bytes[..];
            for _ in 0..6 {
                let Some(Turn { expect: Expect::Bytes(count), .. }) = turn else { break };
                let Some((answer, tail)) = rest.split_at_checked(count) else { break };
                rest = tail;
                turn = dialogue.next(answer).ok();
            }
            let _ = socks4_answer(&bytes);
        }
    }
}
