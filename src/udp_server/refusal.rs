//! Which datagrams a server does not answer. Answers must not become a weapon against others, or
//! against the server itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The beginning of every answer of the hello service.
pub const GREETING: &[u8] = b"Hello, ";

/// The depth of greetings of greetings that is refused. Two hello servers answer each other without
/// end after one forged datagram (CVE-2024-2169).
const NESTED: usize = 8;

/// Ports below this belong to services of a system. Some of them answer everything (echo, chargen,
/// DNS): a datagram from there is an answer, or forged to cause one.
const FIRST_ORDINARY_PORT: u16 = 1024;

/// Why a datagram is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Denied,
    Port,
    OwnAddress,
    NoHost,
    NestedGreeting,
    Hops,
    Rate,
    TooLarge,
    /// As many programs run as may.
    Full,
    /// As many programs run for the peer's host as may.
    Crowd,
    /// The peer's program has not read the last datagram, or reads no more.
    NotTaken,
    /// The peer's program has printed all that it may before the peer sends again.
    Unheard,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "the source is not allowed",
            Self::Port => "the source port is below 1024",
            Self::OwnAddress => "the source is this server's own address",
            Self::NoHost => "the source is a multicast, broadcast or unspecified address",
            Self::NestedGreeting => {
                "it is a greeting of a greeting, 8 deep: two servers answering each other"
            }
            Self::Hops => "its hop limit is used up: two servers answering each other",
            Self::Rate => "the source is over --rate-limit",
            Self::TooLarge => "the answer does not fit into a datagram",
            Self::Full => "programs run for as many peers as --max-peers allows",
            Self::Crowd => "its host has its share of --max-peers",
            Self::NotTaken => "its program does not read what is sent to it",
            Self::Unheard => "its program has sent all that it may before it is heard again",
        })
    }
}

/// Why nothing may be sent to `source`. `own` are the addresses of the server's sockets; `is_local`
/// tells whether an address belongs to this machine.
pub fn check_source(
    source: SocketAddr,
    mut own: impl Iterator<Item = SocketAddr>,
    is_local: impl Fn(SocketAddr) -> bool,
) -> Option<Refusal> {
    let ip = source.ip().to_canonical();
    if source.port() < FIRST_ORDINARY_PORT {
        return Some(Refusal::Port);
    }
    if ip.is_multicast() || ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(Refusal::NoHost);
    }
    let is_own = own.any(|own| {
        let own_ip = own.ip().to_canonical();
        // A socket for any address, or for a group, sends from every address of this machine.
        let sends_from_all = own_ip.is_unspecified() || own_ip.is_multicast();
        own.port() == source.port()
            && (own_ip == ip
                || sends_from_all && own_ip.is_ipv4() == ip.is_ipv4() && is_local(source))
    });
    is_own.then_some(Refusal::OwnAddress)
}

/// Whether the hello services of two servers have made `payload` of a datagram.
pub fn is_nested_greeting(payload: &[u8]) -> bool {
    let mut greetings = payload.chunks(GREETING.len()).take(NESTED);
    payload.len() >= NESTED * GREETING.len() && greetings.all(|chunk| chunk == GREETING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(source: &str, own: &[&str]) -> Option<Refusal> {
        let own = own.iter().map(|own| own.parse().unwrap());
        let is_local = |address: SocketAddr| {
            ["127.0.0.1", "::1", "192.0.2.1"]
                .iter()
                .any(|local| address.ip() == local.parse::<IpAddr>().unwrap())
        };
        check_source(source.parse().unwrap(), own, is_local)
    }

    #[test]
    fn a_port_below_1024_is_refused() {
        let own = ["127.0.0.1:9999"];
        for source in ["192.0.2.7:0", "192.0.2.7:7", "[::1]:53", "127.0.0.1:1023"] {
            assert_eq!(refused(source, &own), Some(Refusal::Port), "{source}");
        }
        assert_eq!(refused("192.0.2.7:1024", &own), None);
    }

    #[test]
    fn a_server_does_not_answer_itself() {
        let own = Some(Refusal::OwnAddress);
        assert_eq!(refused("127.0.0.1:9999", &["127.0.0.1:9999"]), own);
        assert_eq!(refused("[::ffff:127.0.0.1]:9999", &["127.0.0.1:9999"]), own);
        assert_eq!(
            refused("[::1]:9999", &["127.0.0.1:9999", "[::1]:9999"]),
            own
        );
        assert_eq!(refused("192.0.2.1:9999", &["0.0.0.0:9999"]), own);
        assert_eq!(refused("[::1]:9999", &["[::]:9999"]), own);
        assert_eq!(refused("192.0.2.1:9999", &["239.1.2.3:9999"]), own);
    }

    #[test]
    fn others_with_the_same_port_are_answered() {
        assert_eq!(refused("127.0.0.1:9998", &["127.0.0.1:9999"]), None);
        assert_eq!(refused("192.0.2.1:9999", &["127.0.0.1:9999"]), None);
        assert_eq!(refused("192.0.2.2:9999", &["0.0.0.0:9999"]), None);
        assert_eq!(refused("[::1]:9999", &["0.0.0.0:9999"]), None);
    }

    #[test]
    fn a_multicast_broadcast_or_unspecified_address_is_refused() {
        for source in [
            "224.0.0.1:5000",
            "[ff02::1]:5000",
            "255.255.255.255:5000",
            "0.0.0.0:5000",
            "[::]:5000",
            "[::ffff:224.0.0.1]:5000",
        ] {
            assert_eq!(refused(source, &[]), Some(Refusal::NoHost), "{source}");
        }
    }

    #[test]
    fn a_greeting_is_refused_from_eight_deep() {
        let nested = |depth: usize| {
            let mut payload = b"x".to_vec();
            for _ in 0..depth {
                payload = [GREETING, &payload, b"!"].concat();
            }
            is_nested_greeting(&payload)
        };
        assert!(!nested(7));
        assert!(nested(8));
        assert!(nested(100));
        assert!(!is_nested_greeting(b""));
    }

    proptest! {
        #[test]
        fn two_servers_stop_answering_each_other(mut payload: Vec<u8>) {
            let mut answers = 0;
            while !is_nested_greeting(&payload) {
                payload = [GREETING, &payload, b"!"].concat();
                answers += 1;
            }
            prop_assert!(answers <= NESTED);
        }
    }
}
