//! `--progress`: how far a transfer or a check is, on standard error.
//!
//! [`meter`] says what a line holds, and [`stderr`] puts it below the messages. The loop that does
//! the work adds [`Progress::due`] to its own wait: there is no thread.

mod meter;

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat, tell};
use rustix::termios::tcgetwinsize;

use crate::units::size;
use crate::wait::Deadline;
use crate::{logging, stderr, terminal};
pub use meter::Look;
use meter::Meter;

#[derive(Clone, Debug, clap::Args)]
pub struct ProgressArgs {
    /// Show how much has passed, and how fast
    ///
    /// On standard error: on a terminal in a line of its own, otherwise in a line every 10 s. What is sent
    /// counts once the peer's system has acknowledged it. A transfer from or to a file shows it by itself
    /// on a terminal, after 2 s.
    #[arg(short = 'P', long)]
    pub progress: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct SizeArgs {
    #[command(flatten)]
    pub progress: ProgressArgs,
    /// Show how much of SIZE has passed
    ///
    /// Implies --progress. A file on standard input tells its size by itself.
    #[arg(long = "size", value_name = "SIZE", value_parser = size)]
    expected: Option<usize>,
}

/// What is shown, and from when on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    style: Style,
    after: Duration,
    size: Option<u64>,
    /// Whether `size` is that of what is sent. Else it is that of the larger direction.
    is_of_input: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// A line on a terminal, drawn anew.
    Status,
    /// A line of text now and then.
    Lines,
    /// An event now and then.
    Events,
}

/// How often the meter looks, and a terminal is drawn.
const LOOK: Duration = Duration::from_secs(1);

/// How often a line is printed elsewhere.
const LINES: Duration = Duration::from_secs(10);

/// When a transfer shows its progress though nobody asked.
const UNASKED: Duration = Duration::from_secs(2);

impl ProgressArgs {
    /// For a check of `count` ports. `None`: nothing is shown.
    pub fn of_check(&self, count: usize) -> Option<Plan> {
        Plan::new(self.progress, count > 1, Some(count as u64))
    }
}

impl SizeArgs {
    /// For repeated attempts to connect. `None`: nothing is shown.
    pub fn of_retries(&self) -> Option<Plan> {
        Plan::new(self.is_asked_for(), true, None)
    }

    /// For a transfer between the peer and standard input and output. `None`: nothing is shown.
    pub fn of_stdio(&self) -> Option<Plan> {
        let input = left_in_file();
        let is_transfer = input.is_some() || is_file(io::stdout());
        let plan = Plan::new(self.is_asked_for(), is_transfer, self.size().or(input))?;
        Some(Plan {
            is_of_input: self.size().is_none(),
            ..plan
        })
    }

    /// For a transfer between the peer and something else.
    pub fn asked_for(&self) -> Option<Plan> {
        Plan::new(self.is_asked_for(), false, self.size())
    }

    fn is_asked_for(&self) -> bool {
        self.progress.progress || self.expected.is_some()
    }

    fn size(&self) -> Option<u64> {
        self.expected.map(|size| size as u64)
    }
}

impl Plan {
    fn new(asked: bool, is_long: bool, size: Option<u64>) -> Option<Self> {
        // With -q.
        if !tracing::enabled!(tracing::Level::INFO) {
            return None;
        }
        let style = if logging::is_json() {
            Style::Events
        } else if io::stderr().is_terminal() && !terminal::is_dumb() {
            Style::Status
        } else {
            Style::Lines
        };
        let after = match (asked, style) {
            (true, _) => Duration::ZERO,
            (false, Style::Status) if is_long => UNASKED,
            _ => return None,
        };
        Some(Self {
            style,
            after,
            size,
            is_of_input: false,
        })
    }
}

/// What is left of the file on standard input. `None`: it is none.
fn left_in_file() -> Option<u64> {
    let stdin = io::stdin();
    if !is_file(&stdin) {
        return None;
    }
    let size = u64::try_from(fstat(&stdin).ok()?.st_size).ok()?;
    Some(size.saturating_sub(tell(&stdin).ok()?))
}

fn is_file(stream: impl std::os::fd::AsFd) -> bool {
    fstat(stream)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile)
}

/// The progress of one transfer or check. Of several at once only one is shown.
pub struct Progress {
    plan: Plan,
    meter: Meter,
    next_look: Deadline,
    /// When a look is also shown.
    next_line: Deadline,
    has_shown: bool,
}

/// There is one line for all.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

impl Progress {
    pub fn start(plan: Option<Plan>) -> Option<Self> {
        let plan = plan?;
        let now = Instant::now();
        (!IS_TAKEN.swap(true, Ordering::Relaxed)).then(|| Self {
            plan,
            meter: Meter::new(plan.size, now),
            next_look: Deadline::since(now, LOOK),
            next_line: Deadline::since(now, plan.after.max(plan.style.pause())),
            has_shown: false,
        })
    }

    /// Whether the size is that of what is sent, and says nothing about the answer.
    pub fn is_of_input(&self) -> bool {
        self.plan.is_of_input
    }

    /// When [`Self::look`] is to be called.
    pub fn due(&self) -> Deadline {
        self.next_look
    }

    /// Notes that `done` of the whole is done, and shows it if a line is due. `line` makes the text for a
    /// width; `tell` logs an event.
    pub fn look(&mut self, done: u64, line: impl Fn(&Look, usize) -> String, tell: impl Fn(&Look)) {
        let now = Instant::now();
        let look = self.meter.look(done, now);
        self.next_look = Deadline::since(now, LOOK);
        if !self.next_line.has_passed_at(now) {
            return;
        }
        self.next_line = Deadline::since(now, self.plan.style.pause());
        self.has_shown = true;
        match self.plan.style {
            Style::Status => {
                let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
                // The cursor stays in the line.
                let width = if columns == 0 { 79 } else { columns - 1 };
                stderr::show_status(&line(&look, width));
            }
            Style::Lines => {
                const WIDE: usize = 200;
                stderr::write_line(format!("{}\n", line(&look, WIDE)).as_bytes());
            }
            Style::Events => tell(&look),
        }
    }

    /// The next look is the last. Returns whether it is to be shown: if the user asked for it, or has seen
    /// what came before.
    pub fn end(&mut self) -> bool {
        self.next_line = Deadline::now();
        self.has_shown || self.plan.after.is_zero()
    }
}

impl Style {
    /// The time between two lines.
    fn pause(self) -> Duration {
        match self {
            Self::Status => LOOK,
            Self::Lines | Self::Events => LINES,
        }
    }
}

impl Drop for Progress {
    /// The last line stays.
    fn drop(&mut self) {
        stderr::keep_status();
        IS_TAKEN.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_between_looks_counts_as_a_stop_of_the_process() {
        for style in [Style::Status, Style::Lines, Style::Events] {
            let mut progress = Progress::start(Some(Plan {
                style,
                after: UNASKED,
                size: None,
                is_of_input: false,
            }))
            .unwrap();
            assert!(progress.due().length() < meter::GAP, "{style:?}");
            progress.look(1, |_, _| panic!("no line is due"), |_| {});
            assert!(progress.due().length() < meter::GAP, "{style:?}");
        }
    }
}
