//! Durations and sizes as people type them: `3`, `0.2`, `200ms`, `1m30s`; `512`, `64k`, `4M`. And IP
//! addresses as people read them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Ten years: added to a point in time it cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long to wait for something that may never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    For(Duration),
    Forever,
}

/// A duration: a bare decimal number of seconds, or numbers that each carry a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{text}' is not a duration; write seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h)"
        )
    };
    let total = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        None => decimal(text, 1_000_000_000),
        Some(_) => sum_of_units(text),
    };
    match u64::try_from(total.ok_or_else(wrong)?).map(Duration::from_nanos) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("'{text}' is longer than ten years")),
    }
}

/// A duration of more than zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("'{text}' must be more than zero")),
        duration => Ok(duration),
    }
}

/// `time` as messages tell it, in the units that people type: `100ms`, `1.5s`, `1m30s`, `30d`.
pub fn told(time: Duration) -> String {
    let mut rest = time.as_secs();
    if time.is_zero() {
        return "0s".to_owned();
    }
    if rest < 60 || time.subsec_nanos() > 0 {
        return format!("{time:?}");
    }
    let mut text = String::new();
    for (unit, seconds) in [("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            let _ = write!(text, "{}{unit}", rest / seconds);
            rest %= seconds;
        }
    }
    text
}

/// A duration, or `forever`.
pub fn patience(text: &str) -> Result<Patience, String> {
    match text {
        "forever" => Ok(Patience::Forever),
        _ => duration(text).map(Patience::For).map_err(|error| {
            let is_advised = error.contains("; write ");
            let advice = if is_advised {
                ", or 'forever'"
            } else {
                "; write 'forever' for no limit"
            };
            error + advice
        }),
    }
}

/// A whole number of at least one.
pub fn count(text: &str) -> Result<u64, String> {
    if text.is_empty() || !is_digits(text) {
        return Err(format!("'{text}' is not a whole number; write 1, 2, 100"));
    }
    match text.parse() {
        Ok(0) => Err(format!("'{text}' must be more than zero")),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("'{text}' is too large")),
    }
}

/// Reads a whole number of `range`.
pub fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = Some(text).filter(|text| is_digits(text));
        let number = number.and_then(|text| text.parse().ok());
        let number = number.filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("'{text}' is not a whole number from {least} to {most}")
        })
    }
}

/// A number of bytes, more than zero; `k`, `M` and `G` are powers of 1024. One that is too large for
/// any use is `usize::MAX`: the caller has a limit, and tells it.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || {
        format!(
            "'{text}' is not a size; write bytes (512) or k, M, G (64k, 4M, 1G; powers of 1024)"
        )
    };
    let (digits, unit) = split_at_first(text, |c| c.is_ascii_alphabetic());
    let unit = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !is_digits(digits) {
        return Err(wrong());
    }
    // Digits that do not parse are too many.
    let number = digits.parse::<usize>().unwrap_or(usize::MAX);
    match number.saturating_mul(unit) {
        0 => Err(format!("'{text}' must be more than zero")),
        size => Ok(size),
    }
}

/// How many bytes were sent, in words.
pub fn sent(bytes: u64) -> String {
    match bytes {
        1 => "1 byte was sent".to_owned(),
        _ => format!("{bytes} bytes were sent"),
    }
}

/// A number with a comma between thousands: `1,204`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The IP address of a socket address, with its zone.
pub fn ip(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() > 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// Nanoseconds in `1h2m3.5s` and the like; `None` when it is not of that form.
fn sum_of_units(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_at_first(rest, |c| c.is_ascii_alphabetic());
        let (unit, after) = split_at_first(after, |c| !c.is_ascii_alphabetic());
        let nanoseconds = match unit {
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return None,
        };
        total = total.checked_add(decimal(number, nanoseconds)?)?;
        rest = after;
    }
    Some(total)
}

/// `number` × `unit` nanoseconds, rounded down.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // Eighteen places are finer than a nanosecond of the largest unit, and cannot overflow.
    let fraction = &fraction[..fraction.len().min(18)];
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let integer = |digits: &str| format!("0{digits}").parse::<u128>().ok();
    let parts = integer(fraction)? * unit / denominator;
    integer(whole)?.checked_mul(unit)?.checked_add(parts)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn split_at_first(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_byte_is_one_byte() {
        assert_eq!(sent(1), "1 byte was sent");
        assert_eq!(sent(0), "0 bytes were sent");
    }

    #[test]
    fn a_duration_is_told_as_people_type_it() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(100), "100ms"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(59), "59s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(7200), "2h"),
            (Duration::from_secs(200 * 86_400), "200d"),
        ];
        for (time, text) in cases {
            assert_eq!(told(time), text);
        }
    }

    #[test]
    fn thousands_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1204, "1,204"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_are_seconds_or_carry_units() {
        let cases = [
            ("3", 3_000_000),
            ("0.2", 200_000),
            (".5", 500_000),
            ("0.000001", 1),
            ("200ms", 200_000),
            ("0.5s", 500_000),
            ("5s", 5_000_000),
            ("1m30s", 90_000_000),
            ("2h", 7_200_000_000),
            ("1d", 86_400_000_000),
            ("250us", 250),
            ("0", 0),
        ];
        for (text, microseconds) in cases {
            assert_eq!(
                duration(text),
                Ok(Duration::from_micros(microseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", ".", "1.2.3", "-1", "+1", "1e3", "s", "5 s", "5x", "1m30", "ms5", "NaN", "inf",
            "٣", "1,5",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999999999999999999999999").is_err());
        assert_eq!(
            duration("88000h"),
            Err("'88000h' is longer than ten years".to_owned())
        );
        assert!(positive_duration("0").is_err());
        assert!(positive_duration("0ms").is_err());
    }

    #[test]
    fn patience_may_have_no_end() {
        assert_eq!(patience("forever"), Ok(Patience::Forever));
        assert_eq!(patience("0"), Ok(Patience::For(Duration::ZERO)));
        let told = |text| patience(text).unwrap_err();
        assert!(
            told("for ever").ends_with(
                "; write seconds (3, 0.2) or units (200ms, 5s, 1m30s, 2h), or 'forever'"
            )
        );
        assert_eq!(
            told("88000h"),
            "'88000h' is longer than ten years; write 'forever' for no limit"
        );
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in [
            ("1", 1),
            ("512", 512),
            ("64k", 65_536),
            ("4M", 4 << 20),
            ("1G", 1 << 30),
            ("99999999999G", usize::MAX),
            ("18446744073709551616", usize::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "0", "0k", "-1", "1.5k", "1kb", "1m", "1 k"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_whole_numbers_from_one() {
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "0", "-1", "+1", "1.5", "1k", "18446744073709551616"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_of_whole_seconds_can_be_typed(seconds in 0..LONGEST.as_secs()) {
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(duration(&told(time)), Ok(time));
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC*") {
            let _ = (duration(&text), patience(&text), size(&text), count(&text));
        }

        #[test]
        fn whole_milliseconds_are_exact(milliseconds in 0_u64..300_000_000_000) {
            let expected = Ok(Duration::from_millis(milliseconds));
            prop_assert_eq!(duration(&format!("{milliseconds}ms")), expected.clone());
            let seconds = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            prop_assert_eq!(duration(&seconds), expected);
        }
    }
}
