//! Moves the bytes of a TCP session both ways, between a remote and a local end: standard input and
//! output, a program, or another connection.
//!
//! - When local input ends, the remote sees that end (half-close). Receiving goes on until the
//!   remote ends, or for `wait_after_eof`. An end without a byte may wait until the remote is silent.
//! - When the remote ends, all that it sent has been written. If local input has ended as well, the
//!   session is over. If not, input is still sent. An input that has delivered something is sent to its
//!   end; a terminal or a silent input until it has been silent for half a second. Meanwhile the
//!   kernel asks whether the remote is still there.
//! - Bytes that could not be delivered are an error, and so is a reset. What was received before is
//!   written first.
//! - After any error the connections are reset: nobody may take data for complete that was cut short.
//!
//! One thread serves both directions. It waits in poll(2), never in a read or a write. So limits are
//! exact, neither direction delays the other, and nothing is left running at the end.
//!
//! `ending` says when a session is over. `pace` says when the next piece of input is sent, `leftover` what
//! the next session gets of it. `rate` limits how fast bytes pass, and `watch` shows how many have.
//! `duplex` has the ends, and `pump` moves the bytes of one direction. `splice` has the system calls that
//! do so without a copy.

mod direction;
pub mod duplex;
mod ending;
mod leftover;
pub mod options;
pub mod pace;
mod pump;
mod rate;
mod splice;
mod watch;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::units::Patience;
use crate::wait::{Deadline, GONE, IN, Key, Set, pause};
use direction::Direction;
use duplex::{Duplex, Fault, HEAD, Reader, WhenClosed, Writer, is_gone};
use ending::HALF_CLOSE_WAIT;
pub use ending::{NoInput, Rules};
pub use leftover::Leftover;
use watch::Watch;

/// Why a session did not come to its end.
#[derive(Debug)]
pub enum Broken {
    /// The local end or the tap failed.
    Local(Fault),
    /// Not all bytes could be sent.
    Send(io::Error),
    /// The remote broke off. It may not have read all that was sent.
    Receive(io::Error),
    /// Nothing moved for this long.
    Idle(Duration),
    /// The session was not over after this long.
    Deadline(Duration),
}

/// How many bytes were written in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub sent: u64,
    pub received: u64,
    pub first_received: Option<Instant>,
    /// The remote has ended, in order or by a reset.
    pub peer_ended: bool,
    /// The remote has seen the end of what was sent.
    pub half_closed: bool,
    /// The first bytes of input, if its reader remembers them.
    pub head: [u8; HEAD],
}

/// Joins `local` and `remote` until both directions have ended, and drops both. After an error each
/// that is a connection is reset when its last owner drops it.
pub fn relay(local: Duplex, remote: Duplex, rules: &Rules) -> (Traffic, Result<(), Broken>) {
    let mut session = Session {
        rules,
        outgoing: Direction::new(local.reader, remote.writer, rules),
        incoming: Direction::new(remote.reader, local.writer, rules),
        watch: Watch::start(rules),
        has_hinted: false,
        ignores_hang_up: false,
        awaits_end: false,
        unread_at: Deadline::NEVER,
    };
    let mut result = session.run();
    session.show_end();
    // A capture has the reset too.
    session.reset_after(&result);
    result = session.finish_tap(result);
    session.reset_after(&result);
    let traffic = Traffic {
        sent: session.outgoing.pump.written,
        received: session.incoming.pump.written,
        first_received: session.incoming.first_move,
        peer_ended: session.incoming.has_ended(),
        half_closed: session.outgoing.pump.writer.is_finished(),
        head: session.outgoing.pump.reader.head.unwrap_or_default(),
    };
    (traffic, result)
}

struct Session<'a> {
    rules: &'a Rules,
    /// From the local end to the remote.
    outgoing: Direction,
    incoming: Direction,
    watch: Option<Watch>,
    /// The user has been told what the session waits for.
    has_hinted: bool,
    /// A remote on a Unix socket has gone. That is no error before bytes cannot be sent.
    ignores_hang_up: bool,
    /// No input is sent before the end of the remote has been read.
    awaits_end: bool,
    /// When the session fails as nobody reads its output. Never, while somebody does.
    unread_at: Deadline,
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), Broken> {
        loop {
            let (end, idle, deadline) = (self.end(), self.idle(), self.rules.deadline);
            if end.has_passed() || self.outgoing.has_ended() && self.incoming.has_ended() {
                break;
            }
            if idle.has_passed() && self.is_receiver() && self.incoming.first_move.is_some() {
                break;
            }
            if idle.has_passed() {
                return Err(Broken::Idle(idle.length()));
            }
            if deadline.has_passed() {
                return Err(Broken::Deadline(deadline.length()));
            }
            let finish_at = self.finish_at();
            if finish_at.has_passed() && !self.incoming.is_readable() {
                self.finish();
                continue;
            }
            let (hint_at, hint) = self.hint();
            if hint_at.has_passed() {
                self.has_hinted = true;
                tracing::warn!("{hint}");
                continue;
            }
            if self.unread_at.has_passed() {
                self.unread_at = Deadline::NEVER;
                self.output_failed(ErrorKind::BrokenPipe.into())?;
            }
            let limit = end.min(idle).min(deadline).min(hint_at).min(finish_at);
            let limit = limit.min(self.show_progress());
            self.advance(limit.min(self.unread_at))?;
        }
        self.await_acknowledgement().map_err(wait_failed)?;
        self.result()
    }

    /// After an error both connections are reset when they close.
    fn reset_after(&self, result: &Result<(), Broken>) {
        if result.is_err() {
            self.outgoing.pump.writer.reset_on_close();
            self.incoming.pump.writer.reset_on_close();
        }
    }

    /// Blocks until all that passed has been written down, within the limits of the session.
    fn finish_tap(&self, result: Result<(), Broken>) -> Result<(), Broken> {
        let (Some(outbox), false) = (
            self.outgoing.pump.outbox(),
            matches!(result, Err(Broken::Local(Fault::Tap(_)))),
        ) else {
            return result;
        };
        let (idle, deadline) = (self.idle(), self.rules.deadline);
        loop {
            let is_late = idle.min(deadline).has_passed();
            match outbox.wait(idle.min(deadline)) {
                Ok(true) => return result,
                Ok(false) if is_late && result.is_err() => return result,
                Ok(false) if is_late && deadline.has_passed() => {
                    return Err(Broken::Deadline(deadline.length()));
                }
                Ok(false) if is_late => return Err(Broken::Idle(idle.length())),
                Ok(false) => {}
                Err(error) => return Err(Broken::Local(Fault::Tap(error))),
            }
        }
    }

    /// Waits until a direction can go on, or until `limit`, and moves what can be moved.
    fn advance(&mut self, limit: Deadline) -> Result<(), Broken> {
        let is_receiving = !self.incoming.has_ended();
        let is_sending = !self.outgoing.has_ended();
        let held_until = self.held_until();
        let is_held = !held_until.has_passed();
        let mut set = Set::new();
        let outgoing = if is_receiving && self.awaits_end {
            Some(Key::ABSENT)
        } else if is_held {
            Some(set.add(self.outgoing.pump.reader.fd(), IN))
        } else {
            self.outgoing.wait_in(&mut set)
        };
        let incoming = self.incoming.wait_in(&mut set);
        // poll(2) reports a pipe without a reader, and a reset, even if nothing is to be written. While
        // the remote can be read, a read shows the reset.
        let output = self.incoming.pump.writer.pipe();
        let is_read = self.unread_at == Deadline::NEVER;
        let output = set.add(output.filter(|_| is_receiving && is_read), GONE);
        let remote = self.outgoing.pump.writer.fd();
        let is_watched = is_sending && !is_receiving && !self.ignores_hang_up;
        let remote = set.add(remote.filter(|_| is_watched), GONE);
        let is_at_once = outgoing.is_none() || incoming.is_none();
        let retry_at = self.outgoing.retry_at();
        let limit = match (is_at_once, is_held) {
            (true, _) => Deadline::now(),
            (false, true) => limit.min(held_until),
            (false, false) => limit.min(retry_at),
        };
        let limit = [&self.outgoing, &self.incoming]
            .into_iter()
            .filter_map(Direction::paused_until)
            .fold(limit, Deadline::min);
        let ready = set.wait(limit).map_err(wait_failed)?;
        let is_ready = |key: Option<Key>| key.is_none_or(|key| ready[key]);
        // Input is sent before closed output ends the session.
        if is_ready(outgoing) || (!is_held && retry_at.has_passed()) {
            // Input that cannot be read is an error of `send` too.
            if !is_sending {
                self.outgoing.flush();
            } else if !is_held || self.outgoing.pump.reader.fill().is_err() {
                self.send()?;
            }
        } else if ready[remote] && !self.is_missed() && self.outgoing.pump.writer.is_unix() {
            self.ignores_hang_up = true;
        } else if ready[remote] {
            let error = self.outgoing.reset();
            self.outgoing
                .fail(error.unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
        } else if ready[output] {
            self.unread_at = self.incoming.pump.writer.reader_left();
        }
        // `send` may have ended it.
        if is_ready(incoming) && !self.incoming.has_ended() {
            self.receive()?;
        } else if is_ready(incoming) && !is_receiving {
            self.incoming.flush();
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Broken> {
        if self.outgoing.pump.reader.leftover.is_some() && !self.may_send_to_this_remote()? {
            return Ok(());
        }
        match self.outgoing.step() {
            Ok(false) => {}
            Ok(true) => self.input_ended()?,
            Err(Fault::Write(error)) => {
                // EPIPE though the remote has not ended: see `Writer::take_error`.
                let is_reset = error.kind() == ErrorKind::BrokenPipe && !self.incoming.has_ended();
                let reset = self.outgoing.reset().filter(|_| is_reset);
                self.outgoing.fail(reset.unwrap_or(error));
            }
            Err(fault @ Fault::Read(_)) if self.outgoing.pump.reader.is_input => {
                self.outgoing.end(Some(fault));
            }
            Err(fault) => return Err(Broken::Local(fault)),
        }
        Ok(())
    }

    fn input_ended(&mut self) -> Result<(), Broken> {
        let pump = &mut self.outgoing.pump;
        if let (NoInput::Bytes(bytes), 0) = (&self.rules.no_input, pump.written) {
            let reader = Reader::bytes(bytes.clone()).without_finish();
            let writer = std::mem::replace(&mut pump.writer, Writer::discard());
            self.outgoing = Direction::new(reader, writer, self.rules);
            return Ok(());
        }
        self.outgoing.end(None);
        if let Some(error) = self.incoming.reset() {
            self.output_failed(error)?;
        }
        // After a failure the remote must not take the bytes for complete.
        let finishes = self.outgoing.pump.reader.finishes && !self.is_receiver();
        if finishes && self.incoming.failure.is_none() && !self.holds_end_back() {
            self.outgoing.pump.writer.finish();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Broken> {
        match self.incoming.step() {
            Ok(false) => {}
            Ok(true) => self.remote_ended(),
            Err(Fault::Write(error)) => self.output_failed(error)?,
            // The peer has said by TLS why it takes no more.
            Err(Fault::Read(error)) if error.kind() == ErrorKind::InvalidData => {
                return Err(Broken::Receive(error));
            }
            Err(Fault::Read(error)) => match self.outgoing.failure.take() {
                // If a write met the reset first, report that: it says that bytes were lost.
                Some(Fault::Write(error)) => return Err(Broken::Send(error)),
                Some(fault) => return Err(Broken::Local(fault)),
                None => return Err(Broken::Receive(error)),
            },
            Err(fault @ Fault::Tap(_)) => return Err(Broken::Local(fault)),
        }
        Ok(())
    }

    fn remote_ended(&mut self) {
        self.incoming.end(None);
        self.unread_at = Deadline::NEVER;
        // A reset may look like an end: see `Writer::take_error`.
        if let Some(error) = self.outgoing.pump.writer.take_error() {
            self.outgoing.fail(error);
        }
        if self.holds_end_back() {
            self.finish();
        }
        // As in `input_ended`.
        if self.incoming.pump.reader.finishes && self.outgoing.failure.is_none() {
            self.incoming.pump.writer.finish();
        }
        if !self.outgoing.has_ended() && self.rules.half_close_wait.is_none() {
            self.outgoing.pump.writer.probe_peer();
        }
        if !self.outgoing.has_ended() && self.outgoing.pump.reader.leftover.is_some() {
            self.outgoing.pump.keep();
        }
    }

    /// Local output cannot be written any more: does what its [`WhenClosed`] says.
    fn output_failed(&mut self, error: io::Error) -> Result<(), Broken> {
        match self.incoming.pump.writer.when_closed {
            WhenClosed::Discards if is_gone(&error) => self.incoming.pump.discard(),
            WhenClosed::FailsAtTheEnd if is_gone(&error) => self.incoming.fail(error),
            _ => return Err(Broken::Local(Fault::Write(error))),
        }
        Ok(())
    }

    /// Blocks until the remote has acknowledged our end or reset the connection. At most for the shorter
    /// of `half_close_wait` and [`HALF_CLOSE_WAIT`]. Only once both have ended: the remote answers
    /// bytes that come after it has gone with a reset.
    fn await_acknowledgement(&self) -> io::Result<()> {
        /// poll(2) cannot wait for that: a connection that has ended is always ready.
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        if !self.outgoing.has_ended() || !self.incoming.has_ended() {
            return Ok(());
        }
        let most = match self.rules.half_close_wait {
            Some(Patience::For(most)) => most.min(HALF_CLOSE_WAIT),
            _ => HALF_CLOSE_WAIT,
        };
        let limit = Deadline::after(most).min(self.rules.deadline);
        while self.outgoing.pump.writer.is_closing() && !limit.has_passed() {
            pause(limit.min(Deadline::after(LOOK_AGAIN)))?;
        }
        Ok(())
    }

    /// The error that was kept until both directions had ended, or how the connection broke since.
    fn result(&mut self) -> Result<(), Broken> {
        let mut sending = self.outgoing.failure.take();
        if sending.is_none() && self.incoming.has_ended() {
            sending = self.outgoing.pump.writer.take_error().map(Fault::Write);
        }
        if matches!(sending, Some(Fault::Write(_))) && self.leave_to_the_next() {
            sending = None;
        }
        match (sending, self.incoming.failure.take()) {
            (Some(Fault::Write(error)), _) => Err(Broken::Send(error)),
            (Some(fault), _) | (None, Some(fault)) => Err(Broken::Local(fault)),
            (None, None) => Ok(()),
        }
    }
}

/// poll(2) itself failed.
fn wait_failed(error: io::Error) -> Broken {
    Broken::Local(Fault::Read(error))
}
