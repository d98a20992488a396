//! `udp-client --ping`: sends numbered datagrams and times the answers.
//!
//! [`crate::ping::schedule`] says when a probe is sent, and [`probes`] which probe an answer belongs to.
//! This file sends and receives. [`crate::ping`] counts and prints.

mod candidates;
mod probes;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::escape::quoted;
use crate::exit::{Exit, Failure, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::datagram::{BUFFER, largest, payload_size};
use crate::net::follow::Follower;
use crate::ping::Arrival;
use crate::ping::console::Console;
use crate::ping::destination::Destination;
use crate::ping::options::PingArgs;
use crate::ping::report::{Protocol, Report, Style};
use crate::ping::schedule::{Pace, Schedule};
use crate::ping::session::Session;
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::udp_client::token::LEAST;
use crate::wait::{Deadline, IN, Set, is_wait};
use candidates::{Candidate, choose, prepare};
use probes::Probes;

#[derive(clap::Args)]
pub struct ProbeArgs {
    #[command(flatten)]
    ping: PingArgs,
    /// Send BYTES in each probe, at least 16 [default: 56]
    #[arg(short, long, value_name = "BYTES", value_parser = probe_size)]
    size: Option<usize>,
    /// Send at each answer, at most every 2 ms
    ///
    /// Without an answer, send after the interval.
    #[arg(short = 'A', long)]
    adaptive: bool,
    /// Send at each answer, or 100/s; print dots
    #[arg(short = 'f', long, conflicts_with_all = ["adaptive", "timestamp", "report_missing", "live"])]
    flood: bool,
    /// Set "don't fragment" on each probe
    ///
    /// Linux only.
    #[arg(long)]
    dont_fragment: bool,
}

fn probe_size(text: &str) -> Result<usize, String> {
    let bytes = payload_size(text)?;
    if bytes < LEAST {
        return Err(format!(
            "'{text}' has no room for what tells answers apart: that takes {LEAST} bytes"
        ));
    }
    Ok(bytes)
}

impl ProbeArgs {
    pub fn is_wanted(&self) -> bool {
        self.ping.is_wanted()
    }

    /// See [`PingArgs::check_terminal`].
    pub fn check_terminal(&self) -> Result<(), Failure> {
        self.ping.check_terminal()
    }

    fn payload(&self) -> usize {
        self.size.unwrap_or(56)
    }

    /// Refuses a probe that is too large for an address of `target`.
    pub fn check_size(&self, target: &Target<'_>) -> Result<(), Failure> {
        let size = self.payload();
        let is_too_small = |address: &&SocketAddr| size > largest(address);
        let Some(address) = target.addresses.iter().find(is_too_small) else {
            return Ok(());
        };
        Err(Failure::local(format!(
            "could not send to {}: a probe of {size} bytes is too large for a datagram over {}, \
             which carries {} at most",
            target.name(*address),
            if address.is_ipv4() { "IPv4" } else { "IPv6" },
            largest(address)
        )))
    }

    fn pace(&self) -> Pace {
        let interval = self.ping.interval.unwrap_or(Duration::from_secs(1));
        match (self.flood, self.ping.interval) {
            (true, None) => Pace::Answers {
                least: Duration::ZERO,
                most: Duration::from_millis(10),
            },
            _ if self.adaptive => Pace::Answers {
                // ping(8) allows this interval to every user.
                least: Duration::from_millis(2).min(interval),
                most: interval,
            },
            _ => Pace::Every(interval),
        }
    }
}

/// Ends when the last probe is answered, or no answer is awaited any more; at `deadline`; and at
/// SIGINT. If too many probes were lost, the error carries only the exit code.
pub fn run(
    target: &Target<'_>,
    timeout: Duration,
    deadline: Deadline,
    args: &ProbeArgs,
    json: bool,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let size = args.payload();
    let console = Console::new(deadline)?;
    let mut probes = Probes::new(size, timeout);
    let whole = args.dont_fragment;
    let Candidate { socket, sent } = choose(target, probes.payload(), whole, &console)?;
    let style = match (json, args.flood) {
        (true, _) => Style::Events,
        (false, true) => Style::Dots,
        (false, false) if args.ping.live => Style::Live,
        (false, false) => Style::Lines,
    };
    let typed = target.typed.to_string();
    let destination = Destination::at(typed, socket.address);
    let report = Report::new(style, Protocol::Udp, &args.ping, logging, destination);
    let mut session = Session::new(&args.ping, console, report, Schedule::new(args.pace()))?;
    session.start(size, timeout)?;
    if let Some(at) = sent {
        session.sending(1, false)?;
        session.sent(at)?;
        probes.send(at);
    }
    let mut ping = Ping {
        target,
        socket,
        whole,
        follower: target.follower(),
        probes,
        session,
    };
    ping.run()?;
    let in_flight = ping.probes.in_flight();
    ping.session.finish(in_flight)
}

struct Ping<'a> {
    target: &'a Target<'a>,
    socket: ClientSocket,
    /// Datagrams leave in one piece.
    whole: bool,
    follower: Follower<'a>,
    probes: Probes,
    session: Session<'a>,
}

impl Ping<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER];
        while !self.session.console.is_over() {
            if self.is_sending() && self.session.is_due(Instant::now()) {
                self.send()?;
            }
            let Some(until) = self.next_event() else {
                return Ok(());
            };
            self.session.console.set_alarm(until)?;
            let mut set = Set::new();
            let answers = set.add(self.socket.as_fd(), IN);
            let news = set.add(self.follower.fd(), IN);
            let woken = self.session.wait(set)?;
            if woken.ready[answers] {
                self.receive(&mut buffer, woken.at)?;
            }
            if woken.ready[news] {
                self.follow();
            }
            self.expire(Instant::now())?;
            self.target.watch.check()?;
        }
        Ok(())
    }

    /// Sends to the new address of the target, if it has one.
    fn follow(&mut self) {
        let Some(addresses) = self.follower.moved(&[self.socket.address]) else {
            return;
        };
        let address = addresses[0];
        let opened = self.target.open(address);
        let opened = opened.map_err(|error| self.target.failure(address, &error));
        match opened.and_then(|socket| prepare(&socket, self.whole).map(|()| socket)) {
            Ok(socket) => {
                self.socket = socket;
                self.session.report.destination.address = Some(address);
            }
            Err(failure) => tracing::error!("{failure}"),
        }
    }

    fn is_sending(&self) -> bool {
        self.session.has_more(self.probes.sent())
    }

    /// When to go on if nothing arrives. `None`: all is done.
    fn next_event(&mut self) -> Option<Instant> {
        let expiry = self.probes.next_expiry();
        if self.is_sending() {
            return Some(self.session.next_event(expiry));
        }
        let linger = || self.probes.end_of_linger();
        expiry.or_else(|| linger().filter(|end| *end > Instant::now()))
    }

    fn send(&mut self) -> Result<(), Failure> {
        let number = self.probes.sent() + 1;
        self.session.sending(number, self.probes.awaits_last())?;
        let now = Instant::now();
        let next = self.session.sent(now)?;
        // Arm the timer before sending, so that nothing delays reading the answer.
        self.session.console.set_alarm(next)?;
        let sent = match self.socket.send(self.probes.payload()) {
            Err(error) if is_about_earlier(&error) => {
                // This one was not sent (udp(7)).
                match self.socket.send(self.probes.payload()) {
                    // The interface does not take it.
                    Err(again) if again.kind() == error.kind() && is_too_large(&error) => {
                        Err(again)
                    }
                    sent => {
                        self.refused(&error)?;
                        sent
                    }
                }
            }
            sent => sent,
        };
        match sent {
            Ok(at) => self.probes.send(at),
            Err(error) => self.unsent(number, &error)?,
        }
        Ok(())
    }

    /// The probe could not be sent. It counts, but no answer is awaited.
    fn unsent(&mut self, number: u64, error: &io::Error) -> Result<(), Failure> {
        self.probes.send(Instant::now());
        self.probes.refuse_last();
        let name = self.target.name(self.socket.address);
        let cause = cause(error);
        let (why, blame) = if is_too_large(error) {
            (" (--dont-fragment)", Exit::Local)
        } else {
            ("", blame(error))
        };
        tracing::error!("could not send probe {number} to {name}: {cause}{why}");
        self.session.unsent(number, blame, &cause)
    }

    /// Takes what has arrived, the first datagram at `at`.
    fn receive(&mut self, buffer: &mut [u8], mut at: Instant) -> Result<(), Failure> {
        /// A peer may send without end.
        const MOST: usize = 64;
        for _ in 0..MOST {
            match self.socket.receive_with_hop_limit(buffer) {
                Ok(arrival) => self.arrived(&buffer[..arrival.size], &arrival, at)?,
                Err(error) if is_wait(&error) => return Ok(()),
                Err(error) => self.refused(&error)?,
            }
            at = Instant::now();
        }
        Ok(())
    }

    fn arrived(&mut self, received: &[u8], arrival: &Arrival, at: Instant) -> Result<(), Failure> {
        self.expire(at)?;
        let answers = self.probes.answers(received, at);
        if answers.is_empty() {
            return self.unexpected(received, arrival);
        }
        for answer in answers {
            self.session.answered(answer, arrival, at)?;
        }
        Ok(())
    }

    fn unexpected(&mut self, received: &[u8], arrival: &Arrival) -> Result<(), Failure> {
        let source = arrival.source.unwrap_or(self.socket.address);
        let name = if self.socket.is_group {
            source.to_string()
        } else {
            self.target.name(source)
        };
        let text = quoted(received);
        if self.session.unexpected > 0 {
            tracing::debug!("unexpected datagram from {name}: {text}");
        } else {
            tracing::warn!(
                "unexpected datagram from {name}: {text} (an answer holds what was sent)"
            );
        }
        self.session.unexpected(arrival, received)
    }

    /// The network says that a probe did not arrive.
    fn refused(&mut self, error: &io::Error) -> Result<(), Failure> {
        let Some(number) = self.probes.refuse() else {
            let name = self.target.name(self.socket.address);
            tracing::debug!("{name}: {}", cause(error));
            return Ok(());
        };
        let mtu = self.socket.path_mtu().filter(|_| is_too_large(error));
        let told = mtu.map(|mtu| too_large(&self.socket.address, mtu));
        self.session
            .refused(number, None, told.as_ref().unwrap_or(error))
    }

    fn expire(&mut self, now: Instant) -> Result<(), Failure> {
        while let Some(number) = self.probes.expire(now) {
            self.session.lost(number)?;
        }
        if self.session.has_long_silence() {
            self.follower.start();
        }
        Ok(())
    }
}

/// Whether an error of send(2) may be about a probe that was sent before: the network refused it.
fn is_about_earlier(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused || is_too_large(error)
}

fn is_too_large(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MSGSIZE)
}

/// In ping(8)'s words: a router passes on no more than `mtu` bytes in one piece.
fn too_large(address: &SocketAddr, mtu: usize) -> io::Error {
    io::Error::other(if address.is_ipv4() {
        format!("Frag needed and DF set (mtu = {mtu})")
    } else {
        format!("Packet too big: mtu={mtu}")
    })
}
