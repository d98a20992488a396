//! What a progress line says: pure, so that its clock can be a test's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::grouped;

/// The rate is that of the last seconds.
const SPAN: Duration = Duration::from_secs(5);

/// Longer without a look means that the process was stopped: that says nothing about the rate.
pub const GAP: Duration = Duration::from_secs(3);

pub struct Meter {
    start: Instant,
    /// How much there is to do. `None`: nobody knows.
    size: Option<u64>,
    /// Looks of the last [`SPAN`]: when, and how much was done.
    looks: VecDeque<(Instant, u64)>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub done: u64,
    pub time: Duration,
    /// A second. `None`: not known yet.
    pub rate: Option<f64>,
    pub size: Option<u64>,
}

impl Meter {
    pub fn new(size: Option<u64>, now: Instant) -> Self {
        Self {
            start: now,
            size,
            looks: VecDeque::from([(now, 0)]),
        }
    }

    /// `done` is how much was done until `now`; it never falls.
    pub fn look(&mut self, done: u64, now: Instant) -> Look {
        if let Some(&(last, _)) = self.looks.back()
            && now.saturating_duration_since(last) > GAP
        {
            self.looks.clear();
        }
        self.looks.push_back((now, done));
        while self.looks.len() > 2
            && let Some(&(second, _)) = self.looks.get(1)
            && now.saturating_duration_since(second) >= SPAN
        {
            self.looks.pop_front();
        }
        let rate = self.looks.front().and_then(|&(since, before)| {
            let time = now.saturating_duration_since(since).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            (time > 0.0).then(|| done.saturating_sub(before) as f64 / time)
        });
        Look {
            done,
            time: now.saturating_duration_since(self.start),
            rate,
            size: self.size,
        }
    }
}

impl Look {
    /// The same of a whole whose size nobody knows.
    pub fn without_size(&self) -> Self {
        Self {
            size: None,
            ..*self
        }
    }

    /// The whole percent that is done, 100 at most.
    fn percent(&self) -> Option<u64> {
        let size = self.size?;
        let percent = u128::from(self.done) * 100 / u128::from(size.max(1));
        Some(u64::try_from(percent).unwrap_or(100).min(100))
    }

    /// How long the rest takes at this rate. `None`: nobody knows.
    fn left(&self) -> Option<Duration> {
        let left = self.size?.saturating_sub(self.done);
        #[expect(clippy::cast_precision_loss, reason = "seconds are shown")]
        let seconds = left as f64 / self.rate.filter(|rate| *rate >= 1.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// One line of at most `width` characters, for bytes:
    /// `47.7 MiB 0:00:01 29.8 MiB/s [=====>     ] 52% ETA 0:00:01`. A narrow one says less.
    pub fn bytes(&self, width: usize) -> String {
        /// The shortest bar that shows something, with its brackets and blanks.
        const SHORTEST: usize = 10;
        const LONGEST: usize = 40;
        let rate = self.rate.map_or_else(|| "--".to_owned(), scaled);
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let done = scaled(self.done as f64);
        let before = format!("{done} {} {rate}/s", clock(self.time));
        let Some(percent) = self.percent() else {
            return cut(before, width);
        };
        let after = format!("{percent}% {}", self.eta());
        let room = width
            .saturating_sub(before.len() + after.len())
            .min(LONGEST);
        if room >= SHORTEST {
            return format!("{before} {} {after}", bar(percent, room - 2));
        }
        let line = format!("{before} {after}");
        if line.len() <= width {
            return line;
        }
        cut(format!("{done} {percent}%"), width)
    }

    /// One line of at most `width` characters, for a count of `things`, of which some are `found`.
    pub fn count(&self, things: &str, found: &str, width: usize) -> String {
        let (done, size) = (grouped(self.done), grouped(self.size.unwrap_or_default()));
        let line = format!("{done} of {size} {things}, {found}, {}", clock(self.time));
        let whole = format!("{line}, {}", self.eta());
        cut(if whole.len() <= width { whole } else { line }, width)
    }

    /// One line of at most `width` characters, for an attempt. `cause`: why the last one has failed.
    pub fn attempt(&self, number: u32, all: u32, cause: Option<&str>, width: usize) -> String {
        let (number, all) = (grouped(number.into()), grouped(all.into()));
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        let time = clock(self.time);
        cut(format!("attempt {number} of {all}, {time}{cause}"), width)
    }

    fn eta(&self) -> String {
        let left = self.left().map_or_else(|| "--:--".to_owned(), clock);
        format!("ETA {left}")
    }
}

/// Bytes in the unit that leaves one to four digits before the point: `999 B`, `47.7 MiB`.
fn scaled(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024.0 {
        return format!("{bytes:.0} B");
    }
    let mut scaled = bytes / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while scaled >= 1024.0
        && let Some(next) = units.next()
    {
        scaled /= 1024.0;
        unit = Some(next);
    }
    format!("{scaled:.1} {}", unit.unwrap_or(&"EiB"))
}

/// `H:MM:SS`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours}:{minutes:02}:{:02}", seconds % 60)
}

/// `[===>   ]`, `width` characters wide.
fn bar(percent: u64, width: usize) -> String {
    let inside = width.saturating_sub(2);
    let filled = inside * usize::try_from(percent).unwrap_or(100) / 100;
    let mut bar = "=".repeat(filled);
    if filled < inside {
        bar.push('>');
    }
    format!("[{bar:inside$}]")
}

fn cut(line: String, width: usize) -> String {
    match line.char_indices().nth(width) {
        Some((end, _)) => line[..end].to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The look after looks at `(milliseconds, done)`.
    fn look(size: Option<u64>, looks: &[(u64, u64)]) -> Look {
        let start = Instant::now();
        let mut meter = Meter::new(size, start);
        let looks = looks.iter().map(|&(millis, done)| {
            let now = start + Duration::from_millis(millis);
            meter.look(done, now)
        });
        looks.last().unwrap()
    }

    #[test]
    fn a_line_has_a_bar_if_the_size_is_known() {
        let half = look(Some(96 << 20), &[(1000, 24 << 20), (2000, 50 << 20)]);
        assert_eq!(
            half.bytes(80),
            "50.0 MiB 0:00:02 25.0 MiB/s [=================>                ] 52% ETA 0:00:01"
        );
        assert_eq!(
            half.bytes(50),
            "50.0 MiB 0:00:02 25.0 MiB/s 52% ETA 0:00:01"
        );
        assert_eq!(half.bytes(20), "50.0 MiB 52%");
        assert_eq!(half.bytes(5), "50.0 ");
        let unknown = look(None, &[(1000, 999)]);
        assert_eq!(unknown.bytes(80), "999 B 0:00:01 999 B/s");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        // Fast at first, then nothing.
        let mut looks: Vec<(u64, u64)> = vec![(1000, 1 << 30)];
        looks.extend((2..9).map(|second| (second * 1000, 1 << 30)));
        let stuck = look(Some(2 << 30), &looks);
        assert_eq!(stuck.rate, Some(0.0));
        assert!(
            stuck.bytes(80).ends_with("50% ETA --:--"),
            "{}",
            stuck.bytes(80)
        );
    }

    #[test]
    fn a_stop_is_no_slow_transfer() {
        let looks = [
            (1000, 1000),
            (2000, 2000),
            (3_600_000, 2000),
            (3_601_000, 3000),
        ];
        assert_eq!(look(None, &looks).rate, Some(1000.0));
        // At the first look after it nothing is known.
        assert_eq!(look(None, &looks[..3]).rate, None);
    }

    #[test]
    fn more_than_the_size_is_no_more_than_all() {
        let over = look(Some(10), &[(1000, 25)]);
        assert!(
            over.bytes(80).ends_with("100% ETA 0:00:00"),
            "{}",
            over.bytes(80)
        );
        let nothing = look(Some(0), &[(1000, 0)]);
        assert!(nothing.bytes(80).contains("0%"), "{}", nothing.bytes(80));
    }

    #[test]
    fn a_scan_says_how_many_are_left() {
        let scan = look(Some(65_535), &[(1000, 500), (2000, 1204)]);
        assert_eq!(
            scan.count("ports", "2 open", 80),
            "1,204 of 65,535 ports, 2 open, 0:00:02, ETA 0:01:46"
        );
        assert_eq!(scan.count("ports", "2 open", 12), "1,204 of 65,");
    }

    #[test]
    fn an_attempt_says_why_the_last_one_failed() {
        let first = look(None, &[(1000, 1)]);
        assert_eq!(
            first.attempt(1, 1001, None, 80),
            "attempt 1 of 1,001, 0:00:01"
        );
        let third = look(None, &[(3000, 3)]);
        let cause = Some("the proxy says «no»");
        assert_eq!(
            third.attempt(3, 10, cause, 80),
            "attempt 3 of 10, 0:00:03: the proxy says «no»"
        );
        assert_eq!(
            third.attempt(3, 10, cause, 42),
            "attempt 3 of 10, 0:00:03: the proxy says «"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_percent_too_high(
            size in prop::option::of(0..u64::MAX),
            looks in prop::collection::vec((0..20_000_u64, 0..1_u64 << 60), 1..30),
            width in 0..200_usize,
        ) {
            let start = Instant::now();
            let mut meter = Meter::new(size, start);
            let (mut now, mut done, mut percent) = (start, 0, 0);
            for (pause, count) in looks {
                now += Duration::from_millis(pause);
                done += count / 64;
                let look = meter.look(done, now);
                prop_assert!(look.bytes(width).chars().count() <= width);
                prop_assert!(look.count("ports", "1 open", width).chars().count() <= width);
                let next = look.percent().unwrap_or(0);
                prop_assert!(next >= percent && next <= 100);
                percent = next;
            }
        }
    }
}
