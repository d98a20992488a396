//! Counts what passes in a connection, and writes it down.

use std::os::fd::AsFd as _;

use super::Connection;
use crate::exit::Failure;
use crate::tap::{Direction, End, Tap};
use crate::tcp_server::ended::Ended;

impl Connection {
    /// Writes down what has passed. Blocks until the files have taken it, within the limits.
    fn note(&self, direction: Direction, bytes: &[u8]) -> Result<(), Ended> {
        let Some(tap) = self.tap.as_ref().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        let is_written = tap.borrow_mut().passed(direction, bytes);
        self.await_files(&tap.borrow(), is_written)
    }

    /// Writes down what waits: a capture has how the connection began and ended. Blocks as [`Self::note`]
    /// does.
    pub fn flush_record(&self) -> Result<(), Ended> {
        let Some(tap) = &self.tap else {
            return Ok(());
        };
        let tap = tap.borrow();
        if tap.outbox.waiting() == 0 {
            return Ok(());
        }
        self.await_files(&tap, tap.outbox.flush())
    }

    fn await_files(&self, tap: &Tap, mut is_written: Result<bool, Failure>) -> Result<(), Ended> {
        let limit = self.limit();
        while !is_written.map_err(Ended::Local)? {
            self.check(limit)?;
            is_written = tap.outbox.wait(limit);
        }
        Ok(())
    }

    /// Has a capture tell how one side ended.
    pub(super) fn note_end(&self, direction: Direction, end: End) {
        if let Some(tap) = &self.tap {
            tap.borrow().ended(direction, end);
        }
    }

    /// Writes down what a read or a write of `bytes` has moved, and counts it. A read of nothing is an end.
    pub(super) fn moved(
        &self,
        direction: Direction,
        bytes: &[u8],
        result: Result<Option<usize>, Ended>,
    ) -> Result<Option<usize>, Ended> {
        let total = match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        };
        match (&result, &self.tap) {
            (Ok(Some(0)), _) if direction == Direction::Received => {
                self.note_end(direction, End::Fin);
            }
            (Ok(Some(count)), _) => {
                total.update(|total| total + *count as u64);
                self.note(direction, &bytes[..*count])?;
            }
            (Err(Ended::Failed(error)), Some(tap)) => {
                tap.borrow().failed(direction, error, self.stream.as_fd());
            }
            _ => {}
        }
        result
    }
}
