//! `-x` and `--record`: every datagram is written down with the number of its peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::exit::{Exit, Failure};
use crate::tap::{Direction, Ends, MOST_WAITING, Outbox, Tap, Taps};

/// How many peers keep their numbers. Sources can be forged: a table that is full is emptied, and
/// peers get new numbers.
const MOST_PEERS: usize = 1 << 16;

/// A peer is an address and a port; the first is number 1.
pub struct NumberedTap {
    /// What the files have not taken yet. No peer waits for that.
    pub outbox: Arc<Outbox>,
    peers: HashMap<SocketAddr, Tap>,
    numbered: u64,
    /// Whether the files have the numbers.
    shows_numbers: bool,
}

impl NumberedTap {
    pub fn new(taps: &Arc<Taps>) -> Self {
        Self {
            outbox: taps.outbox(),
            peers: HashMap::new(),
            numbered: 0,
            shows_numbers: taps.has_numbers(),
        }
    }

    /// Writes down a datagram from or to `peer`, by our address `local`. Fails if too much waits for the
    /// files.
    pub fn passed(
        &mut self,
        peer: SocketAddr,
        local: SocketAddr,
        direction: Direction,
        payload: &[u8],
    ) -> Result<(), Failure> {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= MOST_PEERS {
                self.peers.clear();
            }
            self.numbered += 1;
            let number = self.numbered;
            if self.shows_numbers {
                tracing::info!(event = "watch", %peer, number, "Writing down {peer} as #{number}.");
            }
        }
        let tap = self.peers.entry(peer);
        let tap = tap.or_insert_with(|| Tap::new(Arc::clone(&self.outbox), Some(self.numbered)));
        if self.outbox.waiting() > MOST_WAITING
            && !self.outbox.flush()?
            && let Some(full) = self.outbox.unwritten(Exit::Local, "it takes no more data")
        {
            tap.skipped(direction, payload);
            return Err(full);
        }
        let ends = Ends::new(local, peer);
        tap.datagram(ends, direction, payload).map(drop)
    }
}
