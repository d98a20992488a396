//! Which datagrams a server does not answer, so that nobody can make it a weapon against others or
//! against itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What every answer of the hello service begins with.
pub const GREETING: &[u8] = b"Hello, ";

/// A greeting of a greeting, so many times: two hello servers answer each other, and one forged
/// datagram was enough to begin (CVE-2024-2169).
const NESTED: usize = 8;

/// Ports below this belong to the services of a system, of which some answer everything (echo,
/// chargen, DNS): a datagram from there is an answer, or is forged to cause one.
const FIRST_ORDINARY_PORT: u16 = 1024;

/// Why a datagram is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Denied,
    Port,
    OwnAddress,
    NoHost,
    NestedGreeting,
    /// It has been on its way for so long that an answer would get nowhere.
    Hops,
    Rate,
    TooLarge,
    /// Programs run for as many peers as they may.
    Full,
    /// They run for so many peers of its host that the rest is for others.
    Crowd,
    /// The program of its peer has not read what came before, or reads no more.
    NotTaken,
    /// A program has printed all that it may before its peer is heard again.
    Unheard,
}

impl Refusal {
    pub const ALL: [Self; 12] = [
        Self::Denied,
        Self::Port,
        Self::OwnAddress,
        Self::NoHost,
        Self::NestedGreeting,
        Self::Hops,
        Self::Rate,
        Self::TooLarge,
        Self::Full,
        Self::Crowd,
        Self::NotTaken,
        Self::Unheard,
    ];
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

/// Whether `source` is nobody that an answer may be sent to. `own` are the addresses of the
/// server's sockets; `is_local` tells whether an address belongs to this machine.
pub fn of_source(
    source: SocketAddr,
    own: &[SocketAddr],
    is_local: impl Fn(SocketAddr) -> bool,
) -> Option<Refusal> {
    let ip = source.ip().to_canonical();
    if source.port() < FIRST_ORDINARY_PORT {
        return Some(Refusal::Port);
    }
    if ip.is_multicast() || ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(Refusal::NoHost);
    }
    let is_own = own.iter().any(|own| {
        let own_ip = own.ip().to_canonical();
        own.port() == source.port()
            && (own_ip == ip
                || is_for_many(own_ip) && own_ip.is_ipv4() == ip.is_ipv4() && is_local(source))
    });
    is_own.then_some(Refusal::OwnAddress)
}

/// Whether a socket that is bound to `ip` sends from any address of this machine.
fn is_for_many(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_multicast()
}

/// Whether `payload` is what the hello services of two servers have made of a datagram.
pub fn of_greeting(payload: &[u8]) -> Option<Refusal> {
    let mut greetings = payload.chunks(GREETING.len()).take(NESTED);
    (payload.len() >= NESTED * GREETING.len() && greetings.all(|chunk| chunk == GREETING))
        .then_some(Refusal::NestedGreeting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(source: &str, own: &[&str]) -> Option<Refusal> {
        let own: Vec<SocketAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
        let is_local = |address: SocketAddr| {
            ["127.0.0.1", "::1", "192.0.2.1"]
                .iter()
                .any(|local| address.ip() == local.parse::<IpAddr>().unwrap())
        };
        of_source(source.parse().unwrap(), &own, is_local)
    }

    #[test]
    fn ports_of_services_are_refused() {
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
    fn a_source_that_is_no_single_host_is_refused() {
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
            of_greeting(&payload)
        };
        assert_eq!(nested(7), None);
        assert_eq!(nested(8), Some(Refusal::NestedGreeting));
        assert_eq!(nested(100), Some(Refusal::NestedGreeting));
        assert_eq!(of_greeting(b""), None);
    }

    proptest! {
        #[test]
        fn two_servers_stop_answering_each_other(mut payload: Vec<u8>) {
            let mut answers = 0;
            while of_greeting(&payload).is_none() {
                payload = [GREETING, &payload, b"!"].concat();
                answers += 1;
            }
            prop_assert!(answers <= NESTED);
        }
    }
}
