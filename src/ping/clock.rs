//! Times of day for people, and for programs.

use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, Datelike as _, Local, NaiveDateTime, SecondsFormat, Utc};

/// As RFC 3339 has it: in UTC, to the millisecond.
pub fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The time of this place, with its date if that is not the date of `now`; in UTC, with a `Z`, if the
/// zone of this place cannot be read. `finely`: to the millisecond, and otherwise to the second.
pub fn local(time: SystemTime, now: SystemTime, finely: bool) -> String {
    let utc = DateTime::<Utc>::from;
    if is_known(std::env::var_os("TZ")) {
        let here = |time| utc(time).with_timezone(&Local).naive_local();
        text(here(time), here(now), finely)
    } else {
        text(utc(time).naive_utc(), utc(now).naive_utc(), finely) + "Z"
    }
}

fn text(time: NaiveDateTime, now: NaiveDateTime, finely: bool) -> String {
    let is_today = time.num_days_from_ce() == now.num_days_from_ce();
    let date = if is_today { "" } else { "%Y-%m-%d " };
    let fraction = if finely { "%.3f" } else { "" };
    time.format(&format!("{date}%H:%M:%S{fraction}"))
        .to_string()
}

/// Whether chrono finds the zone that `TZ` names: of an unknown one it shows UTC and does not say so.
fn is_known(zone: Option<OsString>) -> bool {
    let is_file = |path: &Path| path.is_file();
    let Some(zone) = zone else {
        return is_file(Path::new("/etc/localtime"));
    };
    let Some(zone) = zone.to_str() else {
        return false;
    };
    let zone = zone.strip_prefix(':').unwrap_or(zone);
    if zone.is_empty() {
        return false;
    }
    // tzset(3): `JST-9`, or `CET-1CEST,M3.5.0,M10.5.0`. Without its rule summer time is not known.
    let is_fixed = !zone.contains('/') && zone.ends_with(|last: char| last.is_ascii_digit());
    zone.contains(',') || is_fixed || is_file(&Path::new("/usr/share/zoneinfo").join(zone))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000) + Duration::from_millis(seconds * 1000 + 7)
    }

    #[test]
    fn a_time_for_programs_is_in_utc() {
        assert_eq!(rfc3339(at(0)), "2026-09-21T14:13:20.007Z");
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let utc = |seconds| DateTime::<Utc>::from(at(seconds)).naive_utc();
        assert_eq!(text(utc(0), utc(4), false), "14:13:20");
        assert_eq!(text(utc(0), utc(4), true), "14:13:20.007");
        assert_eq!(text(utc(0), utc(86_400), false), "2026-09-21 14:13:20");
    }
    #[test]
    fn a_zone_is_known_by_its_rule_or_its_file() {
        for (zone, expected) in [
            ("JST-9", true),
            ("<-03>3", true),
            ("CET-1CEST,M3.5.0,M10.5.0/3", true),
            ("CET-1CEST", false),
            ("", false),
            ("Nowhere", false),
            ("Nowhere/City1", false),
        ] {
            assert_eq!(is_known(Some(zone.into())), expected, "{zone}");
        }
    }
}
