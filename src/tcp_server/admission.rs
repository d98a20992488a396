//! Who may connect: peers that `--allow` and `--deny` permit, while not too many are connected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::connections::{Connections, Permit};
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::server::access::Gate;
use crate::server::episode::Episode;
use crate::server::host;
use crate::tls::Acceptor;
use crate::wait::{Deadline, lock};

/// Admits or rejects connections, and logs episodes of rejections.
pub struct Admission {
    pub gate: Gate,
    pub connections: Arc<Connections>,
    episodes: Mutex<BTreeMap<Rejected, Episode>>,
    /// Clients have to say who they are (the PROXY protocol), and count for the host that they name.
    pub names_clients: bool,
    /// What clients have to shake hands with.
    pub tls: Option<Acceptor>,
}

/// Why a connection is reset as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejected {
    /// By this option: `--allow` or `--deny`.
    Denied(&'static str),
    /// That many are open already.
    Full(u32),
    /// That many are open from its host already.
    FullForHost(u32),
    /// It was admitted, and then there was no PROXY header.
    Header,
    /// It was admitted, and then there was no TLS with it.
    Handshake,
}

impl Admission {
    pub fn new(
        gate: Gate,
        connections: Arc<Connections>,
        tls: Option<Acceptor>,
        names_clients: bool,
    ) -> Self {
        Self {
            names_clients,
            tls,
            gate,
            connections,
            episodes: Mutex::default(),
        }
    }

    /// Counts a connection as open, or rejects it. The caller resets one that is rejected.
    pub fn admit(&self, stream: &Arc<Stream>, peer: Peer) -> Result<Permit, Rejected> {
        let ip = peer.ip();
        if ip.is_some_and(|ip| !self.gate.permits(ip)) {
            return Err(Rejected::Denied(self.gate.option()));
        }
        // The header tells whose host it counts for.
        self.connections
            .add(stream, ip.filter(|_| !self.names_clients))
    }

    /// Counts a rejection. Returns whether it is the first of an episode.
    pub fn count(&self, rejected: Rejected) -> bool {
        let mut episodes = lock(&self.episodes);
        let episode = episodes.entry(rejected).or_default();
        let is_first = episode.happened(Instant::now());
        if is_first {
            // The main thread has to wait for the end of the episode.
            self.connections.waker.wake();
        }
        is_first
    }

    /// When the first episode is over, if nothing more is rejected.
    pub fn next_end(&self) -> Deadline {
        let episodes = lock(&self.episodes);
        let ends = episodes.values().map(Episode::end);
        ends.fold(Deadline::NEVER, Deadline::min)
    }

    /// Closes each episode whose end `is_over`, and logs how many connections it rejected.
    pub fn close_episodes(&self, is_over: impl Fn(Deadline) -> bool) {
        for (rejected, episode) in &mut *lock(&self.episodes) {
            if let Some(count) = episode.close(&is_over) {
                let why = match rejected {
                    Rejected::Denied(_) => "they were not allowed",
                    Rejected::Full(_) => "too many were open",
                    Rejected::FullForHost(_) => "too many were open from one host",
                    Rejected::Header => "they sent no PROXY header",
                    Rejected::Handshake => "there was no TLS with them",
                };
                tracing::warn!(
                    event = "limit",
                    count,
                    "refused {count} connections in all: {why}"
                );
            }
        }
    }
}

impl Rejected {
    /// Logs a rejection. Only the first of an episode is of interest to the user.
    pub fn log(self, peer: Peer, is_first: bool) {
        match self {
            _ if !is_first => {
                tracing::debug!(event = "reject", %peer, "refused {peer}");
            }
            Self::Denied(option) => {
                tracing::warn!(event = "reject", %peer, "refused {peer}: not allowed ({option})");
            }
            Self::Full(limit) => {
                tracing::warn!(event = "limit", %peer, limit, "refused {peer}: {} (--max-connections {limit})", open(limit));
            }
            Self::Header => Self::log_because(peer, "there is no PROXY header", is_first),
            Self::Handshake => Self::log_because(peer, "there is no TLS with it", is_first),
            Self::FullForHost(limit) => {
                let host = peer.ip().map(host::name).unwrap_or_default();
                tracing::warn!(event = "limit", %peer, limit, "refused {peer}: {} from {host} (--max-connections-per-ip {limit})", open(limit));
            }
        }
    }

    /// Logs a rejection for a reason of its own.
    pub fn log_because(peer: Peer, why: &str, is_first: bool) {
        if is_first {
            tracing::warn!(event = "reject", %peer, "refused {peer}: {why}");
        } else {
            tracing::debug!(event = "reject", %peer, "refused {peer}: {why}");
        }
    }
}

/// How many connections are open, in words.
fn open(count: u32) -> String {
    match count {
        1 => "1 connection is open".to_owned(),
        _ => format!("{count} connections are open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::Listener;
    use crate::net::options::TcpSocketArgs;
    use crate::net::resolve::ResolveArgs;
    use crate::server::access::AccessArgs;
    use clap::{Args as _, FromArgMatches as _};
    use std::net::{SocketAddr, TcpStream};

    /// The admission of a server that is started with `arguments`, and an accepted connection.
    fn admission(arguments: &[&str]) -> (Admission, Arc<Stream>) {
        let command = AccessArgs::augment_args(clap::Command::new("test").no_binary_name(true));
        let access = AccessArgs::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        let gate = Gate::open(&access, &ResolveArgs::default()).unwrap();
        let connections = Connections::new(2, Some(1)).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::tcp(address, 1, &TcpSocketArgs::default()).unwrap();
        let address = listener.endpoint().unwrap().inet().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (
            Admission::new(gate, Arc::new(connections), None, false),
            Arc::new(stream),
        )
    }

    fn peer(text: &str) -> Peer {
        Peer::Inet(text.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn a_denied_peer_takes_no_place() {
        let (admission, stream) = admission(&["--deny", "192.0.2.0/24"]);
        for address in ["192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let rejected = admission.admit(&stream, peer(address)).err();
            assert_eq!(rejected, Some(Rejected::Denied("--deny")));
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
        assert_eq!(rejected, Some(Rejected::FullForHost(1)));
    }

    #[test]
    fn the_first_rejection_of_each_kind_begins_an_episode() {
        let (admission, _) = admission(&[]);
        let kinds = [
            Rejected::Denied("--deny"),
            Rejected::Full(2),
            Rejected::FullForHost(1),
        ];
        assert_eq!(admission.next_end(), Deadline::NEVER);
        for _ in 0..2 {
            for rejected in kinds {
                // The main thread learns of each beginning, and only of that.
                for is_first in [true, false] {
                    assert_eq!(admission.count(rejected), is_first);
                    assert_eq!(admission.connections.waker.clear(), is_first);
                }
            }
            assert_ne!(admission.next_end(), Deadline::NEVER);
            admission.close_episodes(|_| true);
            assert_eq!(admission.next_end(), Deadline::NEVER);
        }
    }
}
