//! `--rate-limit`: a token bucket for each host, in a table of limited size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::server::host::host;

/// The time in which an empty bucket fills. A bucket that was not used for this long is full, and can
/// be forgotten.
const WINDOW: Duration = Duration::from_secs(1);

/// The size of a table. Two of them take some ten megabytes.
const MOST_SOURCES: usize = 1 << 16;

pub struct Limiter {
    /// The time in which one token flows in.
    interval: Duration,
    /// The hosts of this window.
    buckets: HashMap<IpAddr, Bucket>,
    /// The hosts of the window before.
    older: HashMap<IpAddr, Bucket>,
    /// When this window began.
    begin: Instant,
    /// Shared by all hosts that do not fit into the table.
    overflow: Bucket,
}

/// A token bucket, stored as the time at which it is full again.
#[derive(Clone, Copy, Debug)]
pub struct Bucket(Instant);

impl Bucket {
    pub fn full(now: Instant) -> Self {
        Self(now)
    }

    /// Takes a token; whether there was one. One flows in each `interval`, and it holds those of a second.
    pub fn take(&mut self, now: Instant, interval: Duration) -> bool {
        let full = self.0.max(now) + interval;
        let enough = full <= now + WINDOW;
        if enough {
            self.0 = full;
        }
        enough
    }
}

impl Limiter {
    /// `rate` tokens a second for each host, and as many at once.
    pub fn new(rate: NonZeroU32, now: Instant) -> Self {
        Self {
            interval: WINDOW / rate.get(),
            buckets: HashMap::new(),
            older: HashMap::new(),
            begin: now,
            overflow: Bucket(now),
        }
    }

    /// Takes a token of `ip`; whether there was one. `now` never goes back.
    pub fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.age(now);
        let source = host(ip);
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
            // So many sources are most likely forged.
            self.older.get_mut(&source).unwrap_or(&mut self.overflow)
        };
        bucket.take(now, interval)
    }

    /// Begins a new window, and forgets the buckets that were not used for a whole one: they are full.
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
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;

    fn limiter(rate: u32, now: Instant) -> Limiter {
        Limiter::new(NonZeroU32::new(rate).unwrap(), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_its_rate_and_takes_nothing_from_others() {
        let now = Instant::now();
        let mut limiter = limiter(3, now);
        let served = |limiter: &mut Limiter, text, now| {
            (0..10).filter(|_| limiter.take(ip(text), now)).count()
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
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let now = Instant::now();
        let same = |a, b| {
            let mut limiter = limiter(1, now);
            limiter.take(ip(a), now) && !limiter.take(ip(b), now)
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn forged_sources_neither_fill_the_memory_nor_shut_out_a_known_one() {
        let now = Instant::now();
        let mut limiter = limiter(2, now);
        let known = ip("192.0.2.1");
        assert!(limiter.take(known, now));
        let forged = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n));
        let served = (0..200_000)
            .filter(|&n| limiter.take(forged(n), now))
            .count();
        assert_eq!(served, MOST_SOURCES - 1 + 2);
        assert_eq!(limiter.buckets.len(), MOST_SOURCES);
        assert!(limiter.take(known, now));
        let later = now + WINDOW;
        let _ = (0..200_000)
            .filter(|&n| limiter.take(forged(n), later))
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
        fn a_second_serves_no_more_than_a_full_bucket_and_one_refill(
            rate in 1_u32..50,
            gaps in proptest::collection::vec(0_u64..400, 1..300),
        ) {
            let start = Instant::now();
            let mut limiter = limiter(rate, start);
            let mut now = start;
            let mut served: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if limiter.take(ip("192.0.2.1"), now) {
                    served.push(now);
                }
            }
            for (index, from) in served.iter().enumerate() {
                let within = served[index..].iter().filter(|at| **at < *from + WINDOW).count();
                prop_assert!(within <= 2 * rate as usize, "{within}");
            }
        }

        #[test]
        fn a_source_within_its_rate_is_always_served(rate in 1_u32..2000, count in 1_u32..3000) {
            let start = Instant::now();
            let mut limiter = limiter(rate, start);
            for n in 0..count {
                let now = start + WINDOW / rate * n;
                prop_assert!(limiter.take(ip("2001:db8::1"), now));
            }
        }
    }
}
