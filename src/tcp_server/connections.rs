//! The open connections of a server: counted, limited, and cut off when the server has to end.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::Rejected;
use crate::net::stream::Stream;
use crate::wait::Waker;

/// How many threads may be taking leave of their clients, even if fewer connections may be open.
const MOST_LEAVING: usize = 64;

/// All connections that are open.
pub struct Connections {
    most: u32,
    most_per_ip: Option<u32>,
    state: Mutex<State>,
    /// Wakes the main thread, which waits for the last connection to end.
    pub waker: Waker,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Arc<Stream>>,
    open_per_ip: BTreeMap<IpAddr, u32>,
    /// How many guards there are: of open connections, of closed ones that are not logged yet, and
    /// of rejections that are to be logged.
    guards: usize,
    last_number: u64,
    /// No connection will be added.
    is_closed: bool,
    is_cut_off: bool,
}

/// Keeps the server from ending as long as this lives.
pub struct Guard(Arc<Connections>);

/// Permission to serve a connection, which counts as open until [`Self::release`] or the drop.
pub struct Permit {
    guard: Guard,
    /// The first connection of a server is 1.
    pub number: u64,
    ip: IpAddr,
}

impl Connections {
    /// `most` connections may be open at once, and `most_per_ip` of one address.
    pub fn new(most: u32, most_per_ip: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            most,
            most_per_ip,
            state: Mutex::default(),
            waker: Waker::new()?,
        })
    }

    /// Counts a connection from `ip` as open, if there is room for it.
    pub fn add(self: &Arc<Self>, stream: &Arc<Stream>, ip: IpAddr) -> Result<Permit, Rejected> {
        let mut state = self.state();
        let most = self.most as usize;
        // Connections that take leave of their clients are not open, but take threads too.
        if state.open.len() >= most || state.guards >= most + most.max(MOST_LEAVING) {
            return Err(Rejected::Full(self.most));
        }
        let open = state.open_per_ip.entry(ip).or_default();
        match self.most_per_ip {
            Some(most) if *open >= most => return Err(Rejected::FullForPeer(most)),
            _ => *open += 1,
        }
        state.last_number += 1;
        let number = state.last_number;
        state.open.insert(number, Arc::clone(stream));
        let guard = self.guard_in(&mut state);
        Ok(Permit { guard, number, ip })
    }

    pub fn guard(self: &Arc<Self>) -> Guard {
        self.guard_in(&mut self.state())
    }

    fn guard_in(self: &Arc<Self>, state: &mut State) -> Guard {
        state.guards += 1;
        Guard(Arc::clone(self))
    }

    /// No connection will be added from now on. Returns how many are open.
    pub fn close(&self) -> usize {
        let mut state = self.state();
        state.is_closed = true;
        self.waker.wake();
        state.open.len()
    }

    /// Whether none will be added and every thread is done with its own, down to the last log line.
    pub fn have_ended(&self) -> bool {
        let state = self.state();
        state.is_closed && state.guards == 0
    }

    /// Shuts down the connections that are open, so that their threads see the end; how many.
    pub fn cut_off(&self) -> usize {
        let mut state = self.state();
        state.is_cut_off = true;
        for stream in state.open.values() {
            // It fails only for a connection that is over already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.open.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Gives the place to the next connection. Returns whether this one was cut off; from now on
    /// it is not: the caller is about to close it.
    pub fn release(&self) -> bool {
        let mut state = self.guard.0.state();
        if state.open.remove(&self.number).is_some()
            && let Some(open) = state.open_per_ip.get_mut(&self.ip)
        {
            *open -= 1;
            if *open == 0 {
                state.open_per_ip.remove(&self.ip);
            }
        }
        state.is_cut_off
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.guards -= 1;
        if state.is_closed {
            self.0.waker.wake();
        }
    }
}
