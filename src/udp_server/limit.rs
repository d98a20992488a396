//! How often one source is served: a token bucket for each, in a table that cannot grow without
//! bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A bucket holds what comes in one second. So one that has not been asked for a second is full,
/// and can be forgotten.
const WINDOW: Duration = Duration::from_secs(1);

/// How many sources a generation knows; two of these tables take some ten megabytes.
const MOST_SOURCES: usize = 1 << 16;

/// A limit for each source; loopback has none.
pub struct Limiter {
    /// The time between two at exactly the permitted rate.
    interval: Duration,
    /// Sources of this window, and of the one before.
    buckets: HashMap<Source, Bucket>,
    older: HashMap<Source, Bucket>,
    /// The first moment of this window.
    begin: Instant,
    /// Shared by all sources that there is no place for.
    overflow: Bucket,
}

/// Who counts as one: an IPv4 address, or the /64 that an IPv6 host can choose its addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    V4(Ipv4Addr),
    V6Network(u128),
}

impl Source {
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6Network(ip.to_bits() >> 64),
        }
    }
}

/// A token bucket, as the moment at which it is full again.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

impl Bucket {
    /// Takes a token, if there is one.
    fn take(&mut self, now: Instant, interval: Duration) -> bool {
        let full = self.0.max(now) + interval;
        let enough = full <= now + WINDOW;
        if enough {
            self.0 = full;
        }
        enough
    }
}

impl Limiter {
    /// At most `rate` a second for each source, and as many at once.
    pub fn new(rate: NonZeroU32, now: Instant) -> Self {
        Self {
            interval: WINDOW / rate.get(),
            buckets: HashMap::new(),
            older: HashMap::new(),
            begin: now,
            overflow: Bucket(now),
        }
    }

    /// Whether `ip` may be served. `clock` tells when that is, never before that of an earlier call;
    /// it is not asked where it does not matter, as that takes as long as all the rest.
    pub fn allows(&mut self, ip: IpAddr, clock: impl FnOnce() -> Instant) -> bool {
        if ip.to_canonical().is_loopback() {
            return true;
        }
        let now = clock();
        self.age(now);
        let source = Source::of(ip);
        let interval = self.interval;
        if let Some(bucket) = self.buckets.get_mut(&source) {
            return bucket.take(now, interval);
        }
        let bucket = if self.buckets.len() < MOST_SOURCES {
            let known = self.older.remove(&source);
            self.buckets
                .entry(source)
                .or_insert(known.unwrap_or(Bucket(now)))
        } else {
            // More sources than there are hosts to be expected are likely forged.
            self.older.get_mut(&source).unwrap_or(&mut self.overflow)
        };
        bucket.take(now, interval)
    }

    /// Forgets the buckets that have been left alone for a whole window: they are full.
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.begin);
        if age >= WINDOW {
            self.older = std::mem::take(&mut self.buckets);
            if age >= 2 * WINDOW {
                self.older.clear();
            }
            self.begin = now;
        }
    }
}

/// Datagrams a second as typed: `10000` or `10000/s`; 0 is no limit.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).ok_or_else(|| {
        format!("'{text}' is not a rate; write a number a second, or 0 for no limit")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(rate: u32, now: Instant) -> Limiter {
        Limiter::new(NonZeroU32::new(rate).unwrap(), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_is_served_so_often_and_no_more_and_others_are_not_touched() {
        let now = Instant::now();
        let mut limiter = limiter(3, now);
        let served = |limiter: &mut Limiter, text, now| {
            (0..10).filter(|_| limiter.allows(ip(text), || now)).count()
        };
        assert_eq!(served(&mut limiter, "192.0.2.1", now), 3);
        assert_eq!(served(&mut limiter, "192.0.2.2", now), 3);
        assert_eq!(
            served(
                &mut limiter,
                "192.0.2.1",
                now + WINDOW / 3 + Duration::from_millis(1)
            ),
            1
        );
        assert_eq!(served(&mut limiter, "192.0.2.1", now + 9 * WINDOW), 3);
    }

    #[test]
    fn loopback_is_exempt() {
        let now = Instant::now();
        let mut limiter = limiter(1, now);
        for source in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(
                (0..10).all(|_| limiter.allows(ip(source), || now)),
                "{source}"
            );
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let now = Instant::now();
        let same = |a, b| {
            let mut limiter = limiter(1, now);
            limiter.allows(ip(a), || now) && !limiter.allows(ip(b), || now)
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn forged_sources_neither_fill_the_memory_nor_shut_out_who_is_known() {
        let now = Instant::now();
        let mut limiter = limiter(2, now);
        let known = ip("192.0.2.1");
        assert!(limiter.allows(known, || now));
        let forged = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n));
        let served = (0..200_000)
            .filter(|&n| limiter.allows(forged(n), || now))
            .count();
        assert_eq!(served, MOST_SOURCES - 1 + 2);
        assert_eq!(limiter.buckets.len(), MOST_SOURCES);
        assert!(limiter.allows(known, || now));
        let later = now + WINDOW;
        let _ = (0..200_000)
            .filter(|&n| limiter.allows(forged(n), || later))
            .count();
        assert!(limiter.buckets.len() + limiter.older.len() <= 2 * MOST_SOURCES);
    }

    #[test]
    fn a_rate_is_a_number_a_second() {
        assert_eq!(rate("10000"), Ok(10_000));
        assert_eq!(rate("5/s"), Ok(5));
        assert_eq!(rate("0"), Ok(0));
        for text in ["", "/s", "-1", "+1", "1.5", "10/m", "99999999999"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_second_serves_more_than_a_bucket_and_what_flows_in(
            rate in 1_u32..50,
            gaps in proptest::collection::vec(0_u64..400, 1..300),
        ) {
            let start = Instant::now();
            let mut limiter = limiter(rate, start);
            let mut now = start;
            let mut served: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if limiter.allows(ip("192.0.2.1"), || now) {
                    served.push(now);
                }
            }
            for (index, from) in served.iter().enumerate() {
                let within = served[index..].iter().filter(|at| **at < *from + WINDOW).count();
                prop_assert!(within <= 2 * rate as usize, "{within}");
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_always_served(rate in 1_u32..2000, count in 1_u32..3000) {
            let start = Instant::now();
            let mut limiter = limiter(rate, start);
            for n in 0..count {
                let now = start + WINDOW / rate * n;
                prop_assert!(limiter.allows(ip("2001:db8::1"), || now));
            }
        }
    }
}
