//! Listens for TCP connections and serves each by a thread of its own.

mod connection;
mod connections;
mod pool;
mod scheduling;
mod service;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::{self, Exit, Failure, cause};
use crate::net::connect::ConnectArgs;
use crate::net::options::TcpSocketArgs;
use crate::net::socket;
use crate::net::stream::Stream;
use crate::relay::options::StreamArgs;
use crate::server::access::{AccessArgs, Gate};
use crate::server::episode::Episode;
use crate::server::listen::ListenArgs;
use crate::signal::Stop;
use crate::units::positive_duration;
use crate::wait::{self, Deadline, Waker, is_wait, poll};
use connection::{Connection, Ended};
use connections::{Connections, Full, Hold, Slot};
use pool::{Crew, Taken};
use scheduling::Scheduling;
use service::{Handler, ServiceArgs};

const EXAMPLES: &str = "\
Examples:
  netkit tcp-server --port 9999                  greet everybody who connects
  netkit tcp-server -p 9999 --service stdio      talk to one connection (nc -l)
  netkit tcp-server -p 9999 -b any -e /bin/cat   run a program for each";

#[derive(Clone, clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    /// Let up to N connections wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(i32).range(1..), help_heading = "Listening")]
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
    /// With --service stdio: serve one after another
    #[arg(short, long)]
    keep_open: bool,
    /// Serve at most N connections at once; close others
    #[arg(short, long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Serve at most N connections from one address; close others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections_per_ip: Option<u32>,
    /// Close a connection after TIME without data
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Close a connection after TIME in total
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    max_session: Option<Duration>,
    /// On SIGINT or SIGTERM, finish within TIME
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::units::duration)]
    drain_timeout: Duration,
}

/// Listens until SIGINT or SIGTERM, or until the one connection of `--once` has ended.
pub fn run(args: &Args) -> Result<(), Failure> {
    let connect = ConnectArgs::new(args.listen.resolve.clone());
    let gate = Gate::open(&args.access, &args.listen.resolve)?;

    let listeners = args.listen.open(&args.listen.addresses()?, |address| {
        socket::listen(address, args.backlog, &args.socket)
    })?;
    let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
    raise_descriptor_limit(args.limits.max_connections);
    let stop = Stop::install()?;
    // Only now: what an earlier server left in its files is not lost to one that cannot listen.
    let handler = Handler::new(&args.service, &args.stream, connect)?;
    let host = Arc::new(Host {
        once: args.limits.once || (handler.takes_one_at_a_time() && !args.limits.keep_open),
        handler,
        limits: args.limits.clone(),
        gate,
        connections: Arc::new(Connections::new()?),
        scheduling: Arc::new(Scheduling::new()),
        episodes: Mutex::default(),
        episode_began: Waker::new()?,
        failure: Mutex::default(),
    });
    args.listen.announce(&listeners, "connect")?;
    tracing::info!("Waiting for connection...");

    let server = Server { host, stop };
    let stopped = if server.accepts_itself() {
        server.accept_from(&listeners)?
    } else {
        server.have_accepted(&listeners)?
    };
    close(listeners);
    let drained = server.drain(stopped);
    server.host.episodes().close(|_| true);
    drained?;
    match server.host.failure().take() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Whoever connects from now on is refused. Blocks until those who have just been given a connection
/// have counted it as open, which takes no time.
fn close(listeners: Vec<Arc<TcpListener>>) {
    /// In case that it does take time after all.
    const MOST: Duration = Duration::from_millis(500);
    const NAP: Duration = Duration::from_micros(100);
    for listener in &listeners {
        socket::stop_accepting(listener);
    }
    let end = Instant::now() + MOST;
    for listener in listeners {
        // Whoever accepts holds it.
        while Arc::strong_count(&listener) > 1 && Instant::now() < end {
            thread::sleep(NAP);
        }
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

/// A connection that was accepted, and what is left to do for it.
enum Arrival {
    Admitted(Accepted),
    /// It is closed already; only to be logged.
    TurnedAway(Turn, SocketAddr, Hold),
}

/// A connection on its way to be served.
struct Accepted {
    stream: Arc<Stream>,
    peer: SocketAddr,
    /// Given back when the connection has ended, however it does.
    slot: Slot,
}

/// What the threads of a server share.
struct Host {
    handler: Handler,
    limits: LimitArgs,
    once: bool,
    gate: Gate,
    connections: Arc<Connections>,
    scheduling: Arc<Scheduling>,
    episodes: Mutex<Episodes>,
    /// There is an end of an episode to wait for.
    episode_began: Waker,
    /// Why the server as a whole has failed: with its one connection, or with standard input or
    /// output.
    failure: Mutex<Option<Failure>>,
}

impl Host {
    /// Waits for a connection that is to be served, or to be logged: not here, where the next ones
    /// would have to wait for it.
    fn accept(&self, listener: &TcpListener) -> Taken<Box<Arrival>> {
        loop {
            match Stream::accept(listener) {
                Ok((stream, peer)) => {
                    if let Some(arrival) = self.admit(stream, peer) {
                        // Whole, it would stand on the stack of a thread several times, which is a
                        // page more for each.
                        return Taken::Job(Box::new(arrival));
                    }
                }
                // accept(2): it listens no longer.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Taken::End,
                Err(error) => {
                    if let Some(pause) = self.pause_after(&error) {
                        return Taken::Nothing(pause);
                    }
                }
            }
        }
    }

    /// How long not to accept after `error`, if it does not concern one connection only.
    fn pause_after(&self, error: &io::Error) -> Option<Duration> {
        /// Long enough to cost nothing, short enough that nobody notices.
        const PAUSE: Duration = Duration::from_millis(100);
        // accept(2): a connection that was reset while it waited is no fault of the listener.
        if matches!(
            error.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
        ) {
            return None;
        }
        if self.episodes().exhausted.happened(Instant::now()) {
            self.episode_began.wake();
            let cause = cause(error);
            tracing::error!("could not accept a connection: {cause}; new ones have to wait");
        }
        // The system is out of descriptors: accepting again at once would only say so again.
        Some(PAUSE)
    }

    /// Counts a connection as open, if it may be served; or else it is closed, and forgotten if it is
    /// one of many.
    fn admit(&self, stream: Stream, peer: SocketAddr) -> Option<Arrival> {
        let ip = peer.ip().to_canonical();
        let stream = Arc::new(stream);
        let limits = &self.limits;
        let admitted = if self.gate.permits(ip) {
            let (most, from_one) = (limits.max_connections, limits.max_connections_per_ip);
            self.connections
                .add(Arc::clone(&stream), ip, most, from_one)
                .map_err(Turn::Full)
        } else {
            Err(Turn::Denied)
        };
        match admitted {
            Ok(slot) => Some(Arrival::Admitted(Accepted { stream, peer, slot })),
            Err(turn) => {
                let begins = self.episodes().of(turn).happened(Instant::now());
                if begins {
                    self.episode_began.wake();
                    return Some(Arrival::TurnedAway(turn, peer, self.connections.hold()));
                }
                tracing::debug!(event = "reject", %peer, "closed a connection from {peer}");
                None
            }
        }
    }

    /// Says what begins to happen.
    fn log_turn(&self, turn: Turn, peer: SocketAddr) {
        let limits = &self.limits;
        match turn {
            Turn::Denied => {
                tracing::warn!(event = "reject", %peer, "closed a connection from {peer}: it is not allowed");
            }
            Turn::Full(Full::All) => {
                let limit = limits.max_connections;
                tracing::warn!(event = "limit", %peer, limit, "closed a connection from {peer}: {limit} are open already");
            }
            Turn::Full(Full::ForPeer) => {
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
        }
    }

    /// Says that a connection was closed, as it cannot have a thread.
    fn no_thread(&self, error: &io::Error) {
        if self.episodes().exhausted.happened(Instant::now()) {
            self.episode_began.wake();
            let cause = cause(error);
            tracing::error!("could not start a thread for a connection, closed it: {cause}");
        }
    }

    fn episodes(&self) -> MutexGuard<'_, Episodes> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, arrival: Arrival) {
        match arrival {
            Arrival::Admitted(accepted) => self.serve(accepted),
            Arrival::TurnedAway(turn, peer, _hold) => self.log_turn(turn, peer),
        }
    }

    fn serve(&self, accepted: Accepted) {
        let Accepted { stream, peer, slot } = accepted;
        let number = slot.number;
        let start = Instant::now();
        tracing::info!(event = "accept", connection = number, %peer, "Accept new connection from {peer}...");
        self.scheduling.are_open(slot.open);
        let scheduling = self.handler.answers_itself().then_some(&self.scheduling);
        let connection = Connection::new(
            number,
            stream,
            scheduling.cloned(),
            self.limits.idle_timeout,
            self.limits.max_session,
        );
        let ended = self.handler.handle(&connection);
        let cut = slot.was_cut();
        // Before the client learns of the end, and may connect again at once.
        self.scheduling.are_open(slot.close());
        if matches!(
            ended,
            Ok(()) | Err(Ended::TooLong(_) | Ended::Near(_) | Ended::Program(_))
        ) {
            connection.close_gently();
        }
        let traffic = connection.traffic();
        drop(connection);
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
        *self.failure() = Some(failure);
    }
}

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy)]
enum Turn {
    /// `--allow` and `--deny` say so.
    Denied,
    Full(Full),
}

/// What others can cause as often as they like.
#[derive(Default)]
struct Episodes {
    denied: Episode,
    full: Episode,
    full_for_peer: Episode,
    /// The system is out of descriptors or threads.
    exhausted: Episode,
}

impl Episodes {
    fn of(&mut self, turn: Turn) -> &mut Episode {
        match turn {
            Turn::Denied => &mut self.denied,
            Turn::Full(Full::All) => &mut self.full,
            Turn::Full(Full::ForPeer) => &mut self.full_for_peer,
        }
    }

    /// When the next one is over, if it stays quiet.
    fn next_end(&self) -> Deadline {
        [
            &self.denied,
            &self.full,
            &self.full_for_peer,
            &self.exhausted,
        ]
        .into_iter()
        .map(Episode::end)
        .fold(Deadline::NEVER, Deadline::min)
    }

    /// Says of those whose end `is_over` how much there was of them.
    fn close(&mut self, is_over: impl Fn(Deadline) -> bool) {
        let turned_away = [
            (&mut self.denied, "they were not allowed"),
            (&mut self.full, "too many were open"),
            (
                &mut self.full_for_peer,
                "too many were open from one address",
            ),
        ];
        for (episode, why) in turned_away {
            if let Some(count) = episode.close(&is_over) {
                tracing::warn!(
                    event = "limit",
                    count,
                    "closed {count} connections in all: {why}"
                );
            }
        }
        self.exhausted.close(is_over);
    }
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

struct Server {
    host: Arc<Host>,
    stop: Stop,
}

impl Server {
    /// Whether `accept_from` is the way, and not `have_accepted`.
    fn accepts_itself(&self) -> bool {
        self.host.once
            || self.host.handler.takes_one_at_a_time()
            || !socket::ACCEPTING_CAN_BE_STOPPED
    }

    /// Has connections accepted by the threads that serve them, until this is to stop.
    fn have_accepted(&self, listeners: &[Arc<TcpListener>]) -> Result<Stopped, Failure> {
        for listener in listeners {
            let listener = Arc::downgrade(listener);
            let [accepting, serving, refusing] = [(); 3].map(|()| Arc::clone(&self.host));
            Crew::start(
                move || match listener.upgrade() {
                    Some(listener) => accepting.accept(&listener),
                    None => Taken::End,
                },
                move |arrival: Box<Arrival>| serving.handle(*arrival),
                move |error| refusing.no_thread(&error),
            )
            .map_err(|error| {
                let message = format!("could not start a thread: {}", cause(&error));
                Failure::local(message)
            })?;
        }
        loop {
            if let ControlFlow::Break(stopped) = self.attend(&[], None)? {
                return Ok(stopped);
            }
        }
    }

    /// Accepts in this thread, and has each connection served by another, until this is to stop. No
    /// failing accept ends it, and neither does a connection.
    fn accept_from(&self, listeners: &[Arc<TcpListener>]) -> Result<Stopped, Failure> {
        for listener in listeners {
            listener.set_nonblocking(true)?;
        }
        let one_at_a_time = self.host.handler.takes_one_at_a_time();
        if one_at_a_time {
            self.host.connections.watch();
        }
        let mut paused_until: Option<Instant> = None;
        loop {
            paused_until = paused_until.filter(|until| *until > Instant::now());
            let is_busy = one_at_a_time && !self.host.connections.all_finished();
            let accepting = if is_busy || paused_until.is_some() {
                &[]
            } else {
                listeners
            };
            let ready = match self.attend(accepting, paused_until)? {
                ControlFlow::Break(stopped) => return Ok(stopped),
                ControlFlow::Continue(ready) => ready,
            };
            for listener in ready.into_iter().map(|index| &accepting[index]) {
                match Stream::accept(listener) {
                    Ok((stream, peer)) => {
                        let is_served = self.start(stream, peer);
                        if is_served && self.host.once {
                            return Ok(Stopped::Once);
                        }
                        if is_served && one_at_a_time {
                            break;
                        }
                    }
                    Err(error) if is_wait(&error) => {}
                    Err(error) => {
                        let pause = self.host.pause_after(&error);
                        paused_until = pause.map(|pause| Instant::now() + pause);
                    }
                }
            }
        }
    }

    /// Has a connection served, or closes it; whether it is served.
    fn start(&self, stream: Stream, peer: SocketAddr) -> bool {
        // On some systems it is as non-blocking as its listener.
        if let Err(error) = stream.set_nonblocking(false) {
            // It has gone away already.
            tracing::debug!(%peer, "could not set up a connection from {peer}: {}", cause(&error));
            return false;
        }
        let accepted = match self.host.admit(stream, peer) {
            Some(Arrival::Admitted(accepted)) => accepted,
            Some(turned_away) => {
                self.host.handle(turned_away);
                return false;
            }
            None => return false,
        };
        let host = Arc::clone(&self.host);
        let started = pool::spawn(move || host.serve(accepted));
        if let Err(error) = &started {
            self.host.no_thread(error);
        }
        started.is_ok()
    }

    /// Waits for a connection at one of `listeners`, or for anything else that the server has to
    /// attend to, but not longer than `until`. Says which of `listeners` are ready.
    fn attend(
        &self,
        listeners: &[Arc<TcpListener>],
        until: Option<Instant>,
    ) -> io::Result<ControlFlow<Stopped, Vec<usize>>> {
        let host = &*self.host;
        let mut descriptors = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&host.gate, PollFlags::IN),
            PollFd::new(&*host.connections, PollFlags::IN),
            PollFd::new(&host.episode_began, PollFlags::IN),
        ];
        descriptors.extend(
            listeners
                .iter()
                .map(|listener| PollFd::new(&**listener, PollFlags::IN)),
        );
        let until = until.map(|at| at.saturating_duration_since(Instant::now()));
        let quiet = host.episodes().next_end().left();
        let timeout = until.into_iter().chain(quiet).min();
        poll(&mut descriptors, timeout)?;
        let mut ready = wait::ready(&descriptors);
        if ready.next() == Some(true) && self.stop.arrived() {
            return Ok(ControlFlow::Break(Stopped::Signal));
        }
        if ready.next() == Some(true) {
            host.gate.read_again_if_asked();
        }
        if ready.next() == Some(true) {
            host.connections.clear();
        }
        if ready.next() == Some(true) {
            host.episode_began.clear();
        }
        if host.failure().is_some() {
            return Ok(ControlFlow::Break(Stopped::Failed));
        }
        host.episodes().close(Deadline::has_passed);
        let listeners = ready.enumerate().filter(|(_, is_ready)| *is_ready);
        Ok(ControlFlow::Continue(
            listeners.map(|(index, _)| index).collect(),
        ))
    }

    /// Waits for the open connections; after a signal not longer than the drain timeout.
    fn drain(&self, mut stopped: Stopped) -> Result<(), Failure> {
        self.host.connections.watch();
        let mut cut_off_at = None;
        loop {
            if self.host.connections.all_finished() {
                return Ok(());
            }
            let now = Instant::now();
            if stopped == Stopped::Signal {
                let open = self.host.connections.count();
                let at = *cut_off_at.get_or_insert_with(|| {
                    // One that is closed already only has its end to log.
                    if open > 0 {
                        tracing::info!(
                            event = "drain",
                            open,
                            "Waiting for {open} open connection(s) to end..."
                        );
                    }
                    now + self.host.limits.drain_timeout
                });
                if at <= now {
                    return self.cut_off(open);
                }
            }
            let mut descriptors = [
                PollFd::new(&self.stop, PollFlags::IN),
                PollFd::new(&*self.host.connections, PollFlags::IN),
            ];
            poll(&mut descriptors, cut_off_at.map(|at| at - now))?;
            self.host.connections.clear();
            if self.stop.arrived() {
                stopped = Stopped::Signal;
            }
        }
    }

    fn cut_off(&self, open: usize) -> Result<(), Failure> {
        /// For the threads to log what they have to say, and to end their programs.
        const GRACE: Duration = Duration::from_millis(500);
        const GRACE_FOR_PROGRAMS: Duration = Duration::from_secs(5);
        self.host.connections.cut_off();
        let grace = if self.host.handler.runs_programs() {
            GRACE_FOR_PROGRAMS
        } else {
            GRACE
        };
        let end = Instant::now() + grace;
        while !self.host.connections.all_finished() && Instant::now() < end {
            let mut descriptors = [PollFd::new(&*self.host.connections, PollFlags::IN)];
            let left = end.saturating_duration_since(Instant::now());
            poll(&mut descriptors, Some(left))?;
            self.host.connections.clear();
        }
        if open == 0 {
            return Ok(());
        }
        let time = self.host.limits.drain_timeout;
        let message = format!("could not drain {open} connection(s): cut off after {time:?}");
        Err(Failure::new(Exit::Timeout, message))
    }
}
