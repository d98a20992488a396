//! When a session ends, and what it says while that takes long.

use std::time::Duration;

use super::duplex::Fault;
use super::pace::Pace;
use super::watch::Queued;
use super::{Direction, Session};
use crate::progress::Plan;
use crate::units::Patience;
use crate::wait::Deadline;

/// How long a terminal, or an input that has delivered nothing, may be silent after the remote has
/// ended.
pub const HALF_CLOSE_WAIT: Duration = Duration::from_millis(500);

/// How long the remote may pause within a transfer before it may be waiting for this side.
const SILENT_SENDER: Duration = Duration::from_secs(10);

/// How long the remote may be silent after a read of standard input has failed.
const UNREADABLE_WAIT: Duration = Duration::from_secs(1);

/// How long the remote may be silent after bytes could not be sent to it.
const UNSENT_WAIT: Duration = Duration::from_secs(2);

/// What ends a session that would go on for ever.
#[derive(Clone, Debug)]
pub struct Rules {
    pub no_input: NoInput,
    /// How long local input may be silent after the remote has ended. `None`: an input that has
    /// delivered something is read to its end. A terminal, an input that has delivered nothing and one
    /// that is for the next session too are left after [`HALF_CLOSE_WAIT`].
    pub half_close_wait: Option<Patience>,
    /// How long the remote may take to end after local input has ended. Reaching it is no error.
    pub wait_after_eof: Option<Duration>,
    /// How long nothing may move in either direction.
    pub idle_timeout: Option<Duration>,
    pub deadline: Deadline,
    /// Holds back the pieces of local input.
    pub pace: Pace,
    /// How many bytes a second may pass in each direction.
    pub max_rate: Option<usize>,
    /// What the user is shown of the session while it runs.
    pub progress: Option<Plan>,
    /// Tells what the remote's system has not acknowledged.
    pub queued: Queued,
}

/// What the remote sees if local input ends without a byte.
#[derive(Clone, Debug)]
pub enum NoInput {
    /// The end, as after any input.
    End,
    /// The end, once the remote is silent. nc and ncat stop sending when they see it.
    EndAfterSilence,
    /// These bytes, and no end.
    Bytes(Vec<u8>),
    /// No end before its own: this side only receives. Some senders take an end for a hang-up.
    Nothing,
}

impl Rules {
    /// Each direction goes on to its own end, however long that takes.
    pub const PATIENT: Self = Self {
        no_input: NoInput::End,
        half_close_wait: Some(Patience::Forever),
        wait_after_eof: None,
        idle_timeout: None,
        deadline: Deadline::NEVER,
        pace: Pace::None,
        max_rate: None,
        progress: None,
        queued: |_| None,
    };
}

impl Session<'_> {
    /// When the session is over without an error if nothing moves from now on.
    pub(super) fn end(&self) -> Deadline {
        let half_close = match (self.incoming.end, self.patience()) {
            // While the remote is slow to read, or nothing may pass, the input is not silent.
            (Some(end), Patience::For(silence))
                if !self.outgoing.pump.is_writing() && self.outgoing.paused_until().is_none() =>
            {
                Deadline::since(end.max(self.outgoing.last_move), silence)
            }
            _ => Deadline::NEVER,
        };
        let (Some(end), wait) = (self.outgoing.end, self.rules.wait_after_eof) else {
            return half_close;
        };
        // The remote sees no end after a failure, and may wait for it.
        let silence = match (wait, &self.outgoing.failure) {
            (Some(wait), _) => return half_close.min(Deadline::since(end, wait)),
            (None, None) => return half_close,
            (None, Some(Fault::Read(_))) => UNREADABLE_WAIT,
            (None, Some(_)) => UNSENT_WAIT,
        };
        Deadline::since(end.max(self.incoming.last_move), silence)
    }

    /// How long local input may be silent once the remote has ended.
    fn patience(&self) -> Patience {
        match self.rules.half_close_wait {
            Some(patience) => patience,
            None if self.is_transfer() => Patience::Forever,
            None => Patience::For(HALF_CLOSE_WAIT),
        }
    }

    /// Whether local input is read to its end though the remote has ended.
    fn is_transfer(&self) -> bool {
        let reader = &self.outgoing.pump.reader;
        self.outgoing.first_move.is_some() && !reader.is_terminal() && reader.leftover.is_none()
    }

    /// Whether a remote that has gone is an error, though there may be nothing left to be sent.
    pub(super) fn is_missed(&self) -> bool {
        self.rules.half_close_wait.is_none() && self.is_transfer()
    }

    /// Whether local input has ended without a byte, and the remote sees no end of it.
    pub(super) fn is_receiver(&self) -> bool {
        matches!(self.rules.no_input, NoInput::Nothing)
            && self.outgoing.has_ended()
            && self.outgoing.first_move.is_none()
    }

    /// Whether local input has ended without a byte, and the remote is still to see that.
    pub(super) fn holds_end_back(&self) -> bool {
        let outgoing = &self.outgoing;
        matches!(self.rules.no_input, NoInput::EndAfterSilence)
            && outgoing.has_ended()
            && outgoing.failure.is_none()
            && outgoing.first_move.is_none()
            && outgoing.pump.reader.finishes
            && !outgoing.pump.writer.is_finished()
    }

    /// When the remote is due to see an end that is held back: after a short silence, or a long one
    /// within a transfer.
    pub(super) fn finish_at(&self) -> Deadline {
        if !self.holds_end_back() || !self.is_heard() {
            return Deadline::NEVER;
        }
        let silence = if self.is_amid_transfer() {
            SILENT_SENDER
        } else {
            HALF_CLOSE_WAIT
        };
        // The answer to the end has to come within these.
        let limits = [self.rules.wait_after_eof, self.rules.idle_timeout];
        let limits = limits.into_iter().flatten().map(|limit| limit / 2);
        Deadline::since(self.incoming.last_move, limits.fold(silence, Duration::min))
    }

    /// Whether the remote is read: its silence is its own.
    fn is_heard(&self) -> bool {
        !self.incoming.pump.is_writing() && self.incoming.paused_until().is_none()
    }

    /// Shows the remote the end that was held back.
    pub(super) fn finish(&mut self) {
        if self.is_amid_transfer() {
            tracing::warn!(
                "the peer is silent and has not ended; some senders need an option to end \
                 (nc -N, nc -q 0), and --recv-only keeps this side open"
            );
        }
        self.outgoing.pump.writer.finish();
    }

    fn is_amid_transfer(&self) -> bool {
        /// A server says less before it waits for its client. The first flight of a transfer is more
        /// (RFC 6928): over a long way the next one takes a while.
        const GREETING: u64 = 8 << 10;
        !self.incoming.has_ended() && self.incoming.pump.written > GREETING
    }

    pub(super) fn idle(&self) -> Deadline {
        let directions = [&self.outgoing, &self.incoming];
        let [sending, receiving] = directions.map(Direction::silent_since);
        let time = self.rules.idle_timeout;
        time.map_or(Deadline::NEVER, |time| {
            Deadline::since(sending.max(receiving), time)
        })
    }

    /// When a line is due that says what the session waits for, and that line.
    pub(super) fn hint(&self) -> (Deadline, &'static str) {
        const OPEN_INPUT: Duration = Duration::from_secs(2);
        let silence = |direction: &Direction, time| Deadline::since(direction.last_move, time);
        match (self.outgoing.end, self.incoming.end) {
            _ if self.has_hinted => (Deadline::NEVER, ""),
            (None, Some(end)) if self.is_missed() && !self.outgoing.pump.is_writing() => {
                let pause = Deadline::since(end.max(self.outgoing.last_move), OPEN_INPUT);
                let hint =
                    "the peer has ended; input is still open (--half-close-wait 0 leaves at once)";
                (pause, hint)
            }
            (Some(_), None)
                if self.is_receiver()
                    && self.is_heard()
                    && self.incoming.first_move.is_some()
                    && self.rules.idle_timeout.is_none() =>
            {
                let hint = "the peer is silent and has not ended; some senders need an option to \
                    end (nc -N, nc -q 0), and --idle-timeout TIME ends this side";
                (silence(&self.incoming, SILENT_SENDER), hint)
            }
            _ => (Deadline::NEVER, ""),
        }
    }
}
