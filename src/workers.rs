//! A thread for every connection; one whose connection has ended takes the next.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread without work stays: starting one costs five times as much as waking one.
const REST: Duration = Duration::from_secs(5);

/// Only what is touched becomes resident; formatting a log line is the deepest call.
const STACK: usize = 256 << 10;

/// Threads that each do one job at a time. Every job has a thread of its own from its start to its
/// end: none waits for another.
pub struct Workers<J, F> {
    shared: Arc<Shared<J, F>>,
}

struct Shared<J, F> {
    work: F,
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    /// Each of them has a resting thread that is waking up for it.
    jobs: VecDeque<J>,
    resting: usize,
}

impl<J, F> Workers<J, F>
where
    J: Send + 'static,
    F: Fn(J) + Send + Sync + 'static,
{
    /// `work` does a job; when it panics, nothing else is affected.
    pub fn new(work: F) -> Self {
        let state = Mutex::new(State {
            jobs: VecDeque::new(),
            resting: 0,
        });
        Self {
            shared: Arc::new(Shared {
                work,
                state,
                changed: Condvar::new(),
            }),
        }
    }

    /// Starts a job and returns at once. When the system has no more threads, the job is dropped.
    pub fn start(&self, job: J) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.resting > state.jobs.len() {
            state.jobs.push_back(job);
            drop(state);
            self.shared.changed.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new()
            .name("connection".to_owned())
            .stack_size(STACK);
        builder.spawn(move || shared.work_on(job)).map(drop)
    }
}

impl<J, F: Fn(J)> Shared<J, F> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_on(&self, first: J) {
        let mut next = Some(first);
        while let Some(job) = next {
            // The panic hook has said what there is to say.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(job)));
            next = self.rest();
        }
    }

    /// Waits for the next job; `None` when none came for a while.
    fn rest(&self) -> Option<J> {
        let mut state = self.lock();
        state.resting += 1;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, REST, |state| state.jobs.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.resting -= 1;
        state.jobs.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    #[test]
    fn a_panic_ends_its_own_job_only() {
        std::panic::set_hook(Box::new(|_| {}));
        let workers = Workers::new(|job: Option<Sender<u8>>| {
            let sender = job.expect("the panic of this test");
            sender.send(1).unwrap();
        });
        let (sender, receiver) = channel();
        for _ in 0..100 {
            workers.start(None).unwrap();
            workers.start(Some(sender.clone())).unwrap();
        }
        drop(sender);
        assert_eq!(receiver.iter().count(), 100);
    }

    #[test]
    fn no_job_waits_for_another() {
        let workers = Workers::new(
            |(started, release): (Sender<u8>, Arc<(Mutex<bool>, Condvar)>)| {
                started.send(1).unwrap();
                let (released, changed) = &*release;
                let guard = released.lock().unwrap();
                drop(changed.wait_while(guard, |released| !*released).unwrap());
            },
        );
        let release = Arc::new((Mutex::new(false), Condvar::new()));
        let (sender, receiver) = channel();
        for _ in 0..50 {
            workers
                .start((sender.clone(), Arc::clone(&release)))
                .unwrap();
        }
        // All have started, though none can end.
        assert_eq!(receiver.iter().take(50).count(), 50);
        *release.0.lock().unwrap() = true;
        release.1.notify_all();
    }
}
