//! Who is let in: by `--allow` and `--deny`, and while fewer connections are open than may be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::connections::{Connections, Guard, Permit};
use crate::net::stream::Stream;
use crate::server::access::Gate;
use crate::server::episode::Episode;
use crate::wait::Deadline;

/// Decides about every accepted connection, and counts the rejected ones.
pub struct Admission {
    pub gate: Gate,
    pub connections: Arc<Connections>,
    episodes: Mutex<BTreeMap<Rejected, Episode>>,
}

/// Why a connection is closed as soon as it has been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejected {
    /// By `--allow` or `--deny`.
    Denied,
    /// So many are open.
    Full(u32),
    /// So many are open from its address.
    FullForPeer(u32),
}

impl Admission {
    pub fn new(gate: Gate, connections: Arc<Connections>) -> Self {
        Self {
            gate,
            connections,
            episodes: Mutex::default(),
        }
    }

    /// Counts a connection as open, if it may be served. A rejected one is for the caller to close.
    pub fn admit(&self, stream: &Arc<Stream>, peer: SocketAddr) -> Result<Permit, Rejected> {
        let ip = peer.ip().to_canonical();
        if !self.gate.permits(ip) {
            return Err(Rejected::Denied);
        }
        self.connections.add(stream, ip)
    }

    /// Counts a rejection. The first of an episode is to be logged, by [`Rejected::log`]; the server
    /// waits for that as long as the guard lives.
    pub fn count(&self, rejected: Rejected, peer: SocketAddr) -> Option<Guard> {
        let begins = self
            .episodes()
            .entry(rejected)
            .or_default()
            .happened(Instant::now());
        if !begins {
            tracing::debug!(event = "reject", %peer, "closed a connection from {peer}");
            return None;
        }
        // The main thread now has the end of an episode to wait for.
        self.connections.waker.wake();
        Some(self.connections.guard())
    }

    /// When the next episode is over, if nothing is rejected before.
    pub fn next_end(&self) -> Deadline {
        let episodes = self.episodes();
        let ends = episodes.values().map(Episode::end);
        ends.fold(Deadline::NEVER, Deadline::min)
    }

    /// Logs how many were rejected in every episode whose end `is_over`.
    pub fn close_episodes(&self, is_over: impl Fn(Deadline) -> bool) {
        for (rejected, episode) in &mut *self.episodes() {
            if let Some(count) = episode.close(&is_over) {
                let why = match rejected {
                    Rejected::Denied => "they were not allowed",
                    Rejected::Full(_) => "too many were open",
                    Rejected::FullForPeer(_) => "too many were open from one address",
                };
                tracing::warn!(
                    event = "limit",
                    count,
                    "closed {count} connections in all: {why}"
                );
            }
        }
    }

    fn episodes(&self) -> MutexGuard<'_, BTreeMap<Rejected, Episode>> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rejected {
    pub fn log(self, peer: SocketAddr) {
        match self {
            Self::Denied => {
                tracing::warn!(event = "reject", %peer, "closed a connection from {peer}: it is not allowed");
            }
            Self::Full(limit) => {
                tracing::warn!(event = "limit", %peer, limit, "closed a connection from {peer}: {limit} are open already");
            }
            Self::FullForPeer(limit) => {
                let ip = peer.ip().to_canonical();
                tracing::warn!(event = "limit", %peer, limit, "closed a connection from {peer}: {limit} are open from {ip} already");
            }
        }
    }
}
