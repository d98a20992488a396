//! The lines that a ping prints for people, in the format of ping(8).

use std::fmt::Write as _;
use std::time::Duration;

use crate::ping::statistics::Statistics;
use crate::ping::{Answer, Arrival, Kind};

/// The line about an answer from `from`. `label` is the name of its number.
pub fn reply(answer: &Answer, arrival: &Arrival, from: &str, label: &str) -> String {
    let mark = match answer.kind {
        Kind::Reply => "",
        Kind::Late => " (late)",
        Kind::Duplicate => " (DUP!)",
    };
    let (number, size) = (answer.number, arrival.size);
    let ttl = arrival.hop_limit.map(|limit| format!(" ttl={limit}"));
    let ttl = ttl.unwrap_or_default();
    let time = three_digits(answer.time);
    format!("{size} bytes from {from}: {label}={number}{ttl} time={time} ms{mark}")
}

/// The block at the end. `name` is what was probed. `has_gap`: the time
/// between probes was not chosen.
pub fn summary(statistics: &Statistics, name: &str, verbose: bool, has_gap: bool) -> String {
    let (transmitted, received) = (statistics.transmitted, statistics.received);
    let times = &statistics.times;
    let mut text = format!(
        "\n--- {name} ping statistics ---\n{transmitted} packets transmitted, {received} received"
    );
    let extras = [
        (statistics.duplicates, "duplicates"),
        (statistics.errors, "errors"),
        (statistics.late, "late"),
    ];
    for (count, what) in extras.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, ", +{count} {what}");
    }
    if transmitted > 0 {
        let loss = general(statistics.loss_percent());
        let time = (statistics.time + Duration::from_micros(500)).as_millis();
        let _ = write!(text, ", {loss}% packet loss, time {time}ms");
    }
    text.push('\n');
    let mut parts = Vec::new();
    if !times.is_empty() {
        let [min, avg, max, mdev] =
            [times.min, times.mean(), times.max, times.mdev()].map(milliseconds);
        parts.push(format!(
            "rtt min/avg/max/mdev = {min}/{avg}/{max}/{mdev} ms"
        ));
    }
    if statistics.pipe > 1 {
        parts.push(format!("pipe {}", statistics.pipe));
    }
    if let Some(gap) = statistics.gap().filter(|_| has_gap && !times.is_empty()) {
        let [gap, ewma] = [gap, times.ewma()].map(milliseconds);
        parts.push(format!("ipg/ewma {gap}/{ewma} ms"));
    }
    // ping(8) prints this line even if it is empty, and jc counts lines from the end.
    text.push_str(&parts.join(", "));
    text.push('\n');
    if verbose && !times.is_empty() {
        let [p50, p95, p99] = [50, 95, 99].map(|rank| milliseconds(times.percentile(rank)));
        let [jitter, filtered] = [times.jitter(), times.jitter_rfc3550()].map(milliseconds);
        let _ = writeln!(
            text,
            "rtt p50/p95/p99/jitter = {p50}/{p95}/{p99}/{jitter} ms, RFC 3550 jitter {filtered} ms"
        );
    }
    text
}

/// The line about a run that goes on.
pub fn interim(statistics: &Statistics) -> String {
    let (transmitted, received) = (statistics.transmitted, statistics.received);
    let times = &statistics.times;
    let loss = statistics.loss_percent().trunc();
    let mut line = format!("{received}/{transmitted} packets, {loss}% loss");
    if !times.is_empty() {
        let [min, avg, ewma, max] =
            [times.min, times.mean(), times.ewma(), times.max].map(milliseconds);
        let _ = write!(line, ", min/avg/ewma/max = {min}/{avg}/{ewma}/{max} ms");
    }
    line.push('\n');
    line
}

/// Milliseconds to the microsecond.
pub fn milliseconds(time: Duration) -> String {
    let micros = micros(time);
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// Milliseconds with three significant digits, as ping(8) shows one time.
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

/// Milliseconds with two significant digits and no zeros at the end; whole ones from 10 on.
pub fn two_digits(time: Duration) -> String {
    let micros = micros(time);
    if micros >= 9_950 {
        return ((micros + 500) / 1000).to_string();
    }
    let unit = match micros {
        0..100 => 1,
        100..995 => 10,
        _ => 100,
    };
    let rounded = (micros + unit / 2) / unit * unit;
    let text = format!("{}.{:03}", rounded / 1000, rounded % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn micros(time: Duration) -> u128 {
    (time.as_nanos() + 500) / 1000
}

/// A percentage as printf(3)'s `%g` shows it: six significant digits, and no zeros at the end.
fn general(percent: f64) -> String {
    let rounded = format!("{percent:.5e}").parse().unwrap_or(percent);
    if rounded == 0.0 || rounded >= 1e-4 {
        return rounded.to_string();
    }
    // C writes an exponent with two digits.
    format!("{rounded:e}").replace("e-", "e-0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ping::statistics::Times;

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
            time: Duration::from_micros(1_000_600),
            ..Statistics::default()
        };
        let name = "127.0.0.1:9999";
        let text = "\n--- 127.0.0.1:9999 ping statistics ---\n\
            2 packets transmitted, 2 received, 0% packet loss, time 1001ms\n\
            rtt min/avg/max/mdev = 0.039/0.056/0.072/0.017 ms\n";
        assert_eq!(summary(&statistics, name, false, false), text);
        let more =
            "rtt p50/p95/p99/jitter = 0.039/0.072/0.072/0.033 ms, RFC 3550 jitter 0.002 ms\n";
        assert_eq!(
            summary(&statistics, name, true, false),
            [text, more].concat()
        );
        assert_eq!(
            interim(&statistics),
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
        assert!(summary(&statistics, "db:7", false, false).contains(
            "3 packets transmitted, 2 received, +1 duplicates, +4 errors, +5 late, \
             33.3333% packet loss, time 0ms\n"
        ));
        assert!(interim(&statistics).starts_with("2/3 packets, 33% loss, "));
        statistics.times = Times::default();
        assert_eq!(interim(&statistics), "2/3 packets, 33% loss\n");
    }

    #[test]
    fn how_many_were_under_way_and_how_far_apart_stands_after_the_times() {
        let mut statistics = Statistics {
            transmitted: 3,
            received: 2,
            pipe: 1,
            time: Duration::from_millis(5),
            ..Statistics::default()
        };
        let last = |statistics: &Statistics, is_adaptive| {
            let summary = summary(statistics, "db:7", false, is_adaptive);
            summary.lines().last().unwrap().to_owned()
        };
        assert_eq!(last(&statistics, true), "");
        statistics.pipe = 2;
        assert_eq!(last(&statistics, true), "pipe 2");
        statistics.times = times(&[1000, 1800]);
        let rtt = "rtt min/avg/max/mdev = 1.000/1.400/1.800/0.400 ms";
        let ipg = "ipg/ewma 2.500/1.100 ms";
        assert_eq!(last(&statistics, true), format!("{rtt}, pipe 2, {ipg}"));
        assert_eq!(last(&statistics, false), format!("{rtt}, pipe 2"));
    }

    #[test]
    fn nothing_sent_is_no_loss() {
        assert_eq!(
            summary(&Statistics::default(), "x", true, true),
            "\n--- x ping statistics ---\n0 packets transmitted, 0 received\n\n"
        );
        assert_eq!(interim(&Statistics::default()), "0/0 packets, 0% loss\n");
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
    fn a_rough_time_is_shown_with_two_digits() {
        let cases = [
            (0, "0"),
            (7, "0.007"),
            (72, "0.072"),
            (100, "0.1"),
            (194, "0.19"),
            (996, "1"),
            (1_234, "1.2"),
            (9_949, "9.9"),
            (9_950, "10"),
            (123_456, "123"),
        ];
        for (micros, text) in cases {
            assert_eq!(two_digits(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        let line = |kind, hop_limit, from| {
            let answer = Answer {
                kind,
                number: 1,
                time: Duration::from_micros(72),
            };
            let arrival = Arrival {
                source: None,
                size: 64,
                hop_limit,
                handshake: None,
            };
            reply(&answer, &arrival, from, "udp_seq")
        };
        assert_eq!(
            line(Kind::Reply, Some(63), "127.0.0.1:9999"),
            "64 bytes from 127.0.0.1:9999: udp_seq=1 ttl=63 time=0.072 ms"
        );
        assert_eq!(
            line(Kind::Duplicate, None, "db:7 (10.0.0.1)"),
            "64 bytes from db:7 (10.0.0.1): udp_seq=1 time=0.072 ms (DUP!)"
        );
        assert!(line(Kind::Late, None, "db:7").ends_with(" time=0.072 ms (late)"));
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
        fn one_time_is_never_off_by_more_than_half_its_last_digit(micros in 0_u32..10_000_000) {
            let shown = three_digits(Duration::from_micros(micros.into()));
            let places = shown.split_once('.').map_or(0, |(_, places)| places.len());
            let value: f64 = shown.parse().unwrap();
            let exact = f64::from(micros) / 1000.0;
            let half = 0.5 / 10_f64.powi(i32::try_from(places).unwrap());
            prop_assert!((value - exact).abs() <= half + 1e-9);
        }
    }
}
