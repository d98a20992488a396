//! What a series of timed probes comes to, and the lines in which ping(8) says so.
//!
//! Memory does not grow with the number of probes: moments are kept as they come, and percentiles
//! are read off a histogram.

use std::fmt::Write as _;
use std::time::Duration;

/// What became of all probes of one run.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    pub transmitted: u64,
    /// Probes that were answered in time.
    pub received: u64,
    /// Answers after the first one to the same probe.
    pub duplicates: u64,
    /// Probes that the network said did not arrive, or that could not be sent.
    pub errors: u64,
    /// Probes that were answered too late: they are lost all the same.
    pub late: u64,
    /// How many were under way, at most, when one of them was answered or refused.
    pub pipe: u64,
    /// Probes follow answers, not a clock: how far they were apart is worth a word.
    pub is_adaptive: bool,
    /// Of answers in time.
    pub times: Times,
}

impl Statistics {
    /// Something was heard of the probe with this number.
    pub fn acknowledge(&mut self, number: u64) {
        self.pipe = self.pipe.max((self.transmitted + 1).saturating_sub(number));
    }

    /// Probes without an answer in time.
    pub fn lost(&self) -> u64 {
        self.transmitted.saturating_sub(self.received)
    }

    pub fn loss_percent(&self) -> f64 {
        percent(self.lost(), self.transmitted)
    }

    /// The block at the end. `name` is what was probed; `span` is how long that took.
    pub fn summary(&self, name: &str, span: Duration, verbose: bool) -> String {
        let mut text = format!(
            "\n--- {name} ping statistics ---\n{} packets transmitted, {} received",
            self.transmitted, self.received
        );
        let extras = [
            (self.duplicates, "duplicates"),
            (self.errors, "errors"),
            (self.late, "late"),
        ];
        for (count, what) in extras.into_iter().filter(|(count, _)| *count > 0) {
            let _ = write!(text, ", +{count} {what}");
        }
        if self.transmitted > 0 {
            let loss = general(self.loss_percent());
            let time = (span + Duration::from_micros(500)).as_millis();
            let _ = write!(text, ", {loss}% packet loss, time {time}ms");
        }
        text.push('\n');
        let times = &self.times;
        let mut parts = Vec::new();
        if !times.is_empty() {
            let [min, avg, max, mdev] =
                [times.min(), times.mean(), times.max(), times.mdev()].map(milliseconds);
            parts.push(format!(
                "rtt min/avg/max/mdev = {min}/{avg}/{max}/{mdev} ms"
            ));
        }
        if self.pipe > 1 {
            parts.push(format!("pipe {}", self.pipe));
        }
        if self.is_adaptive && !times.is_empty() && self.transmitted > 1 {
            let gap = span.as_secs_f64() * 1e9 / float(self.transmitted - 1);
            let [gap, ewma] = [nanoseconds(gap), times.ewma()].map(milliseconds);
            parts.push(format!("ipg/ewma {gap}/{ewma} ms"));
        }
        // Also when it is empty, as ping(8)'s; a program that reads it (jc) counts lines from the
        // end.
        text.push_str(&parts.join(", "));
        text.push('\n');
        if verbose && !times.is_empty() {
            let [p50, p95, p99] = [50, 95, 99].map(|rank| milliseconds(times.percentile(rank)));
            let jitter = milliseconds(times.jitter());
            let _ = writeln!(
                text,
                "rtt p50/p95/p99/jitter = {p50}/{p95}/{p99}/{jitter} ms"
            );
        }
        text
    }

    /// One line, for while it goes on.
    pub fn interim(&self) -> String {
        let Self {
            transmitted,
            received,
            times,
            ..
        } = self;
        let loss = (self.lost() * 100).checked_div(*transmitted).unwrap_or(0);
        let mut line = format!("{received}/{transmitted} packets, {loss}% loss");
        if times.count > 0 {
            let [min, avg, ewma, max] =
                [times.min(), times.mean(), times.ewma(), times.max()].map(milliseconds);
            let _ = write!(line, ", min/avg/ewma/max = {min}/{avg}/{ewma}/{max} ms");
        }
        line.push('\n');
        line
    }
}

/// Round-trip times.
#[derive(Clone, Debug)]
pub struct Times {
    count: u64,
    min: Duration,
    max: Duration,
    /// In nanoseconds, as are all the following.
    mean: f64,
    /// The sum of the squares of the distances from the mean (Welford): a difference of two large
    /// sums of squares would lose all its digits.
    squares: f64,
    /// The exponentially weighted mean, as ping(8) keeps it: a new value counts for an eighth.
    ewma: f64,
    last: f64,
    /// The sum of the differences between one and the next.
    changes: f64,
    histogram: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            count: 0,
            min: Duration::MAX,
            max: Duration::ZERO,
            mean: 0.0,
            squares: 0.0,
            ewma: 0.0,
            last: 0.0,
            changes: 0.0,
            histogram: Histogram::default(),
        }
    }
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let value = time.as_secs_f64() * 1e9;
        self.count += 1;
        if self.count == 1 {
            self.ewma = value;
        } else {
            self.ewma += (value - self.ewma) / 8.0;
            self.changes += (value - self.last).abs();
        }
        self.last = value;
        self.min = self.min.min(time);
        self.max = self.max.max(time);
        let distance = value - self.mean;
        self.mean += distance / float(self.count);
        self.squares += distance * (value - self.mean);
        self.histogram.add(time);
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn min(&self) -> Duration {
        if self.is_empty() {
            Duration::ZERO
        } else {
            self.min
        }
    }

    pub fn max(&self) -> Duration {
        self.max
    }

    pub fn mean(&self) -> Duration {
        nanoseconds(self.mean)
    }

    /// The standard deviation of all times, none of which stands for any other.
    pub fn mdev(&self) -> Duration {
        nanoseconds((self.squares / float(self.count.max(1))).sqrt())
    }

    pub fn ewma(&self) -> Duration {
        nanoseconds(self.ewma)
    }

    /// How much one time differs from the one before it, in the mean.
    pub fn jitter(&self) -> Duration {
        nanoseconds(self.changes / float(self.count.saturating_sub(1).max(1)))
    }

    /// The time that `rank` percent do not exceed, to half a percent.
    pub fn percentile(&self, rank: u8) -> Duration {
        let position = (u128::from(self.count) * u128::from(rank)).div_ceil(100);
        let position = u64::try_from(position).unwrap_or(self.count).max(1);
        self.histogram.at(position).clamp(self.min(), self.max)
    }
}

/// Counts times in steps that grow with them: each power of two has as many.
#[derive(Clone, Debug)]
struct Histogram(Box<[u64]>);

/// Steps of 1/128 of a power of two are less than a percent wide.
const STEP_BITS: usize = 7;

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; step(u64::MAX) + 1].into())
    }
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0[step(nanoseconds)] += 1;
    }

    /// The middle of the step that the time at `position`, counted from one, belongs to.
    fn at(&self, position: u64) -> Duration {
        let mut before = 0;
        let found = self.0.iter().position(|count| {
            before += count;
            before >= position
        });
        Duration::from_nanos(middle(found.unwrap_or_default()))
    }
}

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

/// The line about one answer. `from` is who sent it, `number` is called `label`; a `time` that is
/// not known is left out, and `mark` says what is out of the ordinary.
pub fn reply(
    bytes: usize,
    from: &str,
    label: &str,
    number: u64,
    time: Option<Duration>,
    mark: &str,
) -> String {
    let mut line = format!("{bytes} bytes from {from}: {label}={number}");
    if let Some(time) = time {
        let _ = write!(line, " time={} ms", three_digits(time));
    }
    if !mark.is_empty() {
        let _ = write!(line, " ({mark})");
    }
    line
}

/// Milliseconds to the microsecond.
pub fn milliseconds(time: Duration) -> String {
    let micros = micros(time);
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// Milliseconds with three digits that count, as ping(8) shows one time.
pub fn three_digits(time: Duration) -> String {
    let micros = micros(time);
    match micros {
        0..1_000 => format!("0.{micros:03}"),
        1_000..9_995 => {
            let hundredths = (micros + 5) / 10;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        }
        9_995..99_950 => {
            let tenths = (micros + 50) / 100;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
        _ => ((micros + 500) / 1000).to_string(),
    }
}

fn micros(time: Duration) -> u128 {
    (time.as_nanos() + 500) / 1000
}

/// How much `part` is of `whole`, which is nothing when that is nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    float(part) * 100.0 / float(whole)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for more packets than can be sent in a lifetime"
)]
fn float(count: u64) -> f64 {
    count as f64
}

fn nanoseconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value / 1e9).unwrap_or_default()
}

/// A number as printf(3)'s `%g` shows it: six digits that count, and no zeros at the end.
fn general(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let stripped = |text: &str| {
        if !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if (-4..=5).contains(&exponent) {
        let places = usize::try_from(5 - exponent).unwrap_or_default();
        return stripped(&format!("{value:.places$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", stripped(digits), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(micros: &[u64]) -> Times {
        let mut times = Times::default();
        for &time in micros {
            times.add(Duration::from_micros(time));
        }
        times
    }

    #[test]
    fn the_summary_is_pings() {
        let statistics = Statistics {
            transmitted: 2,
            received: 2,
            times: times(&[72, 39]),
            ..Statistics::default()
        };
        let time = Duration::from_micros(1_000_600);
        let name = "127.0.0.1:9999";
        let text = "\n--- 127.0.0.1:9999 ping statistics ---\n\
            2 packets transmitted, 2 received, 0% packet loss, time 1001ms\n\
            rtt min/avg/max/mdev = 0.039/0.056/0.072/0.017 ms\n";
        assert_eq!(statistics.summary(name, time, false), text);
        let more = "rtt p50/p95/p99/jitter = 0.039/0.072/0.072/0.033 ms\n";
        assert_eq!(statistics.summary(name, time, true), [text, more].concat());
        assert_eq!(
            statistics.interim(),
            "2/2 packets, 0% loss, min/avg/ewma/max = 0.039/0.056/0.068/0.072 ms\n"
        );
    }

    #[test]
    fn what_is_out_of_the_ordinary_stands_between_received_and_loss() {
        let mut statistics = Statistics {
            transmitted: 3,
            received: 2,
            duplicates: 1,
            errors: 4,
            late: 5,
            times: times(&[1000, 1000]),
            ..Statistics::default()
        };
        let summary = statistics.summary("db:7", Duration::ZERO, false);
        assert!(summary.contains(
            "3 packets transmitted, 2 received, +1 duplicates, +4 errors, +5 late, \
             33.3333% packet loss, time 0ms\n"
        ));
        assert!(statistics.interim().starts_with("2/3 packets, 33% loss, "));
        statistics.times = Times::default();
        assert_eq!(statistics.interim(), "2/3 packets, 33% loss\n");
    }

    #[test]
    fn how_many_were_under_way_and_how_far_apart_stands_after_the_times() {
        let mut statistics = Statistics {
            transmitted: 3,
            received: 2,
            is_adaptive: true,
            ..Statistics::default()
        };
        let last = |statistics: &Statistics| {
            let summary = statistics.summary("db:7", Duration::from_millis(5), false);
            summary.lines().last().unwrap().to_owned()
        };
        statistics.acknowledge(3);
        assert_eq!(last(&statistics), "");
        statistics.acknowledge(2);
        assert_eq!(last(&statistics), "pipe 2");
        statistics.times = times(&[1000, 1800]);
        let rtt = "rtt min/avg/max/mdev = 1.000/1.400/1.800/0.400 ms";
        let ipg = "ipg/ewma 2.500/1.100 ms";
        assert_eq!(last(&statistics), format!("{rtt}, pipe 2, {ipg}"));
        statistics.is_adaptive = false;
        assert_eq!(last(&statistics), format!("{rtt}, pipe 2"));
    }

    #[test]
    fn nothing_sent_is_no_loss() {
        assert_eq!(
            Statistics::default().summary("x", Duration::ZERO, true),
            "\n--- x ping statistics ---\n0 packets transmitted, 0 received\n\n"
        );
        assert_eq!(Statistics::default().interim(), "0/0 packets, 0% loss\n");
    }

    #[test]
    fn one_time_is_shown_with_three_digits() {
        let cases = [
            (0, "0.000"),
            (72, "0.072"),
            (999, "0.999"),
            (1_234, "1.23"),
            (9_994, "9.99"),
            (9_995, "10.0"),
            (99_949, "99.9"),
            (99_950, "100"),
            (1_500_499, "1500"),
        ];
        for (micros, text) in cases {
            assert_eq!(three_digits(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        let time = Some(Duration::from_micros(72));
        assert_eq!(
            reply(64, "127.0.0.1:9999", "udp_seq", 1, time, ""),
            "64 bytes from 127.0.0.1:9999: udp_seq=1 time=0.072 ms"
        );
        assert_eq!(
            reply(64, "db:7 (10.0.0.1)", "tcp_seq", 2, None, "DUP!"),
            "64 bytes from db:7 (10.0.0.1): tcp_seq=2 (DUP!)"
        );
    }

    #[test]
    fn a_percentage_is_shown_as_c_shows_it() {
        let cases = [
            (0.0, "0"),
            (100.0, "100"),
            (50.0, "50"),
            (100.0 / 3.0, "33.3333"),
            (200.0 / 3.0, "66.6667"),
            (0.5, "0.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (99.999_999, "100"),
        ];
        for (value, text) in cases {
            assert_eq!(general(value), text);
        }
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
            let is_near = |time: Duration, expected: f64| {
                (time.as_secs_f64() * 1e9 - expected).abs() <= 1.0 + expected * 1e-9
            };
            prop_assert!(is_near(times.mean(), mean));
            prop_assert!(is_near(times.mdev(), variance.sqrt()));
            prop_assert!(is_near(times.jitter(), jitter));
            prop_assert_eq!(times.min(), Duration::from_nanos(*values.iter().min().unwrap()));
            prop_assert_eq!(times.max(), Duration::from_nanos(*values.iter().max().unwrap()));
        }

        #[test]
        fn percentiles_are_exact_to_half_a_percent(
            mut values in proptest::collection::vec((0_u32..40, any::<u64>()), 1..200),
            rank in 1_u8..=100,
        ) {
            let mut times = Times::default();
            for (bits, value) in &mut values {
                *value >>= 24 + *bits % 40;
                times.add(Duration::from_nanos(*value));
            }
            values.sort_unstable_by_key(|(_, value)| *value);
            let position = (values.len() * usize::from(rank)).div_ceil(100);
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

        #[test]
        fn one_time_is_never_off_by_more_than_half_its_last_digit(micros in 0_u64..10_000_000) {
            let shown = three_digits(Duration::from_micros(micros));
            let places = shown.split_once('.').map_or(0, |(_, places)| places.len());
            let value: f64 = shown.parse().unwrap();
            let half = 0.5 / 10_f64.powi(i32::try_from(places).unwrap());
            prop_assert!((value - float(micros) / 1000.0).abs() <= half + 1e-9);
        }
    }
}
