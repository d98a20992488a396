//! One ping: what it counts, prints and returns, over TCP and UDP alike.

use std::io;
use std::time::{Duration, Instant};

use super::console::{Console, Woken};
use super::live::Live;
use super::live::job::Happened;
use super::options::PingArgs;
use super::outages::{Change, Moment};
use super::report::Report;
use super::schedule::Schedule;
use super::screen;
use super::statistics::{Statistics, percent};
use super::{Answer, Arrival, Kind};
use crate::exit::{Exit, Failure, Worst};
use crate::signal;
use crate::wait::Set;

pub struct Session<'a> {
    args: &'a PingArgs,
    pub console: Console,
    pub report: Report<'a>,
    schedule: Schedule,
    statistics: Statistics,
    live: Option<Live>,
    /// Datagrams that answered no probe.
    pub unexpected: u64,
    /// Probes that were lost since anything was answered, or since they were last asked for.
    unanswered: u64,
    worst: Worst,
}

impl<'a> Session<'a> {
    pub fn new(
        args: &'a PingArgs,
        console: Console,
        report: Report<'a>,
        schedule: Schedule,
    ) -> Result<Self, Failure> {
        let bars = screen::bars().filter(|_| args.live);
        Ok(Self {
            live: bars.map(Live::new).transpose()?,
            args,
            console,
            report,
            schedule,
            statistics: Statistics::default(),
            unexpected: 0,
            unanswered: 0,
            worst: Worst::default(),
        })
    }

    /// Whether a probe follows those that were `sent`.
    pub fn has_more(&self, sent: u64) -> bool {
        self.args.count.is_none_or(|count| sent < count)
    }

    /// Whether the next probe is to be sent at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.schedule.is_due(now) && !self.console.is_behind()
    }

    /// When to go on while probes are still to be sent. `expiry`: when an answer is given up.
    pub fn next_event(&self, expiry: Option<Instant>) -> Instant {
        // Once standard output has taken more, the wait ends.
        let due = self.schedule.due().filter(|_| !self.console.is_behind());
        let far = || Instant::now() + Duration::from_secs(3600);
        expiry.into_iter().chain(due).min().unwrap_or_else(far)
    }

    /// Prints the first line, of probes of `size` bytes without headers.
    pub fn start(&mut self, size: usize, timeout: Duration) -> Result<(), Failure> {
        self.console.print(&self.report.start(size, timeout))
    }

    /// Counts a probe that is sent at `at`. Returns when the next is due.
    pub fn sent(&mut self, at: Instant) -> Result<Instant, Failure> {
        let changes = self.statistics.sent(Moment::of(at));
        if let Some(live) = &mut self.live {
            live.sent(self.statistics.transmitted, &self.statistics.times);
        }
        self.tell(changes)?;
        Ok(self.schedule.sent(at))
    }

    /// Whether an unanswered probe is told.
    pub fn reports_missing(&self) -> bool {
        self.args.report_missing
    }

    /// Tells that probe `number` is about to be sent. `awaits_last`: the one before it is unanswered.
    pub fn sending(&mut self, number: u64, awaits_last: bool) -> Result<(), Failure> {
        if self.reports_missing() && awaits_last {
            self.console.print(&self.report.missing(number - 1))?;
        }
        self.console.print(&self.report.sending())
    }

    /// Counts and prints an answer that came at `at`.
    pub fn answered(
        &mut self,
        answer: Answer,
        arrival: &Arrival,
        at: Instant,
    ) -> Result<(), Failure> {
        if answer.kind == Kind::Reply {
            self.schedule.answered();
        }
        self.unanswered = 0;
        let changes = self.statistics.answered(answer, at);
        if let Some(live) = &mut self.live {
            live.answered(answer.number, answer.kind, answer.time, self.args.audible);
        }
        self.console.print(&self.report.answer(&answer, arrival))?;
        self.tell(changes)
    }

    /// The time limit of a probe has passed.
    pub fn lost(&mut self, number: u64) -> Result<(), Failure> {
        let changes = self.statistics.findings.outages.lost(number);
        self.note_lost(number);
        self.console.print(&self.report.lost(number))?;
        self.tell(changes)
    }

    pub fn unexpected(&mut self, arrival: &Arrival, received: &[u8]) -> Result<(), Failure> {
        self.unexpected += 1;
        self.console
            .print(&self.report.unexpected(arrival, received))
    }

    /// The network says that probe `number` did not arrive. `by`: the proxies on the way to where it ended.
    pub fn refused(
        &mut self,
        number: u64,
        by: Option<&str>,
        error: &io::Error,
    ) -> Result<(), Failure> {
        let changes = self.statistics.refused(number, Instant::now());
        self.note_lost(number);
        let line = self.report.refused(number, by, error);
        self.console.print(&line)?;
        self.tell(changes)
    }

    /// The probe could not be sent. The caller has told people why.
    pub fn unsent(&mut self, number: u64, blame: Exit, cause: &str) -> Result<(), Failure> {
        let changes = self.statistics.unsent(number);
        self.note_lost(number);
        if blame == Exit::Local {
            self.worst.add(Exit::Local);
        }
        self.console.print(&self.report.failed(number, cause))?;
        self.tell(changes)
    }

    /// Whether ten probes were lost and nothing was answered, since this was last so.
    pub fn has_long_silence(&mut self) -> bool {
        const MANY: u64 = 10;
        let is_long = self.unanswered >= MANY;
        if is_long {
            self.unanswered = 0;
        }
        is_long
    }

    fn note_lost(&mut self, number: u64) {
        self.unanswered += 1;
        if let Some(live) = &mut self.live {
            live.lost(number);
        }
    }

    fn tell(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        for change in changes {
            self.console.print(&self.report.changed(&change))?;
        }
        Ok(())
    }

    /// Blocks until the alarm, or until something happens, to `answers` or else. Tells statistics if the
    /// user asks for them, and stops this process if the user wants it. Fails when the reader of standard
    /// output has left.
    pub fn wait(&mut self, answers: Set<'_>) -> Result<Woken, Failure> {
        self.draw()?;
        let mut set = answers;
        let keys = self.live.as_ref().map(|live| live.job.watch(&mut set));
        let woken = self.console.wait(set)?;
        if let (Some(live), Some(keys)) = (&mut self.live, keys) {
            let times = &self.statistics.times;
            match live.job.happened(&keys, &woken.ready) {
                Happened::Nothing => {}
                Happened::Stop => {
                    self.console.print(live.suspend(times))?;
                    signal::stop()?;
                }
                Happened::Resumed => live.abandon(times),
                Happened::Resized => self.console.print(&live.draw(times, woken.at))?,
            }
        }
        if woken.asks {
            self.leave_strip()?;
            self.console.print(&self.report.interim(&self.statistics))?;
        }
        Ok(woken)
    }

    /// Draws what `--live` shows, if it is due, or makes the next wait end when it is.
    fn draw(&mut self) -> Result<(), Failure> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let now = Instant::now();
        match live.due(now) {
            Some(due) if due > now => Ok(self.console.set_alarm(due)?),
            Some(_) => self.console.print(&live.draw(&self.statistics.times, now)),
            None => Ok(()),
        }
    }

    /// Makes place for other text.
    fn leave_strip(&mut self) -> Result<(), Failure> {
        match &mut self.live {
            Some(live) => self.console.print(&live.leave(&self.statistics.times)),
            None => Ok(()),
        }
    }

    /// Prints the statistics. The error carries the exit code of the losses. `in_flight` probes were
    /// neither answered nor given up: they count as if they had not been sent.
    pub fn finish(mut self, in_flight: u64) -> Result<(), Failure> {
        let changes = self.statistics.finish(in_flight);
        self.tell(changes)?;
        if let Some(live) = &mut self.live {
            let last = live.draw(&self.statistics.times, Instant::now());
            self.console.print(&last)?;
        }
        self.leave_strip()?;
        let sent = self.statistics.transmitted;
        // The deadline may have left no time for some of `-c N` probes.
        let wanted = match self.args.count {
            Some(count) if self.console.is_past_deadline() => count,
            _ => sent,
        };
        let is_adaptive = self.schedule.is_adaptive();
        let summary = self.report.summary(&self.statistics, is_adaptive);
        self.console.print(&summary)?;
        self.console.finish()?;
        let loss = percent(wanted.saturating_sub(self.statistics.received), wanted);
        let most = self.args.max_loss.unwrap_or(0.0);
        if loss > most || (sent == 0 && most < 100.0) {
            self.worst.add(Exit::Network);
        }
        self.worst.result()
    }
}
