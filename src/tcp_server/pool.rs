//! A leader/followers pool: the thread that accepts a connection serves it, which saves a wake-up.
//!
//! Several threads wait for a connection at once. The last of them does not serve what it gets. It
//! hands that to a resting thread, or to a new one, and goes on waiting. So each connection has a
//! thread of its own from start to end, and none waits for another.
//!
//! # The stack budget
//!
//! Most memory of an open connection is the stack of its thread: a page stays once it was touched.
//! So a job is boxed: unboxed, it lies on the stack several times. No service is inlined: inlined,
//! every thread touches the stack of the largest. Buffers on the stack are small. Together that makes
//! 10.3 KiB a connection in place of 14.0.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::exit::cause;
use crate::memory;
use crate::server::episode::Episode;
use crate::wait::lock;

/// What a thread does for one connection, from start to end.
pub type Job = Box<dyn FnOnce() + Send>;

/// How many threads may wait for a job. More would only take turns, each with a cold cache.
const MOST_WAITING: usize = 32;

/// How long a thread rests before it ends. Starting a thread costs five times as much as waking one.
const REST: Duration = Duration::from_secs(5);

/// The size of a stack: address space, not memory. To format a log line takes the most.
const STACK: usize = 256 << 10;

/// Threads that take their jobs from `next`.
pub struct Pool<N> {
    next: N,
    /// How many threads wait in `next`.
    waiting: AtomicUsize,
    followers: Mutex<Followers>,
    handed_over: Condvar,
    /// The system had no more threads.
    refused: Mutex<Episode>,
}

#[derive(Default)]
struct Followers {
    resting: usize,
    /// A resting thread wakes up for each of them.
    jobs: VecDeque<Job>,
}

impl<N: Fn() -> Option<Job> + Send + Sync + 'static> Pool<N> {
    /// Starts the first thread. `next` blocks until there is a job; `None` ends the thread. While
    /// the system has no more threads, jobs wait, and that is logged once an episode.
    pub fn start(next: N) -> io::Result<()> {
        let pool = Arc::new(Self {
            next,
            waiting: AtomicUsize::new(0),
            followers: Mutex::default(),
            handed_over: Condvar::new(),
            refused: Mutex::default(),
        });
        spawn(move || pool.live(None))
    }

    /// The life of a thread, which may begin with a job.
    fn live(self: &Arc<Self>, first: Option<Job>) {
        let next = || {
            // A job that no thread could be started for is older than the next one.
            let handed_over = lock(&self.followers).jobs.pop_front();
            handed_over.or_else(|| {
                if self.may_wait() {
                    self.wait()
                } else {
                    self.rest()
                }
            })
        };
        for job in first.into_iter().chain(iter::from_fn(next)) {
            run(job);
        }
    }

    /// Counts this thread as one that waits, unless enough do.
    fn may_wait(&self) -> bool {
        // In one step: a thread that is counted but does not wait would leave nobody waiting.
        let more = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Takes a job, as one of the threads that are counted as waiting. The last of them hands
    /// its job over, and goes on waiting.
    fn wait(self: &Arc<Self>) -> Option<Job> {
        loop {
            let mut next = Some((self.next)()?);
            while let Some(job) = next {
                if self.may_leave() {
                    return Some(job);
                }
                next = self.hand_over(job);
            }
        }
    }

    /// Counts this thread as one that does not wait any more, unless it is the last.
    fn may_leave(&self) -> bool {
        let fewer = |waiting| (waiting > 1).then(|| waiting - 1);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer)
            .is_ok()
    }

    /// Gives a job to a resting thread, or to a new one. While the system has no more threads, this
    /// blocks for a moment and returns the job, unless a thread has taken it.
    fn hand_over(self: &Arc<Self>, job: Job) -> Option<Job> {
        /// Long enough to cost no CPU time.
        const PAUSE: Duration = Duration::from_millis(100);
        let mut followers = lock(&self.followers);
        followers.jobs.push_back(job);
        let is_resting = followers.resting >= followers.jobs.len();
        drop(followers);
        if is_resting {
            self.handed_over.notify_one();
            return None;
        }
        let pool = Arc::clone(self);
        let error = spawn(move || pool.live(pool.rest())).err()?;
        if Episode::begins(&self.refused) {
            let cause = cause(&error);
            tracing::error!("could not start a thread: {cause}; new connections have to wait");
        }
        thread::sleep(PAUSE);
        lock(&self.followers).jobs.pop_back()
    }

    /// Waits until another thread hands over a job. `None`: none did for a while.
    fn rest(&self) -> Option<Job> {
        let mut followers = lock(&self.followers);
        followers.resting += 1;
        let (mut followers, _) = self
            .handed_over
            .wait_timeout_while(followers, REST, |followers| followers.jobs.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        followers.resting -= 1;
        followers.jobs.pop_front()
    }
}

/// A pool of one: its thread takes the next job once the last is done.
pub fn start_one(next: impl Fn() -> Option<Job> + Send + 'static) -> io::Result<()> {
    spawn(move || iter::from_fn(next).for_each(run))
}

/// Does a job. A panic ends only the job.
fn run(job: Job) {
    // The panic hook has printed the message.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

fn spawn(life: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let share = memory::Share::take(STACK)?;
    let life = move || {
        life();
        drop(share);
    };
    let thread = thread::Builder::new().name("connection".to_owned());
    thread.stack_size(STACK).spawn(life).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// Far longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Takes jobs from `jobs` until it is closed.
    fn next(jobs: Receiver<Job>) -> impl Fn() -> Option<Job> + Send + Sync + 'static {
        let jobs = Mutex::new(jobs);
        move || jobs.lock().unwrap().recv().ok()
    }

    #[test]
    fn a_panic_ends_its_own_job_only() {
        let (give, jobs) = channel::<Job>();
        Pool::start(next(jobs)).unwrap();
        let (give_one, jobs) = channel::<Job>();
        start_one(next(jobs)).unwrap();
        let (sender, receiver) = channel();
        for give in [give, give_one] {
            for _ in 0..100 {
                let sender = sender.clone();
                give.send(Box::new(|| panic!("the panic of this test")))
                    .unwrap();
                give.send(Box::new(move || sender.send(1).unwrap()))
                    .unwrap();
            }
            for _ in 0..100 {
                receiver.recv_timeout(DEADLINE).unwrap();
            }
        }
    }

    #[test]
    fn no_job_waits_for_another() {
        const JOBS: usize = 2 * MOST_WAITING;
        let release = Arc::new((Mutex::new(false), Condvar::new()));
        let (give, jobs) = channel::<Job>();
        let (started, receiver) = channel();
        Pool::start(next(jobs)).unwrap();
        let give_all = || {
            for _ in 0..JOBS {
                let started = started.clone();
                let release = Arc::clone(&release);
                let job = move || {
                    started.send(1).unwrap();
                    let (released, changed) = &*release;
                    let guard = released.lock().unwrap();
                    drop(changed.wait_while(guard, |released| !*released).unwrap());
                };
                give.send(Box::new(job)).unwrap();
            }
            for _ in 0..JOBS {
                receiver.recv_timeout(DEADLINE).unwrap();
            }
        };
        // All start, though none can end.
        give_all();
        *release.0.lock().unwrap() = true;
        release.1.notify_all();
        // The threads that wait and those that rest do the next ones.
        give_all();
    }

    #[test]
    fn a_pool_of_one_does_one_job_after_the_other() {
        let (give, jobs) = channel::<Job>();
        start_one(next(jobs)).unwrap();
        let busy = Arc::new(Mutex::new(()));
        let (sender, receiver) = channel();
        for number in 0..100 {
            let (busy, sender) = (Arc::clone(&busy), sender.clone());
            let job = move || {
                let _alone = busy.try_lock().unwrap();
                sender.send(number).unwrap();
            };
            give.send(Box::new(job)).unwrap();
        }
        for number in 0..100 {
            assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), number);
        }
    }
}
