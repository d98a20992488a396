//! Answers datagrams.

mod guard;
mod headers;
mod limit;
mod numbered_tap;
mod programs;
mod refusal;
mod socket;
mod stdio;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags};

use crate::exit::{self, Failure, cause};
use crate::net::datagram::BUFFER;
use crate::net::multicast::Group;
use crate::net::socket::SocketArgs;
use crate::server::access::{AccessArgs, Gate};
use crate::server::listen::{Bound, ListenArgs};
use crate::server::program::Program;
use crate::signal::Stop;
use crate::tap::TapArgs;
use crate::units::{duration, positive_duration};
use crate::usage::needs;
use crate::wait::{self, Deadline, is_wait, poll};
use guard::Desk;
use limit::Limiter;
use numbered_tap::Watch;
use programs::Programs;
use refusal::{GREETING, Refusal};
use socket::{Inlet, Peer, Received};
use stdio::Stdio;

const EXAMPLES: &str = "\
Examples:
  netkit udp-server --port 9999                     answer X with Hello, X!
  netkit udp-server -p 9999 --service stdio         talk to one peer (nc -lu)
  netkit udp-server -p 9999 -e /bin/cat             run a program for each peer
  netkit udp-server -p 9999 --service echo -b any   echo for other machines";

#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    /// Choose what to do with a datagram
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// Run PROGRAM for each peer; must come last
    ///
    /// It reads the peer's datagrams, and what it prints is sent back.
    #[arg(short, long, value_names = ["PROGRAM", "ARG"], num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["service", "sh_exec"])]
    exec: Option<Vec<OsString>>,
    /// Run COMMAND with /bin/sh in the same way
    #[arg(long, value_name = "COMMAND", conflicts_with = "service")]
    sh_exec: Option<String>,
    /// Stop a program after TIME without a datagram [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Run at most N programs at once (3/4 of them per host) [default: 256]
    ///
    /// Peers on loopback may have all of them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_peers: Option<u32>,
    /// Answer a host at most N times per second [default: 10000]
    ///
    /// 0 is no limit. Loopback has none.
    #[arg(long, value_name = "N", value_parser = limit::rate)]
    rate_limit: Option<u32>,
    /// On SIGINT or SIGTERM, finish within TIME
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,
    /// With --service stdio: do not escape received data on a terminal
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    tap: TapArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Receive from a multicast group; without --bind, only that
    #[arg(long, value_name = "GROUP[%INTERFACE]", help_heading = "Listening")]
    join: Vec<Group>,
    #[command(flatten)]
    access: AccessArgs,
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

/// Serves until SIGINT or SIGTERM.
pub fn run(args: &Args) -> Result<(), Failure> {
    let handler = Handler::new(args)?;
    let gate = Gate::open(&args.access, &args.listen.resolve)?;
    let stop = Stop::install()?;
    let inlets = args.listen.open(&args.addresses()?, |address| {
        Inlet::open(address, &args.socket, &args.join, handler.counts_hops())
    })?;
    // Not before: a server that cannot listen must not empty the record of the one that does.
    let watch = args.tap.open(true)?.map(Watch::new);
    args.listen.announce(&inlets)?;
    let own: Vec<SocketAddr> = inlets.iter().map(Bound::local).collect::<io::Result<_>>()?;
    for address in &own {
        tracing::info!(%address, "Bind UDP on {address}...");
    }
    let mut server = Server::new(inlets, handler, Desk::new(own, gate, args.limiter(), watch));
    server.serve(&stop)?;
    server.drain(Instant::now() + args.drain_timeout)
}

impl Args {
    /// Where to listen, save for the port: a group for which nothing fits has a socket of its own.
    fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = if self.join.is_empty() || !self.listen.bind.is_empty() {
            self.listen.addresses()?
        } else {
            Vec::new()
        };
        for group in &self.join {
            // Whether its family is wanted at all.
            self.listen
                .resolve
                .resolve(&group.ip.to_string(), 0, Deadline::NEVER)?;
            let address = group.address().map_err(|error| {
                let message = format!("could not join {group}: {}", cause(&error));
                Failure::local(message)
            })?;
            if !addresses.iter().any(|address| group.suits(address)) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    fn limiter(&self) -> Option<Limiter> {
        const DEFAULT_RATE: u32 = 10_000;
        let rate = NonZeroU32::new(self.rate_limit.unwrap_or(DEFAULT_RATE));
        rate.map(|rate| Limiter::new(rate, Instant::now()))
    }
}

/// What becomes of datagrams, and what is needed for that.
enum Handler {
    Hello,
    Echo,
    Discard,
    Stdio(Stdio),
    Programs(Programs),
}

impl Handler {
    /// Refuses options that would do nothing with the service that is asked for.
    fn new(args: &Args) -> Result<Self, Failure> {
        let is_stdio = args.service == Service::Stdio;
        needs("--service stdio", is_stdio, &[("--raw", args.raw)])?;
        let answers = !is_stdio && args.service != Service::Discard;
        let rate_limit = ("--rate-limit", args.rate_limit.is_some());
        needs("a service that answers", answers, &[rate_limit])?;
        let runs_program = args.exec.is_some() || args.sh_exec.is_some();
        let idle_timeout = ("--idle-timeout", args.idle_timeout.is_some());
        let max_peers = ("--max-peers", args.max_peers.is_some());
        needs("-e or --sh-exec", runs_program, &[idle_timeout, max_peers])?;
        let direct = args.exec.clone().map(Program::Direct);
        if let Some(program) = direct.or_else(|| args.sh_exec.clone().map(Program::Shell)) {
            program.check()?;
            let idle_timeout = args.idle_timeout.unwrap_or(Duration::from_secs(60));
            let max_peers = args.max_peers.unwrap_or(256) as usize;
            let programs = Programs::new(program, idle_timeout, max_peers)?;
            return Ok(Self::Programs(programs));
        }
        Ok(match args.service {
            Service::Hello => Self::Hello,
            Service::Echo => Self::Echo,
            Service::Discard => Self::Discard,
            Service::Stdio => Self::Stdio(Stdio::new(args.raw)?),
        })
    }

    /// Whether what it sends may be an answer to what is an answer itself, so that two such servers
    /// would go on for ever: each is to be a hop on the way of a datagram, whose hops are limited.
    fn counts_hops(&self) -> bool {
        matches!(self, Self::Echo | Self::Programs(_))
    }

    /// Whether another datagram can be taken.
    fn has_room(&self) -> bool {
        match self {
            Self::Stdio(stdio) => stdio.has_room(),
            Self::Hello | Self::Echo | Self::Discard | Self::Programs(_) => true,
        }
    }

    /// What else there is to wait for.
    fn descriptors(&self) -> Vec<PollFd<'_>> {
        match self {
            Self::Stdio(stdio) => stdio.descriptors(),
            Self::Programs(programs) => programs.descriptors(),
            Self::Hello | Self::Echo | Self::Discard => Vec::new(),
        }
    }

    /// When there is something to do even if none of `descriptors` is ready.
    fn wake(&self) -> Option<Instant> {
        match self {
            Self::Programs(programs) => programs.wake(),
            Self::Hello | Self::Echo | Self::Discard | Self::Stdio(_) => None,
        }
    }

    /// Deals with those of `descriptors` that are ready.
    fn serve(&mut self, ready: &[bool], inlets: &[Inlet], desk: &mut Desk) -> Result<(), Failure> {
        match self {
            Self::Stdio(stdio) => stdio.serve(ready, inlets, desk)?,
            Self::Programs(programs) => programs.serve(ready, inlets, desk),
            Self::Hello | Self::Echo | Self::Discard => {}
        }
        Ok(())
    }

    /// Ends what is not done yet, until `limit` at most.
    fn finish(&mut self, limit: Instant, inlets: &[Inlet], desk: &mut Desk) -> Result<(), Failure> {
        match self {
            Self::Stdio(stdio) => stdio.finish(limit),
            Self::Programs(programs) => Ok(programs.finish(limit, inlets, desk)?),
            Self::Hello | Self::Echo | Self::Discard => Ok(()),
        }
    }
}

/// Where a receive waits, poll(2) is asked again once no datagram has come for so long.
const LINGER: Duration = Duration::from_millis(10);

struct Server {
    inlets: Vec<Inlet>,
    handler: Handler,
    desk: Desk,
    /// The greeting, room for a datagram and for `!`: an answer is made where its question was
    /// received.
    buffer: Vec<u8>,
}

impl Server {
    fn new(inlets: Vec<Inlet>, handler: Handler, desk: Desk) -> Self {
        let mut buffer = GREETING.to_vec();
        buffer.resize(GREETING.len() + BUFFER + 1, 0);
        Self {
            inlets,
            handler,
            desk,
            buffer,
        }
    }

    /// Serves what comes to any socket, until a signal arrives.
    fn serve(&mut self, stop: &Stop) -> Result<(), Failure> {
        if self.waits_for_one_socket_alone() {
            // A receive that waits saves a poll(2), and a receive that finds nothing, for every
            // datagram. Signals end it early (signal(7)); one just before it waits so long.
            self.inlets[0].set_patience(Some(LINGER))?;
        }
        loop {
            let now = Instant::now();
            let wake = self.desk.next_end().into_iter();
            let wake = wake.chain(self.handler.wake()).min();
            let mut descriptors = vec![
                PollFd::new(stop, PollFlags::IN),
                PollFd::new(&self.desk.gate, PollFlags::IN),
            ];
            let fixed = descriptors.len();
            let receiving = if self.handler.has_room() {
                self.inlets.len()
            } else {
                0
            };
            let sockets = self.inlets[..receiving].iter();
            descriptors.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
            descriptors.extend(self.handler.descriptors());
            poll(
                &mut descriptors,
                wake.map(|at| at.saturating_duration_since(now)),
            )?;
            let ready: Vec<bool> = wait::ready(&descriptors).collect();
            if ready[0] && stop.arrived() {
                return Ok(());
            }
            if ready[1] {
                self.desk.gate.read_again_if_asked();
            }
            let (sockets, others) = ready[fixed..].split_at(receiving);
            self.handler.serve(others, &self.inlets, &mut self.desk)?;
            for (index, _) in sockets.iter().enumerate().filter(|(_, ready)| **ready) {
                self.serve_batch(index, stop)?;
            }
            let now = Instant::now();
            if wake.is_some_and(|at| at <= now) {
                self.desk.close_episodes(|end| end <= now);
            }
        }
    }

    /// Serves what comes to one socket, until the others, and signals, are to have a turn.
    fn serve_batch(&mut self, index: usize, stop: &Stop) -> Result<(), Failure> {
        const MOST: usize = 256;
        /// After so many the clock is asked too: they may have been waited for, one by one.
        const STRIDE: usize = 8;
        let end = Instant::now() + LINGER;
        for count in 1..=MOST {
            let goes_on = !stop.has_come() && self.handler.has_room() && self.handle(index)?;
            if !goes_on || count % STRIDE == 0 && Instant::now() >= end {
                break;
            }
        }
        Ok(())
    }

    /// Whether there is nothing but one socket, signals and time to wait for.
    fn waits_for_one_socket_alone(&self) -> bool {
        self.inlets.len() == 1
            && matches!(
                self.handler,
                Handler::Hello | Handler::Echo | Handler::Discard
            )
    }

    /// Serves what has arrived already, until `limit` at most.
    fn drain(&mut self, limit: Instant) -> Result<(), Failure> {
        for index in 0..self.inlets.len() {
            self.inlets[index].set_patience(None)?;
            while Instant::now() < limit && self.handle(index)? {
                if !self.handler.has_room() {
                    self.handler.finish(limit, &self.inlets, &mut self.desk)?;
                }
            }
        }
        let finished = self.handler.finish(limit, &self.inlets, &mut self.desk);
        self.desk.close_episodes(|_| true);
        finished
    }

    /// Receives a datagram and serves it; `false`: there is none. Nothing that a datagram contains
    /// or causes is an error, save that it cannot be printed.
    fn handle(&mut self, index: usize) -> Result<bool, Failure> {
        match self.inlets[index].receive(&mut self.buffer[GREETING.len()..]) {
            Ok(received) => {
                match self.refusal(&received) {
                    Some(refusal) => self.desk.refuse(refusal, received.source),
                    None => self.answer(index, &received)?,
                }
                Ok(true)
            }
            // After a signal there may be something else to do.
            Err(error) if is_wait(&error) => Ok(false),
            Err(error) => {
                self.desk.fail("could not receive a datagram", &error);
                Ok(false)
            }
        }
    }

    /// Why there must be no answer, if there would be one.
    fn refusal(&mut self, received: &Received) -> Option<Refusal> {
        let source = received.source;
        let payload = &self.buffer[GREETING.len()..][..received.size];
        let of_datagram = match self.handler {
            // Nothing is sent for it: whom standard input goes to is another question.
            Handler::Discard | Handler::Stdio(_) => return self.desk.of_access(source),
            Handler::Hello => refusal::of_greeting(payload),
            Handler::Echo | Handler::Programs(_) => {
                (received.hops_left == Some(0)).then_some(Refusal::Hops)
            }
        };
        let refusal = self
            .desk
            .of_access(source)
            .or_else(|| self.desk.of_source(source))
            .or(of_datagram);
        match self.handler {
            // Its answers are counted when there are some.
            Handler::Programs(_) => refusal,
            _ => refusal.or_else(|| self.desk.of_rate(source)),
        }
    }

    fn answer(&mut self, index: usize, received: &Received) -> Result<(), Failure> {
        let inlet = &self.inlets[index];
        let peer = Peer {
            inlet: index,
            address: received.source,
            local: received.local,
        };
        let hops = received.hops_left;
        let end = GREETING.len() + received.size;
        let payload = &self.buffer[GREETING.len()..end];
        self.desk.received(payload, peer.address);
        match &mut self.handler {
            Handler::Hello => {
                self.buffer[end] = b'!';
                self.desk.send(inlet, &self.buffer[..=end], &peer, hops);
            }
            Handler::Echo => self.desk.send(inlet, payload, &peer, hops),
            Handler::Discard => {}
            Handler::Stdio(stdio) => stdio.take(payload, peer, &mut self.desk)?,
            Handler::Programs(programs) => {
                programs.take(payload, peer, hops, inlet, &mut self.desk);
            }
        }
        Ok(())
    }
}
