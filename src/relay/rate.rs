//! `--max-rate`: how many bytes a direction may move, and when.

use std::time::{Duration, Instant};

use crate::wait::Deadline;

/// A token bucket. It holds a tenth of a second's worth, and is full at first.
pub struct Rate {
    per_second: u64,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Rate {
    /// `per_second` is more than zero.
    pub fn new(per_second: usize) -> Self {
        Self {
            per_second: per_second as u64,
            full_at: Instant::now(),
        }
    }

    fn room(&self) -> u64 {
        (self.per_second / 10).max(1)
    }

    /// When the next bytes may move: once so many may that a call is worth its cost.
    pub fn due(&self) -> Deadline {
        Deadline::since(self.due_at(), Duration::ZERO)
    }

    /// As [`Self::due`].
    pub fn due_at(&self) -> Instant {
        const PIECE: u64 = 64 << 10;
        let spare = self.room() - self.room().min(PIECE);
        let at = self.full_at.checked_sub(self.time(spare));
        at.unwrap_or(self.full_at)
    }

    /// How many bytes may move at `now`; at least one.
    pub fn allows(&self, now: Instant) -> usize {
        let missing = self.full_at.saturating_duration_since(now);
        let missing = missing.as_nanos() * u128::from(self.per_second) / NANOS;
        let left = u128::from(self.room()).saturating_sub(missing).max(1);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// So many bytes have moved until `now`.
    pub fn took(&mut self, count: u64, now: Instant) {
        self.full_at = self.full_at.max(now) + self.time(count);
    }

    /// How long so many bytes take.
    fn time(&self, count: u64) -> Duration {
        let nanos = u128::from(count) * NANOS / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_moves_than_is_allowed_and_no_less_than_is_due(
            per_second in 1_usize..5_000_000_000,
            pauses in prop::collection::vec(0_u64..300_000_000, 1..200),
        ) {
            let mut rate = Rate::new(per_second);
            let start = rate.full_at;
            let mut now = start;
            let mut moved = 0;
            for pause in pauses {
                now += Duration::from_nanos(pause);
                if !rate.due().has_passed_at(now) {
                    continue;
                }
                let count = rate.allows(now) as u64;
                prop_assert!(count >= rate.room().min(64 << 10) - 1 || count == 1);
                rate.took(count, now);
                moved += count;
                let passed = per_second as u128 * (now - start).as_nanos() / NANOS;
                // A byte for each rounding.
                prop_assert!(u128::from(moved) <= passed + u128::from(rate.room()) + 200);
                // All that was due before has moved.
                prop_assert!(!rate.due().has_passed_at(now) || rate.allows(now) == 1);
            }
        }
    }
}
