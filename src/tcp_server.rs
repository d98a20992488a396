//! Listens for TCP connections and serves each by a thread of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::access::{AccessArgs, Gate};
use crate::connect::ConnectArgs;
use crate::connections::{Connections, Slot};
use crate::episode::Episode;
use crate::exit::{self, Exit, Failure, cause};
use crate::listen::ListenArgs;
use crate::service::{Connection, Ended, Handler, ServiceArgs};
use crate::signal::Stop;
use crate::socket::{self, TcpSocketArgs};
use crate::stream::StreamArgs;
use crate::units::positive_duration;
use crate::wait::{self, poll};
use crate::workers::Workers;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-server --port 9999                  greet everybody who connects
  netkit tcp-server -p 9999 --service stdio      netcat's listener: talk to one connection
  netkit tcp-server -p 9999 -b any -e /bin/cat   run a program for every connection";

/// Listen on a port; every accepted connection is served by a thread of its own
#[derive(Clone, clap::Args)]
#[command(
    mut_arg("ipv4", |arg| arg.hide_short_help(true)),
    mut_arg("ipv6", |arg| arg.hide_short_help(true)),
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    /// How many connections may wait to be accepted
    #[arg(hide_short_help = true, long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(i32).range(1..), help_heading = "Listening")]
    backlog: i32,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(
        flatten,
        next_help_heading = "With `--service stdio`, --exec and --sh-exec"
    )]
    stream: StreamArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    socket: TcpSocketArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Serve one connection, then exit
    #[arg(short = '1', long, conflicts_with = "keep_open")]
    once: bool,
    /// With `--service stdio`: take the next connection after the first
    #[arg(short, long)]
    keep_open: bool,
    /// Close further connections at once while N are open
    #[arg(short, long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Close further connections from an address at once while N from it are open
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections_per_ip: Option<u32>,
    /// Close a connection in which nothing moved for TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Close a connection that has been open for TIME
    #[arg(hide_short_help = true, long, value_name = "TIME", value_parser = positive_duration)]
    max_session: Option<Duration>,
    /// On SIGINT or SIGTERM give open connections TIME to end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::units::duration)]
    drain_timeout: Duration,
}

/// Listens until SIGINT or SIGTERM, or until the one connection of `--once` has ended.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let connect = ConnectArgs::new(args.listen.resolve.clone());
    let gate = Gate::open(&args.access, &args.listen.resolve)?;

    let listeners = args.listen.open(&args.listen.addresses()?, |address| {
        socket::listen(address, args.backlog, &args.socket)
    })?;
    raise_descriptor_limit(args.limits.max_connections);
    let stop = Stop::install()?;
    let connections = Arc::new(Connections::new()?);
    // Only now: what an earlier server left in its files is not lost to one that cannot listen.
    let handler = Handler::new(&args.service, &args.stream, connect)?;
    let one_at_a_time = handler.takes_one_at_a_time();
    let runs_programs = handler.runs_programs();
    let once = args.limits.once || (one_at_a_time && !args.limits.keep_open);
    let failure = Arc::new(Mutex::new(None));
    args.listen.announce(&listeners)?;
    tracing::info!("Waiting for connection...");

    let host = Host {
        handler,
        limits: args.limits.clone(),
        once,
        failure: Arc::clone(&failure),
    };
    let workers = Workers::new(move |accepted| host.handle(accepted));
    let mut server = Server {
        args,
        connections: &connections,
        stop: &stop,
        gate: &gate,
        start: |accepted| workers.start(accepted),
        once,
        one_at_a_time,
        runs_programs,
        failure: &failure,
        paused_until: None,
        turned_away: Turn::ALL.map(|turn| (turn, Episode::default())),
        exhausted: Episode::default(),
    };
    let stopped = server.serve(&listeners)?;
    // Whoever connects from now on is refused.
    drop(listeners);
    server.drain(stopped)?;
    match take(&failure) {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// Raises the limit of descriptors as far as `connections` may need it. What the system does not
/// permit is missed only once there are so many.
fn raise_descriptor_limit(connections: u32) {
    /// One that is joined to a program or to another server has so many at most, with the pipes
    /// between them.
    const EACH: u64 = 4;
    const OTHERS: u64 = 64;
    let needed = u64::from(connections) * EACH + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < needed) {
        let current = Some(maximum.map_or(needed, |maximum| needed.min(maximum)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

fn take(failure: &Mutex<Option<Failure>>) -> Option<Failure> {
    failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// A connection on its way to the thread that serves it.
struct Accepted {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    /// Given back when the connection has ended, however it does.
    slot: Slot,
}

/// What the threads of a server share.
struct Host {
    handler: Handler,
    limits: LimitArgs,
    once: bool,
    /// Why the server as a whole has failed: with its one connection, or with standard input or
    /// output.
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Host {
    fn handle(&self, accepted: Accepted) {
        let Accepted { stream, peer, slot } = accepted;
        let number = slot.number;
        let start = Instant::now();
        tracing::info!(event = "accept", connection = number, %peer, "Accept new connection from {peer}...");
        let connection = Connection::new(
            number,
            stream,
            self.limits.idle_timeout,
            self.limits.max_session,
        );
        let ended = self.handler.handle(&connection);
        let cut = slot.was_cut();
        if matches!(
            ended,
            Ok(()) | Err(Ended::TooLong(_) | Ended::Near(_) | Ended::Program(_))
        ) {
            connection.close_gently();
        }
        let traffic = connection.traffic();
        drop(connection);
        slot.close();
        let (reason, colon) = match &ended {
            _ if cut => ("cut off, as the server stops".to_owned(), ": "),
            Ok(()) => (String::new(), ""),
            Err(reason) => (reason.to_string(), ": "),
        };
        tracing::info!(
            event = "close",
            connection = number,
            %peer,
            bytes_in = traffic.received,
            bytes_out = traffic.sent,
            duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason = if reason.is_empty() { "end" } else { &reason },
            "Connection from {peer} closed{colon}{reason}."
        );
        let one_at_a_time = self.handler.takes_one_at_a_time();
        let failure = match ended {
            Err(Ended::Near(failure)) if one_at_a_time || self.once => failure,
            Err(reason) if one_at_a_time && self.once => {
                let message = format!("could not finish with {peer}: {reason}");
                Failure::new(reason.exit(), message)
            }
            _ => return,
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// `--allow` and `--deny` say so.
    Denied,
    Full,
    /// Too many are open from its address.
    FullForPeer,
}

impl Turn {
    const ALL: [Self; 3] = [Self::Denied, Self::Full, Self::FullForPeer];
}

/// Why a server no longer accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// A signal said so.
    Signal,
    /// The one connection of `--once` is there.
    Once,
    /// Standard input or output has failed.
    Failed,
}

struct Server<'a, F> {
    args: &'a Args,
    connections: &'a Arc<Connections>,
    stop: &'a Stop,
    gate: &'a Gate,
    /// Gives a connection to a thread.
    start: F,
    once: bool,
    one_at_a_time: bool,
    runs_programs: bool,
    failure: &'a Mutex<Option<Failure>>,
    /// The system is out of descriptors: accepting again at once would only say so again.
    paused_until: Option<Instant>,
    turned_away: [(Turn, Episode); 3],
    exhausted: Episode,
}

impl<F: Fn(Accepted) -> io::Result<()>> Server<'_, F> {
    /// Accepts until it is to stop. No failing accept ends it, and neither does a connection.
    fn serve(&mut self, listeners: &[TcpListener]) -> io::Result<Stopped> {
        if self.one_at_a_time {
            self.connections.watch();
        }
        loop {
            let now = Instant::now();
            self.paused_until = self.paused_until.filter(|until| *until > now);
            let busy = self.one_at_a_time && !self.connections.all_finished();
            let paused = busy || self.paused_until.is_some();
            let accepting = if paused { &[] } else { listeners };
            let mut descriptors = vec![
                PollFd::new(self.stop, PollFlags::IN),
                PollFd::new(self.gate, PollFlags::IN),
                PollFd::new(&**self.connections, PollFlags::IN),
            ];
            let fixed = descriptors.len();
            descriptors.extend(
                accepting
                    .iter()
                    .map(|listener| PollFd::new(listener, PollFlags::IN)),
            );
            let wake = self
                .paused_until
                .into_iter()
                .chain(self.next_episode_end())
                .min();
            poll(
                &mut descriptors,
                wake.map(|at| at.saturating_duration_since(now)),
            )?;
            let ready: Vec<bool> = wait::ready(&descriptors).collect();

            // Asking those that are not ready would cost more than to accept.
            if ready[0] && self.stop.arrived() {
                return Ok(Stopped::Signal);
            }
            if ready[1] {
                self.gate.read_again_if_asked();
            }
            if ready[2] {
                self.connections.clear();
            }
            if self
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
            {
                return Ok(Stopped::Failed);
            }
            self.close_episodes(|end| end <= Instant::now());
            for (listener, _) in accepting
                .iter()
                .zip(&ready[fixed..])
                .filter(|(_, ready)| **ready)
            {
                if let Some(stopped) = self.accept_all(listener) {
                    return Ok(stopped);
                }
            }
        }
    }

    /// Accepts what is waiting at one listener, or as much of it as can be served.
    fn accept_all(&mut self, listener: &TcpListener) -> Option<Stopped> {
        /// So that a signal is heard between the connections of a crowd.
        const BATCH: usize = 64;
        for _ in 0..BATCH {
            if self.one_at_a_time && !self.connections.all_finished() {
                break;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    if self.admit(stream, peer) && self.once {
                        return Some(Stopped::Once);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.accept_failed(&error),
            }
            if self.paused_until.is_some() {
                break;
            }
        }
        None
    }

    /// Has a connection served, or closes it; whether it is served.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        if let Some(turn) = self.turn(ip) {
            self.turn_away(turn, peer);
            return false;
        }
        if let Err(error) = socket::accepted(&stream) {
            // It has gone away already.
            tracing::debug!(%peer, "could not set up a connection from {peer}: {}", cause(&error));
            return false;
        }
        let stream = Arc::new(stream);
        let slot = self.connections.add(Arc::clone(&stream), ip);
        let started = (self.start)(Accepted { stream, peer, slot });
        if let Err(error) = &started
            && self.exhausted.happened(Instant::now())
        {
            let cause = cause(error);
            tracing::error!(%peer, "could not start a thread for {peer}, closed it: {cause}");
        }
        started.is_ok()
    }

    fn turn(&self, peer: IpAddr) -> Option<Turn> {
        let limits = &self.args.limits;
        if !self.gate.permits(peer) {
            return Some(Turn::Denied);
        }
        if self.connections.count() >= limits.max_connections as usize {
            return Some(Turn::Full);
        }
        let most = limits.max_connections_per_ip?;
        (self.connections.count_from(peer) >= most).then_some(Turn::FullForPeer)
    }

    fn turn_away(&mut self, turn: Turn, peer: SocketAddr) {
        let episode = self.turned_away.iter_mut().find(|(kind, _)| *kind == turn);
        let begins = episode.is_some_and(|(_, episode)| episode.happened(Instant::now()));
        let limits = &self.args.limits;
        match turn {
            Turn::Denied if begins => {
                tracing::warn!(event = "reject", %peer, "closed a connection from {peer}: it is not allowed");
            }
            Turn::Full if begins => {
                let limit = limits.max_connections;
                tracing::warn!(event = "limit", %peer, limit, "closed a connection from {peer}: {limit} are open already");
            }
            Turn::FullForPeer if begins => {
                let limit = limits.max_connections_per_ip;
                let ip = peer.ip().to_canonical();
                tracing::warn!(
                    event = "limit",
                    %peer,
                    limit,
                    "closed a connection from {peer}: {} are open from {ip} already",
                    limit.unwrap_or_default()
                );
            }
            _ => tracing::debug!(event = "reject", %peer, "closed a connection from {peer}"),
        }
    }

    fn next_episode_end(&self) -> Option<Instant> {
        let turned_away = self.turned_away.iter().map(|(_, episode)| episode);
        turned_away
            .chain([&self.exhausted])
            .filter_map(Episode::end)
            .min()
    }

    /// Says of the episodes that are over how much there was of them.
    fn close_episodes(&mut self, is_over: impl Fn(Instant) -> bool) {
        for (turn, episode) in &mut self.turned_away {
            if !episode.end().is_some_and(&is_over) {
                continue;
            }
            let count = episode.close();
            let why = match turn {
                Turn::Denied => "they were not allowed",
                Turn::Full => "too many were open",
                Turn::FullForPeer => "too many were open from one address",
            };
            if count > 1 {
                tracing::warn!(
                    event = "limit",
                    count,
                    "closed {count} connections in all: {why}"
                );
            }
        }
        if self.exhausted.end().is_some_and(is_over) {
            self.exhausted.close();
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        /// Long enough to cost nothing, short enough that nobody notices.
        const PAUSE: Duration = Duration::from_millis(100);
        // accept(2): a connection that was reset while it waited is no fault of the listener.
        if matches!(
            error.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
        ) {
            return;
        }
        let now = Instant::now();
        self.paused_until = Some(now + PAUSE);
        if self.exhausted.happened(now) {
            let cause = cause(error);
            tracing::error!("could not accept a connection: {cause}; new ones have to wait");
        }
    }

    /// Waits for the open connections; after a signal not longer than the drain timeout.
    fn drain(&mut self, mut stopped: Stopped) -> anyhow::Result<()> {
        self.close_episodes(|_| true);
        self.connections.watch();
        let mut cut_off_at = None;
        loop {
            if self.connections.all_finished() {
                return Ok(());
            }
            let now = Instant::now();
            if stopped == Stopped::Signal {
                let open = self.connections.count();
                let at = *cut_off_at.get_or_insert_with(|| {
                    // One that is closed already only has its end to log.
                    if open > 0 {
                        tracing::info!(
                            event = "drain",
                            open,
                            "Waiting for {open} open connection(s) to end..."
                        );
                    }
                    now + self.args.limits.drain_timeout
                });
                if at <= now {
                    return self.cut_off(open);
                }
            }
            let mut descriptors = [
                PollFd::new(self.stop, PollFlags::IN),
                PollFd::new(&**self.connections, PollFlags::IN),
            ];
            poll(&mut descriptors, cut_off_at.map(|at| at - now))?;
            self.connections.clear();
            if self.stop.arrived() {
                stopped = Stopped::Signal;
            }
        }
    }

    fn cut_off(&self, open: usize) -> anyhow::Result<()> {
        /// For the threads to log what they have to say, and to end their programs.
        const GRACE: Duration = Duration::from_millis(500);
        const GRACE_FOR_PROGRAMS: Duration = Duration::from_secs(5);
        self.connections.cut_off();
        let grace = if self.runs_programs {
            GRACE_FOR_PROGRAMS
        } else {
            GRACE
        };
        let end = Instant::now() + grace;
        while !self.connections.all_finished() && Instant::now() < end {
            let mut descriptors = [PollFd::new(&**self.connections, PollFlags::IN)];
            let left = end.saturating_duration_since(Instant::now());
            poll(&mut descriptors, Some(left))?;
            self.connections.clear();
        }
        if open == 0 {
            return Ok(());
        }
        let time = self.args.limits.drain_timeout;
        let message = format!("could not drain {open} connection(s): cut off after {time:?}");
        Err(Failure::new(Exit::Timeout, message).into())
    }
}
