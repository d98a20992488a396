//! What the user sees of a session while it runs: `--progress`.

use std::os::fd::BorrowedFd;

use super::{Rules, Session};
use crate::progress::{Look, Progress};
use crate::wait::Deadline;

/// How many bytes of a connection wait in the system until the peer's has acknowledged them. `None`: it
/// is not known.
pub type Queued = fn(BorrowedFd<'_>) -> Option<u64>;

pub struct Watch {
    progress: Progress,
    /// What the remote's system had acknowledged at the last look.
    sent: u64,
}

impl Watch {
    /// `None`: nothing is shown.
    pub fn start(rules: &Rules) -> Option<Self> {
        let progress = Progress::start(rules.progress)?;
        Some(Self { progress, sent: 0 })
    }
}

impl Session<'_> {
    /// Shows how far the session is, if that is due. Returns when it is due again.
    pub(super) fn show_progress(&mut self) -> Deadline {
        match &self.watch {
            Some(watch) if watch.progress.due().has_passed() => self.look(),
            _ => {}
        }
        let due = self.watch.as_ref().map(|watch| watch.progress.due());
        due.unwrap_or(Deadline::NEVER)
    }

    /// Shows how far the session has come. It has ended.
    pub(super) fn show_end(&mut self) {
        let watch = self.watch.as_mut();
        if watch.is_some_and(|watch| watch.progress.end()) {
            self.look();
        }
        self.watch = None;
    }

    fn look(&mut self) {
        let (sent, received) = (self.acknowledged(), self.incoming.pump.written);
        let Some(watch) = &mut self.watch else { return };
        watch.sent = watch.sent.max(sent);
        let sent = watch.sent;
        // The size of a file that is sent is not that of a larger answer.
        let is_answer = received > sent && watch.progress.is_of_input();
        let line = |look: &Look, width| {
            if is_answer {
                look.without_size().bytes(width)
            } else {
                look.bytes(width)
            }
        };
        watch.progress.look(sent.max(received), line, |look| {
            tracing::info!(
                event = "progress",
                sent,
                received,
                seconds = look.time.as_secs_f64(),
                bytes_per_second = look.rate,
                size = look.size,
                "{}",
                line(look, usize::MAX)
            );
        });
    }

    /// What has been sent, without what only fills the system's buffer.
    fn acknowledged(&self) -> u64 {
        let pump = &self.outgoing.pump;
        let queued = pump.writer.fd().and_then(self.rules.queued).unwrap_or(0);
        pump.written.saturating_sub(queued)
    }
}
