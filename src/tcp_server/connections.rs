//! The open connections of a server: counted, and cut off when the server has to end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::net::stream::Stream;
use crate::wait::Waker;

/// All connections that are open. A server can wait for their end in poll(2): see `watch`.
pub struct Connections {
    open: Mutex<Open>,
    ended: Waker,
    cut: AtomicBool,
}

#[derive(Default)]
struct Open {
    streams: HashMap<u64, Arc<Stream>>,
    /// How much is held: connections whose threads are not done with them, though some may be closed
    /// already, and what is to be logged.
    unfinished: usize,
    next: u64,
    /// How many are open from one address.
    by_peer: HashMap<IpAddr, u32>,
    watched: bool,
}

/// Why there is no room for another connection.
#[derive(Clone, Copy, Debug)]
pub enum Full {
    /// So many are open.
    All,
    /// So many are open from its address.
    ForPeer,
}

/// How many threads may be taking leave of their clients, even if fewer may be open.
const MOST_LEAVING: usize = 64;

/// Something that the end of the server waits for, as long as this lives.
pub struct Hold {
    connections: Arc<Connections>,
}

/// One connection: counted as open until `close` at the latest, and waited for as long as this lives.
pub struct Slot {
    hold: Hold,
    /// The first connection of a server is 1.
    pub number: u64,
    peer: IpAddr,
}

impl Connections {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            open: Mutex::default(),
            ended: Waker::new()?,
            cut: AtomicBool::new(false),
        })
    }

    /// Counts a connection, if fewer than `most` are open, and fewer than `from_one` from `peer`.
    pub fn add(
        self: &Arc<Self>,
        stream: Arc<Stream>,
        peer: IpAddr,
        most: u32,
        from_one: Option<u32>,
    ) -> Result<Slot, Full> {
        let mut open = self.lock();
        let most = most as usize;
        // Those that take leave of their clients are no longer open, but their number is bounded too.
        if open.streams.len() >= most || open.unfinished >= most + most.max(MOST_LEAVING) {
            return Err(Full::All);
        }
        let of_peer = || open.by_peer.get(&peer).copied().unwrap_or(0);
        if from_one.is_some_and(|most| of_peer() >= most) {
            return Err(Full::ForPeer);
        }
        open.next += 1;
        let number = open.next;
        open.streams.insert(number, stream);
        *open.by_peer.entry(peer).or_default() += 1;
        let hold = self.hold_in(&mut open);
        Ok(Slot { hold, number, peer })
    }

    pub fn hold(self: &Arc<Self>) -> Hold {
        self.hold_in(&mut self.lock())
    }

    fn hold_in(self: &Arc<Self>, open: &mut Open) -> Hold {
        open.unfinished += 1;
        Hold {
            connections: Arc::clone(self),
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().streams.len()
    }

    /// Whether every thread is done with its connection, down to the last log line.
    pub fn all_finished(&self) -> bool {
        self.lock().unfinished == 0
    }

    /// From now on the descriptor becomes readable whenever a thread is done with a connection.
    pub fn watch(&self) {
        self.lock().watched = true;
    }

    /// Makes the descriptor unreadable until the next time.
    pub fn clear(&self) {
        self.ended.clear();
    }

    /// Ends the connections that are still open: their threads see the end of input.
    pub fn cut_off(&self) {
        self.cut.store(true, Ordering::Relaxed);
        let open = self.lock();
        for stream in open.streams.values() {
            // One that has gone away meanwhile needs no cutting.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Connections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Slot {
    /// Whether the connection did not end by itself but was cut off.
    pub fn was_cut(&self) -> bool {
        self.hold.connections.cut.load(Ordering::Relaxed)
    }

    /// Gives its place to the next. It is not cut off any more: who calls this is about to close it.
    pub fn close(&self) {
        self.give_back(&mut self.hold.connections.lock());
    }

    fn give_back(&self, open: &mut Open) {
        if open.streams.remove(&self.number).is_some()
            && let Entry::Occupied(mut count) = open.by_peer.entry(self.peer)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.unfinished -= 1;
        if open.watched {
            self.connections.ended.wake();
        }
    }
}
