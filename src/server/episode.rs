//! Events that a peer can cause without end: the log tells the first, and later how many there were.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::wait::{Deadline, lock};

/// An episode is over once nothing has happened for this long.
const QUIET: Duration = Duration::from_secs(10);

/// A run of events of one kind.
#[derive(Debug)]
pub struct Episode {
    events: u64,
    end: Deadline,
}

impl Default for Episode {
    fn default() -> Self {
        Self {
            events: 0,
            end: Deadline::NEVER,
        }
    }
}

impl Episode {
    /// Counts an event; whether it is the first of its episode.
    pub fn happened(&mut self, now: Instant) -> bool {
        self.happened_often(1, now)
    }

    /// As [`Self::happened`], for `count` events.
    pub fn happened_often(&mut self, count: u64, now: Instant) -> bool {
        let is_first = self.events == 0;
        self.events += count;
        self.end = Deadline::since(now, QUIET);
        is_first
    }

    /// When the episode is over if nothing more happens.
    pub fn end(&self) -> Deadline {
        self.end
    }

    /// Closes the episode if its end `is_over`. Returns the number of events, unless it is only the
    /// one that was logged.
    pub fn close(&mut self, is_over: impl Fn(Deadline) -> bool) -> Option<u64> {
        if !is_over(self.end) {
            return None;
        }
        Some(std::mem::take(self).events).filter(|events| *events > 1)
    }

    /// Counts an event that any of several threads may meet. Returns whether it is the first of its
    /// episode. How many there were is not told.
    pub fn begins(episode: &Mutex<Self>) -> bool {
        let mut episode = lock(episode);
        episode.close(Deadline::has_passed);
        episode.happened(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_has_one_first_event_and_tells_its_number_at_the_end() {
        let now = Instant::now();
        let mut episode = Episode::default();
        assert_eq!(episode.end(), Deadline::NEVER);
        assert!(episode.happened(now));
        assert!(!episode.happened(now + QUIET / 2));
        assert!(!episode.end().has_passed_at(now + QUIET));
        assert!(episode.end().has_passed_at(now + QUIET / 2 + QUIET));
        assert_eq!(episode.close(|end| end.has_passed_at(now + QUIET)), None);
        assert_eq!(episode.close(|_| true), Some(2));
        assert!(episode.happened(now));
        assert_eq!(episode.close(|_| true), None);
        assert!(episode.happened(now));
    }
}
