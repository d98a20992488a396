//! Waiting with poll(2): a set of named descriptors, a deadline, and a waker for other threads.

use std::io::{self, Read, Write};
use std::ops::Index;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::event::PollFlags;
use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

/// Something can be read, or the end.
pub const IN: PollFlags = PollFlags::IN;
/// There is room to write.
pub const OUT: PollFlags = PollFlags::OUT;
/// Nothing but an error or a hang-up, which poll(2) reports unasked.
pub const GONE: PollFlags = PollFlags::empty();

/// The peer of a connection has ended its data, though there may be some to be read.
#[cfg(target_os = "linux")]
pub const FINISHED: PollFlags = PollFlags::RDHUP;
/// Other systems do not tell.
#[cfg(not(target_os = "linux"))]
pub const FINISHED: PollFlags = PollFlags::empty();

/// The descriptors of one wait. Each gets a key, by which [`Ready`] knows it after the wait.
#[derive(Default)]
pub struct Set<'a> {
    descriptors: Vec<PollFd<'a>>,
    /// The one that is ready by itself, and how.
    ready: Option<(usize, PollFlags)>,
}

/// One descriptor of a [`Set`], or none, which is never ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(Option<usize>);

impl Key {
    /// The key of no descriptor.
    pub const ABSENT: Self = Self(None);
}

/// What poll(2) found of the descriptors of a [`Set`].
pub struct Ready(Vec<PollFlags>);

impl<'a> Set<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a descriptor. It becomes ready by one of `events`, an error or a hang-up.
    pub fn add(&mut self, fd: impl Into<Option<BorrowedFd<'a>>>, events: PollFlags) -> Key {
        let fd = fd.into();
        Key(fd.map(|fd| {
            self.descriptors.push(PollFd::from_borrowed_fd(fd, events));
            self.descriptors.len() - 1
        }))
    }

    /// The descriptor of `key` is ready by `events`, whatever poll(2) finds: the wait does not block.
    /// One descriptor of a set may be so.
    pub fn is_ready(&mut self, key: Key, events: PollFlags) {
        self.ready = key.0.map(|index| (index, events));
    }

    /// Blocks until a descriptor is ready or `deadline` has passed. A signal ends the wait early, and a
    /// kernel without memory soon.
    pub fn wait(mut self, deadline: Deadline) -> io::Result<Ready> {
        /// Long enough to cost no CPU time.
        const PAUSE: Duration = Duration::from_millis(50);
        // A timeout too long for the kernel is as good as none.
        let timeout = match self.ready {
            Some(_) => Some(Duration::ZERO),
            None => deadline.left(),
        };
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut self.descriptors, timeout.as_ref()) {
            Ok(_) => {
                let mut found: Vec<_> = self.descriptors.iter().map(PollFd::revents).collect();
                if let Some((index, events)) = self.ready {
                    found[index] |= events;
                }
                Ok(Ready(found))
            }
            Err(Errno::INTR) => Ok(Ready(Vec::new())),
            Err(Errno::NOMEM) => {
                // poll(2): the kernel has no memory for its tables. It may have some soon.
                thread::sleep(deadline.min(Deadline::after(PAUSE)).left().unwrap_or(PAUSE));
                Ok(Ready(Vec::new()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Ready {
    /// What poll(2) reported of a descriptor.
    pub fn events(&self, key: Key) -> PollFlags {
        let events = key.0.and_then(|index| self.0.get(index));
        events.copied().unwrap_or(PollFlags::empty())
    }
}

/// Whether a descriptor is ready: by its events, an error or a hang-up.
impl Index<Key> for Ready {
    type Output = bool;

    fn index(&self, key: Key) -> &bool {
        if self.events(key).is_empty() {
            &false
        } else {
            &true
        }
    }
}

/// Does nothing until `deadline`, or until a signal.
pub fn pause(deadline: Deadline) -> io::Result<()> {
    Set::new().wait(deadline).map(drop)
}

/// Locks `mutex`. A thread may have panicked while it had the lock: that ends only its own connection.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks until `fd` is ready for `events` or `deadline` has passed; whether it is ready.
pub fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<bool> {
    let mut set = Set::new();
    let key = set.add(fd, events);
    Ok(set.wait(deadline)?[key])
}

/// Whether the call only has to be repeated, once poll(2) says so.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// What the call returned. `None`: it has to be repeated, once poll(2) says so.
pub fn if_ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if is_wait(&error) => Ok(None),
        result => result.map(Some),
    }
}

/// A point in time, or never. It remembers its length, so that a message can tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
    length: Duration,
}

impl Deadline {
    pub const NEVER: Self = Self {
        at: None,
        length: Duration::MAX,
    };

    /// Has passed already. A wait with it returns at once.
    pub fn now() -> Self {
        Self::after(Duration::ZERO)
    }

    /// `length` from now. If that overflows the clock, never.
    pub fn after(length: Duration) -> Self {
        Self::since(Instant::now(), length)
    }

    /// `length` after `start`. If that overflows the clock, never.
    pub fn since(start: Instant, length: Duration) -> Self {
        let at = start.checked_add(length);
        Self { at, length }
    }

    /// [`Self::after`], or never.
    pub fn within(length: Option<Duration>) -> Self {
        length.map_or(Self::NEVER, Self::after)
    }

    /// The earlier of the two; of equal ones the first.
    pub fn min(self, other: Self) -> Self {
        match (self.at, other.at) {
            (Some(at), Some(than)) if at <= than => self,
            (Some(_), None) => self,
            _ => other,
        }
    }

    /// The time from now, zero once it has passed. `None`: it never comes.
    pub fn left(self) -> Option<Duration> {
        let at = self.at?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    pub fn has_passed(self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// As [`Self::has_passed`], with the time of a clock that was read already.
    pub fn has_passed_at(self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Its length when it was set.
    pub fn length(self) -> Duration {
        self.length
    }
}

/// Wakes a thread that waits in poll(2): readable from [`Self::wake`] until [`Self::clear`].
pub struct Waker {
    receiver: UnixStream,
    /// Without a sender the receiver would always be readable.
    sender: UnixStream,
}

impl Waker {
    pub fn new() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(Self { receiver, sender })
    }

    /// Never blocks. May be called from any thread.
    pub fn wake(&self) {
        // A full buffer is readable, too.
        let _ = (&self.sender).write(&[0]);
    }

    /// A descriptor for signal handlers: every byte written to it wakes.
    pub fn sender(&self) -> io::Result<UnixStream> {
        self.sender.try_clone()
    }

    /// Makes it unreadable; whether it was readable.
    pub fn clear(&self) -> bool {
        let mut woken = false;
        loop {
            match (&self.receiver).read(&mut [0; 64]) {
                Ok(64) => woken = true,
                Ok(count) => return woken || count > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return woken,
            }
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earlier_deadline_wins_and_never_loses_to_all() {
        let now = Instant::now();
        let soon = Deadline::since(now, SECOND);
        let late = Deadline::since(now, 2 * SECOND);
        for (a, b) in [(soon, late), (soon, Deadline::NEVER)] {
            assert_eq!(a.min(b), soon);
            assert_eq!(b.min(a), soon);
        }
        assert_eq!(Deadline::NEVER.min(Deadline::NEVER), Deadline::NEVER);
    }

    #[test]
    fn of_two_equal_deadlines_the_first_tells_its_length() {
        let now = Instant::now();
        let first = Deadline::since(now, SECOND);
        let second = Deadline::since(now + SECOND, Duration::ZERO);
        assert_eq!(first.min(second).length(), SECOND);
        assert_eq!(second.min(first).length(), Duration::ZERO);
    }

    #[test]
    fn a_deadline_passes_at_its_point_in_time() {
        let now = Instant::now();
        let deadline = Deadline::since(now, SECOND);
        assert!(!deadline.has_passed_at(now));
        assert!(deadline.has_passed_at(now + SECOND));
        assert!(!Deadline::NEVER.has_passed());
        assert_eq!(
            Deadline::since(now, Duration::ZERO).left(),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_deadline_too_far_away_never_comes() {
        let deadline = Deadline::after(Duration::MAX);
        assert_eq!(deadline.left(), None);
        assert_eq!(Deadline::within(None), Deadline::NEVER);
        assert_eq!(Deadline::within(Some(SECOND)).length(), SECOND);
    }

    #[test]
    fn a_key_tells_its_own_descriptor() {
        let (woken, idle) = (Waker::new().unwrap(), Waker::new().unwrap());
        woken.wake();
        let mut set = Set::new();
        let absent = set.add(None::<BorrowedFd<'_>>, IN);
        let idle = set.add(idle.as_fd(), IN);
        let ready = set.add(woken.as_fd(), IN);
        let result = set.wait(Deadline::NEVER).unwrap();
        assert!(result[ready]);
        assert!(!result[idle] && !result[absent]);
        assert!(woken.clear());
        assert!(!woken.clear());
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let idle = Waker::new().unwrap();
        let deadline = Deadline::after(Duration::from_millis(1));
        assert!(!wait_for(idle.as_fd(), IN, deadline).unwrap());
        assert!(deadline.has_passed());
    }
}
