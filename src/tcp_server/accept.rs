//! How connections are accepted: by the threads that serve them.
//!
//! Each listener has a [`Pool`] of its own, whose threads block in accept(2). A server that serves
//! one connection at a time has one thread for all its listeners: while it serves, the next
//! connection waits in the backlog.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use super::Server;
use super::pool::{self, Job, Pool};
use crate::exit::cause;
use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::server::episode::Episode;
use crate::wait::{Deadline, IN, Set, is_wait};

impl Server {
    /// Starts the threads that accept and serve.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let count = self.listeners().len();
        if self.once || self.handler.takes_one_at_a_time() {
            return pool::start_one(self.jobs(0..count)?);
        }
        (0..count).try_for_each(|index| Pool::start(self.jobs(index..index + 1)?))
    }

    /// Closes the listeners: the system refuses connections from now on. Blocks until every
    /// connection that was accepted before is counted. Returns how many are open.
    pub fn stop_accepting(&self) -> usize {
        self.closing.wake();
        if let Some(turns) = &self.turns {
            turns.close();
        }
        self.listeners().iter().for_each(Listener::stop_accepting);
        let listeners = self.listeners.write();
        listeners.unwrap_or_else(PoisonError::into_inner).clear();
        self.admission.connections.close()
    }

    pub fn listeners(&self) -> RwLockReadGuard<'_, Vec<Listener>> {
        self.listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs of a pool: the connections of some listeners.
    fn jobs(self: &Arc<Self>, range: Range<usize>) -> io::Result<impl Fn() -> Option<Job> + use<>> {
        for listener in &self.listeners()[range.clone()] {
            listener.set_nonblocking(!may_block(range.len()))?;
        }
        let server = Arc::clone(self);
        Ok(move || server.next_job(&range))
    }

    /// Blocks until there is a connection to serve. `None`: no more are accepted.
    fn next_job(self: &Arc<Self>, range: &Range<usize>) -> Option<Job> {
        let turn = match &self.turns {
            Some(turns) => Some(turns.take()?),
            None => None,
        };
        loop {
            // Held until the connection is counted: `stop_accepting` waits for that.
            let listeners = self.listeners();
            match self.accept(listeners.get(range.clone())?) {
                Ok((stream, peer)) => {
                    let stream = Arc::new(stream);
                    match self.admission.admit(&stream, peer) {
                        Ok(permit) => {
                            let server = Arc::clone(self);
                            let job = move || server.serve(stream, peer, permit, turn);
                            return Some(Box::new(job));
                        }
                        Err(rejected) => {
                            let is_first = self.admission.count(rejected);
                            // An end would look like a service that has nothing to say.
                            stream.reset_on_close();
                            // Neither the peer nor a stop has to wait for a log line.
                            drop((stream, listeners));
                            rejected.log(peer, is_first);
                        }
                    }
                }
                // accept(2): the socket does not listen any more.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return None,
                Err(error) => {
                    drop(listeners);
                    self.pause_after(&error);
                }
            }
        }
    }

    fn accept(&self, listeners: &[Listener]) -> io::Result<(Stream, Peer)> {
        if may_block(listeners.len()) {
            return listeners[0].accept();
        }
        let mut set = Set::new();
        let closing = set.add(self.closing.as_fd(), IN);
        let keys = listeners.iter().map(|socket| set.add(socket.as_fd(), IN));
        let keys: Vec<_> = keys.collect();
        let ready = set.wait(Deadline::NEVER)?;
        if ready[closing] {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let listener = listeners.iter().zip(keys).find(|(_, key)| ready[*key]);
        let (listener, _) = listener.ok_or(io::ErrorKind::Interrupted)?;
        let (stream, peer) = listener.accept()?;
        // On BSD the stream inherits O_NONBLOCK. Clearing it fails if the peer has gone away.
        let blocks = stream.set_nonblocking(false);
        blocks.map_err(|_| io::ErrorKind::ConnectionAborted)?;
        Ok((stream, peer))
    }

    /// Logs why accept(2) failed, once an episode, and waits: the next call would fail at once.
    fn pause_after(&self, error: &io::Error) {
        /// Long enough to cost no CPU time, short enough for a client not to notice.
        const PAUSE: Duration = Duration::from_millis(100);
        // accept(2): the peer reset the connection while it waited. The next call may succeed.
        if is_wait(error) || error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if Episode::begins(&self.exhausted) {
            let cause = cause(error);
            tracing::error!("could not accept a connection: {cause}; new ones have to wait");
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a thread that accepts from so many listeners may block in accept(2). On Linux
/// shutdown(2) of the listener wakes it.
#[cfg(target_os = "linux")]
fn may_block(listeners: usize) -> bool {
    listeners == 1
}

/// Elsewhere only `closing` wakes it, in poll(2).
#[cfg(not(target_os = "linux"))]
fn may_block(_listeners: usize) -> bool {
    false
}
