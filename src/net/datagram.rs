//! How large a datagram may be.

use std::net::SocketAddr;

/// The most bytes that any datagram carries: a larger one is cut silently by recv(2).
pub const BUFFER: usize = 65_536;

/// The most bytes that a datagram to anybody carries: what `largest` is over IPv6.
pub const LARGEST: usize = 65_527;

/// The most bytes that a datagram to `address` carries: 65,535 less the headers that the length
/// field counts, which are UDP's eight bytes and over IPv4 the twenty of IP.
pub fn largest(address: &SocketAddr) -> usize {
    match address {
        SocketAddr::V4(_) => LARGEST - 20,
        SocketAddr::V6(_) => LARGEST,
    }
}
