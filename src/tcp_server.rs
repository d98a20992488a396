//! Listens for TCP connections and serves each by a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::connections::{Connections, Slot};
use crate::duplex::poll;
use crate::exit::{self, Exit, Failure, cause};
use crate::listen::ListenArgs;
use crate::service::{Connection, Ended, ServiceArgs};
use crate::signal::Stop;
use crate::socket;
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
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Serve one connection, then exit
    #[arg(short = '1', long)]
    once: bool,
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
    let listeners = args
        .listen
        .open(|address| socket::listen(address, args.backlog))?;
    let stop = Stop::install()?;
    let connections = Arc::new(Connections::new()?);
    args.listen.announce(&listeners)?;
    tracing::info!("Waiting for connection...");
    let limits = args.limits.clone();
    let service = args.service.clone();
    let workers = Workers::new(move |accepted: Accepted| accepted.handle(&service, &limits));
    let mut server = Server {
        limits: &args.limits,
        connections: &connections,
        stop: &stop,
        start: |accepted| workers.start(accepted),
        paused_until: None,
        full: Episode::default(),
        exhausted: Episode::default(),
    };
    let stopped = server.serve(&listeners)?;
    // Whoever connects from now on is refused.
    drop(listeners);
    server.drain(stopped)
}

/// A connection on its way to the thread that serves it.
struct Accepted {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    /// Given back when the connection has ended, however it does.
    slot: Slot,
}

impl Accepted {
    fn handle(self, service: &ServiceArgs, limits: &LimitArgs) {
        let Self { stream, peer, slot } = self;
        tracing::info!(%peer, "Accept new connection from {peer}...");
        let connection = Connection::new(stream, limits.idle_timeout, limits.max_session);
        let ended = service.handle(&connection);
        if matches!(ended, Ok(()) | Err(Ended::TooLong(_))) {
            connection.close_gently();
        }
        drop(connection);
        slot.close();
        match ended {
            Ok(()) => tracing::info!(%peer, "Connection from {peer} closed."),
            Err(reason) => {
                tracing::info!(%peer, %reason, "Connection from {peer} closed: {reason}.")
            }
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
}

struct Server<'a, F> {
    limits: &'a LimitArgs,
    connections: &'a Arc<Connections>,
    stop: &'a Stop,
    /// Gives a connection to a thread.
    start: F,
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
        loop {
            let now = Instant::now();
            self.paused_until = self.paused_until.filter(|until| *until > now);
            let accepting: &[TcpListener] = if self.paused_until.is_some() {
                &[]
            } else {
                listeners
            };
            let mut descriptors = vec![PollFd::new(self.stop, PollFlags::IN)];
            descriptors.extend(
                accepting
                    .iter()
                    .map(|listener| PollFd::new(listener, PollFlags::IN)),
            );
            poll(&mut descriptors, self.paused_until.map(|until| until - now))?;
            if self.stop.arrived() {
                return Ok(Stopped::Signal);
            }
            let ready = descriptors[1..]
                .iter()
                .map(|descriptor| !descriptor.revents().is_empty());
            for (listener, _) in accepting.iter().zip(ready).filter(|(_, ready)| *ready) {
                for _ in 0..BATCH {
                    match listener.accept() {
                        Ok((stream, peer)) => {
                            self.admit(stream, peer);
                            if self.limits.once {
                                return Ok(Stopped::Once);
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
        self.connections.drain();
        let mut cut_off_at = None;
        loop {
            if self.connections.all_finished() {
                return Ok(());
            }
            let now = Instant::now();
            if stopped == Stopped::Signal {
                let open = self.connections.count();
                let at = *cut_off_at.get_or_insert_with(|| {
                    tracing::info!(open, "Waiting for {open} open connection(s) to end...");
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
        let time = self.limits.drain_timeout;
        let message = format!("cut {open} connection(s) off that had not ended within {time:?}");
        Err(Failure::new(Exit::Timeout, message).into())
    }
}
