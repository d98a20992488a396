//! Busy polling: what comes at once is looked for rather than slept for, as being woken takes longer.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use crate::wait::is_wait;

/// How long to look. To be woken on a processor that was idle takes some ten microseconds, under a
/// hypervisor twice that; a peer that is woken too answers within this, and one on a network does not.
const MOST: Duration = Duration::from_micros(50);

/// A look that took longer was held up by others who need the processor more.
const TOO_LONG: Duration = Duration::from_millis(1);

/// So many waits in a row have to be short before the next one is spent looking.
const FEWEST_SHORT: u32 = 16;

/// A wait is long or short at random, or others compute all the time: the price of trying is paid
/// this rarely.
const MOST_SHORT: u32 = 1 << 16;

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It fails where it would have to (EWOULDBLOCK).
    No,
    Yes,
}

impl From<Wait> for RecvFlags {
    /// For a socket that blocks.
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::No => Self::DONTWAIT,
            Wait::Yes => Self::empty(),
        }
    }
}

/// What one thread knows of how soon its peer has sent what the thread waits for. Only a thread whose
/// waits are all short looks, so that nobody else pays for it.
#[derive(Clone, Copy, Debug)]
pub struct BusyPoll {
    /// How many waits in a row have been short.
    short: u32,
    needed: u32,
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self {
            short: 0,
            needed: FEWEST_SHORT,
        }
    }
}

impl BusyPoll {
    /// Makes `call` until it has something to return, at first without waiting if that is likely to
    /// be worth it; blocks as long as the last call does. Others have their turn between the looks.
    pub fn call<T>(&mut self, mut call: impl FnMut(Wait) -> io::Result<T>) -> io::Result<T> {
        if self.short >= self.needed
            && let Some(result) = self.look(|| call(Wait::No))
        {
            return result;
        }
        let start = Instant::now();
        let result = call(Wait::Yes);
        self.waited(start.elapsed());
        result
    }

    fn look<T>(&mut self, mut call: impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
        let mut result = call();
        if !result.as_ref().is_err_and(is_wait) {
            return Some(result);
        }
        let start = Instant::now();
        loop {
            // A thread of ours that has something to do would wait for this one in vain.
            thread::yield_now();
            result = call();
            let took = start.elapsed();
            let found = !result.as_ref().is_err_and(is_wait);
            if found || took >= MOST {
                self.looked(found, took);
                return found.then_some(result);
            }
        }
    }

    /// What is to be learnt from a wait that took so long.
    fn waited(&mut self, took: Duration) {
        self.short = if took < MOST { self.short + 1 } else { 0 };
    }

    fn looked(&mut self, found: bool, took: Duration) {
        if found && took < TOO_LONG {
            self.needed = (self.needed / 2).max(FEWEST_SHORT);
        } else {
            self.needed = (self.needed * 2).min(MOST_SHORT);
            self.short = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::WouldBlock;

    const SHORT: Duration = Duration::from_micros(49);

    /// One whose waits have been short.
    fn ready(needed: u32) -> BusyPoll {
        BusyPoll {
            short: needed,
            needed,
        }
    }

    /// How often calls were made without waiting, and with it, until there was a result.
    fn calls(busy_poll: &mut BusyPoll, found: impl Fn(Wait, u32) -> bool) -> [u32; 2] {
        let mut calls = [0, 0];
        let result = busy_poll.call(|wait| {
            let made = &mut calls[usize::from(wait == Wait::Yes)];
            *made += 1;
            if found(wait, *made) {
                return Ok(());
            }
            Err(WouldBlock.into())
        });
        result.unwrap();
        calls
    }

    #[test]
    fn only_who_has_waited_shortly_again_and_again_looks() {
        let mut busy_poll = BusyPoll::default();
        for _ in 1..FEWEST_SHORT {
            busy_poll.waited(SHORT);
        }
        busy_poll.waited(MOST);
        for _ in 1..FEWEST_SHORT {
            busy_poll.waited(SHORT);
        }
        assert_eq!(calls(&mut busy_poll.clone(), |_, _| true), [0, 1]);
        busy_poll.waited(SHORT);
        assert_eq!(calls(&mut busy_poll, |_, _| true), [1, 0]);
    }

    #[test]
    fn what_is_not_found_is_waited_for() {
        let mut busy_poll = ready(FEWEST_SHORT);
        let [looks, waits] = calls(&mut busy_poll, |wait, _| wait == Wait::Yes);
        assert!(looks >= 2 && waits == 1, "{looks} looks, {waits} waits");
        assert_eq!(busy_poll.needed, 2 * FEWEST_SHORT);
        assert_eq!(calls(&mut busy_poll, |_, _| true), [0, 1]);
    }

    #[test]
    fn an_error_ends_the_look() {
        let result = ready(FEWEST_SHORT).call(|wait| {
            assert_eq!(wait, Wait::No);
            Err::<(), _>(io::ErrorKind::ConnectionReset.into())
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn looking_in_vain_or_for_long_is_tried_ever_less_often() {
        let mut busy_poll = ready(FEWEST_SHORT);
        busy_poll.looked(true, SHORT);
        assert_eq!(busy_poll.needed, FEWEST_SHORT);
        assert_eq!(busy_poll.short, FEWEST_SHORT);
        busy_poll.looked(false, MOST);
        busy_poll.looked(true, TOO_LONG);
        assert_eq!(busy_poll.needed, 4 * FEWEST_SHORT);
        assert_eq!(busy_poll.short, 0);
        busy_poll.looked(true, SHORT);
        assert_eq!(busy_poll.needed, 2 * FEWEST_SHORT);
        for _ in 0..40 {
            busy_poll.looked(false, MOST);
        }
        assert_eq!(busy_poll.needed, MOST_SHORT);
    }
}
