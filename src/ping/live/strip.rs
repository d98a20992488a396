//! The strip of `--live`: one character a probe, in rows. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ping::screen::Bars;
use crate::ping::statistics::{log2, position};

/// The most probes of a row.
const MOST: usize = 60;

/// How many rows can still change. A probe of an older row stays as it was drawn.
const ROWS: usize = 8;

/// What has become of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Waiting,
    /// Answered in time, after this long.
    Answered(Duration),
    /// Lost, refused or not sent.
    Lost,
    Late,
    Duplicate,
}

/// The shortest and the longest time that bars tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub low: Duration,
    pub high: Duration,
}

#[derive(Debug, Default)]
pub struct Strip {
    /// The last is the one that grows.
    rows: VecDeque<Row>,
    /// How many rows were started since the last break.
    started: usize,
}

#[derive(Debug)]
struct Row {
    /// The number of its first probe.
    first: u64,
    /// Each with whether it was drawn as it is.
    cells: Vec<(Cell, bool)>,
    /// How many cells it will have.
    width: usize,
    /// `None`: that of its own times, as there were none before.
    scale: Option<Scale>,
}

impl Strip {
    /// Probe `number` was sent. A new row has room for the `columns` of the screen, and `scale`.
    pub fn sent(&mut self, number: u64, columns: usize, scale: Option<Scale>) {
        let width = width(columns);
        let full = |row: &Row| row.cells.len() >= row.width.min(width);
        if self.rows.back().is_none_or(full) {
            self.start_row(number, width, scale);
        }
        if let Some(row) = self.rows.back_mut() {
            row.cells.push((Cell::Waiting, false));
        }
    }

    /// What has become of probe `number`. Returns what it was before; `None`: it can change no more.
    pub fn set(&mut self, number: u64, cell: Cell) -> Option<Cell> {
        let row = self.rows.iter_mut().rev().find(|row| row.first <= number)?;
        let index = usize::try_from(number - row.first).ok()?;
        let (before, _) = std::mem::replace(row.cells.get_mut(index)?, (cell, false));
        Some(before)
    }

    /// Starts a new row with the probes from the first on that waits, or was not drawn as it is. Those
    /// before it can change no more. Call it when something else was written below them.
    pub fn break_off(&mut self, columns: usize, scale: Option<Scale>) {
        let numbered = self
            .rows
            .iter()
            .flat_map(|row| (row.first..).zip(&row.cells));
        let is_over = |(cell, is_drawn): (Cell, bool)| is_drawn && cell != Cell::Waiting;
        let left = numbered.skip_while(|(_, cell)| is_over(**cell));
        let left: Vec<(u64, Cell)> = left.map(|(number, (cell, _))| (number, *cell)).collect();
        *self = Self::default();
        for (number, cell) in left {
            self.sent(number, columns, scale);
            self.set(number, cell);
        }
    }

    /// How many rows were started since the last break. They are counted from 0.
    pub fn started(&self) -> usize {
        self.started
    }

    /// The first row that can still change.
    pub fn first(&self) -> usize {
        self.started - self.rows.len()
    }

    /// The first row that has changed since it was drawn.
    pub fn first_dirty(&self) -> Option<usize> {
        let dirty = self.rows.iter().position(Row::is_dirty)?;
        Some(self.first() + dirty)
    }

    /// How many cells the last row has.
    pub fn last_length(&self) -> usize {
        self.rows.back().map_or(0, |row| row.cells.len())
    }

    /// The most cells of a row.
    pub fn longest(&self) -> usize {
        let lengths = self.rows.iter().map(|row| row.cells.len());
        lengths.max().unwrap_or(0)
    }

    /// The rows from number `from` on. After this none is dirty.
    pub fn draw(&mut self, from: usize, bars: &Bars) -> Vec<String> {
        let from = from.saturating_sub(self.first());
        let cells = self.rows.iter_mut().flat_map(|row| &mut row.cells);
        cells.for_each(|(_, is_drawn)| *is_drawn = true);
        let rows = self.rows.iter().skip(from);
        rows.map(|row| row.text(bars)).collect()
    }

    fn start_row(&mut self, first: u64, width: usize, scale: Option<Scale>) {
        if self.rows.len() == ROWS {
            self.rows.pop_front();
        }
        self.started += 1;
        self.rows.push_back(Row {
            first,
            cells: Vec::with_capacity(width),
            width,
            scale,
        });
    }
}

/// The cells of a row on a screen of so many columns. A full last column would wrap on some terminals.
fn width(columns: usize) -> usize {
    columns.saturating_sub(1).clamp(1, MOST)
}

impl Row {
    fn is_dirty(&self) -> bool {
        self.cells.iter().any(|(_, is_drawn)| !is_drawn)
    }

    fn text(&self, bars: &Bars) -> String {
        let scale = self.scale.unwrap_or_else(|| self.own_scale());
        let cells = self.cells.iter();
        cells.map(|(cell, _)| cell.symbol(scale, bars)).collect()
    }

    fn own_scale(&self) -> Scale {
        let times = self.cells.iter().filter_map(|cell| match cell {
            (Cell::Answered(time), _) => Some(*time),
            _ => None,
        });
        Scale {
            low: times.clone().min().unwrap_or_default(),
            high: times.max().unwrap_or_default(),
        }
    }
}

impl Cell {
    fn symbol(self, scale: Scale, bars: &Bars) -> char {
        match self {
            Self::Waiting => ' ',
            Self::Answered(time) => bars[scale.level(time)],
            Self::Lost => '!',
            Self::Late => '~',
            Self::Duplicate => '+',
        }
    }
}

impl Scale {
    /// From 0 to 7, by the logarithm. Times that differ by less than twice hardly differ.
    fn level(self, time: Duration) -> usize {
        let low = self.low.max(Duration::from_nanos(1));
        let high = self.high.max(low * 2);
        let [low, high, time] = [low, high, time.max(low)].map(|time| log2(time.as_secs_f64()));
        position((time - low) / (high - low), 8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BARS: Bars = ['1', '2', '3', '4', '5', '6', '7', '8'];

    fn millis(millis: u64) -> Cell {
        Cell::Answered(Duration::from_millis(millis))
    }

    fn scale(low: u64, high: u64) -> Scale {
        let [low, high] = [low, high].map(Duration::from_millis);
        Scale { low, high }
    }

    #[test]
    fn each_probe_is_one_character() {
        let mut strip = Strip::default();
        let cells = [
            millis(1),
            millis(2),
            millis(255),
            millis(256),
            Cell::Lost,
            Cell::Late,
            Cell::Duplicate,
            Cell::Waiting,
            millis(999),
        ];
        for (number, cell) in (1..).zip(cells) {
            strip.sent(number, 80, Some(scale(1, 256)));
            assert_eq!(strip.set(number, cell), Some(Cell::Waiting));
        }
        assert_eq!(strip.draw(0, &BARS), ["1288!~+ 8"]);
    }

    #[test]
    fn the_first_row_has_the_scale_of_its_own_times() {
        let mut strip = Strip::default();
        for (number, time) in [(1, 100), (2, 100), (3, 800)] {
            strip.sent(number, 80, None);
            strip.set(number, millis(time));
        }
        assert_eq!(strip.draw(0, &BARS), ["118"]);
        strip.set(3, millis(101));
        assert_eq!(strip.draw(0, &BARS), ["111"]);
    }

    #[test]
    fn a_row_has_sixty_probes_or_as_many_as_the_screen_has_room_for() {
        for (columns, width) in [(0, 1_u64), (1, 1), (2, 1), (40, 39), (61, 60), (200, 60)] {
            let mut strip = Strip::default();
            for number in 1..=width + 1 {
                strip.sent(number, columns, None);
            }
            assert_eq!(strip.draw(1, &BARS), [" "], "{columns}");
            assert_eq!(strip.longest(), usize::try_from(width).unwrap());
        }
    }

    #[test]
    fn a_screen_that_has_become_narrow_ends_the_row() {
        let mut strip = Strip::default();
        for number in 1..=10 {
            strip.sent(number, 80, None);
        }
        strip.sent(11, 9, None);
        assert_eq!(strip.draw(1, &BARS), [" "]);
    }

    #[test]
    fn only_rows_that_changed_are_drawn() {
        let mut strip = Strip::default();
        for number in 1..=5 {
            strip.sent(number, 3, None);
        }
        assert_eq!(strip.draw(0, &BARS), ["  ", "  ", " "]);
        assert_eq!(strip.first_dirty(), None);
        strip.set(5, Cell::Lost);
        assert_eq!(strip.first_dirty(), Some(2));
        assert_eq!(strip.draw(2, &BARS), ["!"]);
        strip.set(3, Cell::Late);
        strip.set(1, Cell::Lost);
        // The first row is out of reach.
        assert_eq!(strip.first_dirty(), Some(0));
        // The first row is out of reach.
        assert_eq!(strip.draw(1, &BARS), ["~ ", "!"]);
        assert_eq!(strip.first_dirty(), None);
    }

    #[test]
    fn after_a_break_what_waits_or_was_not_drawn_stands_in_a_new_row() {
        let mut strip = Strip::default();
        for (number, cell) in (1..).zip([Cell::Lost, Cell::Waiting, Cell::Late, Cell::Waiting]) {
            strip.sent(number, 80, None);
            strip.set(number, cell);
        }
        strip.draw(0, &BARS);
        strip.break_off(80, None);
        strip.set(2, Cell::Lost);
        assert_eq!(strip.set(1, Cell::Late), None);
        assert_eq!(strip.draw(0, &BARS), ["!~ "]);
        strip.set(4, Cell::Lost);
        strip.break_off(80, None);
        assert_eq!(strip.draw(0, &BARS), ["!"]);
        strip.break_off(80, None);
        assert_eq!(strip.started(), 0);
        strip.sent(5, 80, None);
        assert_eq!(strip.draw(0, &BARS), [" "]);
    }

    proptest! {
        /// Whatever comes in whatever order, each probe that can change has its place.
        #[test]
        fn a_probe_stands_where_it_was_sent(
            events in proptest::collection::vec((0_u8..8, 0_u64..30, 0_usize..90), 0..300),
        ) {
            let mut strip = Strip::default();
            let mut known: Vec<Cell> = Vec::new();
            for (event, back, columns) in events {
                let sent = known.len() as u64;
                match event {
                    0..4 => {
                        known.push(Cell::Waiting);
                        strip.sent(sent + 1, columns, None);
                    }
                    4 => strip.break_off(columns, None),
                    _ => {
                        let number = sent.saturating_sub(back).max(1);
                        let cell = [Cell::Lost, Cell::Late, Cell::Duplicate][usize::from(event) - 5];
                        if strip.set(number, cell).is_some() {
                            known[usize::try_from(number).unwrap() - 1] = cell;
                        }
                    }
                }
                prop_assert!(strip.rows.len() <= ROWS);
                let mut next = None;
                for row in &strip.rows {
                    prop_assert!(row.cells.len() <= row.width && row.width <= MOST);
                    prop_assert!(next.is_none_or(|next| next == row.first));
                    next = Some(row.first + row.cells.len() as u64);
                    for (number, (cell, _)) in (row.first..).zip(&row.cells) {
                        prop_assert_eq!(*cell, known[usize::try_from(number).unwrap() - 1]);
                    }
                }
                prop_assert!(next.is_none_or(|next| next == known.len() as u64 + 1));
            }
        }

        #[test]
        fn a_longer_time_is_no_lower_bar(
            times in proptest::collection::vec(0_u64..10_000_000_000, 4..5),
        ) {
            let [low, high, first, second] = [0, 1, 2, 3].map(|index| Duration::from_nanos(times[index]));
            let scale = Scale { low, high };
            prop_assert!(scale.level(first.min(second)) <= scale.level(first.max(second)));
            prop_assert_eq!(scale.level(low), 0);
            prop_assert!(high < low * 2 || scale.level(high) == 7);
        }
    }
}
