//! Ends the server: at a signal, after its last connection, or since nobody has connected.

use std::os::fd::AsFd as _;
use std::time::Duration;

use super::Server;
use crate::exit::{Exit, Failure};
use crate::server::stop::Stop;
use crate::server::systemd;
use crate::terminal::is_at_terminal;
use crate::units::told;
use crate::wait::{Deadline, IN, Set, wait_for};

impl Server {
    /// Blocks until no more connections are accepted and all have ended. After a signal it
    /// cuts off those that are still open at the drain timeout.
    pub fn wait(&self, stop: &Stop) -> Result<(), Failure> {
        let (gate, connections) = (&self.admission.gate, &self.admission.connections);
        let mut first_signal = Some(stop.as_fd());
        let mut cut_off_at = Deadline::NEVER;
        let mut give_up_at = Deadline::within(self.limits.accept_timeout);
        while !connections.have_ended() {
            if give_up_at.has_passed() {
                self.give_up(give_up_at.length())?;
                give_up_at = Deadline::NEVER;
            }
            if cut_off_at.has_passed() {
                return self.cut_off();
            }
            let mut set = Set::new();
            let stopped = set.add(first_signal, IN);
            let reload = set.add(gate.as_fd(), IN);
            let woken = set.add(connections.waker.as_fd(), IN);
            let limit = cut_off_at.min(give_up_at);
            let ready = set.wait(limit.min(self.admission.next_end()))?;
            if ready[stopped] {
                first_signal = None;
                give_up_at = Deadline::NEVER;
                cut_off_at = self.drain();
            }
            if ready[reload] {
                gate.read_again_if_asked();
            }
            if ready[woken] {
                connections.waker.clear();
            }
            self.admission.close_episodes(Deadline::has_passed);
        }
        Ok(())
    }

    /// Fails if nobody has connected in this `time`, and accepts no more connections then.
    fn give_up(&self, time: Duration) -> Result<(), Failure> {
        let connections = &self.admission.connections;
        if connections.have_begun() {
            return Ok(());
        }
        self.stop_accepting();
        if connections.have_begun() {
            // At the last moment. It is served, and is the last.
            return Ok(());
        }
        let message = format!("nobody connected within {} (--accept-timeout)", told(time));
        Err(Failure::new(Exit::Timeout, message))
    }

    /// Accepts no more connections. Returns when the open ones are to be cut off.
    fn drain(&self) -> Deadline {
        systemd::stopping();
        let open = self.stop_accepting();
        // With none open, threads may still have to log the end of theirs.
        if open > 0 {
            let s = if open == 1 { "" } else { "s" };
            let mut limit = format!("{} at most", told(self.limits.drain_timeout));
            if is_at_terminal() {
                limit.push_str("; Ctrl-C again to stop now");
            }
            tracing::info!(
                event = "drain",
                open,
                "Waiting for {open} connection{s} to end ({limit})"
            );
        }
        Deadline::after(self.limits.drain_timeout)
    }

    /// Resets the open connections. Blocks until their threads have logged that and ended their
    /// programs, for a short time at most.
    fn cut_off(&self) -> Result<(), Failure> {
        const GRACE: Duration = Duration::from_millis(500);
        const GRACE_FOR_PROGRAMS: Duration = Duration::from_secs(5);
        let connections = &self.admission.connections;
        let open = connections.cut_off();
        let grace = Deadline::after(if self.handler.program().is_some() {
            GRACE_FOR_PROGRAMS
        } else {
            GRACE
        });
        while !connections.have_ended() && !grace.has_passed() {
            wait_for(connections.waker.as_fd(), IN, grace)?;
            connections.waker.clear();
        }
        if open == 0 {
            return Ok(());
        }
        let time = told(self.limits.drain_timeout);
        let were = match open {
            1 => "connection that was",
            _ => "connections that were",
        };
        let message = format!("closed {open} {were} still open after {time} (--drain-timeout)");
        Err(Failure::new(Exit::Timeout, message))
    }
}
