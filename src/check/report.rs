//! Prints a check: a line or an event a port, and the summary.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Checked, State, Target};
use crate::exit::{Failure, Worst};
use crate::json::{Event, milliseconds};
use crate::output::Queue;
use crate::progress::{Look, Progress};
use crate::stderr;
use crate::units::{grouped, ip, told};
use crate::wait::{Deadline, Set};

pub struct Report<'a, T> {
    pub targets: &'a [T],
    pub stdout: Queue,
    style: Style,
    began: Instant,
    /// The results, by port. What was told is gone.
    results: Vec<Option<Checked>>,
    told: usize,
    pub course: Course,
    counts: [usize; 4],
    worst: Worst,
    /// Of a single port, why it is not open.
    failure: Option<Failure>,
}

struct Style {
    json: bool,
    verbose: bool,
}

/// How far the check is.
#[derive(Default)]
pub struct Course {
    /// How many ports were asked in this round, or need not be.
    pub asked: usize,
    open: usize,
    /// What the user sees of it.
    pub progress: Option<Progress>,
}

impl<'a, T: Target> Report<'a, T> {
    /// Prints the first event. `typed` are the words that name the targets.
    pub fn start(
        targets: &'a [T],
        typed: &str,
        json: bool,
        verbose: bool,
    ) -> Result<Self, Failure> {
        let mut report = Self {
            targets,
            stdout: Queue::open(true)?,
            style: Style { json, verbose },
            began: Instant::now(),
            results: targets.iter().map(|_| None).collect(),
            told: 0,
            course: Course::default(),
            counts: [0; 4],
            worst: Worst::default(),
            failure: None,
        };
        if json {
            let event = Event::start(typed).with("ports", targets.len());
            report.stdout.push(event.line().as_bytes())?;
        }
        Ok(report)
    }

    /// Shows how far the check is, if that is due. Returns when it is due again.
    pub fn show_progress(&mut self) -> Deadline {
        let Some(progress) = &mut self.course.progress else {
            return Deadline::NEVER;
        };
        if progress.due().has_passed() {
            let (asked, open) = (self.course.asked, self.course.open);
            let found = format!("{} open", grouped(open as u64));
            let line = |look: &Look, width| look.count("ports", &found, width);
            progress.look(asked as u64, line, |look| {
                let ports = look.size;
                tracing::info!(
                    event = "progress",
                    asked,
                    open,
                    ports,
                    "{}",
                    line(look, usize::MAX)
                );
            });
        }
        progress.due()
    }

    /// The result of a port is final. Tells it once all before it are.
    pub fn settle(&mut self, port: usize, checked: Checked) -> Result<(), Failure> {
        self.course.open += usize::from(checked.state == State::Open);
        self.results[port] = Some(checked);
        while let Some(checked) = self.results.get_mut(self.told).and_then(Option::take) {
            self.tell(&self.targets[self.told], checked)?;
            self.told += 1;
        }
        Ok(())
    }

    /// Blocks until the next round. `pending` are the ports that were not open in round `number`.
    pub fn pause(
        &mut self,
        number: &str,
        pending: &BTreeMap<usize, Checked>,
        next: Deadline,
    ) -> Result<(), Failure> {
        if self.style.verbose {
            let delay = next.length();
            let (all, open) = (self.targets.len(), self.targets.len() - pending.len());
            let only = pending.values().next().filter(|_| all == 1);
            let why = only.and_then(|checked| checked.failure.as_ref().map(Failure::cause));
            let why = why.map_or_else(|| format!("{open} of {all} open"), str::to_owned);
            tracing::info!("attempt {number}: {why}; next in {}", told(delay));
        }
        while !next.has_passed() {
            let due = self.show_progress();
            let mut set = Set::new();
            let stdout = self.stdout.watch(&mut set);
            if set.wait(next.min(due))?[stdout] {
                self.stdout.go_on()?;
            }
        }
        Ok(())
    }

    /// Prints the summary. The error carries the exit code; of a single port it says what failed.
    pub fn finish(mut self, limit: Deadline) -> Result<(), Failure> {
        // The summary takes its place.
        stderr::erase_status();
        self.course.progress = None;
        let time = self.began.elapsed();
        let [open, closed, silent, failed] = self.counts;
        if self.style.json {
            let event = Event::new("summary")
                .with("open", open)
                .with("closed", closed)
                .with("no_answer", silent)
                .with("failed", failed)
                .with("time_ms", milliseconds(time));
            self.stdout.push(event.line().as_bytes())?;
        }
        self.stdout.flush(limit)?;
        if self.is_summed_up() {
            let failed = match failed {
                0 => String::new(),
                failed => format!(", {failed} not tried"),
            };
            let seconds = time.as_secs_f64();
            tracing::info!(
                "{open} open, {closed} closed, {silent} without an answer{failed} ({seconds:.1} s)"
            );
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => self.worst.result(),
        }
    }

    fn is_summed_up(&self) -> bool {
        self.targets.len() > 1 && !self.style.json
    }

    fn tell(&mut self, target: &T, checked: Checked) -> Result<(), Failure> {
        self.counts[checked.state as usize] += 1;
        if let Some(failure) = &checked.failure {
            self.worst.add(failure.exit);
        }
        if self.style.json {
            if let Some(failure) = &checked.failure
                && checked.state == State::Failed
            {
                tracing::error!("{failure}");
            }
            let event = event(target, &checked);
            return self.stdout.push(event.line().as_bytes());
        }
        match (checked.failure, checked.line) {
            (None, line) => self.print(line),
            (Some(failure), _) if checked.state == State::Failed && self.is_summed_up() => {
                tracing::error!("{failure}");
                Ok(())
            }
            (Some(failure), line) if self.is_summed_up() => {
                if self.style.verbose {
                    let line = line.unwrap_or_else(|| failure.to_string());
                    tracing::info!("{line}");
                }
                Ok(())
            }
            (Some(failure), None) => {
                self.failure = Some(failure);
                Ok(())
            }
            // The line tells all.
            (Some(failure), line) => {
                self.failure = Some(Failure::announced(failure.exit));
                self.print(line)
            }
        }
    }

    fn print(&mut self, line: Option<String>) -> Result<(), Failure> {
        line.map_or(Ok(()), |line| {
            stderr::erase_status();
            self.stdout.push(format!("{line}\n").as_bytes())
        })
    }
}

fn event(target: &impl Target, checked: &Checked) -> Event {
    let name = match checked.state {
        State::Open => "open",
        State::Closed => "closed",
        State::Silent => "no_answer",
        State::Failed => "failed",
    };
    let event = Event::new(name)
        .with("target", target.to_string())
        .with("address", checked.address.as_ref().map(ip))
        .with("port", target.port())
        .with("rtt_ms", checked.time.map(milliseconds));
    let fields = checked.fields.iter().cloned();
    let event = fields.fold(event, |event, (key, value)| event.with(key, value));
    let Some(failure) = &checked.failure else {
        return event;
    };
    event
        .with("error", failure.to_string())
        .with("exit", failure.exit as u8)
}
