//! `--progress`: how far a transfer or a check is, on standard error.
//!
//! [`meter`] says what a line holds, and [`stderr`] puts it below the messages. Whoever works looks at
//! [`Progress::due`] in its own wait: there is no thread.

mod meter;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat, tell};
use rustix::termios::tcgetwinsize;

use crate::units::size;
use crate::wait::Deadline;
use crate::{logging, stderr};
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
    /// With --progress: how much there is to pass
    ///
    /// That tells how much is left. A file on standard input tells it by itself.
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

/// How often a terminal is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// How often a line is printed elsewhere.
const LINES: Duration = Duration::from_secs(10);

/// When a transfer shows its progress though nobody asked.
const UNASKED: Duration = Duration::from_secs(2);

impl ProgressArgs {
    /// For a check of `count` ports. `None`: nothing is shown.
    pub fn of_check(&self, count: usize) -> Option<Plan> {
        Plan::new(self.progress, count > 1, Some(count as u64))
    }

    /// For repeated attempts to connect. `None`: nothing is shown.
    pub fn of_retries(&self) -> Option<Plan> {
        Plan::new(self.progress, true, None)
    }
}

impl SizeArgs {
    /// For a transfer between the peer and standard input and output. `None`: nothing is shown.
    pub fn of_stdio(&self) -> Option<Plan> {
        let input = left_in_file();
        let is_transfer = input.is_some() || is_file(io::stdout());
        let plan = Plan::new(self.progress.progress, is_transfer, self.size().or(input))?;
        Some(Plan {
            is_of_input: self.size().is_none(),
            ..plan
        })
    }

    /// For a transfer between the peer and something else.
    pub fn asked_for(&self) -> Option<Plan> {
        Plan::new(self.progress.progress, false, self.size())
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
        } else if stderr::has_cursor() {
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
    due: Deadline,
    has_shown: bool,
}

/// There is one line for all.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

impl Progress {
    pub fn start(plan: Option<Plan>) -> Option<Self> {
        let plan = plan?;
        (!IS_TAKEN.swap(true, Ordering::Relaxed)).then(|| Self {
            plan,
            meter: Meter::new(plan.size, Instant::now()),
            due: Deadline::after(match plan.style {
                Style::Status => plan.after.max(REDRAW),
                Style::Lines | Style::Events => LINES,
            }),
            has_shown: false,
        })
    }

    /// Whether the size is that of what is sent, and says nothing about the answer.
    pub fn is_of_input(&self) -> bool {
        self.plan.is_of_input
    }

    /// When [`Self::show`] is to be called.
    pub fn due(&self) -> Deadline {
        self.due
    }

    /// Shows that `done` of the whole is done. `line` makes the text for a width; `tell` logs an event.
    pub fn show(&mut self, done: u64, line: impl Fn(&Look, usize) -> String, tell: impl Fn(&Look)) {
        let look = self.meter.look(done, Instant::now());
        self.has_shown = true;
        match self.plan.style {
            Style::Status => {
                let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
                // The cursor stays in the line.
                let width = if columns == 0 { 79 } else { columns - 1 };
                stderr::show_status(&line(&look, width));
                self.due = Deadline::after(REDRAW);
            }
            Style::Lines => {
                const WIDE: usize = 200;
                stderr::write_line(format!("{}\n", line(&look, WIDE)).as_bytes());
                self.due = Deadline::after(LINES);
            }
            Style::Events => {
                tell(&look);
                self.due = Deadline::after(LINES);
            }
        }
    }

    /// Whether the end is to be shown: if the user asked for it, or has seen what came before.
    pub fn shows_end(&self) -> bool {
        self.has_shown || self.plan.after.is_zero()
    }
}

impl Drop for Progress {
    /// The last line stays.
    fn drop(&mut self) {
        stderr::keep_status();
        IS_TAKEN.store(false, Ordering::Relaxed);
    }
}
