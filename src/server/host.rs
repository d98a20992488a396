//! What counts as one host, and how much of a server one host may take.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the IPv6 /64 in which a host can choose its addresses.
pub fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The host of `ip` in words.
pub fn name(ip: IpAddr) -> String {
    match host(ip) {
        IpAddr::V6(_) if is_loopback(ip) => ip.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

/// Whether `ip` is this machine itself, which has no limits unless they were asked for.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// How many of `most` places one host may take: three quarters, but at least one.
pub fn share(most: u32) -> u32 {
    // Without overflow: `most / 4 * 3` for the whole quarters.
    (most / 4 * 3 + most % 4 * 3 / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(host(ip("2001:db8::1")), host(ip("2001:db8::ffff:1")));
        assert_ne!(host(ip("2001:db8:0:1::1")), host(ip("2001:db8:0:2::1")));
        assert_eq!(host(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(name(ip("2001:db8::1")), "2001:db8::/64");
        assert_eq!(name(ip("::ffff:192.0.2.1")), "192.0.2.1");
        assert_eq!(name(ip("::1")), "::1");
    }

    #[test]
    fn loopback_is_this_machine() {
        for source in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(ip(source)), "{source}");
        }
        assert!(!is_loopback(ip("192.0.2.1")));
    }

    #[test]
    fn a_share_is_three_quarters_rounded_down_and_at_least_one() {
        let shares = [1, 2, 3, 4, 5, 7, 1024, u32::MAX].map(share);
        assert_eq!(shares, [1, 1, 2, 3, 3, 5, 768, 3_221_225_471]);
    }
}
