//! Listens for TCP connections and serves each by a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::connect::ConnectArgs;
use crate::connections::{Connections, Slot};
use crate::duplex::poll;
use crate::exit::{self, Exit, Failure, cause};
use crate::listen::ListenArgs;
use crate::service::{Connection, Ended, Handler, ServiceArgs};
use crate::signal::Stop;
use crate::socket;
use crate::stream::StreamArgs;
use crate::units::positive_duration;
use crate::workers::Workers;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-server --port 9999                  greet everybody who connects
  netkit tcp-server -p 7 -b any --service echo   echo, on all addresses
  netkit tcp-server -p 0 --print-port -1         serve one connection on a free port";

/// Listen on a port; every accepted connection is served by a thread of its own
#[derive(Clone, clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    /// How many connections may wait to be accepted
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
    /// Close a connection in which nothing moved for TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Close a connection that has been open for TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    max_session: Option<Duration>,
    /// On SIGINT or SIGTERM give open connections TIME to end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::units::duration)]
    drain_timeout: Duration,
}

/// Listens until SIGINT or SIGTERM, or until the one connection of `--once` has ended.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let connect = ConnectArgs::new(args.listen.resolve.clone());
    let handler = Handler::new(&args.service, &args.stream, connect)
        .map_err(|message| Failure::new(Exit::Local, message))?;
    let one_at_a_time = handler.takes_one_at_a_time();
    let once = args.limits.once || (one_at_a_time && !args.limits.keep_open);
    let listeners = args
        .listen
        .open(|address| socket::listen(address, args.backlog))?;
    let stop = Stop::install()?;
    let connections = Arc::new(Connections::new()?);
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
        limits: &args.limits,
        connections: &connections,
        stop: &stop,
        start: |accepted| workers.start(accepted),
        once,
        one_at_a_time,
        failure: &failure,
        paused_until: None,
        full: Episode::default(),
        exhausted: Episode::default(),
    };
    let stopped = server.serve(&listeners)?;
    // Whoever connects from now on is refused.
    drop(listeners);
    server.drain(stopped)?;
    let failure = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    failure.map_or(Ok(()), |failure| Err(failure.into()))
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
    /// Why the server as a whole has failed; only a conversation on standard input and output can.
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Host {
    fn handle(&self, accepted: Accepted) {
        let Accepted { stream, peer, slot } = accepted;
        tracing::info!(%peer, "Accept new connection from {peer}...");
        let connection = Connection::new(stream, self.limits.idle_timeout, self.limits.max_session);
        let ended = self.handler.handle(&connection);
        if matches!(ended, Ok(()) | Err(Ended::TooLong(_) | Ended::Near(_))) {
            connection.close_gently();
        }
        drop(connection);
        slot.close();
        match &ended {
            Ok(()) => tracing::info!(%peer, "Connection from {peer} closed."),
            Err(reason) => {
                tracing::info!(%peer, %reason, "Connection from {peer} closed: {reason}.")
            }
        }
        if self.handler.takes_one_at_a_time() {
            let failure = match ended {
                Err(Ended::Near(failure)) => Some(failure),
                Err(reason) if self.once => {
                    let exit = reason.exit();
                    Some(Failure::new(
                        exit,
                        format!("could not finish with {peer}: {reason}"),
                    ))
                }
                _ => None,
            };
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
    }
}

/// Something that goes on for a while and is worth one log line.
#[derive(Default)]
struct Episode(bool);

impl Episode {
    /// Whether this is the first time since the last `end`.
    fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    fn end(&mut self) {
        self.0 = false;
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

struct Server<'a, F> {
    limits: &'a LimitArgs,
    connections: &'a Arc<Connections>,
    stop: &'a Stop,
    /// Gives a connection to a thread.
    start: F,
    once: bool,
    one_at_a_time: bool,
    failure: &'a Mutex<Option<Failure>>,
    /// The system is out of descriptors: accepting again at once would only say so again.
    paused_until: Option<Instant>,
    full: Episode,
    exhausted: Episode,
}

impl<F: Fn(Accepted) -> io::Result<()>> Server<'_, F> {
    /// Accepts until it is to stop. No failing accept ends it, and neither does a connection.
    fn serve(&mut self, listeners: &[TcpListener]) -> io::Result<Stopped> {
        /// So that a signal is heard between the connections of a crowd.
        const BATCH: usize = 64;
        if self.one_at_a_time {
            self.connections.watch();
        }
        loop {
            let now = Instant::now();
            self.paused_until = self.paused_until.filter(|until| *until > now);
            let busy = self.one_at_a_time && !self.connections.all_finished();
            let accepting = if busy || self.paused_until.is_some() {
                &[]
            } else {
                listeners
            };
            let mut descriptors = vec![
                PollFd::new(self.stop, PollFlags::IN),
                PollFd::new(&**self.connections, PollFlags::IN),
            ];
            descriptors.extend(
                accepting
                    .iter()
                    .map(|listener| PollFd::new(listener, PollFlags::IN)),
            );
            poll(&mut descriptors, self.paused_until.map(|until| until - now))?;
            if self.stop.arrived() {
                return Ok(Stopped::Signal);
            }
            self.connections.clear();
            if self
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
            {
                return Ok(Stopped::Failed);
            }
            let ready = descriptors[2..]
                .iter()
                .map(|descriptor| !descriptor.revents().is_empty());
            'listeners: for (listener, _) in accepting.iter().zip(ready).filter(|(_, ready)| *ready)
            {
                for _ in 0..BATCH {
                    match listener.accept() {
                        Ok((stream, peer)) => {
                            self.admit(stream, peer);
                            if self.once {
                                return Ok(Stopped::Once);
                            }
                            if self.one_at_a_time {
                                break 'listeners;
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => self.accept_failed(&error),
                    }
                    if self.paused_until.is_some() {
                        break;
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let most = self.limits.max_connections as usize;
        if self.connections.count() >= most {
            if self.full.begins() {
                tracing::warn!(%peer, "closed a new connection from {peer}: {most} are open already");
            }
            return;
        }
        self.full.end();
        self.exhausted.end();
        if let Err(error) = socket::accepted(&stream) {
            // It has gone away already.
            tracing::debug!(%peer, "could not set up a connection from {peer}: {}", cause(&error));
            return;
        }
        let stream = Arc::new(stream);
        let slot = self.connections.add(Arc::clone(&stream));
        if let Err(error) = (self.start)(Accepted { stream, peer, slot })
            && self.exhausted.begins()
        {
            let cause = cause(&error);
            tracing::error!(%peer, "could not start a thread for {peer}, closed it: {cause}");
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
        self.paused_until = Some(Instant::now() + PAUSE);
        if self.exhausted.begins() {
            tracing::error!(
                "could not accept a connection: {}; new ones have to wait",
                cause(error)
            );
        }
    }

    /// Waits for the open connections; after a signal not longer than the drain timeout.
    fn drain(&self, mut stopped: Stopped) -> anyhow::Result<()> {
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
                        tracing::info!(open, "Waiting for {open} open connection(s) to end...");
                    }
                    now + self.limits.drain_timeout
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
        /// For the threads to log what they have to say.
        const GRACE: Duration = Duration::from_secs(1);
        self.connections.cut_off();
        let end = Instant::now() + GRACE;
        while !self.connections.all_finished() && Instant::now() < end {
            let mut descriptors = [PollFd::new(&**self.connections, PollFlags::IN)];
            poll(
                &mut descriptors,
                Some(end.saturating_duration_since(Instant::now())),
            )?;
            self.connections.clear();
        }
        if open == 0 {
            return Ok(());
        }
        let time = self.limits.drain_timeout;
        let message = format!("cut {open} connection(s) off that had not ended within {time:?}");
        Err(Failure::new(Exit::Timeout, message).into())
    }
}
