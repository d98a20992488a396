//! How threads that serve share the processors with those who wake them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// With so many connections open, clients are likely to write to several of them at once.
const CROWD: usize = 16;

/// With fewer than so many the crowd is gone: between the two nothing changes.
const NO_CROWD: usize = 8;

/// Which threads interrupt who wakes them. They do, as is usual, unless there is a crowd: then a
/// client that writes to many connections is stopped once for all of them, and not for each, which
/// lets a server answer a fifth more. The price is that while others compute on all processors, an
/// answer may wait for the end of a time slice, some milliseconds, which is too much for a few.
pub struct Scheduling {
    /// A policy that the program was started with (chrt(1)) is not changed.
    may_change: bool,
    crowd: AtomicBool,
}

impl Scheduling {
    /// To be called before any thread has followed.
    pub fn new() -> Self {
        Self {
            may_change: is_usual(),
            crowd: AtomicBool::new(false),
        }
    }

    /// Learns that so many connections are open now.
    pub fn are_open(&self, count: usize) {
        let crowd = self.crowd.load(Ordering::Relaxed);
        if crowd && count < NO_CROWD || !crowd && count >= CROWD {
            self.crowd.store(!crowd, Ordering::Relaxed);
        }
    }

    /// Has this thread be scheduled as it should be by now; threads that it starts inherit that. Does
    /// nothing, as a rule, and costs next to nothing then. What the system refuses is let be.
    pub fn follow(&self) {
        thread_local! {
            // A new thread does not know what it has inherited.
            static FOLLOWED: Cell<Option<bool>> = const { Cell::new(None) };
        }
        let crowd = self.crowd.load(Ordering::Relaxed);
        if self.may_change && FOLLOWED.replace(Some(crowd)) != Some(crowd) {
            use_policy(crowd);
        }
    }
}

#[cfg(target_os = "linux")]
fn is_usual() -> bool {
    use preempt_rt::sched::{Pid, Scheduler, get_scheduler};
    let policy = get_scheduler(Pid::current_thread());
    matches!(policy, Ok(Scheduler::SCHED_NORMAL))
}

/// Other systems have no `SCHED_BATCH`.
#[cfg(not(target_os = "linux"))]
fn is_usual() -> bool {
    false
}

/// Puts this thread under `SCHED_BATCH`, or else under the usual policy (sched(7)). Its share of the
/// processors is the same.
#[cfg(target_os = "linux")]
fn use_policy(batch: bool) {
    use preempt_rt::sched::{Pid, Scheduler, SchedulerParams, set_scheduler};
    let policy = if batch {
        Scheduler::SCHED_BATCH
    } else {
        Scheduler::SCHED_NORMAL
    };
    let params = SchedulerParams { priority: 0 };
    let _ = set_scheduler(Pid::current_thread(), policy, params);
}

#[cfg(not(target_os = "linux"))]
fn use_policy(_batch: bool) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_comes_with_many_and_goes_with_few() {
        let scheduling = Scheduling::new();
        let crowd = |count| {
            scheduling.are_open(count);
            scheduling.crowd.load(Ordering::Relaxed)
        };
        assert!(!crowd(CROWD - 1));
        assert!(crowd(CROWD));
        assert!(crowd(NO_CROWD));
        assert!(!crowd(NO_CROWD - 1));
        assert!(!crowd(CROWD - 1));
    }
}
