//! Back-pressure: sends datagrams no faster than their receiver takes them.
//!
//! A receiver's queue drops what it has no room for. On Linux it holds 208 KiB, some 270 small
//! datagrams. So a burst is much smaller, and a pause follows it. Linux also shows how much is queued
//! for a receiver on this machine.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::wait::{Deadline, pause};

/// A burst waits while more bytes than this are queued: half of what Linux's queue holds by default.
const MOST_QUEUED: u64 = 104 << 10;
/// A receiver that takes nothing for this long is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the queue is looked at.
const NAP: Duration = Duration::from_millis(1);

/// When the next datagram may be sent, and what has been lost.
pub struct Pacing {
    burst: Burst,
    receiver: SocketAddr,
    /// How many datagrams its queue had dropped before; `None` where that is not known.
    dropped: Option<u64>,
    /// It took nothing for too long.
    is_stuck: bool,
}

impl Pacing {
    pub fn new(receiver: SocketAddr) -> Self {
        Self {
            burst: Burst::new(Instant::now()),
            receiver,
            dropped: backlog(receiver).map(|backlog| backlog.dropped),
            is_stuck: false,
        }
    }

    /// Blocks until a datagram of `size` bytes may be sent to `receiver`.
    pub fn wait(&mut self, size: usize, receiver: SocketAddr) -> io::Result<()> {
        let Some(time) = self.burst.pause(size, Instant::now()) else {
            return Ok(());
        };
        pause(Deadline::after(time))?;
        if self.receiver != receiver {
            *self = Self::new(receiver);
        }
        // Pauses are not enough: on a busy machine the receiver may not run during them.
        let mut least = u64::MAX;
        let mut end = Deadline::NEVER;
        while self.dropped.is_some() && !self.is_stuck {
            let queued = backlog(receiver).map_or(0, |backlog| backlog.queued);
            if queued <= MOST_QUEUED {
                break;
            }
            if queued < least {
                if least == u64::MAX {
                    tracing::debug!(address = %receiver, "waiting for {receiver} to take what it was sent");
                }
                least = queued;
                end = Deadline::after(PATIENCE);
            }
            self.is_stuck = end.has_passed();
            pause(Deadline::after(NAP))?;
        }
        Ok(())
    }

    /// The receiver, and how many datagrams its queue has dropped, from any sender.
    pub fn lost(&self) -> Option<(SocketAddr, u64)> {
        let dropped = backlog(self.receiver)?.dropped;
        let lost = dropped.saturating_sub(self.dropped?);
        (lost > 0).then_some((self.receiver, lost))
    }
}

/// How many small datagrams may be sent in each `BURST_TIME`.
const BURST: usize = 32;
const BURST_TIME: Duration = Duration::from_millis(1);
/// So many bytes count as one more datagram.
const WEIGHT: usize = 2048;

/// What has been sent since the last pause.
struct Burst {
    began: Instant,
    weight: usize,
}

impl Burst {
    fn new(began: Instant) -> Self {
        Self { began, weight: 0 }
    }

    /// The pause before the next datagram, of `size` bytes; `None` inside a burst.
    fn pause(&mut self, size: usize, now: Instant) -> Option<Duration> {
        let end = self.began + BURST_TIME;
        let pause = if self.weight == 0 || now >= end {
            // Unused time is not made up for.
            Some(Duration::ZERO)
        } else {
            (self.weight >= BURST).then(|| end - now)
        };
        if let Some(pause) = pause {
            *self = Self::new(now + pause);
        }
        self.weight += 1 + size / WEIGHT;
        pause
    }
}

/// The queues of the UDP sockets that receive datagrams to one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Backlog {
    /// The bytes in the fullest queue, counted as `SO_RCVBUF` does.
    queued: u64,
    /// How many datagrams they have ever dropped, from any sender.
    dropped: u64,
}

/// `None` where it is not known: of another machine, of a port without a socket, and on other systems
/// than Linux, which have no such tables.
fn backlog(address: SocketAddr) -> Option<Backlog> {
    // Only an address of this machine can be bound.
    UdpSocket::bind((address.ip(), 0)).ok()?;
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    let table6 = fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    sum(table.lines().chain(table6.lines()), &keys(address))
}

/// The local addresses of the sockets that `address` reaches, as proc(5) writes them.
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

/// Each word of four bytes is written as a number in this machine's byte order.
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

    /// When each of the datagrams goes out, where sending takes no time.
    fn times(size: usize, count: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let mut now = start;
        let datagrams = 0..count;
        datagrams
            .map(|_| {
                now += burst.pause(size, now).unwrap_or_default();
                now.duration_since(start)
            })
            .collect()
    }

    #[test]
    fn small_datagrams_go_out_in_bursts_with_pauses() {
        let times = times(10, 3 * BURST);
        assert_eq!(times[BURST - 1], Duration::ZERO);
        assert_eq!(times[BURST], BURST_TIME);
        assert_eq!(times[3 * BURST - 1], 2 * BURST_TIME);
    }

    #[test]
    fn large_datagrams_have_a_pause_each() {
        let times = times(65_507, 3);
        assert_eq!(times, [Duration::ZERO, BURST_TIME, 2 * BURST_TIME]);
    }

    #[test]
    fn time_that_was_not_used_is_not_made_up_for() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let later = start + 100 * BURST_TIME;
        let pauses: Vec<_> = (0..=BURST).map(|_| burst.pause(1, later)).collect();
        assert_eq!(pauses[0], Some(Duration::ZERO));
        assert!(pauses[1..BURST].iter().all(Option::is_none));
        assert_eq!(pauses[BURST], Some(BURST_TIME));
    }

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
