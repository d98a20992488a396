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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::resolve::ResolveArgs;
    use crate::server::access::AccessArgs;
    use clap::{Args as _, FromArgMatches as _};
    use std::net::{TcpListener, TcpStream};

    /// The admission of a server that is started with `arguments`, and an accepted connection.
    fn admission(arguments: &[&str]) -> (Admission, Arc<Stream>) {
        let command = AccessArgs::augment_args(clap::Command::new("test").no_binary_name(true));
        let access = AccessArgs::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        let gate = Gate::open(&access, &ResolveArgs::default()).unwrap();
        let connections = Connections::new(2, Some(1)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = Stream::accept(&listener).unwrap();
        (
            Admission::new(gate, Arc::new(connections)),
            Arc::new(stream),
        )
    }

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_denied_peer_takes_no_place() {
        let (admission, stream) = admission(&["--deny", "192.0.2.0/24"]);
        for address in ["192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let rejected = admission.admit(&stream, peer(address)).err();
            assert_eq!(rejected, Some(Rejected::Denied));
        }
        let permit = admission.admit(&stream, peer("198.51.100.1:1")).unwrap();
        assert_eq!(permit.number, 1);
    }

    #[test]
    fn an_ipv4_address_is_one_address_in_both_families() {
        let (admission, stream) = admission(&[]);
        let _permit = admission.admit(&stream, peer("192.0.2.1:1")).unwrap();
        let mapped = peer("[::ffff:192.0.2.1]:2");
        let rejected = admission.admit(&stream, mapped).err();
        assert_eq!(rejected, Some(Rejected::FullForPeer(1)));
    }

    #[test]
    fn the_first_rejection_of_each_kind_is_logged_once_an_episode() {
        let (admission, _) = admission(&[]);
        let peer = peer("192.0.2.1:1");
        let kinds = [
            Rejected::Denied,
            Rejected::Full(2),
            Rejected::FullForPeer(1),
        ];
        assert_eq!(admission.next_end(), Deadline::NEVER);
        for _ in 0..2 {
            for rejected in kinds {
                assert!(admission.count(rejected, peer).is_some());
                assert!(admission.count(rejected, peer).is_none());
            }
            assert_ne!(admission.next_end(), Deadline::NEVER);
            admission.close_episodes(|_| true);
            assert_eq!(admission.next_end(), Deadline::NEVER);
        }
    }

    #[test]
    fn a_rejection_that_is_to_be_logged_keeps_the_server_and_wakes_it() {
        let (admission, _) = admission(&[]);
        let guard = admission.count(Rejected::Denied, peer("192.0.2.1:1"));
        assert!(admission.connections.waker.clear());
        admission.connections.close();
        assert!(!admission.connections.have_ended());
        drop(guard);
        assert!(admission.connections.have_ended());
    }
}
