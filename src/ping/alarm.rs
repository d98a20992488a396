//! The end of a wait, set before a probe is sent: setting it takes no time while an answer is timed.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use crate::wait::{Deadline, IN, Ready, Set};

/// A timerfd(2). With a timeout, poll(2) would start and stop a timer during the wait: a ping every
/// millisecond over loopback then takes 33 µs instead of 27 (medians, on a virtual machine).
pub struct Alarm {
    /// `None` before the first deadline, and on systems without timerfd: poll(2) gets the timeout.
    timer: Option<OwnedFd>,
    deadline: Deadline,
    /// A wait has ended after the deadline. Until then even a deadline that has passed stays.
    is_over: bool,
}

impl Alarm {
    pub fn new() -> Self {
        Self {
            timer: None,
            deadline: Deadline::NEVER,
            is_over: false,
        }
    }

    /// Makes waits end at `deadline`, or earlier: an alarm that comes sooner stays, as setting it for
    /// every probe would cost a system call each.
    pub fn set(&mut self, deadline: Deadline) -> io::Result<()> {
        if self.deadline.min(deadline) == self.deadline && !self.is_over {
            return Ok(());
        }
        self.deadline = deadline;
        self.is_over = false;
        arm(&mut self.timer, deadline.left())
    }

    /// Blocks until a descriptor of `set` is ready or the deadline has passed. A signal or an earlier
    /// alarm ends the wait early.
    pub fn wait<'a>(&'a mut self, mut set: Set<'a>) -> io::Result<Ready> {
        let ready = if let Some(timer) = &self.timer {
            set.add(timer.as_fd(), IN);
            set.wait(Deadline::NEVER)
        } else {
            set.wait(self.deadline)
        };
        self.is_over = self.deadline.has_passed();
        ready
    }
}

/// Makes `timer` readable once `left` has passed, and not before.
#[cfg(target_os = "linux")]
fn arm(timer: &mut Option<OwnedFd>, left: Option<Duration>) -> io::Result<()> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    let create = || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
    let timer = match timer {
        Some(timer) => timer,
        None => timer.insert(create()?),
    };
    // Zero stops the timer.
    let left = left.map(|left| left.max(Duration::from_nanos(1)));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let value = Itimerspec {
        it_interval: Timespec::default(),
        it_value: left.unwrap_or_default(),
    };
    Ok(timerfd_settime(timer, TimerfdTimerFlags::empty(), &value).map(drop)?)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn arm(_timer: &mut Option<OwnedFd>, _left: Option<Duration>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_passed_before_the_wait_ends_it() {
        let mut alarm = Alarm::new();
        let later = Deadline::after(Duration::from_secs(10));
        for _ in 0..2 {
            alarm.set(Deadline::after(Duration::ZERO)).unwrap();
            alarm.set(later).unwrap();
            alarm.wait(Set::new()).unwrap();
            assert!(!later.has_passed());
        }
    }
}
