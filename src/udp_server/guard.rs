//! Stands between the sockets and the services: every datagram passes it on its way in, and every
//! answer on its way out.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustix::io::Errno;

use super::handler::Handler;
use super::limit::Limiter;
use super::losses::Losses;
use super::numbered_tap::NumberedTap;
use super::refusal::{self, Refusal};
use super::socket::{Peer, Received, ServerSocket};
use crate::exit::{Failure, Worst, cause};
use crate::net::datagram::largest;
use crate::net::socket;
use crate::server::access::Gate;
use crate::server::episode::Episode;
use crate::server::host::is_loopback;
use crate::tap::Direction;
use crate::wait::{Deadline, Key, Set};

pub struct Guard {
    pub sockets: Vec<ServerSocket>,
    pub gate: Gate,
    limiter: Option<Limiter>,
    tap: Option<NumberedTap>,
    refused: BTreeMap<Refusal, Episode>,
    pub losses: Losses,
    /// Datagrams for which the receive buffer had no room.
    lost: Episode,
    /// Datagrams that could not be received or sent.
    failed: Episode,
    /// Datagrams that could not be written down.
    unrecorded: Episode,
    /// Why they could not.
    unrecorded_by: Worst,
}

impl Guard {
    pub fn new(
        sockets: Vec<ServerSocket>,
        gate: Gate,
        limiter: Option<Limiter>,
        tap: Option<NumberedTap>,
        losses: Losses,
    ) -> Self {
        Self {
            sockets,
            gate,
            limiter,
            tap,
            refused: BTreeMap::new(),
            losses,
            lost: Episode::default(),
            failed: Episode::default(),
            unrecorded: Episode::default(),
            unrecorded_by: Worst::default(),
        }
    }

    /// Whether `handler` gets this datagram. Logs and writes it down, or counts why it is refused.
    pub fn admits(
        &mut self,
        received: &Received,
        payload: &[u8],
        peer: &Peer,
        handler: &Handler,
    ) -> bool {
        let source = peer.address;
        if let Some(refusal) = self.refusal(received, payload, handler) {
            self.refuse(refusal, source);
            return false;
        }
        let bytes = payload.len();
        tracing::info!(event = "datagram", peer = %source, bytes, "Received from {source}.");
        self.record(peer, Direction::Received, received.destination, payload);
        true
    }

    /// Why a datagram is refused: all checks in their order.
    fn refusal(
        &mut self,
        received: &Received,
        payload: &[u8],
        handler: &Handler,
    ) -> Option<Refusal> {
        let source = received.source;
        if !self.gate.permits(source.ip()) {
            return Some(Refusal::Denied);
        }
        // The other checks are about answers.
        if matches!(handler, Handler::Discard | Handler::Stdio(_)) {
            return None;
        }
        if let Some(refusal) = self.source_refusal(source) {
            return Some(refusal);
        }
        if matches!(handler, Handler::Hello) && refusal::is_nested_greeting(payload) {
            return Some(Refusal::NestedGreeting);
        }
        if received.hops_left == Some(0) {
            return Some(Refusal::Hops);
        }
        // The answers of programs are counted when they come.
        if !matches!(handler, Handler::Programs(_)) && self.is_over_rate(source) {
            return Some(Refusal::Rate);
        }
        None
    }

    fn source_refusal(&self, source: SocketAddr) -> Option<Refusal> {
        let own = self.sockets.iter().map(|socket| socket.local);
        refusal::check_source(source, own, socket::is_local)
    }

    /// Whether `source` may be sent to at all. If not, this counts why.
    pub fn lets_send_to(&mut self, source: SocketAddr) -> bool {
        let refusal = self.source_refusal(source);
        if let Some(refusal) = refusal {
            self.refuse(refusal, source);
        }
        refusal.is_none()
    }

    /// Counts an answer to `source`; whether it is above the limit.
    pub fn is_over_rate(&mut self, source: SocketAddr) -> bool {
        let Some(limiter) = &mut self.limiter else {
            return false;
        };
        !is_loopback(source.ip()) && !limiter.take(source.ip(), Instant::now())
    }

    /// Sends a datagram with the hop limit `hops`, or the usual one. Counts why if that fails.
    pub fn send(&mut self, payload: &[u8], peer: &Peer, hops: Option<u8>) {
        if payload.len() > largest(&peer.address) {
            return self.refuse(Refusal::TooLarge, peer.address);
        }
        match self.sockets[peer.socket].send(payload, peer, hops) {
            Ok(_) => self.record(peer, Direction::Sent, None, payload),
            // ip(7): it is a broadcast address, of a network that only the system knows of.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => {
                self.refuse(Refusal::NoHost, peer.address);
            }
            Err(error) => self.fail(format_args!("could not answer {}", peer.address), &error),
        }
    }

    /// Counts a datagram that is not answered, and logs the first of an episode.
    pub fn refuse(&mut self, refusal: Refusal, source: SocketAddr) {
        let episode = self.refused.entry(refusal).or_default();
        if episode.happened(Instant::now()) {
            tracing::warn!(
                event = "refuse",
                peer = %source,
                reason = %refusal,
                "no answer to a datagram from {source}: {refusal}"
            );
        }
    }

    /// Counts a datagram that was lost by `error`, and logs the first of an episode.
    pub fn fail(&mut self, what: impl fmt::Display, error: &io::Error) {
        if self.failed.happened(Instant::now()) {
            tracing::warn!(event = "fail", "{what}: {}", cause(error));
        }
    }

    /// Counts the datagrams that the kernel has dropped, and logs the first of an episode.
    pub fn look_for_losses(&mut self) {
        if let Some((count, why)) = self.losses.look(&self.sockets)
            && self.lost.happened_often(count, Instant::now())
        {
            tracing::warn!(event = "lost", "datagrams were lost: {why}");
        }
    }

    /// Writes a datagram down, which came to `destination`. The server goes on without.
    fn record(
        &mut self,
        peer: &Peer,
        direction: Direction,
        destination: Option<IpAddr>,
        payload: &[u8],
    ) {
        if let Some(tap) = &mut self.tap {
            let mut local = peer.local.unwrap_or(self.sockets[peer.socket].local);
            let own = local.ip();
            // The system has chosen where an answer to a group leaves from.
            let is_chosen =
                direction == Direction::Sent && (own.is_multicast() || own.is_unspecified());
            let chosen = is_chosen
                .then(|| socket::source_towards(peer.address))
                .flatten();
            if let Some(ip) = destination.or(chosen) {
                local.set_ip(ip);
            }
            let result = tap.passed(peer.address, local, direction, payload);
            self.recorded(result);
        }
    }

    fn recorded<T>(&mut self, result: Result<T, Failure>) {
        if let Err(failure) = result {
            self.is_unrecorded(&failure);
        }
    }

    fn is_unrecorded(&mut self, failure: &Failure) {
        self.unrecorded_by.add(failure.exit);
        if self.unrecorded.happened(Instant::now()) {
            tracing::error!(event = "fail", "{failure}");
        }
    }

    /// Adds the file that has not taken all, if there is one.
    pub fn watch_record<'a>(&'a self, set: &mut Set<'a>) -> Key {
        let tap = self.tap.as_ref().and_then(|tap| tap.outbox.room());
        tap.map_or(Key::ABSENT, |(fd, events)| set.add(fd, events))
    }

    /// Call this once the key of [`Self::watch_record`] is ready.
    pub fn go_on_recording(&mut self) {
        if let Some(tap) = &self.tap {
            let result = tap.outbox.flush();
            self.recorded(result);
        }
    }

    /// Blocks until all is written down, or until `limit`. Fails if a datagram is not, ever since the start:
    /// no peer could be told.
    pub fn finish_recording(&mut self, limit: Deadline) -> Result<(), Failure> {
        let finished = self.tap.as_ref().map(|tap| tap.outbox.finish(limit));
        if let Some(Err(failure)) = finished {
            self.is_unrecorded(&failure);
        }
        self.unrecorded_by.result()
    }

    /// When the next episode is over if it stays quiet, or the losses are looked at.
    pub fn next_end(&self) -> Deadline {
        let episodes = self.refused.values();
        let ends = episodes.chain([&self.lost, &self.failed, &self.unrecorded]);
        ends.map(Episode::end).fold(self.losses.due, Deadline::min)
    }

    /// Closes the episodes whose end `is_over`, and logs their numbers of datagrams.
    pub fn close_episodes(&mut self, is_over: impl Fn(Deadline) -> bool) {
        for (reason, episode) in &mut self.refused {
            if let Some(count) = episode.close(&is_over) {
                tracing::warn!(
                    event = "refuse",
                    count,
                    %reason,
                    "no answer to {count} datagrams in all: {reason}"
                );
            }
        }
        let failures = [
            (&mut self.lost, "kept: the receive buffer was full"),
            (&mut self.failed, "received or answered"),
            (&mut self.unrecorded, "written down"),
        ];
        for (episode, what) in failures {
            if let Some(count) = episode.close(&is_over) {
                tracing::warn!(
                    event = "fail",
                    count,
                    "{count} datagrams in all could not be {what}"
                );
            }
        }
    }
}
