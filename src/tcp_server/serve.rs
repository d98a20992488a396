//! One connection, from its log line at the start to that at the end.

use std::sync::Arc;
use std::time::Instant;

use super::Server;
use super::admission::Rejected;
use super::connection::Connection;
use super::connections::Permit;
use super::ended::Ended;
use super::turns::Turn;
use crate::exit::{Exit, Failure};
use crate::net::peer::{Endpoint, Peer};
use crate::net::stream::Stream;
use crate::tap::{Direction, Ends, Tap};
use crate::units;
use crate::wait::lock;

/// Why a connection ended that was open at the drain timeout.
const CUT_OFF: &str = "cut off, as the server stops";

impl Server {
    /// Serves a connection and closes it. Blocks until it has ended. `turn` is its turn to start a
    /// program.
    pub fn serve(
        &self,
        stream: Arc<Stream>,
        mut peer: Peer,
        mut permit: Permit,
        turn: Option<Turn>,
    ) {
        if self.once {
            self.stop_accepting();
        }
        // A slow client has no turn: a program that has heard its header, or shaken hands, waits for none.
        let is_slow = self.admission.names_clients || self.admission.tls.is_some();
        let turn = turn.filter(|_| !is_slow);
        let number = permit.number;
        let start = Instant::now();
        let tap = self.tap(&stream, peer, number);
        let mut connection = Connection::new(number, stream, peer, &self.limits, tap);
        if self.admission.names_clients {
            match self.introduce(&mut connection, &mut permit, peer) {
                Ok(named) => peer = named,
                Err(()) => return,
            }
        }
        if let Some(acceptor) = &self.admission.tls
            && let Err(reason) = connection.encrypt(acceptor)
        {
            return self.refuse(&connection, reason, peer, &permit);
        }
        log_start(&connection, peer);
        let begun = connection.flush_record();
        let ended = begun.and_then(|()| self.handler.handle(&connection, turn));
        // The client may connect again as soon as it sees the end.
        let was_cut_off = permit.release();
        let is_orderly = ended.as_ref().err().is_none_or(Ended::is_orderly);
        if is_orderly && !was_cut_off {
            connection.close_gently();
        } else {
            connection.break_off();
        }
        let recorded = connection.flush_record();
        let ended = ended.and(recorded);
        let traffic = connection.traffic();
        drop(connection);
        let reason = match &ended {
            _ if was_cut_off => CUT_OFF.to_owned(),
            Ok(()) => String::new(),
            Err(reason) => reason.to_string(),
        };
        // The failure of a server with one connection is told at its end.
        let is_error = matches!(&ended, Err(Ended::Local(failure))
            if failure.exit == Exit::Local && !was_cut_off && !self.is_single());
        log_end(number, peer, start, traffic, &reason, is_error);
        if let Err(reason) = ended {
            self.fail_with(reason, peer, traffic.1);
        }
        // Now the server may end.
        drop(permit);
    }

    /// Reads who has connected (the PROXY protocol), and counts the connection for that host. An error has
    /// been told, and the connection is over.
    fn introduce(
        &self,
        connection: &mut Connection,
        permit: &mut Permit,
        peer: Peer,
    ) -> Result<Peer, ()> {
        let named = connection.read_header().map_err(|reason| {
            self.refuse(connection, reason, peer, permit);
        })?;
        named
            .ip()
            .map_or(Ok(()), |ip| permit.claim(ip))
            .map_err(|rejected| {
                permit.release();
                connection.break_off();
                rejected.log(named, self.admission.count(rejected));
            })?;
        Ok(named)
    }

    /// Ends a connection whose client has not shaken hands. That is logged once an episode.
    fn refuse(&self, connection: &Connection, reason: Ended, peer: Peer, permit: &Permit) {
        let was_cut_off = permit.release();
        match &reason {
            // The client gets to read what was wrong.
            Ended::Handshake(_) if !was_cut_off => connection.close_gently(),
            _ => connection.break_off(),
        }
        let is_first = self.admission.count(match reason {
            Ended::Header(_) => Rejected::Header,
            _ => Rejected::Handshake,
        });
        let why = if was_cut_off {
            CUT_OFF.to_owned()
        } else {
            reason.to_string()
        };
        Rejected::log_because(peer, &why, is_first);
        self.fail_with(reason, peer, 0);
    }

    /// What records a connection. Pieces carry its number if several are served at once.
    fn tap(&self, stream: &Stream, peer: Peer, number: u64) -> Option<Tap> {
        let taps = self.taps.as_ref()?;
        let local = stream.local().ok().flatten();
        let ends = match (local, peer) {
            (Some(Endpoint::Inet(local)), Peer::Inet(peer)) => Some(Ends::new(local, peer)),
            _ => None,
        };
        let name = format!("connection {number} from {peer}");
        let shown = (!self.is_single()).then_some(number);
        Some(taps.session(shown, ends, Direction::Received, &name))
    }

    /// Whether the server serves one connection at a time, or one in all.
    fn is_single(&self) -> bool {
        self.once || self.handler.takes_one_at_a_time()
    }

    /// Makes the server fail for `reason`, if it was the server's only connection or if standard input
    /// or output failed.
    fn fail_with(&self, reason: Ended, peer: Peer, sent: u64) {
        let failure = match reason {
            Ended::Local(failure) if self.is_single() => failure,
            reason if self.once && !reason.is_orderly() => {
                let sent = match &reason {
                    Ended::Failed(_) if sent > 0 => format!("; {}", units::sent(sent)),
                    _ => String::new(),
                };
                let message = format!("could not finish with {peer}: {reason}{sent}");
                Failure::new(reason.exit(), message)
            }
            _ => return,
        };
        *lock(&self.failure) = Some(failure);
        self.stop_accepting();
    }
}

/// Logs that `connection` is accepted, and whom the certificate of `peer` names.
fn log_start(connection: &Connection, peer: Peer) {
    let number = connection.number;
    tracing::info!(event = "accept", connection = number, %peer, "Accept new connection from {peer}...");
    if let Some(subject) = connection.subject() {
        tracing::info!(event = "tls", connection = number, %peer, subject, "{peer} is {subject}.");
    }
}

/// Logs how connection `number` from `peer` ended: `reason`, or in order. `traffic` is what was received
/// and what was sent.
fn log_end(
    number: u64,
    peer: Peer,
    start: Instant,
    traffic: (u64, u64),
    reason: &str,
    is_error: bool,
) {
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let colon = if reason.is_empty() { "" } else { ": " };
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                event = "close",
                connection = number,
                %peer,
                bytes_in = traffic.0,
                bytes_out = traffic.1,
                duration_ms,
                reason = if reason.is_empty() { "end" } else { reason },
                "Connection from {peer} closed{colon}{reason}."
            )
        };
    }
    if is_error {
        log!(error);
    } else {
        log!(info);
    }
}
