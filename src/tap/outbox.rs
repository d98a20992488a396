//! What waits for the files of a session.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use super::place::Place;
use super::{SLICE, Taps};
use crate::exit::{Exit, Failure};
use crate::signal::is_ending;
use crate::wait::{Deadline, PollFlags, lock, wait_for};

/// What the files have not taken yet.
pub struct Outbox {
    pub(super) taps: Arc<Taps>,
    /// For the dump, and for the record.
    pub(super) owed: Mutex<[Owed; 2]>,
}

#[derive(Default)]
pub(super) struct Owed {
    pub(super) bytes: Vec<u8>,
    /// The number of the piece that was taken last.
    taken: u64,
}

impl Outbox {
    fn places(&self) -> [Option<&Place>; 2] {
        let dump = self.taps.dump.as_ref().map(|(place, _)| place);
        let record = self.taps.record.as_ref().map(|(place, _)| place);
        [dump, record]
    }

    /// Gives the files what they take; whether all has reached the system. What a file refuses is lost.
    pub fn flush(&self) -> Result<bool, Failure> {
        let mut is_all = true;
        let mut owed = lock(&self.owed);
        for (place, owed) in self.places().into_iter().zip(&mut *owed) {
            let Some(place) = place else { continue };
            let failed = |error| place.failure(&error);
            if !owed.bytes.is_empty() {
                let put = place.put(&owed.bytes);
                if !matches!(put, Ok(None)) {
                    owed.bytes.clear();
                }
                if let Some(number) = put.map_err(failed)? {
                    owed.taken = number;
                }
            }
            is_all &= owed.bytes.is_empty() && place.write_on(owed.taken).map_err(failed)?;
        }
        Ok(is_all)
    }

    /// How many bytes wait for the files.
    pub fn waiting(&self) -> usize {
        lock(&self.owed).iter().map(|owed| owed.bytes.len()).sum()
    }

    /// What to wait for before [`Self::flush`]. `None`: all has reached the system.
    pub fn room(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.unfinished().map(Place::room)
    }

    /// The first that has not taken all.
    fn unfinished(&self) -> Option<&Place> {
        let owed = lock(&self.owed);
        let mut places = self.places().into_iter().zip(&*owed);
        places.find_map(|(place, owed)| {
            let place = place?;
            let is_written = owed.bytes.is_empty() && place.has_written(owed.taken);
            (!is_written).then_some(place)
        })
    }

    /// What it means that a file has not taken all, because of `cause`. `None`: all has been taken.
    pub fn unwritten(&self, exit: Exit, cause: &str) -> Option<Failure> {
        let place = self.unfinished()?;
        let sentence = format!("could not write {}: {cause}", place.name());
        Some(Failure::new(exit, sentence))
    }

    /// Blocks until all has reached the system, or until `limit`, or a signal; whether it has.
    pub fn wait(&self, limit: Deadline) -> Result<bool, Failure> {
        if !self.flush()?
            && let Some((fd, events)) = self.room()
        {
            wait_for(fd, events, limit)?;
        }
        self.flush()
    }

    /// Blocks until all has reached the system. Fails if it has not by `limit`, or once a signal ends the
    /// program.
    pub fn finish(&self, limit: Deadline) -> Result<(), Failure> {
        // A signal may come just before the wait.
        while !self.wait(Deadline::after(SLICE).min(limit))? {
            if (limit.has_passed() || is_ending())
                && let Some(late) = self.unwritten(Exit::Timeout, "it was not taken in time")
            {
                return Err(late);
            }
        }
        Ok(())
    }
}
