//! `-x` and `--record`: every datagram is written down with the number of its peer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::tap::{Direction, Tap, Taps};

/// How many peers keep their numbers. Sources can be forged: a table that is full is emptied, and
/// peers get new numbers.
const MOST_PEERS: usize = 1 << 16;

/// A peer is an address and a port; the first is number 1.
pub struct NumberedTap {
    taps: Arc<Taps>,
    peers: HashMap<SocketAddr, Tap>,
    numbered: u64,
}

impl NumberedTap {
    pub fn new(taps: Arc<Taps>) -> Self {
        Self {
            taps,
            peers: HashMap::new(),
            numbered: 0,
        }
    }

    /// Writes down a datagram from or to `peer`.
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
        tap.or_insert_with(|| self.taps.session(Some(self.numbered)))
            .passed(direction, payload)
    }
}
