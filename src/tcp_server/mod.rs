//! Listens for TCP connections and serves each by a thread of its own.

mod accept;
mod admission;
mod connection;
mod connections;
mod pool;
mod serve;
mod service;

use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::{self, Exit, Failure, OrFail as _};
use crate::net::connect::ConnectArgs;
use crate::net::options::TcpSocketArgs;
use crate::net::socket;
use crate::relay::options::StreamArgs;
use crate::server::access::{AccessArgs, Gate};
use crate::server::episode::Episode;
use crate::server::listen::ListenArgs;
use crate::signal::Stop;
use crate::units::positive_duration;
use crate::wait::{Deadline, IN, Set, Waker, wait_for};
use admission::Admission;
use connections::Connections;
use service::{Handler, ServiceArgs};

const EXAMPLES: &str = "\
Examples:
  netkit tcp-server --port 9999                  greet everybody who connects
  netkit tcp-server -p 9999 --service stdio      netcat's listener: talk to one connection
  netkit tcp-server -p 9999 -b any -e /bin/cat   run a program for every connection";

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
pub fn run(args: &Args) -> Result<(), Failure> {
    let connect = ConnectArgs::new(args.listen.resolve.clone());
    let gate = Gate::open(&args.access, &args.listen.resolve)?;

    let listeners = args.listen.open(&args.listen.addresses()?, |address| {
        socket::listen(address, args.backlog, &args.socket)
    })?;
    raise_descriptor_limit(args.limits.max_connections);
    let stop = Stop::install()?;
    // Only now, as it empties the files of an earlier server, which a server that cannot listen must
    // not do.
    let handler = Handler::new(&args.service, &args.stream, connect)?;
    let limits = &args.limits;
    let connections = Connections::new(limits.max_connections, limits.max_connections_per_ip)?;
    let server = Arc::new(Server {
        once: limits.once || (handler.takes_one_at_a_time() && !limits.keep_open),
        handler,
        limits: limits.clone(),
        admission: Admission::new(gate, Arc::new(connections)),
        listeners: RwLock::new(listeners),
        closing: Waker::new()?,
        exhausted: Mutex::default(),
        failure: Mutex::default(),
    });
    args.listen.announce(&server.listeners(), "connect")?;
    tracing::info!("Waiting for connection...");
    server
        .start()
        .or_fail(Exit::Local, || "could not start a thread")?;
    let drained = server.wait(&stop);
    server.admission.close_episodes(|_| true);
    drained?;
    let mut failure = server
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    failure.take().map_or(Ok(()), Err)
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

/// What the threads of a server share.
struct Server {
    handler: Handler,
    limits: LimitArgs,
    /// The first connection is the last.
    once: bool,
    admission: Admission,
    /// Empty once no connection is accepted any more.
    listeners: RwLock<Vec<TcpListener>>,
    /// Readable from then on.
    closing: Waker,
    /// The system is out of descriptors.
    exhausted: Mutex<Episode>,
    /// Why the server as a whole has failed.
    failure: Mutex<Option<Failure>>,
}

impl Server {
    fn serves_one_at_a_time(&self) -> bool {
        self.once || self.handler.takes_one_at_a_time()
    }

    /// Blocks until no connection is accepted any more and all have ended. After a signal it cuts
    /// them off when the drain timeout has passed.
    fn wait(&self, stop: &Stop) -> Result<(), Failure> {
        let Admission {
            gate, connections, ..
        } = &self.admission;
        let mut drained = Deadline::NEVER;
        while !connections.have_ended() {
            if drained.has_passed() {
                return self.cut_off();
            }
            let mut set = Set::new();
            let stopped = set.add(stop.as_fd(), IN);
            let reload = set.add(gate.as_fd(), IN);
            let woken = set.add(connections.waker.as_fd(), IN);
            let ready = set.wait(drained.min(self.admission.next_end()))?;
            if ready[stopped] && stop.arrived() {
                drained = self.drain();
            }
            if ready[reload] {
                gate.read_again_if_asked();
            }
            if ready[woken] {
                connections.waker.clear();
            }
            self.admission.close_episodes(Deadline::has_passed);
        }
        Ok(())
    }

    /// Accepts no more connections; until when the open ones may take to end.
    fn drain(&self) -> Deadline {
        let open = self.stop_accepting();
        // One that is closed already only has its end to log.
        if open > 0 {
            tracing::info!(
                event = "drain",
                open,
                "Waiting for {open} open connection(s) to end..."
            );
        }
        Deadline::after(self.limits.drain_timeout)
    }

    /// Shuts the open connections down, and gives their threads the time to log and to end their
    /// programs.
    fn cut_off(&self) -> Result<(), Failure> {
        const GRACE: Duration = Duration::from_millis(500);
        const GRACE_FOR_PROGRAMS: Duration = Duration::from_secs(5);
        let connections = &self.admission.connections;
        let open = connections.cut_off();
        let grace = Deadline::after(if self.handler.runs_programs() {
            GRACE_FOR_PROGRAMS
        } else {
            GRACE
        });
        while !connections.have_ended() && !grace.has_passed() {
            wait_for(connections.waker.as_fd(), IN, grace)?;
            connections.waker.clear();
        }
        if open == 0 {
            return Ok(());
        }
        let time = self.limits.drain_timeout;
        let message = format!("could not drain {open} connection(s): cut off after {time:?}");
        Err(Failure::new(Exit::Timeout, message))
    }
}
