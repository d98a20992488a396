//! Threads that each wait for a job, do it to its end, and wait for the next.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How many threads may wait for a job: to start one costs five times as much as to wake one.
const MOST_WAITING: usize = 32;

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

/// Whoever takes a job does it himself, as nothing is faster than not to hand it over; so before he
/// begins, somebody else is waiting for the next one. Every job has a thread of its own from its
/// start to its end: none waits for another.
pub struct Crew<T, W, L> {
    take: T,
    work: W,
    leave: L,
    waiting: AtomicUsize,
}

impl<J, T, W, L> Crew<T, W, L>
where
    J: 'static,
    T: Fn() -> Taken<J> + Send + Sync + 'static,
    W: Fn(J) + Send + Sync + 'static,
    L: Fn(J, io::Error) + Send + Sync + 'static,
{
    /// Starts the first thread. `take` blocks until there is a job, and `work` does it; when it
    /// panics, nothing else is affected. A job is given to `leave`, with the reason, when the system
    /// has no more threads. The threads end once `take` says so.
    pub fn start(take: T, work: W, leave: L) -> io::Result<()> {
        let crew = Self {
            take,
            work,
            leave,
            waiting: AtomicUsize::new(0),
        };
        Arc::new(crew).hire()
    }

    fn hire(self: &Arc<Self>) -> io::Result<()> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let crew = Arc::clone(self);
        let hired = spawn(move || crew.run());
        if hired.is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        hired
    }

    fn run(self: &Arc<Self>) {
        loop {
            let job = match (self.take)() {
                Taken::Job(job) => job,
                Taken::Nothing(time) => {
                    thread::sleep(time);
                    continue;
                }
                Taken::End => return,
            };
            let was_last = self.waiting.fetch_sub(1, Ordering::AcqRel) == 1;
            if was_last && let Err(error) = self.hire() {
                self.waiting.fetch_add(1, Ordering::AcqRel);
                (self.leave)(job, error);
                continue;
            }
            // The panic hook has said what there is to say.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(job)));
            if self.waiting.fetch_add(1, Ordering::AcqRel) >= MOST_WAITING {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                return;
            }
        }
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
    use std::sync::{Condvar, Mutex};

    /// Takes jobs from `jobs` until it is closed.
    fn start<J: Send + 'static>(jobs: Receiver<J>, work: impl Fn(J) + Send + Sync + 'static) {
        let jobs = Mutex::new(jobs);
        let take = move || match jobs.lock().unwrap().recv() {
            Ok(job) => Taken::Job(job),
            Err(_) => Taken::End,
        };
        Crew::start(take, work, |_, error| panic!("{error}")).unwrap();
    }

    #[test]
    fn a_panic_ends_its_own_job_only() {
        std::panic::set_hook(Box::new(|_| {}));
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
        drop(sender);
        assert_eq!(receiver.iter().count(), 100);
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
        assert_eq!(receiver.iter().take(JOBS).count(), JOBS);
        *release.0.lock().unwrap() = true;
        release.1.notify_all();
    }
}
