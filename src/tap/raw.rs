//! The pieces of `--record`, as they are; and the line before each piece of a server that serves
//! several peers at once.

use std::time::Duration;

use super::Direction;

/// `#NUMBER DIRECTION TIME LENGTH`, a line. The time is the time of day in UTC.
pub fn head(number: u64, direction: Direction, since_epoch: Duration, length: usize) -> String {
    let (sign, time) = (direction.sign(), clock(since_epoch, 6));
    format!("#{number} {sign} {time}Z {length}\n")
}

/// The time of day with this many digits of the second's fraction, six at most.
pub fn clock(since_epoch: Duration, digits: usize) -> String {
    let seconds = since_epoch.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{:06}", since_epoch.subsec_micros());
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{}",
        &fraction[..digits]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_the_number_direction_time_and_length() {
        let time = Duration::from_micros(86_400_000_000 + 3_723_000_045);
        assert_eq!(
            head(7, Direction::Received, time, 35),
            "#7 < 01:02:03.000045Z 35\n"
        );
    }
}
