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

    /// Closes the episode: how many events it had.
    pub fn close(&mut self) -> u64 {
        std::mem::take(self).events
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
        assert_eq!(episode.close(), 2);
        assert!(episode.happened(now));
    }
}
