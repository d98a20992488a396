//! Follows a name to a new address: looks it up again, without holding up anything.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::address::{HostPort, is_numeric};
use super::options::SourceArgs;
use super::resolve::ResolveArgs;
use crate::exit::Failure;
use crate::units::ip;
use crate::wait::{Deadline, Waker};

/// The least time from one look-up to the next: name servers are not to be flooded.
const PAUSE: Duration = Duration::from_secs(1);

pub struct Follower<'a> {
    target: &'a HostPort,
    resolve: &'a ResolveArgs,
    source: &'a SourceArgs,
    /// `None`: none is under way.
    lookup: Option<Lookup>,
    /// Before that no look-up starts.
    next: Deadline,
    /// The user knows that the address is still the same.
    has_told: bool,
}

/// A look-up in a thread of its own. Readable once it has ended.
struct Lookup {
    found: mpsc::Receiver<Result<Vec<SocketAddr>, Failure>>,
    ended: Arc<Waker>,
}

impl<'a> Follower<'a> {
    pub fn new(target: &'a HostPort, resolve: &'a ResolveArgs, source: &'a SourceArgs) -> Self {
        Self {
            target,
            resolve,
            source,
            lookup: None,
            next: Deadline::now(),
            has_told: false,
        }
    }

    /// Starts a look-up, unless one is under way, or the last was just now. An address needs none.
    pub fn start(&mut self) {
        let host = &self.target.host;
        let is_name = !host.is_empty() && !is_numeric(host);
        if !is_name || self.lookup.is_some() || !self.next.has_passed() {
            return;
        }
        self.next = Deadline::after(PAUSE);
        match self.look_up() {
            Ok(lookup) => self.lookup = Some(lookup),
            Err(error) => tracing::debug!("could not resolve {host} again: {error}"),
        }
    }

    fn look_up(&self) -> io::Result<Lookup> {
        let (sender, found) = mpsc::channel();
        let ended = Arc::new(Waker::new()?);
        let (resolve, waker) = (self.resolve.clone(), Arc::clone(&ended));
        let HostPort { host, port } = self.target.clone();
        let look_up = move || {
            // The ping may have ended.
            let _ = sender.send(resolve.resolve(&host, port, Deadline::NEVER));
            waker.wake();
        };
        let thread = thread::Builder::new().name("follow".to_owned());
        thread.spawn(look_up)?;
        Ok(Lookup { found, ended })
    }

    /// Readable once [`Self::moved`] has news. `None`: no look-up is under way.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.lookup.as_ref().map(|lookup| lookup.ended.as_fd())
    }

    /// Call it when [`Self::fd`] is ready. Tells what the look-up has found: the new addresses, if none of
    /// the `current` ones is among them.
    pub fn moved(&mut self, current: &[SocketAddr]) -> Option<Vec<SocketAddr>> {
        let found = self.lookup.take()?.found.try_recv().ok()?;
        let target = self.target;
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(failure) => {
                tracing::warn!("{failure}");
                return None;
            }
        };
        addresses.retain(|address| self.source.suits(address));
        let names = |addresses: &[SocketAddr]| {
            let names: Vec<String> = addresses.iter().map(ip).collect();
            names.join(", ")
        };
        let (is, was) = (names(&addresses), names(current));
        if addresses.is_empty() || addresses.iter().any(|new| current.contains(new)) {
            if !std::mem::replace(&mut self.has_told, true) {
                tracing::info!("no answer; resolved {target} again: still {was}");
            }
            return None;
        }
        self.has_told = false;
        tracing::info!("no answer; resolved {target} again: now {is}, no longer {was}");
        Some(addresses)
    }
}
