//! Back-pressure: sends datagrams no faster than their receiver takes them.
//!
//! A receiver's queue drops what it has no room for. On Linux it holds 208 KiB, some 270 small
//! datagrams. So a burst is much smaller, and a pause follows it. Linux also shows how much is queued
//! for a receiver on this machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use crate::wait::Deadline;

/// A burst waits while more bytes than this are queued: half of what Linux's queue holds by default.
const MOST_QUEUED: u64 = 104 << 10;
/// A receiver that takes nothing for this long is no longer waited for, until it takes something.
const PATIENCE: Duration = Duration::from_secs(2);
/// A queue that was not found this often is no longer looked for before a burst.
const MOST_MISSES: u32 = 20;
/// How often the queue is looked at.
const NAP: Duration = Duration::from_millis(1);

/// When the next datagram may be sent, and what has been lost.
pub struct Pacing {
    burst: Burst,
    receiver: SocketAddr,
    /// How many datagrams its queue had dropped before; `None` where that is not known.
    dropped: Option<u64>,
    /// How often in a row its queue, which is known, was not found.
    misses: u32,
    stall: Option<Stall>,
}

/// The receiver's queue is too full.
struct Stall {
    /// The least that was queued.
    least: u64,
    /// When the receiver is no longer waited for.
    end: Deadline,
}

impl Pacing {
    pub fn new(receiver: SocketAddr) -> Self {
        Self {
            burst: Burst::new(Instant::now()),
            receiver,
            dropped: Backlog::at(receiver).map(|backlog| backlog.dropped),
            misses: 0,
            stall: None,
        }
    }

    /// A datagram of `size` bytes has been sent.
    pub fn sent(&mut self, size: usize) {
        self.burst.sent(size);
    }

    /// When to ask again before a datagram is sent to `receiver`. `None`: it may be sent now.
    pub fn hold(&mut self, receiver: SocketAddr) -> Option<Deadline> {
        if self.receiver != receiver {
            *self = Self::new(receiver);
        }
        let now = Instant::now();
        let pause = self.burst.pause(now)?;
        if !pause.is_zero() {
            return Some(Deadline::since(now, pause));
        }
        // Pauses are not enough: on a busy machine the receiver may not run during them.
        let backlog = Backlog::at(receiver);
        if let Some(backlog) = backlog {
            self.dropped.get_or_insert(backlog.dropped);
            self.misses = 0;
        } else if self.dropped.is_some() && self.misses < MOST_MISSES {
            // The receiver has gone, or the kernel's table did not show it.
            self.misses += 1;
            return Some(Deadline::since(now, NAP));
        }
        let queued = backlog.map_or(0, |backlog| backlog.queued);
        if queued <= MOST_QUEUED {
            self.stall = None;
            return None;
        }
        if self.stall.is_none() {
            tracing::debug!(address = %receiver, "waiting for {receiver} to take what it was sent");
        }
        let stall = match &mut self.stall {
            Some(stall) if stall.least <= queued => stall,
            stall => stall.insert(Stall {
                least: queued,
                end: Deadline::after(PATIENCE),
            }),
        };
        (!stall.end.has_passed()).then(|| Deadline::since(now, NAP))
    }

    /// What the queue of the receiver has dropped since it was first sent to, in words. `name` makes the
    /// receiver's name. The datagrams may be of any sender.
    pub fn lost(&self, name: impl FnOnce(SocketAddr) -> String) -> Option<String> {
        let dropped = Backlog::at(self.receiver)?.dropped;
        let lost = dropped.saturating_sub(self.dropped?);
        (lost > 0).then(|| {
            let name = name(self.receiver);
            format!(
                "could not deliver all datagrams to {name}: its queue was full, and {lost} of all \
                 that came were lost"
            )
        })
    }
}

/// How many small datagrams may be sent in each `BURST_TIME`.
const BURST: usize = 32;
const BURST_TIME: Duration = Duration::from_millis(1);
/// So many bytes count as one more datagram. Linux counts a datagram of 8 KiB as 16,640 bytes. Six of them
/// in a burst fit beside [`MOST_QUEUED`], though nobody takes one meanwhile; seven do not.
const WEIGHT: usize = 1536;

/// What has been sent since the last pause.
struct Burst {
    began: Instant,
    weight: usize,
}

impl Burst {
    fn new(began: Instant) -> Self {
        Self { began, weight: 0 }
    }

    fn sent(&mut self, size: usize) {
        self.weight += 1 + size / WEIGHT;
    }

    /// The pause before the next datagram: zero as a new burst begins, `None` inside a burst.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let end = self.began + BURST_TIME;
        if self.weight == 0 || now >= end {
            // Unused time is not made up for.
            *self = Self::new(now);
            return Some(Duration::ZERO);
        }
        (self.weight >= BURST).then(|| end - now)
    }
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
                while let Some(pause) = burst.pause(now).filter(|pause| !pause.is_zero()) {
                    now += pause;
                }
                burst.sent(size);
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
    fn a_burst_fits_beside_what_may_be_queued() {
        const QUEUE: u64 = 208 << 10;
        // What Linux counts for the sizes at which it takes twice as much.
        for (size, counted) in [
            (1, 832),
            (1400, 2304),
            (3000, 4352),
            (7600, 8448),
            (8192, 16_640),
        ] {
            let times = times(size, BURST + 1);
            let burst = times.iter().filter(|time| time.is_zero()).count() as u64;
            let queued = MOST_QUEUED / counted;
            assert!((queued + burst) * counted <= QUEUE, "{size}: {burst}");
        }
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
        let pauses = (0..=BURST).map(|_| {
            let pause = burst.pause(later);
            burst.sent(1);
            pause
        });
        let pauses: Vec<_> = pauses.collect();
        assert_eq!(pauses[0], Some(Duration::ZERO));
        assert!(pauses[1..BURST].iter().all(Option::is_none));
        assert_eq!(pauses[BURST], Some(BURST_TIME));
    }
}
