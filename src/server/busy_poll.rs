//! Spin briefly before blocking: waking a sleeping thread takes longer than a short wait.

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use crate::wait::is_wait;

/// The longest spin. Waking a thread on an idle processor takes some 10 µs, under a hypervisor 20; a
/// peer on this machine answers within this time, a distant one does not.
const LONGEST_SPIN: Duration = Duration::from_micros(50);

/// A spin that took longer was held up by threads that need the processor more.
const HELD_UP: Duration = Duration::from_millis(1);

/// The number of short waits in a row before a thread spins.
const SHORT_WAITS: u32 = 16;

/// The most doublings of that number. Spins in vain then cost less than a microsecond a wait.
const MOST_DOUBLED: u32 = 6;

/// How long this thread's recent waits took. It spins only while all of them are short: spinning
/// uses a processor that no other thread asks for.
#[derive(Debug, Default)]
pub struct BusyPoll {
    /// The number of short waits in a row.
    short: Cell<u32>,
    /// How many times [`SHORT_WAITS`] is doubled.
    doubled: Cell<u32>,
}

impl BusyPoll {
    /// Receives from a blocking socket by `call`, which passes its flags to recv(2): `DONTWAIT` in a
    /// spin, none to block. A timeout of the socket begins after the spin.
    pub fn receive<T>(&self, mut call: impl FnMut(RecvFlags) -> io::Result<T>) -> io::Result<T> {
        if self.short.get() >= SHORT_WAITS << self.doubled.get()
            && let Some(result) = self.spin(&mut call)
        {
            return result;
        }
        let start = Instant::now();
        let result = call(RecvFlags::empty());
        let took = start.elapsed();
        if took >= LONGEST_SPIN {
            self.short.set(0);
        } else if result.is_ok() {
            // A wait that a signal ended says nothing of the peer.
            self.short.set(self.short.get().saturating_add(1));
        }
        result
    }

    /// Calls until there is something other than `WouldBlock`, or for too long.
    fn spin<T>(&self, mut call: impl FnMut(RecvFlags) -> io::Result<T>) -> Option<io::Result<T>> {
        let mut look =
            || Some(call(RecvFlags::DONTWAIT)).filter(|r| !r.as_ref().is_err_and(is_wait));
        // A steady stream always has more: no need to ask the clock.
        if let Some(result) = look() {
            return Some(result);
        }
        let start = Instant::now();
        loop {
            // The peer may need this very processor to answer.
            thread::yield_now();
            let found = look();
            let took = start.elapsed();
            if found.is_some() || took >= LONGEST_SPIN {
                self.spun(found.is_some() && took < HELD_UP);
                return found;
            }
        }
    }

    /// Makes spins more likely after one that was worth it, and rarer after others.
    fn spun(&self, was_worth_it: bool) {
        let doubled = self.doubled.get();
        if was_worth_it {
            self.doubled.set(doubled.saturating_sub(1));
        } else {
            self.doubled.set((doubled + 1).min(MOST_DOUBLED));
            self.short.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};

    /// One whose waits have been short.
    fn ready() -> BusyPoll {
        BusyPoll {
            short: Cell::new(SHORT_WAITS),
            ..BusyPoll::default()
        }
    }

    /// The number of calls that spun, and of those that blocked, until there was a result. `found`
    /// says whether a call has one, by its flags and its number.
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
    fn a_thread_spins_after_short_waits_in_a_row() {
        let busy_poll = BusyPoll::default();
        busy_poll.short.set(SHORT_WAITS - 1);
        busy_poll
            .receive(|_| {
                thread::sleep(LONGEST_SPIN);
                Ok(())
            })
            .unwrap();
        assert_eq!(busy_poll.short.get(), 0);
        busy_poll.short.set(SHORT_WAITS - 1);
        assert_eq!(calls(&busy_poll, |_, _| true), [0, 1]);
        busy_poll.short.set(SHORT_WAITS);
        assert_eq!(calls(&busy_poll, |_, _| true), [1, 0]);
    }

    #[test]
    fn a_spin_finds_what_comes_meanwhile() {
        assert_eq!(calls(&ready(), |_, made| made == 2), [2, 0]);
    }

    #[test]
    fn a_spin_in_vain_is_followed_by_a_call_that_blocks() {
        let busy_poll = ready();
        let [spun, blocked] = calls(&busy_poll, |flags, _| flags.is_empty());
        assert!(spun >= 2 && blocked == 1, "{spun} spun, {blocked} blocked");
        assert_eq!(busy_poll.doubled.get(), 1);
        assert_eq!(calls(&busy_poll, |_, _| true), [0, 1]);
    }

    #[test]
    fn an_error_ends_a_spin_and_a_failed_wait_is_not_a_short_one() {
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
    fn spins_in_vain_become_rarer() {
        let busy_poll = ready();
        let state = || (busy_poll.short.get(), busy_poll.doubled.get());
        busy_poll.spun(true);
        assert_eq!(state(), (SHORT_WAITS, 0));
        busy_poll.spun(false);
        busy_poll.spun(false);
        assert_eq!(state(), (0, 2));
        busy_poll.spun(true);
        assert_eq!(state(), (0, 1));
        for _ in 0..40 {
            busy_poll.spun(false);
        }
        assert_eq!(state(), (0, MOST_DOUBLED));
    }
}
