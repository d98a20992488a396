//! Connects to a name over TCP: its addresses race, and the first that answers wins (Happy
//! Eyeballs, RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::Socket;

use crate::exit::{Exit, Failure, OrFail as _, blame, cause};
use crate::net::address::{HostPort, ip};
use crate::net::options::{SourceArgs, TcpSocketArgs};
use crate::net::resolve::ResolveArgs;
use crate::net::socket;
use crate::net::stream::Stream;
use crate::wait::{Deadline, Key, OUT, Set};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connecting")]
pub struct ConnectArgs {
    /// Give up if not connected after TIME
    #[arg(short = 'w', long, value_name = "TIME", default_value = "10s", value_parser = crate::units::positive_duration)]
    pub connect_timeout: Duration,
    #[command(flatten)]
    pub resolve: ResolveArgs,
    /// Retry a failed connection up to N times
    #[arg(long, value_name = "N", default_value = "0")]
    retry: u32,
    /// Wait TIME before trying again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::units::duration)]
    retry_delay: Duration,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    socket: TcpSocketArgs,
    /// Each failed attempt that is repeated is told.
    #[arg(skip)]
    pub is_verbose: bool,
}

impl ConnectArgs {
    /// The defaults, with these options for resolving.
    pub fn new(resolve: ResolveArgs) -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            resolve,
            retry: 0,
            retry_delay: Duration::ZERO,
            source: SourceArgs::default(),
            socket: TcpSocketArgs::default(),
            is_verbose: false,
        }
    }

    /// Repeats `attempt` up to `--retry` times while it fails for a reason that may pass. Blocks in
    /// between, but not beyond `deadline`.
    pub fn with_retries<T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let attempts = u64::from(self.retry) + 1;
        let mut number = 1;
        loop {
            let failure = match attempt() {
                Err(failure) if number < attempts && failure.exit != Exit::Local => failure,
                result => return result,
            };
            if self.is_verbose {
                let (cause, next) = (failure.cause(), self.retry_delay);
                tracing::info!("attempt {number} of {attempts}: {cause}; next in {next:?}");
            }
            number += 1;
            let next = Deadline::after(self.retry_delay);
            if deadline.min(next) == deadline {
                thread::sleep(deadline.left().unwrap_or_default());
                let message = format!("{failure}; gave up after {:?}", deadline.length());
                return Err(Failure::new(Exit::Timeout, message));
            }
            thread::sleep(self.retry_delay);
        }
    }

    /// The time limit of one attempt that begins now.
    pub fn limit(&self, deadline: Deadline) -> Deadline {
        Deadline::after(self.connect_timeout).min(deadline)
    }

    /// Resolves `target`: its addresses that these options can connect to, at least one.
    pub fn addresses(
        &self,
        target: &HostPort,
        limit: Deadline,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = self.resolve.resolve(&target.host, target.port, limit)?;
        addresses.retain(|address| self.source.suits(address));
        if addresses.is_empty() {
            let message = format!(
                "could not connect to {target}: it has no address of the family of --source"
            );
            return Err(Failure::local(message));
        }
        Ok(addresses)
    }
}

/// A connection, and when each step to it was done.
pub struct Connected {
    /// Blocking.
    pub stream: Stream,
    pub peer: SocketAddr,
    /// When the first address was tried.
    pub resolved: Instant,
    /// When `peer` was tried.
    pub began: Instant,
    pub established: Instant,
    /// How the peer has broken the connection off already, without a byte. The kernel reports that
    /// once; `stream` does not tell it again.
    pub reset: Option<io::Error>,
}

impl Connected {
    /// How long the peer took to answer. What was tried before it does not count.
    pub fn took(&self) -> Duration {
        self.established - self.began
    }
}

/// How long an address is tried alone before the next is tried beside it (RFC 8305, section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Resolves `target`, connects to the first of its addresses that answers, and drops all other
/// attempts. Gives up at the connect timeout, at `deadline`, or after `--retry` attempts more.
pub fn connect(
    target: &HostPort,
    args: &ConnectArgs,
    deadline: Deadline,
) -> Result<Connected, Failure> {
    args.with_retries(deadline, || {
        let limit = args.limit(deadline);
        let addresses = args.addresses(target, limit)?;
        connect_to(target, addresses, args, limit)
    })
}

/// As [`connect`], once and with known addresses.
pub fn connect_to(
    target: &HostPort,
    addresses: Vec<SocketAddr>,
    args: &ConnectArgs,
    limit: Deadline,
) -> Result<Connected, Failure> {
    let mut race = Race {
        args,
        began: Instant::now(),
        waiting: interleave(addresses),
        next_start: Deadline::now(),
        attempts: Vec::new(),
        failures: Vec::new(),
    };
    let winner = race.run(limit);
    let winner = winner.or_fail(Exit::Local, || format!("could not connect to {target}"))?;
    winner.ok_or_else(|| race.failure(target, limit))
}

/// Lets the families take turns, beginning with that of the first address (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_ipv4);
    let mut mixed = VecDeque::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        mixed.extend(first.pop_front());
        mixed.extend(second.pop_front());
    }
    mixed
}

struct Race<'a> {
    args: &'a ConnectArgs,
    began: Instant,
    /// Addresses that have not been tried.
    waiting: VecDeque<SocketAddr>,
    /// When the first of them is tried at the latest.
    next_start: Deadline,
    /// Under way, oldest first. Dropping an attempt ends it.
    attempts: Vec<Attempt>,
    failures: Vec<(SocketAddr, io::Error)>,
}

struct Attempt {
    address: SocketAddr,
    socket: Socket,
    began: Instant,
}

impl Race<'_> {
    /// Blocks until `limit` at most. `None`: all attempts failed, or `limit` passed.
    fn run(&mut self, limit: Deadline) -> io::Result<Option<Connected>> {
        while !limit.has_passed() {
            if (self.attempts.is_empty() || self.next_start.has_passed())
                && let Some(address) = self.waiting.pop_front()
            {
                match self.start(address) {
                    Ok(()) => self.next_start = Deadline::after(ATTEMPT_DELAY),
                    Err(error) => self.failures.push((address, error)),
                }
                continue;
            }
            if self.attempts.is_empty() {
                break;
            }
            let wake = if self.waiting.is_empty() {
                limit
            } else {
                limit.min(self.next_start)
            };
            if let Some(winner) = self.wait(wake)? {
                return Ok(Some(winner));
            }
        }
        Ok(None)
    }

    /// Waits for the attempts until `wake`. The first that succeeds wins and drops the others. After a
    /// failure the next address starts at once.
    fn wait(&mut self, wake: Deadline) -> io::Result<Option<Connected>> {
        let mut set = Set::new();
        let sockets = self.attempts.iter().map(|attempt| &attempt.socket);
        let keys: Vec<Key> = sockets.map(|socket| set.add(socket.as_fd(), OUT)).collect();
        let ready = set.wait(wake)?;
        let established = Instant::now();
        for (index, key) in keys.into_iter().enumerate().rev() {
            if !ready[key] {
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
                        established,
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

    fn start(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = socket::tcp_client(&address, &self.args.source, &self.args.socket)?;
        let began = Instant::now();
        match socket.connect(&address.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => {
                return Err(socket::with_advice(&address, error));
            }
            // poll(2) shows a socket that is connected already as ready.
            _ => self.attempts.push(Attempt {
                address,
                socket,
                began,
            }),
        }
        Ok(())
    }

    /// Names every address that was tried and why it failed. Equal causes stand once.
    fn failure(&self, target: &HostPort, limit: Deadline) -> Failure {
        let silent = self.attempts.iter().map(|attempt| &attempt.address);
        let silent: Vec<_> = silent.chain(&self.waiting).copied().collect();
        let mut causes: Vec<(String, Vec<SocketAddr>)> = Vec::new();
        for (address, error) in &self.failures {
            let cause = cause(error);
            match causes.iter_mut().find(|(other, _)| *other == cause) {
                Some((_, addresses)) => addresses.push(*address),
                None => causes.push((cause, vec![*address])),
            }
        }
        let blamed = self.failures.iter().map(|(_, error)| blame(error));
        let mut exit = blamed.max_by_key(|exit| *exit == Exit::Network);
        if !silent.is_empty() {
            causes.push((format!("no answer within {:?}", limit.length()), silent));
            exit = Some(Exit::Timeout);
        }
        let message = match &causes[..] {
            [(cause, addresses)] if addresses.len() == 1 => {
                format!("could not connect to {}: {cause}", target.at(addresses[0]))
            }
            causes => {
                let each = causes.iter().map(|(cause, addresses)| {
                    let ips: Vec<String> = addresses.iter().map(ip).collect();
                    format!("{} {cause}", ips.join(", "))
                });
                let each: Vec<String> = each.collect();
                format!("could not connect to {target}: {}", each.join("; "))
            }
        };
        Failure::new(exit.unwrap_or(Exit::Local), message)
    }
}

/// The result of an attempt that poll(2) has shown to be over. It may have succeeded, and the peer
/// may have reset the connection since: the error tells how, if no byte came before it.
///
/// `SO_ERROR` would not do. It does not tell a failed attempt from such a reset, and once it is read,
/// nothing shows the reset to those who read the bytes before it.
fn outcome(socket: &Socket) -> io::Result<Option<io::Error>> {
    if let Ok(peer) = socket.peer_addr() {
        // The kernel may choose the target port, if that is ephemeral and on this machine, as our own:
        // then the socket connects to itself (RFC 9293, simultaneous open).
        if peer.as_socket() == socket.local_addr()?.as_socket() {
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
    use crate::wait::{GONE, wait_for};

    /// An attempt to connect to `address` that is over: it failed, or its connection broke.
    fn broken_attempt(address: SocketAddr, play: impl FnOnce()) -> Socket {
        let socket =
            socket::tcp_client(&address, &SourceArgs::default(), &TcpSocketArgs::default());
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
                .map(|text| text.parse().unwrap())
                .collect::<Vec<SocketAddr>>()
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
