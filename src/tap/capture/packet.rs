//! IP packets with TCP and UDP in them (RFC 791, 8200, 9293, 768), checksums included.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::super::Direction;

/// The addresses of a connection, or of a datagram. Both have one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Ends {
    /// IPv4 in IPv6 becomes IPv4, if both are.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = [local, remote].map(|end| end.ip().to_canonical());
        let [local_ip, remote_ip] = if plain[0].is_ipv4() == plain[1].is_ipv4() {
            plain
        } else {
            plain.map(|ip| IpAddr::V6(mapped(ip)))
        };
        Self {
            local: SocketAddr::new(local_ip, local.port()),
            remote: SocketAddr::new(remote_ip, remote.port()),
        }
    }

    /// The source and the destination of what goes this way.
    pub fn towards(self, direction: Direction) -> (SocketAddr, SocketAddr) {
        match direction {
            Direction::Sent => (self.local, self.remote),
            Direction::Received => (self.remote, self.local),
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// What TCP says beside the payload. The number of the last byte is not needed.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The most payload of a segment: that of the largest IPv4 packet.
pub const MOST: u16 = u16::MAX - 20 - 20;

/// The packet of a segment, whose payload is [`MOST`] at most.
pub fn tcp(ends: Ends, direction: Direction, segment: Segment, payload: &[u8]) -> Vec<u8> {
    /// With a scale of 2^8 that is 16 MiB: far more than waits for an acknowledgement.
    const WINDOW: u16 = u16::MAX;
    /// The longest payload, nothing, and the scale of the window.
    const OPTIONS: [u8; 8] = [
        2,
        4,
        MOST.to_be_bytes()[0],
        MOST.to_be_bytes()[1],
        1,
        3,
        3,
        8,
    ];
    const CHECKSUM: usize = 16;
    let options: &[u8] = if segment.flags & SYN != 0 {
        &OPTIONS
    } else {
        &[]
    };
    let (from, to) = ends.towards(direction);
    let mut header = Vec::with_capacity(28);
    header.extend_from_slice(&from.port().to_be_bytes());
    header.extend_from_slice(&to.port().to_be_bytes());
    header.extend_from_slice(&segment.sequence.to_be_bytes());
    header.extend_from_slice(&segment.acknowledged.to_be_bytes());
    header.push(if options.is_empty() { 5 << 4 } else { 7 << 4 });
    header.push(segment.flags);
    header.extend_from_slice(&WINDOW.to_be_bytes());
    // The checksum, and no urgent byte.
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(options);
    let sum = checksum(from.ip(), to.ip(), TCP, &header, payload);
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), TCP, &header, payload)
}

/// The packet of a datagram. `payload` is as long as UDP allows, at most.
pub fn datagram(ends: Ends, direction: Direction, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends.towards(direction);
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut header = [from.port(), to.port(), length, 0].map(u16::to_be_bytes);
    let sum = checksum(from.ip(), to.ip(), UDP, header.as_flattened(), payload);
    // 0 would say that there is none.
    header[3] = if sum == 0 { u16::MAX } else { sum }.to_be_bytes();
    ip(from.ip(), to.ip(), UDP, header.as_flattened(), payload)
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet of both parts. Both addresses have one family.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
    const HOPS: u8 = 64;
    let length = header.len() + payload.len();
    let mut packet = Vec::with_capacity(40 + length);
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) {
        /// Version 4, five words.
        const START: [u8; 2] = [0x45, 0];
        /// No identification; the packet is not to be fragmented.
        const FRAGMENT: [u8; 4] = [0, 0, 0x40, 0];
        packet.extend_from_slice(&START);
        packet.extend_from_slice(&short(20 + length));
        packet.extend_from_slice(&FRAGMENT);
        packet.extend_from_slice(&[HOPS, protocol, 0, 0]);
        packet.extend_from_slice(&from.octets());
        packet.extend_from_slice(&to.octets());
        let sum = fold(sum(&packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet.extend_from_slice(&[0x60, 0, 0, 0]);
        packet.extend_from_slice(&short(length));
        packet.extend_from_slice(&[protocol, HOPS]);
        packet.extend_from_slice(&mapped(from).octets());
        packet.extend_from_slice(&mapped(to).octets());
    }
    packet.extend_from_slice(header);
    packet.extend_from_slice(payload);
    packet
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// The checksum of TCP and UDP, over the addresses too. `header` has an even length.
fn checksum(from: IpAddr, to: IpAddr, protocol: u8, header: &[u8], payload: &[u8]) -> u16 {
    let addresses = [from, to].map(|ip| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    });
    let length = (header.len() + payload.len()) as u64;
    let pseudo = addresses[0] + addresses[1] + u64::from(protocol) + length;
    fold(pseudo + sum(header) + sum(payload))
}

/// The sum of all 16-bit words (RFC 1071). An odd byte is followed by 0.
fn sum(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|&word| u64::from(u16::from_be_bytes(word)));
    let odd = odd.iter().map(|&byte| u64::from(byte) << 8);
    words.chain(odd).sum()
}

/// The complement of the sum in 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
