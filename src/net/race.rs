//! Connects to several addresses side by side: the first that answers wins (RFC 8305, Happy Eyeballs).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::Socket;

use crate::exit::{Exit, Failure, blame, cause};
use crate::net::connect::ConnectArgs;
use crate::net::peer::Endpoint;
use crate::net::socket;
use crate::net::stream::Stream;
use crate::net::target::Address;
use crate::units::told;
use crate::wait::{Deadline, Key, OUT, Ready, Set, is_wait};

/// A connection, and when each step to it was done.
pub struct Connected {
    /// Blocking.
    pub stream: Stream,
    pub peer: Endpoint,
    /// When the first address was tried.
    pub resolved: Instant,
    /// When `peer` was tried.
    pub began: Instant,
    pub established: Instant,
    /// `None`: straight.
    pub via: Option<Via>,
    /// How the peer has broken the connection off already, without a byte. The kernel reports that
    /// once; `stream` does not tell it again.
    pub reset: Option<io::Error>,
}

/// The proxies through which a connection leads. `peer` is the first.
pub struct Via {
    /// Their names, the nearest first.
    pub proxies: String,
    /// When the last of them had connected to the target.
    pub passed: Instant,
}

impl Connected {
    /// How long the peer took to answer. What was tried before it does not count.
    pub fn took(&self) -> Duration {
        self.reached() - self.began
    }

    /// When the peer had answered.
    pub fn reached(&self) -> Instant {
        self.via.as_ref().map_or(self.established, |via| via.passed)
    }

    /// The addresses of both ends. `None`: it is on a Unix socket.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let local = self.stream.local().ok().flatten()?;
        Some((local.inet()?, self.peer.inet()?))
    }

    /// `target` as typed, and how it was reached.
    pub fn name(&self, target: &Address) -> String {
        match &self.via {
            Some(via) => format!("{target} through {}", via.proxies),
            None => target.at(&self.peer),
        }
    }
}

impl AsFd for Connected {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How long an address is tried alone before the next is tried beside it (RFC 8305, section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long a Unix socket whose backlog is full is left alone.
const FULL_DELAY: Duration = Duration::from_millis(10);

/// The attempts to connect to one target. Its user calls [`Self::start_due`], waits until
/// [`Self::next_start`] for what [`Self::watch`] has added, and gives that to [`Self::winner`].
pub struct Race<'a> {
    args: &'a ConnectArgs,
    began: Instant,
    /// Addresses that have not been tried.
    waiting: VecDeque<Endpoint>,
    /// When the first of them is tried at the latest.
    next_start: Deadline,
    /// Under way, oldest first. Dropping an attempt ends it.
    attempts: Vec<Attempt>,
    failures: Vec<(Endpoint, io::Error)>,
}

struct Attempt {
    address: Endpoint,
    socket: Socket,
    began: Instant,
}

impl<'a> Race<'a> {
    pub fn new(args: &'a ConnectArgs, addresses: Vec<Endpoint>) -> Self {
        Self {
            args,
            began: Instant::now(),
            waiting: interleave(addresses),
            next_start: Deadline::now(),
            attempts: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Starts the attempts that are due. Does not block.
    pub fn start_due(&mut self) {
        // A failed attempt makes the next one due at once.
        while self.next_start.has_passed()
            && let Some(address) = self.waiting.pop_front()
        {
            match self.start(&address) {
                Ok(()) => self.next_start = Deadline::after(ATTEMPT_DELAY),
                // The backlog of a Unix socket is full: connect(2) would block, and poll(2) cannot wait.
                Err(error) if address.inet().is_none() && is_wait(&error) => {
                    self.waiting.push_front(address);
                    self.next_start = Deadline::after(FULL_DELAY);
                }
                Err(error) => self.failures.push((address, error)),
            }
        }
    }

    /// When the next attempt is due.
    pub fn next_start(&self) -> Deadline {
        if self.waiting.is_empty() {
            Deadline::NEVER
        } else {
            self.next_start
        }
    }

    /// Whether all attempts have failed.
    pub fn is_lost(&self) -> bool {
        self.attempts.is_empty() && self.waiting.is_empty()
    }

    /// The error of the attempt that failed last.
    pub fn last_error(&self) -> Option<&io::Error> {
        self.failures.last().map(|(_, error)| error)
    }

    /// Adds the attempts under way.
    pub fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key> {
        let sockets = self.attempts.iter().map(|attempt| &attempt.socket);
        sockets.map(|socket| set.add(socket.as_fd(), OUT)).collect()
    }

    /// Takes what a wait for `keys` has found at `at`. The first attempt that succeeds wins and drops
    /// the others. After a failure the next address is due at once.
    pub fn winner(
        &mut self,
        keys: &[Key],
        ready: &Ready,
        at: Instant,
    ) -> io::Result<Option<Connected>> {
        for (index, key) in keys.iter().enumerate().rev() {
            if !ready[*key] {
                continue;
            }
            let attempt = self.attempts.remove(index);
            match outcome(&attempt.socket) {
                Ok(reset) => {
                    self.attempts.clear();
                    attempt.socket.set_nonblocking(false)?;
                    return Ok(Some(Connected {
                        stream: Stream::new(attempt.socket),
                        peer: attempt.address,
                        resolved: self.began,
                        began: attempt.began,
                        established: at,
                        via: None,
                        reset,
                    }));
                }
                Err(error) => {
                    self.failures.push((attempt.address, error));
                    self.next_start = Deadline::now();
                }
            }
        }
        Ok(None)
    }

    fn start(&mut self, address: &Endpoint) -> io::Result<()> {
        let socket = socket::client(address, &self.args.source, &self.args.socket)?;
        let began = Instant::now();
        let connected = match address {
            Endpoint::Inet(address) => socket.connect(&(*address).into()),
            Endpoint::Unix(name) => socket.connect(&name.address()?),
        };
        match connected {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => {
                return Err(match address {
                    Endpoint::Inet(address) => socket::with_advice(address, error),
                    Endpoint::Unix(_) => error,
                });
            }
            // poll(2) shows a socket that is connected already as ready.
            _ => self.attempts.push(Attempt {
                address: address.clone(),
                socket,
                began,
            }),
        }
        Ok(())
    }

    /// Names every address that was tried and why it failed. Equal causes stand once.
    pub fn failure(&self, target: &Address, limit: Deadline) -> Failure {
        let silent = self.attempts.iter().map(|attempt| &attempt.address);
        let silent: Vec<_> = silent.chain(&self.waiting).cloned().collect();
        let blamed = self.failures.iter().map(|(_, error)| blame(error));
        let mut exit = blamed.max_by_key(|exit| *exit == Exit::Network);
        if !silent.is_empty() {
            exit = Some(Exit::Timeout);
        }
        let failures = self.failures.iter();
        let failures = failures.map(|(address, error)| (address.clone(), cause(error)));
        let no_answer = format!("no answer within {}", told(limit.length()));
        let silent = silent
            .into_iter()
            .map(|address| (address, no_answer.clone()));
        let tried = target.tried(failures.chain(silent));
        let message = format!("could not connect to {tried}");
        let failure = Failure::new(exit.unwrap_or(Exit::Local), message);
        let mut errors = self.failures.iter().map(|(_, error)| error.kind());
        if errors.any(|kind| kind == io::ErrorKind::NotFound) {
            // A server may create its Unix socket yet.
            return failure.that_may_pass();
        }
        failure
    }
}

/// Lets the families take turns, beginning with that of the first address (RFC 8305, section 4).
fn interleave(addresses: Vec<Endpoint>) -> VecDeque<Endpoint> {
    let is_ipv4 = |address: &Endpoint| address.inet().is_some_and(|address| address.is_ipv4());
    let first_is_ipv4 = addresses.first().is_some_and(is_ipv4);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| is_ipv4(address) == first_is_ipv4);
    let mut mixed = VecDeque::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        mixed.extend(first.pop_front());
        mixed.extend(second.pop_front());
    }
    mixed
}

/// The result of an attempt that poll(2) has shown to be over. It may have succeeded, and the peer
/// may have reset the connection since: the error tells how, if no byte came before it.
///
/// `SO_ERROR` would not do. It does not tell a failed attempt from such a reset. Reading it clears
/// it: then nothing shows the reset to the thread that reads the bytes before it.
fn outcome(socket: &Socket) -> io::Result<Option<io::Error>> {
    if let Ok(peer) = socket.peer_addr() {
        // The kernel may choose the target port, if that is ephemeral and on this machine, as our own:
        // then the socket connects to itself (RFC 9293, simultaneous open).
        let peer = peer.as_socket();
        if peer.is_some() && peer == socket.local_addr()?.as_socket() {
            return Err(Errno::CONNREFUSED.into());
        }
        return Ok(None);
    }
    match rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK) {
        Ok(_) => Ok(None),
        // A reset that answers a SYN is ECONNREFUSED (RFC 9293, section 3.10.7).
        Err(error @ (Errno::CONNRESET | Errno::PIPE)) => Ok(Some(error.into())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::net::options::{SourceArgs, TcpSocketArgs};
    use crate::wait::{GONE, wait_for};

    /// An attempt to connect to `address` that is over: it failed, or its connection broke.
    fn broken_attempt(address: SocketAddr, play: impl FnOnce()) -> Socket {
        let socket = socket::client(
            &address.into(),
            &SourceArgs::default(),
            &TcpSocketArgs::default(),
        );
        let socket = socket.unwrap();
        // EINPROGRESS, or an error that `outcome` tells.
        let _ = socket.connect(&address.into());
        play();
        assert!(
            wait_for(
                socket.as_fd(),
                GONE,
                Deadline::after(Duration::from_secs(10))
            )
            .unwrap()
        );
        socket
    }

    fn attempt_reset_after(bytes: &[u8]) -> Socket {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        broken_attempt(listener.local_addr().unwrap(), || {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(bytes).unwrap();
            let peer = Socket::from(peer);
            peer.set_linger(Some(Duration::ZERO)).unwrap();
        })
    }

    #[test]
    fn bytes_before_a_reset_are_received_and_then_the_reset() {
        let mut socket = attempt_reset_after(b"421 too busy");
        assert!(outcome(&socket).unwrap().is_none());
        let mut received = [0; 64];
        assert_eq!(socket.read(&mut received).unwrap(), 12);
        let error = socket.read(&mut received).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_connection_that_is_reset_at_once_was_established() {
        let reset = outcome(&attempt_reset_after(b"")).unwrap().unwrap();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_refused_attempt_is_an_error() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = outcome(&broken_attempt(address, || {})).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn families_take_turns_beginning_with_the_preferred_one() {
        let parse = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Endpoint::Inet(text.parse().unwrap()))
                .collect::<Vec<_>>()
        };
        let mixed = interleave(parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "1.1.1.1:1",
            "2.2.2.2:1",
        ]));
        assert_eq!(
            mixed,
            parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
    }
}
