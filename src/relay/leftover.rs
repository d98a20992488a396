//! An input that is for the next session too: what it says after a remote has left is for the next one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Broken, Session, wait_failed};
use crate::wait::{Deadline, FINISHED, lock, wait_for};

/// What standard input has said to a remote that had left. The next session begins with it.
pub type Leftover = Arc<Mutex<VecDeque<u8>>>;

impl Session<'_> {
    /// Whether the remote gets what such an input says. A remote that has ended may have gone: then it
    /// answers what is sent with a reset, and the next one gets that. So its end is read first.
    pub(super) fn may_send_to_this_remote(&mut self) -> Result<bool, Broken> {
        /// By then the answer is here.
        const ROUND_TRIP: Duration = Duration::from_millis(200);
        /// A remote that has taken more is there.
        const MOST_KEPT: usize = 1 << 20;
        if !self.incoming.has_ended() {
            let remote = self.outgoing.pump.writer.fd();
            let finished = remote.map(|fd| wait_for(fd, FINISHED, Deadline::now()));
            self.awaits_end = finished.unwrap_or(Ok(false)).map_err(wait_failed)?;
            return Ok(!self.awaits_end);
        }
        if let Some(error) = self.outgoing.reset() {
            self.outgoing.fail(error);
            return Ok(false);
        }
        let silence = self.outgoing.last_move.elapsed();
        if silence > ROUND_TRIP || self.outgoing.pump.kept() > MOST_KEPT {
            self.outgoing.pump.keep();
        }
        Ok(true)
    }

    /// The remote has left. Returns whether there is something for the next one.
    pub(super) fn leave_to_the_next(&mut self) -> bool {
        let Some(leftover) = self.outgoing.pump.reader.leftover.clone() else {
            return false;
        };
        let kept = self.outgoing.pump.take_kept();
        let is_kept = !kept.is_empty();
        lock(&leftover).extend(kept);
        is_kept
    }
}
