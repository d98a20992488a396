//! `--live`: a strip of what has become of each probe, and a status line under it, redrawn in place.
//!
//! The cursor always stands at the end of the strip. The status line is drawn below it in passing, so the
//! terminal itself keeps the place when its size changes. When anything else was written, the strip goes
//! on in a new row: nothing that stands on the screen is overwritten.

mod canvas;
pub mod job;
mod strip;

use std::io;
use std::time::{Duration, Instant};

use super::Kind;
use super::screen::{self, Bars};
use super::statistics::Times;
use crate::output;
use crate::terminal::is_in_foreground;
use canvas::{Canvas, View};
use job::Job;

/// The least time between two drawings: a terminal may be slower than the answers.
const PAUSE: Duration = Duration::from_millis(40);

pub struct Live {
    canvas: Canvas,
    pub job: Job,
    drawn_at: Option<Instant>,
    /// It was in the background since then: its shell or another program has written below the strip.
    was_away: bool,
}

impl Live {
    pub fn new(bars: Bars) -> io::Result<Self> {
        output::show_status();
        Ok(Self {
            canvas: Canvas::new(bars),
            job: Job::new()?,
            drawn_at: None,
            was_away: false,
        })
    }

    pub fn sent(&mut self, number: u64, times: &Times) {
        self.canvas.sent(number, times, view());
    }

    pub fn answered(&mut self, number: u64, kind: Kind, time: Duration, rings: bool) {
        self.canvas.answered(number, kind, time, rings);
    }

    pub fn lost(&mut self, number: u64) {
        self.canvas.lost(number);
    }

    /// When to draw, `now` or later. `None`: nothing has changed, or this process is in the background.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        if !self.canvas.is_dirty() {
            return None;
        }
        if !is_in_foreground(io::stdout()) {
            self.was_away = true;
            return None;
        }
        Some(self.drawn_at.map_or(now, |at| at + PAUSE))
    }

    /// See [`Canvas::draw`].
    pub fn draw(&mut self, times: &Times, now: Instant) -> String {
        self.drawn_at = Some(now);
        if std::mem::take(&mut self.was_away) {
            self.abandon(times);
        }
        self.canvas.draw(times, view())
    }

    /// See [`Canvas::leave`].
    pub fn leave(&mut self, times: &Times) -> String {
        if std::mem::take(&mut self.was_away) {
            self.abandon(times);
        }
        self.canvas.leave(times, view())
    }

    /// See [`Canvas::suspend`].
    pub fn suspend(&mut self, times: &Times) -> &'static str {
        self.canvas.suspend(times, view())
    }

    /// See [`Canvas::abandon`].
    pub fn abandon(&mut self, times: &Times) {
        self.canvas.abandon(times, view());
    }
}

fn view() -> View {
    let (columns, lines) = screen::size();
    View {
        columns,
        lines,
        messages: output::interruptions(),
        is_ours: is_in_foreground(io::stdout()),
    }
}
