//! Dumps and records what passes, numbered by peer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::tap::{Direction, Tap, Taps};

/// How many peers are known by their numbers. Sources can be forged: when there are more, all are
/// forgotten, and get new numbers as they come.
const MOST_PEERS: usize = 1 << 16;

/// A peer is an address and a port; the first is number 1.
pub struct Watch {
    taps: Arc<Taps>,
    peers: HashMap<SocketAddr, Tap>,
    numbered: u64,
}

impl Watch {
    pub fn new(taps: Arc<Taps>) -> Self {
        Self {
            taps,
            peers: HashMap::new(),
            numbered: 0,
        }
    }

    /// Writes down a datagram that has passed.
    pub fn passed(
        &mut self,
        peer: SocketAddr,
        direction: Direction,
        payload: &[u8],
    ) -> io::Result<()> {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= MOST_PEERS {
                self.peers.clear();
            }
            self.numbered += 1;
            let number = self.numbered;
            tracing::info!(event = "watch", %peer, number, "Writing down {peer} as #{number}.");
        }
        let tap = self.peers.entry(peer);
        tap.or_insert_with(|| self.taps.session(self.numbered))
            .passed(direction, payload)
    }
}
