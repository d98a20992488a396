//! The line at the end that shows how the times are spread.

use super::screen::Bars;
use super::statistics::Times;
use crate::ping::text::two_digits;

/// The most bars.
const MOST: usize = 24;

/// The times from the shortest to the longest as `bars`, with percentiles. On a wider scale than one to
/// ten it is logarithmic. `None`: there are no times, or fewer `columns` than it takes.
pub fn line(times: &Times, bars: &Bars, columns: usize) -> Option<String> {
    if times.is_empty() {
        return None;
    }
    let [p50, p95, p99] = [50, 95, 99].map(|rank| two_digits(times.percentile(rank)));
    let [min, max] = [times.min, times.max].map(two_digits);
    let end = format!(" {max} ms   p50 {p50}  p95 {p95}  p99 {p99}");
    let room = columns.checked_sub(min.len() + " ms ".len() + end.len())?;
    let counts = times.spread(room.min(MOST))?;
    let most = counts.iter().copied().max()?;
    let bar = |count: u64| match count {
        0 => Some(' '),
        _ => bars
            .get(usize::try_from((count * 8).div_ceil(most)).ok()? - 1)
            .copied(),
    };
    let shape: String = counts.into_iter().filter_map(bar).collect();
    Some(format!("{min} ms {shape}{end}\n"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const BARS: Bars = ['1', '2', '3', '4', '5', '6', '7', '8'];

    fn times(micros: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        for time in micros {
            times.add(Duration::from_micros(time));
        }
        times
    }

    #[test]
    fn the_shape_is_that_of_the_times() {
        // A linear scale: 24 bars of 15 µs each.
        let micros = [100; 4].into_iter().chain([120; 8]).chain([459]);
        let line = line(&times(micros), &BARS, 80).unwrap();
        let expected = format!(
            "0.1 ms 48{}1 0.46 ms   p50 0.12  p95 0.46  p99 0.46\n",
            " ".repeat(21)
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_wide_scale_is_logarithmic() {
        let line = line(&times([100, 1100, 11_000, 100_000]), &BARS, 80).unwrap();
        let shape = line
            .split_once(" ms ")
            .unwrap()
            .1
            .split_once(" 100 ms")
            .unwrap()
            .0;
        assert_eq!(shape, "8       8       8      8");
    }

    #[test]
    fn one_time_is_one_bar_and_no_time_is_no_line() {
        let text = line(&times([72]), &BARS, 80).unwrap();
        assert_eq!(
            text,
            "0.072 ms 8 0.072 ms   p50 0.072  p95 0.072  p99 0.072\n"
        );
        assert_eq!(line(&Times::default(), &BARS, 80), None);
        assert_eq!(line(&times([72]), &BARS, 20), None);
    }

    proptest! {
        #[test]
        fn a_line_fits_the_screen(
            micros in proptest::collection::vec(0_u64..100_000_000, 1..100),
            columns in 0_usize..200,
        ) {
            if let Some(line) = line(&times(micros), &BARS, columns) {
                prop_assert!(line.trim_end_matches('\n').len() <= columns);
                prop_assert!(line.contains('8'));
            }
        }

        #[test]
        fn every_time_is_in_one_part(
            micros in proptest::collection::vec(0_u64..100_000_000, 1..100),
            parts in 1_usize..40,
        ) {
            let spread = times(micros.clone()).spread(parts).unwrap();
            prop_assert!(spread.len() <= parts);
            prop_assert_eq!(spread.iter().sum::<u64>(), micros.len() as u64);
            prop_assert!(spread[0] > 0 && *spread.last().unwrap() > 0);
        }
    }
}
