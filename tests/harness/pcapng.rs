//! Reads a capture back, and fails where it breaks a rule of its format, of IP, of TCP or of UDP.
//!
//! The unit tests of the writer use it too.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// One packet of a capture.
#[derive(Debug)]
pub struct Packet {
    pub nanos: u64,
    pub is_sent: bool,
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Of TCP: flags, sequence number, acknowledgement.
    pub tcp: Option<(u8, u32, u32)>,
    pub payload: Vec<u8>,
    pub comment: String,
}

/// A TCP connection of a capture.
#[derive(Debug)]
pub struct Stream {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Whether netkit is the client.
    pub is_ours: bool,
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
    /// What ended it, in its order, as `client FIN, server RST`.
    pub ends: String,
    pub comment: String,
    next: [u32; 2],
    acknowledged: [u32; 2],
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The type and the body of each block.
fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 4) as usize;
        assert!(length >= 12 && length.is_multiple_of(4), "{length}");
        assert_eq!(u32_at(bytes, length - 4) as usize, length);
        blocks.push((u32_at(bytes, 0), &bytes[8..length - 4]));
        bytes = &bytes[length..];
    }
    blocks
}

/// The options of a block: code and value.
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    loop {
        let (code, length) = (u16_at(bytes, 0), usize::from(u16_at(bytes, 2)));
        if code == 0 {
            assert_eq!((length, bytes.len()), (0, 4));
            return options;
        }
        options.push((code, &bytes[4..4 + length]));
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

fn option<'a>(options: &[(u16, &'a [u8])], code: u16) -> &'a [u8] {
    let found = options.iter().find(|(found, _)| *found == code);
    found.map_or(&[], |(_, value)| value)
}

/// The packets of each section.
pub fn sections(bytes: &[u8]) -> Vec<Vec<Packet>> {
    let mut sections: Vec<Vec<Packet>> = Vec::new();
    let mut interfaces = 0;
    for (kind, body) in blocks(bytes) {
        match kind {
            0x0a0d_0d0a => {
                assert_eq!(u32_at(body, 0), 0x1a2b_3c4d);
                assert_eq!((u16_at(body, 4), u16_at(body, 6)), (1, 0));
                assert_eq!(body[8..16], [0xff; 8]);
                options(&body[16..]);
                sections.push(Vec::new());
                interfaces = 0;
            }
            1 => {
                assert_eq!(
                    (u16_at(body, 0), u16_at(body, 2), u32_at(body, 4)),
                    (101, 0, 0)
                );
                assert_eq!(option(&options(&body[8..]), 9), [9]);
                interfaces += 1;
            }
            6 => {
                assert_eq!((interfaces, u32_at(body, 0)), (1, 0));
                sections.last_mut().unwrap().push(packet(body));
            }
            _ => panic!("a block of type {kind}"),
        }
    }
    sections
}

/// The packets of a capture with one section.
pub fn packets(bytes: &[u8]) -> Vec<Packet> {
    let mut sections = sections(bytes);
    assert_eq!(sections.len(), 1);
    sections.remove(0)
}

fn packet(body: &[u8]) -> Packet {
    let nanos = u64::from(u32_at(body, 4)) << 32 | u64::from(u32_at(body, 8));
    let length = u32_at(body, 12) as usize;
    assert_eq!(u32_at(body, 16) as usize, length);
    let options = options(&body[20 + length.next_multiple_of(4)..]);
    let is_sent = match option(&options, 2) {
        [1, 0, 0, 0] => false,
        [2, 0, 0, 0] => true,
        flags => panic!("{flags:?}"),
    };
    let bytes = &body[20..20 + length];
    let (header, ips, protocol) = ip(bytes);
    let rest = &bytes[header..];
    let pseudo = [octets(ips[0]), octets(ips[1])].concat();
    let mut summed = vec![0, protocol];
    summed.extend_from_slice(&u32::try_from(rest.len()).unwrap().to_be_bytes());
    assert_eq!(sum(&[&pseudo, &summed, rest]), 0xffff);
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
    let (tcp, header) = match protocol {
        6 => {
            assert_eq!(rest[12] & 15, 0);
            (
                Some((rest[13], number(4), number(8))),
                usize::from(rest[12] >> 4) * 4,
            )
        }
        17 => {
            assert_eq!(usize::from(port(4)), rest.len());
            assert_ne!(port(6), 0);
            (None, 8)
        }
        _ => panic!("protocol {protocol}"),
    };
    Packet {
        nanos,
        is_sent,
        from: SocketAddr::new(ips[0], port(0)),
        to: SocketAddr::new(ips[1], port(2)),
        tcp,
        payload: rest[header..].to_vec(),
        comment: String::from_utf8(option(&options, 1).to_vec()).unwrap(),
    }
}

/// The length of the header, both addresses, and the protocol.
fn ip(bytes: &[u8]) -> (usize, [IpAddr; 2], u8) {
    let v4 = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
    let v6 = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap().into();
    let length = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    match bytes[0] {
        0x45 => {
            assert_eq!(length(2), bytes.len());
            assert_eq!(sum(&[&bytes[..20]]), 0xffff);
            (20, [v4(12), v4(16)], bytes[9])
        }
        0x60 => {
            assert_eq!(length(4), bytes.len() - 40);
            (40, [v6(8), v6(24)], bytes[6])
        }
        first => panic!("{first:x}"),
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The ones' complement sum of 16-bit words. All parts but the last have even lengths.
fn sum(parts: &[&[u8]]) -> u32 {
    let mut sum = 0;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The TCP connections of `packets`, in the order in which they began. Fails where bytes are missing or
/// come twice, where something is acknowledged that has not been sent, and after a reset.
pub fn streams(packets: &[Packet]) -> Vec<Stream> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let mut streams: Vec<Stream> = Vec::new();
    for packet in packets {
        let Some((flags, sequence, acknowledged)) = packet.tcp else {
            continue;
        };
        let (from, to) = (packet.from, packet.to);
        if flags & (SYN | ACK) == SYN {
            streams.push(Stream {
                client: from,
                server: to,
                is_ours: packet.is_sent,
                to_server: Vec::new(),
                to_client: Vec::new(),
                ends: String::new(),
                comment: packet.comment.clone(),
                next: [sequence.wrapping_add(1), 0],
                acknowledged: [sequence, 0],
            });
            continue;
        }
        let ends = [(from, to), (to, from)];
        let mut newest = streams.iter_mut().rev();
        let stream = newest.find(|stream| ends.contains(&(stream.client, stream.server)));
        let stream = stream.expect("a SYN comes first");
        let by_client = stream.client == from;
        assert_eq!(by_client, packet.is_sent == stream.is_ours, "{packet:?}");
        let (own, other) = if by_client { (0, 1) } else { (1, 0) };
        assert!(!stream.ends.contains("RST"), "{packet:?}");
        assert!(flags & ACK != 0, "{packet:?}");
        if flags & SYN != 0 {
            stream.next[1] = sequence.wrapping_add(1);
            stream.acknowledged[1] = sequence;
        } else {
            assert_eq!(sequence, stream.next[own], "{packet:?}");
        }
        assert_eq!(acknowledged, stream.next[other], "{packet:?}");
        stream.acknowledged[other] = acknowledged;
        let count = u32::try_from(packet.payload.len()).unwrap();
        stream.next[own] = stream.next[own].wrapping_add(count + u32::from(flags & FIN));
        let open = stream.next[own].wrapping_sub(stream.acknowledged[own]);
        assert!(open < 65_535 << 8, "the window is full");
        let bytes = [&mut stream.to_server, &mut stream.to_client];
        bytes[own].extend_from_slice(&packet.payload);
        for (flag, name) in [(FIN, "FIN"), (RST, "RST")] {
            if flags & flag != 0 {
                let side = ["client", "server"][own];
                let comma = if stream.ends.is_empty() { "" } else { ", " };
                write!(stream.ends, "{comma}{side} {name}").unwrap();
            }
        }
    }
    streams
}
