//! `udp-server`: answers datagrams, in one thread.
//!
//! A datagram goes from its socket through the guard to the service; an answer goes back through the
//! guard to the socket. The guard refuses, limits, counts and logs. What a datagram contains or
//! causes never ends the server.

mod guard;
mod handler;
mod limit;
mod losses;
pub mod modes;
mod numbered_tap;
mod programs;
mod refusal;
mod socket;
mod stdio;

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::exit::{self, Exit, Failure, OrFail as _, Worst};
use crate::net::datagram::BUFFER;
use crate::net::multicast::Group;
use crate::net::options::SocketArgs;
use crate::net::services::Protocol;
use crate::server::access::{AccessArgs, Gate};
use crate::server::listen::{Candidate, ListenArgs, Place};
use crate::server::stop::Stop;
use crate::server::systemd::{self, Passed};
use crate::tap::TapArgs;
use crate::units::{duration, number, positive_duration};
use crate::wait::{Deadline, IN, Key, Set, is_wait};
use guard::Guard;
use handler::Handler;
use limit::Limiter;
use losses::Losses;
use numbered_tap::NumberedTap;
use socket::{Peer, ServerSocket};
use stdio::StdioArgs;

const EXAMPLES: &str = "\
Examples:
  netkit udp-server 9999                            answer X with Hello, X!
  netkit udp-server -l 9999                         talk to one peer (nc -lu)
  netkit udp-server 9999 -e /bin/cat                run a program for each peer
  netkit udp-server 9999 --service echo -b any      echo for other machines";

#[derive(clap::Args)]
#[command(
    override_usage = "netkit udp-server [OPTIONS] [ADDRESS:]PORT",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    /// Choose what to do with a datagram
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// Talk to the first peer, as nc -lu
    #[arg(short = 'l', long, conflicts_with_all = ["service", "exec", "sh_exec"])]
    stdio: bool,
    /// Run PROGRAM ARG... for each; must come last
    ///
    /// It reads the peer's datagrams, and what it prints is sent back. Each datagram lets it send three
    /// times that size, or 1,400 bytes if that is more. The rest waits for the next datagram. On
    /// loopback, and for peers that --allow names, there is no limit.
    #[arg(short, long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["service", "sh_exec"])]
    exec: Option<Vec<OsString>>,
    /// Run COMMAND with /bin/sh in the same way
    #[arg(long, value_name = "COMMAND", conflicts_with = "service")]
    sh_exec: Option<String>,
    /// Stop a program after TIME without a datagram [default: 60s]
    ///
    /// With --service stdio: end after TIME without data, once a datagram has come [default: never].
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Run at most N programs at once (3/4 per host) [default: 256]
    ///
    /// Peers on loopback may have all of them. If all are taken, a new peer gets the place of the
    /// oldest one that has sent a single datagram.
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=u32::MAX.into()))]
    max_peers: Option<u32>,
    /// Answer a host at most N times per second [default: 10000]
    ///
    /// 0 is no limit. Loopback has none.
    #[arg(long, value_name = "N", value_parser = limit::rate)]
    rate_limit: Option<u32>,
    /// On SIGINT or SIGTERM, finish within TIME
    ///
    /// On SIGHUP too, unless it reads a file of --allow or --deny again. A second signal ends the
    /// server at once.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    tap: TapArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Receive from a multicast group; without --bind, only that
    #[arg(long, value_name = "GROUP[%INTERFACE]")]
    join: Vec<Group>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    talk: StdioArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Answer X with `Hello, X!`
    Hello,
    /// Send back what arrives (RFC 862)
    Echo,
    /// Discard what arrives (RFC 863)
    Discard,
    /// Print what arrives; send standard input to the first peer, each read as one datagram
    Stdio,
}

/// Serves until a signal stops it, or its service ends. `verbose` tells more at the start.
pub fn run(args: &Args, verbose: bool) -> Result<(), Failure> {
    let mut place = args.listen.place(Protocol::Udp, args.runs_program())?;
    args.tap.check()?;
    let mut handler = Handler::new(args)?;
    let gate = Gate::open(&args.access, &args.listen.resolve)?;
    // A signal ends a look-up that takes long, so none is caught before it.
    let candidates = args.candidates(&place)?;
    let stop = Stop::catch(gate.rereads_lists(), handler.program(), || ())?;
    let counts_hops = handler.counts_hops();
    let sockets = match place.passed.take() {
        Some(passed) => args.inherited(passed, counts_hops)?,
        None => place.open(&candidates, |address| {
            ServerSocket::open(address, &args.socket, &args.join, counts_hops)
        })?,
    };
    // Only now: a server that cannot listen must not empty the record of the one that does.
    let tap = args.tap.open()?.as_ref().map(NumberedTap::new);
    let endpoints = sockets.iter().map(|socket| socket.local.into());
    place.announce(&endpoints.collect::<Vec<_>>(), "send to it", args.stdio)?;
    for address in sockets.iter().map(|socket| socket.local) {
        tracing::info!(%address, "Bind UDP on {address}...");
    }
    systemd::ready();
    let losses = Losses::new(&args.socket);
    if let Some(shortage) = losses.shortage(&sockets).filter(|_| verbose) {
        tracing::info!(event = "buffer", "{shortage}");
    }
    if let Handler::Stdio(stdio) = &mut handler {
        stdio.start(&sockets)?;
    }
    let is_simple = matches!(handler, Handler::Hello | Handler::Echo | Handler::Discard);
    let mut server = Server {
        waits: is_simple && sockets.len() == 1,
        handler,
        guard: Guard::new(sockets, gate, args.limiter(), tap, losses),
        buffer: vec![0; BUFFER],
    };
    server.serve(&stop)?;
    systemd::stopping();
    server.drain(Deadline::after(args.drain_timeout))
}

impl Args {
    /// The sockets that systemd has passed.
    fn inherited(&self, passed: Passed, counts_hops: bool) -> Result<Vec<ServerSocket>, Failure> {
        let sockets = passed.datagram_sockets()?.into_iter();
        let opened =
            sockets.map(|socket| ServerSocket::inherited(socket, &self.socket, counts_hops));
        let opened: io::Result<_> = opened.collect();
        opened.or_fail(Exit::Local, || "could not use a socket of systemd")
    }

    fn runs_program(&self) -> bool {
        self.exec.is_some() || self.sh_exec.is_some()
    }

    /// Without a program.
    fn service(&self) -> Service {
        if self.stdio {
            Service::Stdio
        } else {
            self.service
        }
    }

    /// Where to bind sockets, with port 0. A group that no other address suits gets a socket of its
    /// own.
    fn candidates(&self, place: &Place) -> Result<Vec<Candidate>, Failure> {
        let mut candidates = if self.join.is_empty() || place.has_address() {
            place.candidates()?
        } else {
            Vec::new()
        };
        for group in &self.join {
            // Fails if -4 or -6 excludes the group's family.
            self.listen
                .resolve
                .resolve(&group.ip.to_string(), 0, Deadline::NEVER)?;
            let address = group.address();
            let address = address.or_fail(Exit::Local, || format!("could not join {group}"))?;
            let suits = |candidate: &Candidate| group.suits(&candidate.address);
            if !candidates.iter().any(suits) {
                candidates.push(address.into());
            }
        }
        Ok(candidates)
    }

    fn limiter(&self) -> Option<Limiter> {
        const DEFAULT_RATE: u32 = 10_000;
        let rate = NonZeroU32::new(self.rate_limit.unwrap_or(DEFAULT_RATE));
        rate.map(|rate| Limiter::new(rate, Instant::now()))
    }
}

struct Server {
    handler: Handler,
    guard: Guard,
    /// Whether a receive blocks: with one socket, and a service without descriptors. That saves a
    /// poll(2) and a receive in vain for every datagram.
    waits: bool,
    buffer: Vec<u8>,
}

impl Server {
    /// Serves all sockets until a signal arrives, or the service ends.
    fn serve(&mut self, stop: &Stop) -> Result<(), Failure> {
        loop {
            let has_room = self.handler.has_room();
            let mut set = Set::new();
            set.add(stop.as_fd(), IN);
            let reload = set.add(self.guard.gate.as_fd(), IN);
            let sockets = self.guard.sockets.iter().filter(|_| has_room);
            let sockets: Vec<Key> = sockets.map(|socket| set.add(socket.as_fd(), IN)).collect();
            let record = self.guard.watch_record(&mut set);
            let deadline = self.handler.watch(&mut set).min(self.guard.next_end());
            let ready = set.wait(deadline)?;
            if stop.has_arrived() || self.handler.is_over() {
                return Ok(());
            }
            if ready[reload] {
                self.guard.gate.read_again_if_asked();
            }
            if ready[record] {
                self.guard.go_on_recording();
            }
            self.handler.serve(&ready, &mut self.guard)?;
            for (index, _) in sockets.iter().enumerate().filter(|(_, key)| ready[**key]) {
                self.serve_batch(index, stop)?;
            }
            if !has_room {
                self.guard.losses.was_busy();
            }
            if self.guard.losses.due.has_passed() {
                self.guard.look_for_losses();
            }
            if deadline.has_passed() {
                self.guard.close_episodes(Deadline::has_passed);
            }
        }
    }

    /// Serves datagrams of one socket: all that there are, or so many that the others get a turn.
    fn serve_batch(&mut self, index: usize, stop: &Stop) -> Result<(), Failure> {
        const BATCH: usize = 64;
        /// A run of datagrams that needs more room than this may have overflowed the buffer.
        const BUSY: usize = 64 << 10;
        /// The kernel counts its own data of a datagram too, at least this much.
        const OVERHEAD: usize = 1 << 10;
        let busy = BUSY.min(self.guard.sockets[index].room / 4);
        let mut room = 0;
        for _ in 0..BATCH {
            if stop.has_arrived() || !self.handler.has_room() {
                break;
            }
            let Some(size) = self.serve_one(index)? else {
                break;
            };
            room += size + OVERHEAD;
        }
        if room >= busy {
            self.guard.losses.was_busy();
        }
        Ok(())
    }

    /// Serves what has arrived already, until `limit` at most.
    fn drain(&mut self, limit: Deadline) -> Result<(), Failure> {
        self.waits = false;
        for index in 0..self.guard.sockets.len() {
            while !limit.has_passed() && self.serve_one(index)?.is_some() {
                if !self.handler.has_room() {
                    self.handler.finish(limit, &mut self.guard)?;
                }
            }
        }
        let finished = self.handler.finish(limit, &mut self.guard);
        self.guard.look_for_losses();
        let recorded = self.guard.finish_recording(limit);
        self.guard.close_episodes(|_| true);
        Worst::of([finished, self.handler.result(), recorded])
    }

    /// Receives and serves one datagram; its size, if there was one. Only standard input and output
    /// fail.
    fn serve_one(&mut self, index: usize) -> Result<Option<usize>, Failure> {
        let socket = &self.guard.sockets[index];
        let received = match socket.receive(&mut self.buffer, self.waits) {
            Ok(received) => received,
            Err(error) => {
                if !is_wait(&error) {
                    self.guard.fail("could not receive a datagram", &error);
                }
                return Ok(None);
            }
        };
        let payload = &self.buffer[..received.size];
        let peer = Peer {
            socket: index,
            address: received.source,
            local: received.local,
        };
        if self.guard.admits(&received, payload, &peer, &self.handler) {
            let hops = received.hops_left;
            self.handler.take(payload, peer, hops, &mut self.guard)?;
        }
        Ok(Some(received.size))
    }
}
