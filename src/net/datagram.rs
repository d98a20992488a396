//! How large a UDP datagram may be.

use std::net::SocketAddr;

use crate::units;

/// A receive buffer that no datagram exceeds. recv(2) cuts a datagram silently to its buffer.
pub const BUFFER: usize = 65_536;

/// The largest payload of all: [`largest`] over IPv6.
pub const LARGEST: usize = 65_527;

/// The most of a stream that becomes one datagram. nc.traditional and socat receive no more, and cut the
/// rest off silently; nc.openbsd receives twice as much.
pub const PIECE: usize = 8 << 10;

/// The largest payload of a datagram to `address`: 65,535 bytes less what the length field also
/// counts, which is the UDP header (8 bytes) and over IPv4 the IP header (20 bytes).
pub fn largest(address: &SocketAddr) -> usize {
    match address {
        SocketAddr::V4(_) => LARGEST - 20,
        SocketAddr::V6(_) => LARGEST,
    }
}

/// The size of a payload as typed, at most [`LARGEST`].
pub fn payload_size(text: &str) -> Result<usize, String> {
    let size = units::size(text)?;
    if size > LARGEST {
        return Err(format!(
            "'{text}' is more than a datagram carries: 65507 bytes over IPv4, 65527 over IPv6"
        ));
    }
    Ok(size)
}
