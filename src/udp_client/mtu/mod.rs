//! `udp-client --mtu`: finds the largest packet that reaches the target in one piece.
//!
//! [`search`] says which size is tried next. An answer alone shows that a size passes: routers may drop
//! what is too large without a word. What they tell by ICMP is tried first.

mod search;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::io::Errno;

use super::socket::ClientSocket;
use super::target::Target;
use super::token::{LEAST, Tokens};
use crate::exit::{Exit, Failure, OrFail as _, cause};
use crate::json::{Event, milliseconds};
use crate::net::datagram::{BUFFER, largest};
use crate::net::path_mtu::headers;
use crate::output;
use crate::units::{ip, told};
use crate::wait::{Deadline, IN, Set, is_wait};
use search::{Search, TRIES};

/// Tries one address after another until one answers. A try of a size takes `timeout` at most. `verbose`:
/// each size is told.
pub fn run(
    target: &Target<'_>,
    timeout: Duration,
    deadline: Deadline,
    json: bool,
    verbose: bool,
) -> Result<(), Failure> {
    if target.is_group() {
        let message = "--mtu is about one host, not a group or --broadcast";
        return Err(Failure::usage(message));
    }
    if json {
        let start = Event::start(&target.typed.to_string());
        let line = start.with("timeout_ms", milliseconds(timeout)).line();
        output::write_once(line.as_bytes())?;
    }
    let mut failure = Failure::local("could not send: there is no address");
    for &address in &target.addresses {
        let path = Path::open(target, address, timeout, deadline, verbose)?;
        match path.find()? {
            Ok(found) => return output::write_once(found.report(json).as_bytes()),
            Err(silent) => failure = silent,
        }
    }
    Err(failure)
}

/// The way to one address.
struct Path<'a> {
    target: &'a Target<'a>,
    socket: ClientSocket,
    tokens: Tokens,
    search: Search,
    timeout: Duration,
    deadline: Deadline,
    verbose: bool,
}

/// What has come of a try. Each answer has been counted.
enum Outcome {
    Answered,
    Silent,
    /// A router has told a smaller size, or another error that may pass has come.
    Dropped,
}

struct Found {
    address: SocketAddr,
    mtu: usize,
    interface: usize,
}

impl<'a> Path<'a> {
    fn open(
        target: &'a Target<'a>,
        address: SocketAddr,
        timeout: Duration,
        deadline: Deadline,
        verbose: bool,
    ) -> Result<Self, Failure> {
        let opened = target.open(address);
        let socket = opened.map_err(|error| target.failure(address, &error))?;
        let whole = socket.forbid_fragments();
        whole.or_fail(Exit::Local, || "could not set --mtu".to_owned())?;
        Ok(Self {
            target,
            socket,
            tokens: Tokens::new(LEAST),
            search: Search::new(
                LEAST + headers(&address),
                largest(&address) + headers(&address),
            ),
            timeout,
            deadline,
            verbose,
        })
    }

    /// The inner error: nothing has answered.
    fn find(mut self) -> Result<Result<Found, Failure>, Failure> {
        let address = self.socket.address;
        let believed = self.socket.path_mtu();
        while let Some(size) = self.search.next() {
            if self.deadline.has_passed() {
                return Err(self.target.gave_up(address, self.deadline));
            }
            if !self.send(size)? {
                self.search.refused(size);
                continue;
            }
            let outcome = self.wait_for(size)?;
            if !matches!(outcome, Outcome::Answered) {
                self.search.unanswered(size);
            }
            self.tell(size, &outcome);
        }
        let Some(mtu) = self.search.found() else {
            let (name, timeout) = (self.target.name(address), self.timeout);
            let message = format!(
                "no answer from {name} within {}, {TRIES} times",
                told(timeout)
            );
            return Ok(Err(Failure::new(Exit::Network, message)));
        };
        let interface = self.interface(mtu, believed)?;
        Ok(Ok(Found {
            address,
            mtu,
            interface,
        }))
    }

    /// Sends a packet of `size`. `false`: the interface does not take it.
    fn send(&mut self, size: usize) -> Result<bool, Failure> {
        let address = self.socket.address;
        self.tokens.resize(size - headers(&address));
        let payload = self.tokens.payload(size as u64);
        let is_size = |error: &io::Error| Errno::from_io_error(error) == Some(Errno::MSGSIZE);
        // The first error may be about an earlier packet (udp(7)), which was waited for.
        let sent = self.socket.send(payload);
        let sent = sent.or_else(|_| self.socket.send(payload));
        match sent {
            Ok(_) => Ok(true),
            Err(error) if is_size(&error) => Ok(false),
            Err(error) => Err(self.target.failure(address, &error)),
        }
    }

    /// Waits until a packet of `size` is answered, or given up.
    fn wait_for(&mut self, size: usize) -> Result<Outcome, Failure> {
        let end = Deadline::after(self.timeout).min(self.deadline);
        let mut buffer = vec![0; BUFFER];
        while !end.has_passed() {
            let mut set = Set::new();
            let answer = set.add(self.socket.as_fd(), IN);
            if !set.wait(end)?[answer] {
                continue;
            }
            match self.socket.receive(&mut buffer) {
                Ok((count, _)) => {
                    let numbers = self.tokens.numbers(&buffer[..count]).into_iter();
                    let sizes = numbers.filter_map(|number| usize::try_from(number).ok());
                    sizes.for_each(|size| self.search.answered(size));
                    if self.search.found() >= Some(size) {
                        return Ok(Outcome::Answered);
                    }
                }
                Err(error) if is_wait(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(self.target.failure(self.socket.address, &error));
                }
                Err(error) => {
                    let name = self.target.name(self.socket.address);
                    tracing::debug!("{name}: {}", cause(&error));
                    if let Some(told) = self.socket.path_mtu() {
                        self.search.told(told);
                    }
                    return Ok(Outcome::Dropped);
                }
            }
        }
        Ok(Outcome::Silent)
    }

    fn tell(&self, size: usize, outcome: &Outcome) {
        let what = match outcome {
            Outcome::Answered => "answered",
            Outcome::Silent => "no answer",
            Outcome::Dropped => "too large for a router",
        };
        if self.verbose {
            tracing::info!("packet of {size} bytes: {what}");
        }
    }

    /// The largest packet that the interface takes: `least` or more. `believed` is tried first.
    fn interface(&mut self, least: usize, believed: Option<usize>) -> Result<usize, Failure> {
        let (mut taken, mut refused) = (least, self.search.limit() + 1);
        let mut guesses = believed.into_iter().flat_map(|mtu| [mtu, mtu + 1]);
        while taken + 1 < refused {
            let is_open = |size: &usize| (taken + 1..refused).contains(size);
            let size = guesses.find(is_open).unwrap_or(taken.midpoint(refused));
            if self.send(size)? {
                taken = size;
            } else {
                refused = size;
            }
        }
        let address = self.socket.address;
        if taken == largest(&address) + headers(&address) {
            // No datagram is too large for it.
            return Ok(believed.unwrap_or(taken).max(taken));
        }
        Ok(taken)
    }
}

impl Found {
    fn report(&self, json: bool) -> String {
        let payload = self.mtu - headers(&self.address);
        if json {
            return Event::new("mtu")
                .with_address(&self.address)
                .with("mtu_bytes", self.mtu)
                .with("payload_bytes", payload)
                .with("interface_mtu_bytes", self.interface)
                .line();
        }
        let (address, mtu, interface) = (ip(&self.address), self.mtu, self.interface);
        format!(
            "path MTU to {address} is {mtu} ({payload} bytes of UDP); the interface has {interface}\n"
        )
    }
}
