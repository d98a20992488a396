//! What a UDP client writes down.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Direction, Ends, MOST_WAITING, SLICE, Tap, Taps};
use crate::exit::Failure;
use crate::wait::Deadline;

/// A tap for the datagrams of a client. A failed write is kept until `check`. So sending and receiving
/// fail only for reasons of the network.
pub struct DatagramTap {
    tap: Option<RefCell<Tap>>,
    limit: Deadline,
    error: RefCell<Option<Failure>>,
}

impl DatagramTap {
    /// At `limit` nothing waits for the files any more.
    pub fn new(taps: Option<&Arc<Taps>>, limit: Deadline) -> Self {
        Self {
            tap: taps.map(|taps| RefCell::new(Tap::new(taps.outbox(), None))),
            limit,
            error: RefCell::default(),
        }
    }

    /// Whether datagrams are written down.
    pub fn is_wanted(&self) -> bool {
        self.tap.is_some()
    }

    /// Writes down a datagram. Blocks for [`SLICE`] at most, if [`MOST_WAITING`] bytes wait for the
    /// files.
    pub fn passed(&self, ends: Ends, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            let mut tap = tap.borrow_mut();
            let mut result = tap.datagram(ends, direction, bytes);
            if matches!(result, Ok(false)) && tap.outbox.waiting() > MOST_WAITING {
                result = tap.outbox.wait(self.limit.min(Deadline::after(SLICE)));
            }
            if let Err(error) = result {
                self.error.replace(Some(error));
            }
        }
    }

    /// Fails if a datagram could not be written down.
    pub fn check(&self) -> Result<(), Failure> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Blocks until all is written down. Fails if it is not by the limit, or once a signal ends the
    /// program.
    pub fn finish(&self) -> Result<(), Failure> {
        self.check()?;
        let Some(tap) = &self.tap else {
            return Ok(());
        };
        tap.borrow().outbox.finish(self.limit)
    }
}
