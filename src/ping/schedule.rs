//! When the next probe is due.

use std::time::{Duration, Instant};

/// What the time of the next probe depends on.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// A clock.
    Every(Duration),
    /// The answers: a probe follows one, between these times after the last probe.
    Answers { least: Duration, most: Duration },
}

/// A ping that is late catches up with its clock by this much. The probes of a longer stop, such as
/// SIGSTOP, are not sent in a burst.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Reads no clock.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    /// When the next probe is due if no answer comes. `None`: at once, as none was sent yet.
    due: Option<Instant>,
    /// When the next probe is due once an answer has come.
    due_if_answered: Option<Instant>,
}

impl Schedule {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            due: None,
            due_if_answered: None,
        }
    }

    pub fn is_adaptive(&self) -> bool {
        matches!(self.pace, Pace::Answers { .. })
    }

    /// When the next probe is due. `None`: at once.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// The probe that was due is sent at `now`. Returns when the next is due.
    pub fn sent(&mut self, now: Instant) -> Instant {
        let (due, due_if_answered) = match self.pace {
            Pace::Every(interval) => {
                // Counted from when it was due, so that delays do not add up.
                let next = self.due.unwrap_or(now) + interval;
                let earliest = now.checked_sub(CATCH_UP);
                let next = earliest.map_or(next, |earliest| next.max(earliest));
                (next, next)
            }
            Pace::Answers { least, most } => (now + most, now + least),
        };
        self.due = Some(due);
        self.due_if_answered = Some(due_if_answered);
        due
    }

    /// A probe was answered.
    pub fn answered(&mut self) {
        self.due = self.due_if_answered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// At least a day after the start of the system's clock: a test may subtract from it.
    fn start() -> Instant {
        Instant::now() + Duration::from_secs(86_400)
    }

    #[test]
    fn the_first_probe_is_due_at_once_and_the_clock_starts_with_it() {
        let now = start();
        let mut schedule = Schedule::new(Pace::Every(INTERVAL));
        assert!(schedule.is_due(now));
        schedule.sent(now);
        assert!(!schedule.is_due(now));
        assert!(schedule.is_due(now + INTERVAL));
    }

    #[test]
    fn answers_do_not_change_what_follows_a_clock() {
        let start = start();
        let mut schedule = Schedule::new(Pace::Every(INTERVAL));
        schedule.sent(start);
        schedule.answered();
        assert_eq!(schedule.due(), Some(start + INTERVAL));
    }

    #[test]
    fn a_probe_follows_an_answer_but_not_too_soon() {
        let sent = start();
        let (least, most) = (millis(2), millis(1000));
        let mut schedule = Schedule::new(Pace::Answers { least, most });
        assert_eq!(schedule.sent(sent), sent + most);
        schedule.answered();
        assert_eq!(schedule.due(), Some(sent + least));
        // Of an earlier probe.
        schedule.answered();
        assert_eq!(schedule.due(), Some(sent + least));
    }

    #[test]
    fn what_was_missed_while_stopped_is_not_sent_in_a_burst() {
        let start = start();
        let mut schedule = Schedule::new(Pace::Every(INTERVAL));
        schedule.sent(start);
        let now = start + Duration::from_secs(60);
        let mut burst = 0;
        while schedule.is_due(now) {
            schedule.sent(now);
            burst += 1;
        }
        assert_eq!(burst, 12);
        assert_eq!(schedule.due(), Some(now + INTERVAL));
    }

    proptest! {
        #[test]
        fn short_delays_do_not_add_up(delays in proptest::collection::vec(0_u64..=100, 1..200)) {
            let start = start();
            let mut schedule = Schedule::new(Pace::Every(INTERVAL));
            let mut due = schedule.sent(start);
            let mut now = start;
            for (sent, delay) in (1..).zip(delays) {
                prop_assert_eq!(due, start + INTERVAL * sent);
                now = now.max(due + millis(delay));
                due = schedule.sent(now);
            }
        }

        #[test]
        fn the_next_probe_is_due_within_the_bounds_of_the_pace(
            events in proptest::collection::vec((0_u64..3000, any::<bool>()), 1..100),
            is_adaptive: bool,
        ) {
            let (least, most) = (millis(2), millis(1000));
            let pace = if is_adaptive {
                Pace::Answers { least, most }
            } else {
                Pace::Every(most)
            };
            let mut schedule = Schedule::new(pace);
            let mut now = start();
            for (delay, is_answered) in events {
                schedule.sent(now);
                if is_answered {
                    schedule.answered();
                }
                let due = schedule.due().unwrap();
                prop_assert!(due <= now + most);
                if is_adaptive {
                    prop_assert!(due >= now + least);
                } else {
                    prop_assert!(due + CATCH_UP >= now);
                }
                now = due + millis(delay);
            }
        }
    }
}
