//! What `--live` has drawn, and what draws the changes. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::strip::{Cell, Scale, Strip};
use crate::ping::Kind;
use crate::ping::screen::Bars;
use crate::ping::statistics::{Times, percent};
use crate::ping::text::three_digits;

/// Erases what stands after the cursor and below.
const ERASE: &str = "\x1b[J";

/// The terminal as it is now.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub columns: usize,
    pub lines: usize,
    /// How many messages have been written where a line was open.
    pub messages: usize,
    /// This process may draw: it is not in the background.
    pub is_ours: bool,
}

pub struct Canvas {
    bars: Bars,
    strip: Strip,
    totals: Totals,
    place: Place,
    /// A bell waits to be rung.
    rings: bool,
}

/// What the status line tells of all probes that are answered or lost.
#[derive(Debug, Default)]
struct Totals {
    settled: u64,
    lost: u64,
    /// The time of the last answer.
    last: Option<Duration>,
}

/// Where the cursor is.
#[derive(Debug, Default)]
struct Place {
    /// How many rows of the strip stand on the screen, the last of them at the cursor. 0: the cursor is at
    /// the start of an empty line.
    rows: usize,
    /// How wide the screen was when they were drawn.
    columns: usize,
    /// How many messages had been written then.
    messages: usize,
}

impl Canvas {
    pub fn new(bars: Bars) -> Self {
        Self {
            bars,
            strip: Strip::default(),
            totals: Totals::default(),
            place: Place::default(),
            rings: false,
        }
    }

    pub fn sent(&mut self, number: u64, times: &Times, view: View) {
        self.strip.sent(number, view.columns, scale(times));
    }

    pub fn answered(&mut self, number: u64, kind: Kind, time: Duration, rings: bool) {
        self.rings |= rings;
        let cell = match kind {
            Kind::Reply => Cell::Answered(time),
            Kind::Late => Cell::Late,
            Kind::Duplicate => Cell::Duplicate,
        };
        let before = self.strip.set(number, cell);
        if kind == Kind::Reply {
            self.totals.last = Some(time);
            // The network may have said that it did not arrive.
            let was_lost = before == Some(Cell::Lost);
            self.totals.lost -= u64::from(was_lost);
            self.totals.settled += u64::from(!was_lost);
        }
    }

    pub fn lost(&mut self, number: u64) {
        self.strip.set(number, Cell::Lost);
        self.totals.lost += 1;
        self.totals.settled += 1;
    }

    /// Whether something is to be drawn.
    pub fn is_dirty(&self) -> bool {
        self.rings || self.strip.first_dirty().is_some()
    }

    /// What draws the changes since the last call. Empty in the background.
    pub fn draw(&mut self, times: &Times, view: View) -> String {
        if !view.is_ours {
            self.abandon(times, view);
            return String::new();
        }
        let is_cut = view.columns < self.place.columns && self.strip.longest() >= view.columns;
        let mut text = if is_cut {
            self.leave(times, view)
        } else {
            String::new()
        };
        if self.place.messages != view.messages {
            self.abandon(times, view);
        }
        if std::mem::take(&mut self.rings) {
            text.push('\u{7}');
        }
        if self.strip.started() > 0 {
            text.push_str(&self.rows(view.lines));
            let status = self.totals.text(times);
            let room = view.columns.saturating_sub(1);
            let status: String = status.chars().take(room).collect();
            let column = self.strip.last_length();
            let _ = write!(text, "\r\n{status}\r\x1b[A\x1b[{column}C");
            self.place.columns = view.columns;
        }
        text
    }

    /// What moves the cursor to the start of an empty line, where other text may follow. Draw as if for
    /// the first time after it.
    pub fn leave(&mut self, times: &Times, view: View) -> String {
        let is_placed = self.place.rows > 0 && self.place.messages == view.messages;
        self.abandon(times, view);
        if is_placed && view.is_ours {
            return format!("{ERASE}\r\n");
        }
        String::new()
    }

    /// As [`Self::leave`], but the shell begins a line of its own.
    pub fn suspend(&mut self, times: &Times, view: View) -> &'static str {
        if self.leave(times, view).is_empty() {
            ""
        } else {
            ERASE
        }
    }

    /// The cursor is at the start of an empty line: something else has been written.
    pub fn abandon(&mut self, times: &Times, view: View) {
        self.strip.break_off(view.columns, scale(times));
        self.place = Place {
            messages: view.messages,
            ..Place::default()
        };
    }

    /// Draws the rows that have changed, on a screen of so many `lines`. The cursor is behind the last.
    fn rows(&mut self, lines: usize) -> String {
        let drawn = self.place.rows;
        // The cursor's row and the status line take two.
        let reach = drawn
            .saturating_sub(lines.saturating_sub(1))
            .max(self.strip.first());
        let dirty = self.strip.first_dirty().unwrap_or(usize::MAX);
        let last = drawn.saturating_sub(1);
        let from = dirty.max(reach).min(if self.strip.started() > drawn {
            drawn
        } else {
            last
        });
        let mut text = match drawn.checked_sub(from + 1) {
            Some(0) => "\r".to_owned(),
            Some(up) => format!("\r\x1b[{up}A"),
            None if drawn == 0 => "\r".to_owned(),
            None => "\r\n".to_owned(),
        };
        text.push_str(&self.strip.draw(from, &self.bars).join("\r\n"));
        text.push_str(ERASE);
        self.place.rows = self.strip.started();
        text
    }
}

impl Totals {
    fn text(&self, times: &Times) -> String {
        let mut text = match self.last {
            Some(time) => {
                let [time, average, p95] =
                    [time, times.mean(), times.percentile(95)].map(three_digits);
                format!("last {time} ms, average {average}, p95 {p95}")
            }
            None => "no answer yet".to_owned(),
        };
        let percent = percent(self.lost, self.settled);
        let Self { settled, lost, .. } = self;
        let _ = write!(text, ", {lost} of {settled} lost ({percent:.1}%)");
        text
    }
}

/// What the next row tells apart. `None`: nothing has been answered.
fn scale(times: &Times) -> Option<Scale> {
    (!times.is_empty()).then(|| Scale {
        low: times.min,
        high: times.percentile(99),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BARS: Bars = ['1', '2', '3', '4', '5', '6', '7', '8'];

    /// A terminal that knows what [`Canvas`] writes, and does not rewrap lines.
    #[derive(Default)]
    struct Screen {
        lines: Vec<String>,
        /// Line and column of the cursor.
        at: (usize, usize),
    }

    impl Screen {
        fn write(&mut self, text: &str) {
            let mut rest = text.chars();
            while let Some(letter) = rest.next() {
                match letter {
                    '\r' => self.at.1 = 0,
                    '\n' => self.at.0 += 1,
                    '\u{7}' => {}
                    '\x1b' => {
                        let sequence: String = rest.by_ref().take_while(|&c| c != '[').collect();
                        assert_eq!(sequence, "");
                        let digits: Vec<char> =
                            rest.clone().take_while(char::is_ascii_digit).collect();
                        let digits: String = digits.into_iter().collect();
                        let count = digits.parse().unwrap_or(1);
                        match rest.nth(digits.len()) {
                            Some('A') => self.at.0 -= count,
                            Some('C') => self.at.1 += count,
                            Some('J') => {
                                self.lines.truncate(self.at.0 + 1);
                                if let Some(line) = self.lines.get_mut(self.at.0) {
                                    line.truncate(self.at.1);
                                }
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    letter => {
                        self.lines
                            .resize(self.lines.len().max(self.at.0 + 1), String::new());
                        let line = &mut self.lines[self.at.0];
                        assert!(line.len() >= self.at.1, "{line} {:?}", self.at);
                        line.truncate(line.len().max(self.at.1));
                        line.replace_range(
                            self.at.1..(self.at.1 + 1).min(line.len()),
                            &letter.to_string(),
                        );
                        self.at.1 += 1;
                    }
                }
            }
        }

        fn text(&self) -> Vec<&str> {
            self.lines.iter().map(|line| line.trim_end()).collect()
        }
    }

    fn view(columns: usize) -> View {
        View {
            columns,
            lines: 24,
            messages: 0,
            is_ours: true,
        }
    }

    const TIME: Duration = Duration::from_millis(1);

    /// Sends a probe for each letter, and lets happen to it what the letter stands for.
    fn play(canvas: &mut Canvas, from: u64, fates: &str, view: View) {
        for (number, fate) in (from..).zip(fates.chars()) {
            canvas.sent(number, &Times::default(), view);
            let kinds: &[Kind] = match fate {
                '1' => &[Kind::Reply],
                '+' => &[Kind::Reply, Kind::Duplicate],
                '~' => {
                    canvas.lost(number);
                    &[Kind::Late]
                }
                '!' => {
                    canvas.lost(number);
                    &[]
                }
                _ => &[],
            };
            for kind in kinds {
                canvas.answered(number, *kind, TIME, false);
            }
        }
    }

    #[test]
    fn a_strip_stands_above_a_status_line_and_the_cursor_at_its_end() {
        let (mut canvas, mut screen) = (Canvas::new(BARS), Screen::default());
        let times = Times::default();
        play(&mut canvas, 1, "1!~+ ", view(80));
        screen.write(&canvas.draw(&times, view(80)));
        let status = "last 1.00 ms, average 0.000, p95 0.000, 2 of 4 lost (50.0%)";
        assert_eq!(screen.text(), ["1!~+", status]);
        assert_eq!(screen.at, (0, 5));
        canvas.lost(5);
        screen.write(&canvas.draw(&times, view(80)));
        assert_eq!(screen.text()[0], "1!~+!");
        assert_eq!(
            canvas.draw(
                &times,
                View {
                    is_ours: false,
                    ..view(80)
                }
            ),
            ""
        );
    }

    #[test]
    fn a_row_scrolls_away_and_its_last_probes_still_change() {
        let (mut canvas, mut screen) = (Canvas::new(BARS), Screen::default());
        let times = Times::default();
        play(&mut canvas, 1, "1 1111", view(5));
        screen.write(&canvas.draw(&times, view(5)));
        assert_eq!(screen.text(), ["1 11", "11", "last"]);
        canvas.answered(2, Kind::Reply, TIME, false);
        screen.write(&canvas.draw(&times, view(5)));
        assert_eq!(screen.text(), ["1111", "11", "last"]);
        assert_eq!(screen.at, (1, 2));
    }

    #[test]
    fn a_message_is_not_overwritten() {
        let (mut canvas, mut screen) = (Canvas::new(BARS), Screen::default());
        let times = Times::default();
        play(&mut canvas, 1, "1 1", view(80));
        screen.write(&canvas.draw(&times, view(80)));
        screen.write("\x1b[J\r\nmessage\r\n");
        let after = View {
            messages: 1,
            ..view(80)
        };
        canvas.lost(2);
        play(&mut canvas, 4, "1", after);
        screen.write(&canvas.draw(&times, after));
        // The row goes on from the first probe that was waiting.
        assert_eq!(screen.text()[..3], ["1 1", "message", "!11"]);
        screen.write(&canvas.leave(&times, after));
        screen.write("end");
        assert_eq!(screen.text(), ["1 1", "message", "!11", "end"]);
    }

    #[test]
    fn a_strip_that_was_cut_goes_on_in_a_new_row() {
        let (mut canvas, mut screen) = (Canvas::new(BARS), Screen::default());
        let times = Times::default();
        play(&mut canvas, 1, "1111111111", view(80));
        screen.write(&canvas.draw(&times, view(80)));
        play(&mut canvas, 11, "!", view(9));
        screen.write(&canvas.draw(&times, view(9)));
        play(&mut canvas, 12, "!!", view(9));
        screen.write(&canvas.draw(&times, view(9)));
        assert_eq!(screen.text()[0], "1111111111");
        assert_eq!(
            screen.text()[screen.text().len() - 2..],
            ["!!!", "last 1.0"]
        );
    }

    proptest! {
        /// The screen shows the fate of each probe in its place, whenever it was drawn.
        #[test]
        fn the_screen_shows_each_probe(
            columns in 2_usize..90,
            events in proptest::collection::vec((0_u8..6, 0_u64..20), 0..200),
        ) {
            let view = view(columns);
            let width = columns.saturating_sub(1).clamp(1, 60);
            let (mut canvas, mut screen) = (Canvas::new(BARS), Screen::default());
            let times = Times::default();
            let mut fates: Vec<char> = Vec::new();
            for (event, back) in events {
                let number = (fates.len() as u64).saturating_sub(back).max(1);
                let fate = usize::try_from(number).unwrap() - 1;
                // Rows further back may not change any more.
                let is_near = fates.len().div_ceil(width) < (fate + 1).div_ceil(width) + 8;
                match event {
                    0..3 => {
                        fates.push(' ');
                        canvas.sent(fates.len() as u64, &times, view);
                    }
                    3 if fates.get(fate) == Some(&' ') && is_near => {
                        fates[fate] = '!';
                        canvas.lost(number);
                    }
                    4 if fates.get(fate) == Some(&'!') && is_near => {
                        fates[fate] = '~';
                        canvas.answered(number, Kind::Late, TIME, false);
                    }
                    _ => screen.write(&canvas.draw(&times, view)),
                }
            }
            screen.write(&canvas.draw(&times, view));
            let rows: Vec<String> = fates
                .chunks(width)
                .map(|row| row.iter().collect::<String>().trim_end().to_owned())
                .collect();
            let shown = screen.text();
            // Rows that were never drawn while they could change are not shown.
            let seen = shown.len().saturating_sub(1).min(rows.len()).min(8);
            let shown = &shown[shown.len().saturating_sub(1 + seen)..shown.len().max(1) - 1];
            prop_assert_eq!(shown, &rows[rows.len() - seen..]);
        }
    }
}
