//! The PROXY protocol (`proxy-protocol.txt` of haproxy, versions 1 and 2): a header in front of a
//! connection names the client and the address that it connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use rustix::net::RecvFlags;

use crate::net::stream::Stream;
use crate::wait::{Deadline, IN, if_ready, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// A line of text
    V1,
    /// Binary
    V2,
}

/// Who connected, and to which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl From<(SocketAddr, SocketAddr)> for Ends {
    fn from((source, destination): (SocketAddr, SocketAddr)) -> Self {
        Self {
            source,
            destination,
        }
    }
}

/// How long a header may take to arrive.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no header.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    Late,
    Malformed,
    /// The peer has ended or reset the connection.
    Gone,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_BEGINS: &[u8] = b"PROXY ";
/// With its line end.
const LONGEST_V1: usize = 107;
/// What stands before the addresses of version 2.
const V2_FIXED: usize = 16;
/// A header of version 2 may have extensions. More than this is no header.
const LONGEST_V2: usize = 4096;

/// A header that names `ends`; `None`: it says that they are not known.
pub fn encode(version: Version, ends: Option<Ends>) -> Vec<u8> {
    let ends = ends.map(
        |Ends {
             source,
             destination,
         }| {
            let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
            (from, to, source.port(), destination.port())
        },
    );
    match version {
        Version::V1 => match ends {
            Some((IpAddr::V4(from), IpAddr::V4(to), source, destination)) => {
                format!("PROXY TCP4 {from} {to} {source} {destination}\r\n").into_bytes()
            }
            Some((IpAddr::V6(from), IpAddr::V6(to), source, destination)) => {
                format!("PROXY TCP6 {from} {to} {source} {destination}\r\n").into_bytes()
            }
            _ => b"PROXY UNKNOWN\r\n".to_vec(),
        },
        Version::V2 => {
            let (family, addresses) = match ends {
                Some((IpAddr::V4(from), IpAddr::V4(to), ..)) => {
                    (0x11, [from.octets(), to.octets()].concat())
                }
                Some((IpAddr::V6(from), IpAddr::V6(to), ..)) => {
                    (0x21, [from.octets(), to.octets()].concat())
                }
                _ => (0, Vec::new()),
            };
            let mut header = [&SIGNATURE[..], &[0x21, family]].concat();
            let ports = match ends {
                Some((_, _, source, destination)) if family != 0 => {
                    [source.to_be_bytes(), destination.to_be_bytes()].concat()
                }
                _ => Vec::new(),
            };
            let length = u16::try_from(addresses.len() + ports.len()).unwrap_or(0);
            header.extend(length.to_be_bytes());
            header.extend(addresses);
            header.extend(ports);
            header
        }
    }
}

/// Takes the header from the front of `stream`, and not a byte more. Blocks until `limit`. `None`: the
/// header names nobody (LOCAL, UNKNOWN, a Unix socket).
pub fn read(stream: &Stream, limit: Deadline) -> Result<Option<Ends>, Missing> {
    let mut header = Vec::new();
    let mut buffer = vec![0; LONGEST_V2];
    loop {
        match length(&header)? {
            Some(length) if header.len() == length => return decode(&header),
            _ => {}
        }
        if limit.has_passed() {
            return Err(Missing::Late);
        }
        wait_for(stream.as_fd(), IN, limit).map_err(|_| Missing::Gone)?;
        // Only a look: what follows the header is the client's.
        let seen = receive(stream, &mut buffer, RecvFlags::PEEK)?;
        let begun = header.len();
        header.extend(&buffer[..seen]);
        let end = length(&header)?.unwrap_or(header.len()).min(header.len());
        header.truncate(end);
        let taken = receive(stream, &mut buffer[..end - begun], RecvFlags::empty())?;
        header.truncate(begun + taken);
    }
}

/// 0: nothing is there yet.
fn receive(stream: &Stream, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Missing> {
    if buffer.is_empty() {
        return Ok(0);
    }
    let received: io::Result<usize> = stream.receive(buffer, flags | RecvFlags::DONTWAIT);
    match if_ready(received) {
        Ok(Some(0)) | Err(_) => Err(Missing::Gone),
        Ok(count) => Ok(count.unwrap_or(0)),
    }
}

/// How long a header is that begins so. `None`: that does not show yet.
fn length(seen: &[u8]) -> Result<Option<usize>, Missing> {
    let begins = |with: &[u8]| {
        let count = seen.len().min(with.len());
        seen[..count] == with[..count]
    };
    if begins(V1_BEGINS) {
        let line = &seen[..seen.len().min(LONGEST_V1)];
        return match line.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(end + 1)),
            None if line.len() == LONGEST_V1 => Err(Missing::Malformed),
            None => Ok(None),
        };
    }
    if !begins(SIGNATURE) {
        return Err(Missing::Malformed);
    }
    match seen.get(14..V2_FIXED) {
        Some(&[high, low]) => {
            let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
            let is_header = length <= LONGEST_V2;
            is_header.then_some(Some(length)).ok_or(Missing::Malformed)
        }
        _ => Ok(None),
    }
}

/// Whom a header names; `None`: nobody.
type Named = Option<Ends>;

/// Reads a whole header.
fn decode(header: &[u8]) -> Result<Option<Ends>, Missing> {
    let decoded = match header.strip_prefix(V1_BEGINS) {
        Some(line) => line.strip_suffix(b"\r\n").and_then(decode_line),
        None => decode_binary(header),
    };
    let named = decoded.ok_or(Missing::Malformed)?;
    // A proxy that listens on `::` for both families names IPv4 clients as IPv4-mapped.
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    Ok(named.map(|ends| Ends {
        source: plain(ends.source),
        destination: plain(ends.destination),
    }))
}

/// What stands between `PROXY ` and the line end of version 1.
fn decode_line(line: &[u8]) -> Option<Named> {
    let line = str::from_utf8(line).ok()?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let [family, from, to, source, destination] = [(); 5].map(|()| words.next());
    if words.next().is_some() {
        return None;
    }
    let (from, to): (IpAddr, IpAddr) = match family? {
        "TCP4" => (
            canonical::<Ipv4Addr>(from?)?.into(),
            canonical::<Ipv4Addr>(to?)?.into(),
        ),
        "TCP6" => (
            from?.parse::<Ipv6Addr>().ok()?.into(),
            to?.parse::<Ipv6Addr>().ok()?.into(),
        ),
        _ => return None,
    };
    Some(Some(Ends {
        source: (from, canonical(source?)?).into(),
        destination: (to, canonical(destination?)?).into(),
    }))
}

/// Reads what is written in the one usual way: no sign, no leading zero.
fn canonical<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>()
        .ok()
        .filter(|value| value.to_string() == text)
}

/// A header of version 2. Extensions are skipped.
fn decode_binary(header: &[u8]) -> Option<Named> {
    let rest = header.strip_prefix(SIGNATURE)?;
    let [version_and_command, family, _, _, rest @ ..] = rest else {
        return None;
    };
    match (version_and_command, family) {
        // LOCAL: the proxy speaks for itself. The rest means nothing.
        (0x20, _) | (0x21, 0x00) => Some(None),
        (0x21, 0x11) => {
            let addresses = rest.first_chunk::<12>()?;
            let ip = |at: usize| <[u8; 4]>::try_from(&addresses[at..at + 4]).ok();
            Some(Some(Ends {
                source: (Ipv4Addr::from(ip(0)?), port(addresses, 8)).into(),
                destination: (Ipv4Addr::from(ip(4)?), port(addresses, 10)).into(),
            }))
        }
        (0x21, 0x21) => {
            let addresses = rest.first_chunk::<36>()?;
            let ip = |at: usize| <[u8; 16]>::try_from(&addresses[at..at + 16]).ok();
            Some(Some(Ends {
                source: (Ipv6Addr::from(ip(0)?), port(addresses, 32)).into(),
                destination: (Ipv6Addr::from(ip(16)?), port(addresses, 34)).into(),
            }))
        }
        // A Unix socket: two paths, which name no host.
        (0x21, 0x31) => rest.first_chunk::<216>().map(|_| None),
        _ => None,
    }
}

fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn a_header_has_the_bytes_of_the_specification() {
        let v4 = Some(ends("192.168.0.1:56324", "192.168.0.11:443"));
        let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
        assert_eq!(encode(Version::V1, v4), line);
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend([192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb]);
        assert_eq!(encode(Version::V2, v4), binary);
        let v6 = Some(ends("[::1]:1", "[2001:db8::2]:2"));
        assert_eq!(
            encode(Version::V1, v6),
            b"PROXY TCP6 ::1 2001:db8::2 1 2\r\n"
        );
        assert_eq!(encode(Version::V1, None), b"PROXY UNKNOWN\r\n");
        assert_eq!(encode(Version::V2, None), b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0");
    }

    #[test]
    fn what_names_nobody_is_a_header_too() {
        let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            longest.as_bytes().to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x03abc".to_vec(),
            [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[0; 216]].concat(),
        ] {
            assert_eq!(length(&header), Ok(Some(header.len())));
            assert_eq!(decode(&header), Ok(None));
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for line in [
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(decode(line.as_bytes()), Err(Missing::Malformed), "{line:?}");
        }
        for header in [
            &b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c000000000000"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c000000000000",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c000000000000",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b00000000000",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x0c000000000000",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x0c000000000000",
        ] {
            assert_eq!(decode(header), Err(Missing::Malformed), "{header:?}");
        }
        for beginning in [
            &b"GET / HTTP/1.1"[..],
            b"proxy ",
            b"\r\n\r\nx",
            b"\x16\x03\x01",
        ] {
            assert_eq!(length(beginning), Err(Missing::Malformed), "{beginning:?}");
        }
        let endless = [b"PROXY ", &[b'x'; 101][..]].concat();
        assert_eq!(length(&endless), Err(Missing::Malformed));
        let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        assert_eq!(length(huge), Err(Missing::Malformed));
    }

    fn address() -> impl Strategy<Value = (u16, u16, bool, [u8; 32])> {
        (any::<u16>(), any::<u16>(), any::<bool>(), any::<[u8; 32]>())
    }

    fn ends_of((source, destination, is_ipv4, bytes): (u16, u16, bool, [u8; 32])) -> Ends {
        let ip = |at: usize| -> IpAddr {
            if is_ipv4 {
                <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into()
            } else {
                // No IPv4-mapped one, which counts as IPv4.
                let mut octets = <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap();
                octets[0] |= 0x20;
                octets.into()
            }
        };
        Ends {
            source: (ip(0), source).into(),
            destination: (ip(16), destination).into(),
        }
    }

    proptest! {
        #[test]
        fn a_header_is_read_back_and_its_length_shows(parts in address(), is_binary in any::<bool>(), rest in proptest::collection::vec(0_u8.., 0..40)) {
            let ends = ends_of(parts);
            let version = if is_binary { Version::V2 } else { Version::V1 };
            let header = encode(version, Some(ends));
            prop_assert_eq!(decode(&header), Ok(Some(ends)));
            for count in 0..header.len() {
                let known = length(&header[..count]).unwrap();
                prop_assert!(known.is_none_or(|known| known == header.len()));
            }
            let with_rest = [&header[..], &rest].concat();
            prop_assert_eq!(length(&with_rest), Ok(Some(header.len())));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn a_mutated_header_never_panics_nor_grows(parts in address(), is_binary in any::<bool>(), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
            let version = if is_binary { Version::V2 } else { Version::V1 };
            let mut header = encode(version, Some(ends_of(parts)));
            let index = at % header.len();
            header[index] = byte;
            header.truncate(1 + cut % header.len());
            if let Ok(Some(length)) = length(&header) {
                prop_assert!(length <= LONGEST_V2);
            }
            let _ = decode(&header);
        }
    }
}
