//! Waits for a receiver of datagrams on this machine that is behind, where the system shows it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::wait::{Deadline, pause};

/// How much may be queued where more is about to be sent: half of what Linux's queue holds, if the
/// receiver has not asked for another.
const MOST_QUEUED: u64 = 104 << 10;
/// How long a receiver may take nothing until it is waited for no more.
const PATIENCE: Duration = Duration::from_secs(2);

const NAP: Duration = Duration::from_millis(1);

/// Who gets what is sent, if that is a program on this machine.
pub struct Receiver {
    address: SocketAddr,
    /// How many datagrams it had no room for before; `None` where that is not known.
    dropped: Option<u64>,
    /// It has not taken anything for too long.
    stuck: bool,
}

impl Receiver {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            dropped: backlog(address).map(|backlog| backlog.dropped),
            stuck: false,
        }
    }

    /// Waits until it has room for a burst. Pauses alone do not do: on a busy machine the receiver may
    /// have no turn in them.
    pub fn wait(&mut self) -> io::Result<()> {
        let address = self.address;
        let mut least = u64::MAX;
        let mut until = Instant::now();
        while self.dropped.is_some() && !self.stuck {
            let queued = backlog(address).map_or(0, |backlog| backlog.queued);
            if queued <= MOST_QUEUED {
                break;
            }
            let now = Instant::now();
            if queued < least {
                if least == u64::MAX {
                    tracing::debug!(%address, "waiting for {address} to take what it was sent");
                }
                least = queued;
                until = now + PATIENCE;
            }
            self.stuck = now >= until;
            pause(Deadline::after(NAP))?;
        }
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams it had no room for since `new`, whoever sent them.
    pub fn lost(&self) -> u64 {
        let now = self.dropped.and_then(|_| backlog(self.address));
        let (before, now) = (self.dropped.unwrap_or(0), now.unwrap_or_default());
        now.dropped.saturating_sub(before)
    }
}

/// The queues of the UDP sockets that receive what is sent to one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Backlog {
    /// How many bytes the fullest takes, of as many as `SO_RCVBUF` allows.
    queued: u64,
    /// How many datagrams they had no room for, ever, whoever sent them.
    dropped: u64,
}

/// `None` where it is not known: of another machine, of a port that nobody has, and on systems other
/// than Linux.
fn backlog(address: SocketAddr) -> Option<Backlog> {
    // Only an address of this machine can be bound.
    UdpSocket::bind((address.ip(), 0)).ok()?;
    let (table, table6) = tables()?;
    let keys = keys(address);
    sum(table.lines().chain(table6.lines()), &keys)
}

#[cfg(target_os = "linux")]
fn tables() -> Option<(String, String)> {
    let read = |path| std::fs::read_to_string(path).ok();
    let table6 = read("/proc/net/udp6").unwrap_or_default();
    Some((read("/proc/net/udp")?, table6))
}

/// Only Linux shows them.
#[cfg(not(target_os = "linux"))]
fn tables() -> Option<(String, String)> {
    None
}

/// How proc(5) writes the local addresses of the sockets that `address` reaches.
fn keys(address: SocketAddr) -> Vec<String> {
    let ips: Vec<IpAddr> = match address.ip() {
        IpAddr::V4(ip) => vec![
            ip.into(),
            Ipv4Addr::UNSPECIFIED.into(),
            ip.to_ipv6_mapped().into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ],
        IpAddr::V6(ip) => vec![ip.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    ips.into_iter().map(|ip| key(ip, address.port())).collect()
}

/// Words of four bytes, each as a number of this machine's byte order.
fn key(ip: IpAddr, port: u16) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks();
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
        .collect();
    format!("{}:{port:04X}", words.concat())
}

fn sum<'a>(lines: impl Iterator<Item = &'a str>, keys: &[String]) -> Option<Backlog> {
    let backlogs = lines.filter_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, _, bytes, .., dropped] = columns[..] else {
            return None;
        };
        keys.iter().find(|key| *key == local)?;
        let (_, queued) = bytes.split_once(':')?;
        Some(Backlog {
            queued: u64::from_str_radix(queued, 16).ok()?,
            dropped: dropped.parse().ok()?,
        })
    });
    backlogs.reduce(|one, other| Backlog {
        queued: one.queued.max(other.queued),
        dropped: one.dropped + other.dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 2089: 0100007F:9250 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 18583783 2 00000000b8d237f9 3
 2090: 00000000:9250 0100007F:ABCD 01 00000000:0000C000 00:00000000 00000000     0        0 18583784 2 00000000b8d237fa 4
 2091: 0100007F:9251 00000000:0000 07 00000000:00010000 00:00000000 00000000     0        0 18583785 2 00000000b8d237fb 5
";

    #[test]
    #[cfg(target_endian = "little")]
    fn all_sockets_that_an_address_reaches_count() {
        let of = |address: &str| sum(TABLE.lines(), &keys(address.parse().unwrap()));
        let backlog = |queued, dropped| Some(Backlog { queued, dropped });
        assert_eq!(of("127.0.0.1:37456"), backlog(0xC000, 7));
        assert_eq!(of("127.0.0.1:37457"), backlog(0x1_0000, 5));
        assert_eq!(of("127.0.0.2:37456"), backlog(0xC000, 4));
        assert_eq!(of("127.0.0.2:37457"), None);
        assert_eq!(of("[::1]:37456"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_of_either_family_is_found() {
        for (ip, target) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "127.0.0.1"),
        ] {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            let address =
                SocketAddr::new(target.parse().unwrap(), socket.local_addr().unwrap().port());
            assert_eq!(backlog(address), Some(Backlog::default()), "{ip}");
            let sender = UdpSocket::bind((target, 0)).unwrap();
            sender.send_to(b"x", address).unwrap();
            assert!(backlog(address).unwrap().queued > 0, "{ip}");
        }
    }
}
