//! Threads that each wait for a job, do it to its end, and wait for the next.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many threads may wait for a job themselves. More take turns, and each finds its memory cold.
const MOST_WAITING: usize = 32;

/// How long others stay that have no job: starting a thread costs five times as much as waking one.
const REST: Duration = Duration::from_secs(5);

/// Only what is touched becomes resident; formatting a log line is the deepest call.
const STACK: usize = 256 << 10;

/// What came of waiting for a job.
pub enum Taken<J> {
    Job(J),
    /// There is none, and there will be none for so long.
    Nothing(Duration),
    /// There will never be another.
    End,
}

/// Whoever takes a job does it himself, as nothing is faster than not to hand it over; but the last
/// one who waits goes on to wait, and another thread does it. So every job has a thread of its own
/// from its start to its end, and none waits for another.
pub struct Crew<J, T, W, R> {
    take: T,
    work: W,
    refuse: R,
    waiting: AtomicUsize,
    handed: Mutex<Handed<J>>,
    changed: Condvar,
}

struct Handed<J> {
    /// Each of them has a resting thread that is waking up for it.
    jobs: VecDeque<J>,
    resting: usize,
}

impl<J, T, W, R> Crew<J, T, W, R>
where
    J: Send + 'static,
    T: Fn() -> Taken<J> + Send + Sync + 'static,
    W: Fn(J) + Send + Sync + 'static,
    R: Fn(io::Error) + Send + Sync + 'static,
{
    /// Starts the first thread. `take` blocks until there is a job, and `work` does it; when it
    /// panics, nothing else is affected. When the system has no more threads the job is dropped, and
    /// `refuse` hears of it. The threads end once `take` says so.
    pub fn start(take: T, work: W, refuse: R) -> io::Result<()> {
        let crew = Arc::new(Self {
            take,
            work,
            refuse,
            waiting: AtomicUsize::new(0),
            handed: Mutex::new(Handed {
                jobs: VecDeque::new(),
                resting: 0,
            }),
            changed: Condvar::new(),
        });
        spawn(move || crew.live(None))
    }

    /// The life of a thread, from its first job on if it has one.
    fn live(self: &Arc<Self>, first: Option<J>) {
        let mut next = first;
        loop {
            if let Some(job) = next {
                // The panic hook has said what there is to say.
                let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(job)));
            }
            next = if self.may_wait() {
                self.wait()
            } else {
                self.rest()
            };
            if next.is_none() {
                return;
            }
        }
    }

    /// Counts this thread as one that waits, if there are not enough.
    fn may_wait(&self) -> bool {
        // In one step: one that is counted and does not wait would be taken for the next to do so.
        let more = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Takes a job, as one of those who are counted as waiting; `None` when there are no more.
    fn wait(self: &Arc<Self>) -> Option<J> {
        loop {
            let job = match (self.take)() {
                Taken::Job(job) => job,
                Taken::Nothing(time) => {
                    thread::sleep(time);
                    continue;
                }
                Taken::End => return None,
            };
            if self.waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Some(job);
            }
            self.waiting.fetch_add(1, Ordering::AcqRel);
            if let Err(error) = self.hand_over(job) {
                (self.refuse)(error);
            }
        }
    }

    fn hand_over(self: &Arc<Self>, job: J) -> io::Result<()> {
        let mut handed = self.lock();
        if handed.resting > handed.jobs.len() {
            handed.jobs.push_back(job);
            drop(handed);
            self.changed.notify_one();
            return Ok(());
        }
        drop(handed);
        let crew = Arc::clone(self);
        spawn(move || crew.live(Some(job)))
    }

    /// Waits to be handed a job; `None` when that did not happen for a while.
    fn rest(&self) -> Option<J> {
        let mut handed = self.lock();
        handed.resting += 1;
        let (mut handed, _) = self
            .changed
            .wait_timeout_while(handed, REST, |handed| handed.jobs.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        handed.resting -= 1;
        handed.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Handed<J>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that does one job.
pub fn spawn(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("connection".to_owned())
        .stack_size(STACK)
        .spawn(job)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Nothing here takes nearly so long.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Takes jobs from `jobs` until it is closed.
    fn start<J: Send + 'static>(jobs: Receiver<J>, work: impl Fn(J) + Send + Sync + 'static) {
        let jobs = Mutex::new(jobs);
        let take = move || match jobs.lock().unwrap().recv() {
            Ok(job) => Taken::Job(job),
            Err(_) => Taken::End,
        };
        Crew::start(take, work, |error| panic!("{error}")).unwrap();
    }

    #[test]
    fn a_panic_ends_its_own_job_only() {
        let (give, jobs) = channel();
        start(jobs, |job: Option<Sender<u8>>| {
            let sender = job.expect("the panic of this test");
            sender.send(1).unwrap();
        });
        let (sender, receiver) = channel();
        for _ in 0..100 {
            give.send(None).unwrap();
            give.send(Some(sender.clone())).unwrap();
        }
        for _ in 0..100 {
            receiver.recv_timeout(DEADLINE).unwrap();
        }
    }

    #[test]
    fn no_job_waits_for_another() {
        const JOBS: usize = 2 * MOST_WAITING;
        let release = Arc::new((Mutex::new(false), Condvar::new()));
        let (give, jobs) = channel();
        let (started, receiver) = channel();
        start(jobs, {
            let release = Arc::clone(&release);
            move |started: Sender<u8>| {
                started.send(1).unwrap();
                let (released, changed) = &*release;
                let guard = released.lock().unwrap();
                drop(changed.wait_while(guard, |released| !*released).unwrap());
            }
        });
        for _ in 0..JOBS {
            give.send(started.clone()).unwrap();
        }
        // All have started, though none can end.
        for _ in 0..JOBS {
            receiver.recv_timeout(DEADLINE).unwrap();
        }
        *release.0.lock().unwrap() = true;
        release.1.notify_all();
        // Those that wait, and those that rest, do the next ones.
        for _ in 0..JOBS {
            give.send(started.clone()).unwrap();
        }
        for _ in 0..JOBS {
            receiver.recv_timeout(DEADLINE).unwrap();
        }
    }
}
