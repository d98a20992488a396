//! Turns to start a program: few connections are accepted before their programs have started. So one
//! that has to wait for a descriptor or a process waits in the backlog.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::server::episode::Episode;
use crate::wait::lock;

/// Enough to start programs on several processors at once. Each takes a descriptor for its connection.
const MOST: usize = 4;

pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// A program could not start, since the system was out of something.
    scarce: Mutex<Episode>,
}

#[derive(Default)]
struct State {
    /// How many are taken.
    taken: usize,
    /// The number of the last turn.
    last: u64,
    /// The turns whose programs could not start for now.
    waiting: BTreeSet<u64>,
    is_closed: bool,
}

/// The turn of one connection, from before accept(2) until its program has started. The next one may
/// have it once this is dropped.
pub struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            scarce: Mutex::default(),
        })
    }

    /// Blocks until a turn is free. `None`: no more are given.
    pub fn take(self: &Arc<Self>) -> Option<Turn> {
        let none_free = |state: &mut State| state.taken >= MOST && !state.is_closed;
        let state = self.changed.wait_while(lock(&self.state), none_free);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return None;
        }
        state.taken += 1;
        state.last += 1;
        Some(Turn {
            turns: Arc::clone(self),
            number: state.last,
        })
    }

    /// No more turns are given.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}

impl Turn {
    /// Whether its program may start: no older one waits.
    pub fn has_come(&self) -> bool {
        let state = lock(&self.turns.state);
        state
            .waiting
            .first()
            .is_none_or(|first| *first >= self.number)
    }

    /// Its program could not start for now. Returns whether it is the first of an episode.
    pub fn has_to_wait(&self) -> bool {
        lock(&self.turns.state).waiting.insert(self.number);
        Episode::begins(&self.turns.scarce)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.state);
        state.taken -= 1;
        state.waiting.remove(&self.number);
        self.turns.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_turn_that_is_dropped_is_for_the_next() {
        let turns = Turns::new();
        let mut taken: Vec<_> = (0..MOST).map(|_| turns.take()).collect();
        let (sender, next) = channel();
        let waits = Arc::clone(&turns);
        let wait = move || sender.send(waits.take().is_some());
        thread::Builder::new().spawn(wait).unwrap();
        assert!(next.recv_timeout(Duration::from_millis(10)).is_err());
        taken.pop();
        assert_eq!(next.recv(), Ok(true));
    }

    #[test]
    fn the_oldest_that_waits_comes_first() {
        let turns = Turns::new();
        let [first, second, third] = [(); 3].map(|()| turns.take().unwrap());
        assert!(first.has_come() && third.has_come());
        assert!(second.has_to_wait() && !third.has_to_wait());
        assert!(first.has_come() && second.has_come() && !third.has_come());
        drop(second);
        assert!(third.has_come());
    }

    #[test]
    fn whoever_waits_for_a_turn_learns_that_there_are_no_more() {
        let turns = Turns::new();
        let _taken: Vec<_> = (0..MOST).map(|_| turns.take()).collect();
        let waits = Arc::clone(&turns);
        let wait = move || waits.take().is_none();
        let waiting = thread::Builder::new().spawn(wait).unwrap();
        turns.close();
        assert!(waiting.join().unwrap());
    }
}
