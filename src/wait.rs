//! What a thread waits for: descriptors, time, and a sign from elsewhere.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Waits until one of `descriptors` is ready or `timeout` has passed; a signal ends the wait early.
pub fn poll(descriptors: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A timeout too long for the system is as good as none.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(descriptors, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Which of `descriptors` poll(2) has found ready, or broken, in their order.
pub fn ready(descriptors: &[PollFd<'_>]) -> impl Iterator<Item = bool> {
    descriptors
        .iter()
        .map(|descriptor| !descriptor.revents().is_empty())
}

/// Whether nothing is wrong: the call has to be made again when poll(2) says so.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The end of a wait, set before it begins: a timer that the system starts and stops within poll(2)
/// delays it by microseconds, which is much of what an answer on the same machine takes.
pub struct Alarm {
    /// `None` where the system has none: poll(2) is given the time.
    timer: Option<OwnedFd>,
    start: Instant,
    /// When a wait ends, since the start.
    at: Duration,
}

impl Alarm {
    /// One whose times count from `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            timer: timer(),
            start,
            at: Duration::ZERO,
        }
    }

    /// Lets waits end at `at`, or earlier: what was set before and is still to come stays.
    pub fn set(&mut self, at: Duration) -> io::Result<()> {
        let now = self.start.elapsed();
        if self.at > now && self.at <= at {
            return Ok(());
        }
        self.at = at.min(now + FARTHEST);
        match &self.timer {
            Some(timer) => start(timer, self.at.saturating_sub(now)),
            None => Ok(()),
        }
    }

    /// Waits until one of `descriptors` is ready, or for the alarm; a signal ends the wait early.
    /// The timer, if there is one, is added to them, at the end.
    pub fn poll<'a>(&'a self, descriptors: &mut Vec<PollFd<'a>>) -> io::Result<()> {
        if let Some(timer) = &self.timer {
            descriptors.push(PollFd::new(timer, PollFlags::IN));
            let polled = poll(descriptors, None);
            // It is none of the caller's.
            descriptors.pop();
            return polled;
        }
        let left = self.at.saturating_sub(self.start.elapsed());
        poll(descriptors, Some(left))
    }
}

/// The system takes no time that is too far away. A wait for one that is farther than this ends
/// early.
const FARTHEST: Duration = Duration::from_secs(3600);

#[cfg(target_os = "linux")]
fn timer() -> Option<OwnedFd> {
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).ok()
}

/// Only Linux has one.
#[cfg(not(target_os = "linux"))]
fn timer() -> Option<OwnedFd> {
    None
}

/// From now on `timer` is not ready, until `left` has passed.
#[cfg(target_os = "linux")]
fn start(timer: &OwnedFd, left: Duration) -> io::Result<()> {
    use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};
    let timespec = |duration| Timespec::try_from(duration).map_err(|_| Errno::INVAL);
    let value = Itimerspec {
        it_interval: timespec(Duration::ZERO)?,
        // None at all would stop it.
        it_value: timespec(left.max(Duration::from_nanos(1)))?,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &value)?;
    Ok(())
}

/// There is none.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn start(_timer: &OwnedFd, _left: Duration) -> io::Result<()> {
    Ok(())
}

/// A sign that a thread or a signal handler gives, and that poll(2) can wait for: readable from when
/// it is given until it is taken.
pub struct Sign {
    receiver: UnixStream,
    /// Open as long as the receiver: one without a sender would be readable.
    sender: UnixStream,
}

impl Sign {
    pub fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(Self { receiver, sender })
    }

    /// Never blocks.
    pub fn give(&self) {
        // A full buffer is readable, which is all that is wanted.
        let _ = (&self.sender).write(&[0]);
    }

    /// A descriptor to which every byte written gives the sign.
    pub fn sender(&self) -> io::Result<UnixStream> {
        self.sender.try_clone()
    }

    /// Whether it was given since it was last taken.
    pub fn take(&self) -> bool {
        let mut given = false;
        loop {
            match (&self.receiver).read(&mut [0; 64]) {
                Ok(64) => given = true,
                Ok(count) => return given || count > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return given,
            }
        }
    }
}

impl AsFd for Sign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
