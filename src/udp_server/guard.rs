//! What holds for every service: who is refused, how an answer goes out, and what is counted.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use rustix::io::Errno;

use super::limit::Limiter;
use super::numbered_tap::Watch;
use super::refusal::{self, Refusal};
use super::socket::{Inlet, Peer};
use crate::exit::cause;
use crate::net::datagram::largest;
use crate::net::socket;
use crate::server::access::Gate;
use crate::server::episode::Episode;
use crate::tap::Direction;
use crate::wait::Deadline;

/// What the services have in common, whatever they answer.
pub struct Desk {
    /// Where the server's sockets are bound.
    own: Vec<SocketAddr>,
    pub gate: Gate,
    limiter: Option<Limiter>,
    watch: Option<Watch>,
    refused: [(Refusal, Episode); Refusal::ALL.len()],
    failed: Episode,
    unwatched: Episode,
}

impl Desk {
    pub fn new(
        own: Vec<SocketAddr>,
        gate: Gate,
        limiter: Option<Limiter>,
        watch: Option<Watch>,
    ) -> Self {
        Self {
            own,
            gate,
            limiter,
            watch,
            refused: Refusal::ALL.map(|refusal| (refusal, Episode::default())),
            failed: Episode::default(),
            unwatched: Episode::default(),
        }
    }

    /// Why nothing of `source` is let in.
    pub fn of_access(&self, source: SocketAddr) -> Option<Refusal> {
        (!self.gate.permits(source.ip())).then_some(Refusal::Denied)
    }

    /// Why nothing may be sent to `source`.
    pub fn of_source(&self, source: SocketAddr) -> Option<Refusal> {
        refusal::of_source(source, &self.own, socket::is_local)
    }

    /// Why `source` is not answered now; counts towards its rate.
    pub fn of_rate(&mut self, source: SocketAddr) -> Option<Refusal> {
        let limiter = self.limiter.as_mut()?;
        (!limiter.allows(source.ip(), Instant::now)).then_some(Refusal::Rate)
    }

    /// Says and notes that a datagram was let in.
    pub fn received(&mut self, payload: &[u8], source: SocketAddr) {
        let bytes = payload.len();
        tracing::info!(event = "datagram", peer = %source, bytes, "Received from {source}.");
        self.note(source, Direction::Received, payload);
    }

    /// Sends a datagram, if it can be sent at all.
    pub fn send(&mut self, inlet: &Inlet, payload: &[u8], peer: &Peer, hops: Option<u8>) {
        if payload.len() > largest(&peer.address) {
            self.refuse(Refusal::TooLarge, peer.address);
        } else if let Err(error) = inlet.send(payload, peer, hops) {
            if Errno::from_io_error(&error) == Some(Errno::ACCESS) {
                // ip(7): it is a broadcast address, of a network that only the system knows of.
                return self.refuse(Refusal::NoHost, peer.address);
            }
            self.fail(&format!("could not answer {}", peer.address), &error);
        } else {
            self.note(peer.address, Direction::Sent, payload);
        }
    }

    pub fn refuse(&mut self, refusal: Refusal, source: SocketAddr) {
        let (_, episode) = &mut self.refused[refusal as usize];
        if episode.happened(Instant::now()) {
            tracing::warn!(
                event = "refuse",
                peer = %source,
                reason = %refusal,
                "no answer to a datagram from {source}: {refusal}"
            );
        }
    }

    pub fn fail(&mut self, what: &str, error: &io::Error) {
        if self.failed.happened(Instant::now()) {
            tracing::warn!(event = "fail", "{what}: {}", cause(error));
        }
    }

    /// A dump or a record that cannot be written is no reason to answer nobody.
    fn note(&mut self, peer: SocketAddr, direction: Direction, payload: &[u8]) {
        if let Some(watch) = &mut self.watch
            && let Err(error) = watch.passed(peer, direction, payload)
            && self.unwatched.happened(Instant::now())
        {
            tracing::error!(event = "fail", "{}", crate::tap::failure(&error));
        }
    }

    /// When the next episode is over, if it stays quiet.
    pub fn next_end(&self) -> Deadline {
        let refused = self.refused.iter().map(|(_, episode)| episode);
        refused
            .chain([&self.failed, &self.unwatched])
            .map(Episode::end)
            .fold(Deadline::NEVER, Deadline::min)
    }

    /// Says of the episodes whose end `is_over` how much happened, where that is not said yet.
    pub fn close_episodes(&mut self, is_over: impl Fn(Deadline) -> bool) {
        for (refusal, episode) in &mut self.refused {
            if let Some(count) = episode.close(&is_over) {
                tracing::warn!(
                    event = "refuse",
                    count,
                    reason = %refusal,
                    "no answer to {count} datagrams in all: {refusal}"
                );
            }
        }
        let failures = [
            (&mut self.failed, "received or answered"),
            (&mut self.unwatched, "written down"),
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
