//! Counts the probes of a ping and sums up their times.
//!
//! Memory does not grow with the number of probes: sums are kept instead of times, and a histogram
//! gives the percentiles.

use std::time::{Duration, Instant};

use super::findings::Findings;
use super::outages::{Change, Moment};
use crate::ping::{Answer, Kind};

/// The result of one run so far.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    pub transmitted: u64,
    /// Probes that were answered in time.
    pub received: u64,
    /// Answers after the first one to the same probe.
    pub duplicates: u64,
    /// Probes that could not be sent, or did not arrive according to the network.
    pub errors: u64,
    /// Probes that were answered after the time limit. They are lost nevertheless.
    pub late: u64,
    /// The most probes that were under way when one of them was answered or refused.
    pub pipe: u64,
    /// The times of answers in time.
    pub times: Times,
    pub findings: Findings,
    /// When the first probe was sent.
    pub began: Option<Instant>,
    /// From then to what was last sent or received.
    pub time: Duration,
}

impl Statistics {
    /// A probe was sent at `at`, or could not be sent.
    pub fn sent(&mut self, at: Moment) -> Vec<Change> {
        self.transmitted += 1;
        self.extend(at.at);
        self.findings.outages.sent(at)
    }

    /// An answer came at `at`.
    pub fn answered(&mut self, answer: Answer, at: Instant) -> Vec<Change> {
        self.heard_of(answer.number, at);
        match answer.kind {
            Kind::Reply => {
                self.received += 1;
                self.times.add(answer.time);
                self.findings.order.arrived(answer.number);
                return self.findings.outages.answered(answer.number);
            }
            Kind::Late => self.late += 1,
            Kind::Duplicate => self.duplicates += 1,
        }
        Vec::new()
    }

    /// At `at` the network said that the probe `number` did not arrive.
    pub fn refused(&mut self, number: u64, at: Instant) -> Vec<Change> {
        self.errors += 1;
        self.heard_of(number, at);
        self.findings.outages.lost(number)
    }

    /// The probe `number` could not be sent.
    pub fn unsent(&mut self, number: u64) -> Vec<Change> {
        self.errors += 1;
        self.findings.outages.lost(number)
    }

    /// `in_flight` probes were neither answered nor given up: they count as if they had not been sent.
    pub fn finish(&mut self, in_flight: u64) -> Vec<Change> {
        self.transmitted -= in_flight;
        self.findings.outages.finish()
    }

    fn heard_of(&mut self, number: u64, at: Instant) {
        self.pipe = self.pipe.max((self.transmitted + 1).saturating_sub(number));
        self.extend(at);
    }

    fn extend(&mut self, at: Instant) {
        let began = *self.began.get_or_insert(at);
        self.time = at.saturating_duration_since(began);
    }

    /// The mean time from one probe to the next. `None`: fewer than two were sent.
    pub fn gap(&self) -> Option<Duration> {
        let gaps = self.transmitted.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(self.time.div_f64(float(gaps)))
    }

    /// Probes without an answer in time.
    pub fn lost(&self) -> u64 {
        self.transmitted.saturating_sub(self.received)
    }

    pub fn loss_percent(&self) -> f64 {
        percent(self.lost(), self.transmitted)
    }
}

/// Round-trip times. All are zero while there are none.
#[derive(Clone, Debug, Default)]
pub struct Times {
    count: u64,
    pub min: Duration,
    pub max: Duration,
    /// In nanoseconds, as are all the following.
    mean: f64,
    /// The sum of the squared distances from the mean (Welford). A difference of two large sums of
    /// squares would lose all its digits.
    squares: f64,
    /// The exponentially weighted mean, as ping(8) keeps it: a new value counts for an eighth.
    ewma: f64,
    last: f64,
    /// The sum of the differences between one and the next.
    changes: f64,
    /// The jitter of RFC 3550, section 6.4.1.
    filtered: f64,
    /// How many times fell into each [`step`].
    histogram: Vec<u64>,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let value = time.as_secs_f64() * 1e9;
        if self.is_empty() {
            self.min = time;
            self.ewma = value;
            self.last = value;
            self.histogram = vec![0; step(u64::MAX) + 1];
        }
        self.count += 1;
        self.min = self.min.min(time);
        self.max = self.max.max(time);
        let distance = value - self.mean;
        self.mean += distance / float(self.count);
        self.squares += distance * (value - self.mean);
        self.ewma += (value - self.ewma) / 8.0;
        let change = (value - self.last).abs();
        self.changes += change;
        self.filtered += (change - self.filtered) / 16.0;
        self.last = value;
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.histogram[step(nanoseconds)] += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn mean(&self) -> Duration {
        nanoseconds(self.mean)
    }

    /// The population standard deviation.
    pub fn mdev(&self) -> Duration {
        nanoseconds((self.squares / float(self.count.max(1))).sqrt())
    }

    pub fn ewma(&self) -> Duration {
        nanoseconds(self.ewma)
    }

    /// The mean difference between one time and the one before it.
    pub fn jitter(&self) -> Duration {
        nanoseconds(self.changes / float(self.count.saturating_sub(1).max(1)))
    }

    /// The interarrival jitter of RFC 3550, section 6.4.1, with the round trip as the transit: each new
    /// difference counts for a sixteenth.
    pub fn jitter_rfc3550(&self) -> Duration {
        nanoseconds(self.filtered)
    }

    /// The time that `rank` percent do not exceed, exact to half a percent: the middle of its step.
    pub fn percentile(&self, rank: u64) -> Duration {
        let position = (self.count * rank).div_ceil(100);
        let mut counted = 0;
        let found = self.histogram.iter().position(|count| {
            counted += count;
            counted >= position
        });
        let time = Duration::from_nanos(middle(found.unwrap_or_default()));
        time.clamp(self.min, self.max)
    }
}

impl Times {
    /// How many times there are in each of `parts` equal parts from the shortest to the longest, or in
    /// fewer, if they would be narrower than a step. On a wider scale than one to ten each part is the
    /// same multiple of the one before. `None`: no times or no parts.
    pub fn spread(&self, parts: usize) -> Option<Vec<u64>> {
        let [min, max] = [self.min, self.max].map(|time| time.as_secs_f64() * 1e9);
        let is_wide = max > 10.0 * min.max(1.0);
        let scale = |value: f64| if is_wide { log2(value.max(1.0)) } else { value };
        let steps = self.histogram.iter().enumerate();
        let full: Vec<(usize, u64)> = steps
            .filter(|(_, count)| **count > 0)
            .map(|(step, count)| (step, *count))
            .collect();
        let [(first, _), .., (last, _)] = full[..] else {
            let (_, count) = full.first()?;
            return (parts > 0).then(|| vec![*count]);
        };
        let parts = parts.min(last - first + 1);
        let [low, high] = [min, max].map(scale);
        let mut counts = vec![0; parts];
        for (step, count) in full {
            // Steps of values below the width of the first have their value as their middle.
            let share = (scale(float(middle(step)).clamp(min, max)) - low) / (high - low);
            let index = position(share, parts);
            let index = match step {
                _ if step == first => 0,
                _ if step == last => parts - 1,
                _ => index,
            };
            *counts.get_mut(index)? += count;
        }
        Some(counts)
    }
}

/// Which of `parts` equal parts `share` falls into.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "from 0 to a number of columns"
)]
pub fn position(share: f64, parts: usize) -> usize {
    ((share * parts as f64) as usize).min(parts.saturating_sub(1))
}

/// Steps grow with the values in them: each power of two has 128, less than a percent wide.
const STEP_BITS: usize = 7;

/// The step that a value belongs to.
fn step(value: u64) -> usize {
    let shift = (64 - STEP_BITS - 1).saturating_sub(value.leading_zeros() as usize);
    let digits = usize::try_from(value >> shift).unwrap_or_default();
    (shift << STEP_BITS) + digits
}

fn middle(step: usize) -> u64 {
    let shift = (step >> STEP_BITS).saturating_sub(1);
    let digits = (step - (shift << STEP_BITS)) as u64;
    (digits << shift) + ((1 << shift) >> 1)
}

/// The percentage that `part` is of `whole`. Of nothing it is 0.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    float(part) * 100.0 / float(whole)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 packets")]
fn float(count: u64) -> f64 {
    count as f64
}

fn nanoseconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value / 1e9).unwrap_or_default()
}

/// The binary logarithm of a normal positive number, to 0.001: `f64::log2` would link libm, which takes a
/// tenth of the time of `netkit --version` to load.
pub fn log2(value: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    let exponent = f64::from(u16::try_from(bits >> 52).unwrap_or(u16::MAX)) - 1023.0;
    let mantissa = f64::from_bits(bits & MANTISSA | 1.0_f64.to_bits());
    // ln(m) = 2 artanh(x), by its series.
    let x = (mantissa - 1.0) / (mantissa + 1.0);
    let square = x * x;
    let ln = 2.0 * x * (1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square / 7.0)));
    exponent + ln * std::f64::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_logarithm_is_that_of_the_library() {
        for value in [1.0, 1.5, 1.999, 2.0, 3.0, 1e3, 123_456.7, 1e9, 7e18] {
            let error = (log2(value) - value.log2()).abs();
            assert!(error < 0.001, "{value}: {error}");
        }
    }

    #[test]
    fn the_pipe_is_how_many_were_under_way_at_most() {
        let now = Instant::now();
        let mut statistics = Statistics::default();
        for _ in 0..3 {
            statistics.sent(Moment::of(now));
        }
        let answer = Answer {
            kind: Kind::Reply,
            number: 3,
            time: Duration::ZERO,
        };
        statistics.answered(answer, now);
        assert_eq!(statistics.pipe, 1);
        statistics.refused(2, now);
        assert_eq!(statistics.pipe, 2);
    }

    #[test]
    fn the_time_is_from_the_first_probe_to_what_was_last_sent_or_received() {
        let start = Instant::now();
        let mut statistics = Statistics::default();
        assert_eq!(statistics.time, Duration::ZERO);
        for second in [1, 2] {
            statistics.sent(Moment::of(start + Duration::from_secs(second)));
        }
        assert_eq!(statistics.time, Duration::from_secs(1));
        statistics.refused(2, start + Duration::from_secs(5));
        assert_eq!(statistics.time, Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn moments_are_those_of_the_textbook(
            values in proptest::collection::vec(1_u64..10_000_000_000, 1..200),
        ) {
            let mut times = Times::default();
            for &value in &values {
                times.add(Duration::from_nanos(value));
            }
            let count = float(values.len() as u64);
            let floats: Vec<f64> = values.iter().map(|&value| float(value)).collect();
            let mean = floats.iter().sum::<f64>() / count;
            let variance = floats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let changes: f64 = floats.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
            let jitter = changes / (count - 1.0).max(1.0);
            let filtered = floats.windows(2).fold(0.0, |jitter, pair| {
                jitter + ((pair[1] - pair[0]).abs() - jitter) / 16.0
            });
            let is_near = |time: Duration, expected: f64| {
                (time.as_secs_f64() * 1e9 - expected).abs() <= 1.0 + expected * 1e-9
            };
            prop_assert!(is_near(times.mean(), mean));
            prop_assert!(is_near(times.mdev(), variance.sqrt()));
            prop_assert!(is_near(times.jitter(), jitter));
            prop_assert!(is_near(times.jitter_rfc3550(), filtered));
            prop_assert_eq!(times.min, Duration::from_nanos(*values.iter().min().unwrap()));
            prop_assert_eq!(times.max, Duration::from_nanos(*values.iter().max().unwrap()));
        }

        #[test]
        fn percentiles_are_exact_to_half_a_percent(
            mut values in proptest::collection::vec((0_u32..40, any::<u64>()), 1..200),
            rank in 1_u64..=100,
        ) {
            let mut times = Times::default();
            for (bits, value) in &mut values {
                *value >>= 24 + *bits % 40;
                times.add(Duration::from_nanos(*value));
            }
            values.sort_unstable_by_key(|(_, value)| *value);
            let position = (values.len() * usize::try_from(rank).unwrap()).div_ceil(100);
            let (_, exact) = values[position - 1];
            let found = u64::try_from(times.percentile(rank).as_nanos()).unwrap();
            prop_assert!(found.abs_diff(exact) <= exact / 200, "{found} is not {exact}");
        }

        #[test]
        fn every_value_is_in_the_step_around_it(value: u64) {
            let step = step(value);
            let middle = middle(step);
            prop_assert_eq!(super::step(middle), step);
            prop_assert!(middle.abs_diff(value) <= value / 200);
        }
    }
}
