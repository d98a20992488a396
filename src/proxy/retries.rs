//! `--retry`: attempts to connect, one after another, until one succeeds.

use crate::exit::{Exit, Failure, OrFail as _};
use crate::net::connect::ConnectArgs;
use crate::progress::{Look, Plan, Progress};
use crate::stderr;
use crate::units::told;
use crate::wait::{Deadline, pause};

pub struct Retries<'a> {
    args: &'a ConnectArgs,
    /// The attempt that is under way, or that has failed last. The first is 1.
    number: u32,
    /// How the attempt before has failed.
    failure: Option<Failure>,
    progress: Option<Progress>,
}

impl<'a> Retries<'a> {
    /// `progress` is shown only if there may be more than one attempt.
    pub fn new(args: &'a ConnectArgs, progress: Option<Plan>) -> Self {
        let plan = progress.filter(|_| args.attempts() > 1);
        Self {
            args,
            number: 1,
            failure: None,
            progress: Progress::start(plan),
        }
    }

    /// Repeats `attempt` up to `--retry` times while it fails for a reason that may pass. Blocks in
    /// between, but not beyond `deadline`. An attempt that blocks calls [`Self::show_progress`].
    pub fn run<T>(
        mut self,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let attempts = self.args.attempts();
        loop {
            let failure = match attempt(&mut self) {
                // An attempt that the deadline has cut off tells nothing.
                Err(failure) if failure.exit == Exit::Timeout && deadline.has_passed() => {
                    let known = self.failure.as_ref();
                    return Err(known.map_or(failure, |known| gave_up(known, deadline)));
                }
                Err(failure) if self.number < attempts && !failure.is_final => failure,
                result => return result,
            };
            self.pause(failure, deadline)?;
            self.number += 1;
        }
    }

    /// Blocks until the next attempt is due. Fails if `deadline` comes first.
    fn pause(&mut self, failure: Failure, deadline: Deadline) -> Result<(), Failure> {
        let delay = self.args.delay();
        if self.args.is_verbose {
            let (number, attempts, cause) = (self.number, self.args.attempts(), failure.cause());
            let delay = told(delay);
            tracing::info!("attempt {number} of {attempts}: {cause}; next in {delay}");
        }
        self.failure = Some(failure);
        let next = deadline.min(Deadline::after(delay));
        while !next.has_passed() {
            let due = self.show_progress();
            pause(next.min(due)).or_fail(Exit::Local, || "could not wait")?;
        }
        match &self.failure {
            Some(failure) if next == deadline => Err(gave_up(failure, deadline)),
            _ => Ok(()),
        }
    }

    /// Shows which attempt is under way, if that is due. Returns when it is due again.
    pub fn show_progress(&mut self) -> Deadline {
        let Some(progress) = &mut self.progress else {
            return Deadline::NEVER;
        };
        if progress.due().has_passed() {
            let (attempt, attempts) = (self.number, self.args.attempts());
            let cause = self.failure.as_ref().map(Failure::cause);
            let line = |look: &Look, width| look.attempt(attempt, attempts, cause, width);
            progress.look(attempt.into(), line, |look| {
                tracing::info!(
                    event = "progress",
                    attempt,
                    attempts,
                    cause,
                    seconds = look.time.as_secs_f64(),
                    "{}",
                    line(look, usize::MAX)
                );
            });
        }
        progress.due()
    }
}

/// There is no time for an attempt after the one that failed as `failure` tells.
fn gave_up(failure: &Failure, deadline: Deadline) -> Failure {
    let message = format!("{failure}; gave up after {}", told(deadline.length()));
    Failure::new(Exit::Timeout, message)
}

impl Drop for Retries<'_> {
    /// The session, or the error, takes the place of the last line.
    fn drop(&mut self) {
        if self.progress.is_some() {
            stderr::erase_status();
        }
    }
}
