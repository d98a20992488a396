//! Busy polling: what comes at once is looked for rather than slept for, as being woken takes longer.

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use crate::wait::is_wait;

/// How long to look. To be woken on a processor that was idle takes some ten microseconds, under a
/// hypervisor twice that; a peer that is woken too answers within this, and one far away does not.
const LONGEST_LOOK: Duration = Duration::from_micros(50);

/// A look that took longer was held up by others who need the processor more.
const HELD_UP: Duration = Duration::from_millis(1);

/// So many waits in a row have to be short before the next one is spent looking.
const FEWEST_NEEDED: u32 = 16;

/// Where looking is in vain again and again, it is tried this rarely: it costs less than a
/// microsecond for each wait then.
const MOST_NEEDED: u32 = 1024;

/// What one thread knows of how soon what it waits for is there. Only a thread whose waits are all
/// short looks; meanwhile it takes a processor that nobody else asks for.
#[derive(Debug)]
pub struct BusyPoll {
    /// How many waits in a row have been short.
    short: Cell<u32>,
    /// How many it takes for a look.
    needed: Cell<u32>,
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self {
            short: Cell::new(0),
            needed: Cell::new(FEWEST_NEEDED),
        }
    }
}

impl BusyPoll {
    /// Receives by `call` from a socket that blocks: with `DONTWAIT` for a moment, where that is
    /// likely to be worth it, and then as long as it takes. A timeout of the socket begins with the
    /// last call.
    pub fn receive<T>(&self, mut call: impl FnMut(RecvFlags) -> io::Result<T>) -> io::Result<T> {
        let mut look = || {
            let result = call(RecvFlags::DONTWAIT);
            (!result.as_ref().is_err_and(is_wait)).then_some(result)
        };
        let looks = self.short.get() >= self.needed.get();
        // Of a steady stream there is always more, and the time does not matter.
        if looks && let Some(result) = look() {
            return result;
        }
        let start = Instant::now();
        if looks && let Some(result) = self.look_on(start, look) {
            return result;
        }
        let result = call(RecvFlags::empty());
        let took = start.elapsed();
        // A signal that ends a wait early says nothing of the peer.
        if result.is_ok() || took >= LONGEST_LOOK {
            self.waited(took);
        }
        result
    }

    /// Looks until there is something, or for too long since `start`.
    fn look_on<T>(&self, start: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            // The peer may need this very processor to answer.
            thread::yield_now();
            let found = look();
            let took = start.elapsed();
            if found.is_some() || took >= LONGEST_LOOK {
                self.looked(found.is_some(), took);
                return found;
            }
        }
    }

    /// What is to be learnt from a wait that took so long.
    fn waited(&self, took: Duration) {
        let more = self.short.get().saturating_add(1);
        self.short.set(if took < LONGEST_LOOK { more } else { 0 });
    }

    fn looked(&self, found: bool, took: Duration) {
        let needed = self.needed.get();
        if found && took < HELD_UP {
            self.needed.set((needed / 2).max(FEWEST_NEEDED));
        } else {
            self.needed.set((needed * 2).min(MOST_NEEDED));
            self.short.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};

    const SHORT: Duration = Duration::from_micros(49);

    /// One whose waits have been short.
    fn ready() -> BusyPoll {
        BusyPoll {
            short: Cell::new(FEWEST_NEEDED),
            ..BusyPoll::default()
        }
    }

    /// How often calls were made without waiting, and with it, until there was a result; `found`
    /// says which of their kind has one.
    fn calls(busy_poll: &BusyPoll, found: impl Fn(RecvFlags, u32) -> bool) -> [u32; 2] {
        let mut calls = [0, 0];
        let result = busy_poll.receive(|flags| {
            let made = &mut calls[usize::from(flags.is_empty())];
            *made += 1;
            if found(flags, *made) {
                return Ok(());
            }
            Err(if *made == 1 { Interrupted } else { WouldBlock }.into())
        });
        result.unwrap();
        calls
    }

    #[test]
    fn only_who_has_waited_shortly_again_and_again_looks() {
        let busy_poll = BusyPoll::default();
        for _ in 1..FEWEST_NEEDED {
            busy_poll.waited(SHORT);
        }
        busy_poll.waited(LONGEST_LOOK);
        for _ in 1..FEWEST_NEEDED {
            busy_poll.waited(SHORT);
        }
        assert_eq!(busy_poll.short.get(), FEWEST_NEEDED - 1);
        assert_eq!(calls(&busy_poll, |_, _| true), [0, 1]);
        busy_poll.short.set(FEWEST_NEEDED);
        assert_eq!(calls(&busy_poll, |_, _| true), [1, 0]);
    }

    #[test]
    fn what_comes_while_it_looks_is_found_without_waiting() {
        assert_eq!(calls(&ready(), |_, made| made == 2), [2, 0]);
    }

    #[test]
    fn what_is_not_found_is_waited_for() {
        let busy_poll = ready();
        let [looks, waits] = calls(&busy_poll, |flags, _| flags.is_empty());
        assert!(looks >= 2 && waits == 1, "{looks} looks, {waits} waits");
        assert_eq!(busy_poll.needed.get(), 2 * FEWEST_NEEDED);
        assert_eq!(calls(&busy_poll, |_, _| true), [0, 1]);
    }

    #[test]
    fn an_error_ends_the_look_and_a_wait_that_failed_tells_nothing() {
        let result = ready().receive(|flags| {
            assert_eq!(flags, RecvFlags::DONTWAIT);
            Err::<(), _>(ConnectionReset.into())
        });
        assert_eq!(result.unwrap_err().kind(), ConnectionReset);
        let busy_poll = BusyPoll::default();
        let result = busy_poll.receive(|_| Err::<(), _>(Interrupted.into()));
        assert_eq!(result.unwrap_err().kind(), Interrupted);
        assert_eq!(busy_poll.short.get(), 0);
    }

    #[test]
    fn looking_in_vain_or_for_long_is_tried_ever_less_often() {
        let busy_poll = ready();
        let state = || (busy_poll.short.get(), busy_poll.needed.get());
        busy_poll.looked(true, SHORT);
        assert_eq!(state(), (FEWEST_NEEDED, FEWEST_NEEDED));
        busy_poll.looked(false, LONGEST_LOOK);
        busy_poll.looked(true, HELD_UP);
        assert_eq!(state(), (0, 4 * FEWEST_NEEDED));
        busy_poll.looked(true, SHORT);
        assert_eq!(state(), (0, 2 * FEWEST_NEEDED));
        for _ in 0..40 {
            busy_poll.looked(false, LONGEST_LOOK);
        }
        assert_eq!(state(), (0, MOST_NEEDED));
    }
}
