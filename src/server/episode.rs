//! Events that somebody else can cause as often as he likes, and that are logged only twice: when
//! they begin, and how many there were.

use std::time::{Duration, Instant};

/// How long it has to be quiet for an episode to be over.
const QUIET: Duration = Duration::from_secs(10);

/// A run of events of one kind.
#[derive(Debug, Default)]
pub struct Episode {
    events: u64,
    last: Option<Instant>,
}

impl Episode {
    /// Counts an event; whether it is the first of its episode.
    pub fn happened(&mut self, now: Instant) -> bool {
        self.events += 1;
        self.last = Some(now);
        self.events == 1
    }

    /// When the episode will be over if nothing happens before; `None` while there is none.
    pub fn end(&self) -> Option<Instant> {
        self.last.map(|last| last + QUIET)
    }

    /// Closes the episode, if its end `is_over`: how many events it had, if not only the one that was
    /// logged when it began.
    pub fn close(&mut self, is_over: impl Fn(Instant) -> bool) -> Option<u64> {
        if !self.end().is_some_and(is_over) {
            return None;
        }
        Some(std::mem::take(self).events).filter(|events| *events > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_event_of_an_episode_is_the_first() {
        let now = Instant::now();
        let mut episode = Episode::default();
        assert_eq!(episode.end(), None);
        assert!(episode.happened(now));
        assert!(!episode.happened(now + QUIET / 2));
        assert_eq!(episode.end(), Some(now + QUIET / 2 + QUIET));
        assert_eq!(episode.close(|end| end <= now + QUIET), None);
        assert_eq!(episode.close(|_| true), Some(2));
        assert!(episode.happened(now));
        assert_eq!(episode.close(|_| true), None);
        assert!(episode.happened(now));
    }
}
