//! Listens for TCP connections and serves each on a thread of its own.
//!
//! A thread of a `pool` takes a connection from its listener (`accept`). `admission` lets the
//! connection in or rejects it. Then the thread serves it (`serve`): a `service` reads and writes a
//! `Connection`, which keeps the limits. The main thread meanwhile waits for signals and, once no
//! more connections are accepted, for the last one to end.

mod accept;
mod admission;
mod connection;
mod connections;
mod ended;
pub mod modes;
mod pool;
mod serve;
mod service;
mod stopping;
mod turns;

use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::exit::{self, Exit, Failure, OrFail as _};
use crate::limits;
use crate::memory;
use crate::net::connect::ConnectArgs;
use crate::net::listener::Listener;
use crate::net::options::TcpSocketArgs;
use crate::net::peer::Endpoint;
use crate::net::services::Protocol;
use crate::proxy::{Dialer, HeaderArgs, ProxyArgs};
use crate::relay::options::StreamArgs;
use crate::server::access::{AccessArgs, Gate};
use crate::server::episode::Episode;
use crate::server::host::is_loopback;
use crate::server::listen::{ListenArgs, Place, unix_failure};
use crate::server::stop::Stop;
use crate::server::systemd;
use crate::tap::Taps;
use crate::tls::{Acceptor, Connector, ServerTlsArgs};
use crate::units::{number, positive_duration};
use crate::wait::{Deadline, Waker, lock};
use admission::Admission;
use connections::Connections;
use service::{Handler, ServiceArgs, Way};
use turns::Turns;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-server 9999                         greet everybody who connects
  netkit tcp-server -l 9999                      talk to one connection (nc -l)
  netkit tcp-server 9999 -b any -e /bin/cat      run a program for each
  netkit tcp-server 9999 --forward HOST:80 -x    see what a client and a server say";

#[derive(Clone, clap::Args)]
#[command(
    override_usage = "netkit tcp-server [OPTIONS] [ADDRESS:]PORT",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    #[command(flatten)]
    listen: ListenArgs,
    /// Set the mode of a Unix socket's file [default: 0600]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    unix_mode: Option<u32>,
    /// Let up to N connections wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", value_parser = number::<i32>(1..=i32::MAX as u64))]
    backlog: i32,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    socket: TcpSocketArgs,
    #[command(flatten)]
    tls: ServerTlsArgs,
    #[command(flatten)]
    proxy: ProxyArgs,
    #[command(flatten)]
    header: HeaderArgs,
    /// Demand a PROXY protocol header of each client
    ///
    /// The client is then the one that the header names. --allow and --deny judge who really connects;
    /// beyond this machine --allow has to name them. A header is waited for 5 s.
    #[arg(long)]
    accept_proxy: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct LimitArgs {
    /// Serve one connection, then exit
    #[arg(short = '1', long, conflicts_with_all = ["keep_open", "max_connections", "max_connections_per_ip"])]
    once: bool,
    /// With -l: serve one connection after another
    #[arg(short, long)]
    keep_open: bool,
    /// Serve at most N at once; reset others
    #[arg(short, long, value_name = "N", default_value = "1024", value_parser = number::<u32>(1..=u32::MAX.into()))]
    max_connections: u32,
    /// Serve at most N of one host [default: 3/4 of -m]
    ///
    /// An IPv6 host is a /64. By default loopback may have all of -m. Others are reset.
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=u32::MAX.into()))]
    max_connections_per_ip: Option<u32>,
    /// Close a connection after TIME without data
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Close a connection after TIME in total
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    max_session: Option<Duration>,
    /// Give up when nobody has connected within TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    accept_timeout: Option<Duration>,
    /// On SIGINT or SIGTERM, finish within TIME
    ///
    /// On SIGHUP too, unless it reads a file of --allow or --deny again. A second signal ends the
    /// server at once.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::units::duration)]
    drain_timeout: Duration,
}

/// Listens until a signal stops it, or until the one connection of `--once` has ended.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut place = args
        .listen
        .place(Protocol::Tcp, args.service.runs_program())?;
    args.stream.tap.check()?;
    let connect = ConnectArgs::new(args.listen.resolve.clone());
    let dialer = Dialer::new(connect, &args.proxy)?;
    let gate = Gate::open(&args.access, &args.listen.resolve)?;

    let listeners = args.open(&mut place)?;
    args.check_claims(&listeners)?;
    let way = || args.way(dialer, &listeners);
    let handler = Handler::new(&args.service, &args.stream, args.limits.keep_open, way)?;
    let acceptor = args.acceptor(&listeners)?;
    let made = acceptor.as_ref().and_then(|acceptor| acceptor.made.clone());
    // Programs inherit the limit, and select(2) of some fails above 1024.
    if handler.program().is_none() {
        raise_descriptor_limit(args.limits.max_connections);
    }
    let limits = &args.limits;
    let connections = Connections::new(limits.max_connections, limits.max_connections_per_ip)?;
    let connections = Arc::new(connections);
    let to_reset = Arc::clone(&connections);
    let stop = Stop::catch(gate.rereads_lists(), handler.program(), move || {
        to_reset.reset_at_exit();
    })?;
    // Only now: a server that cannot run must not empty the files of the one that does.
    let taps = args.stream.tap.open()?;
    let server = Arc::new(Server {
        once: limits.once
            || ((handler.takes_one_at_a_time() || args.service.stdio) && !limits.keep_open),
        turns: handler.program().map(|_| Turns::new()),
        handler,
        taps,
        limits: limits.clone(),
        admission: Admission::new(gate, connections, acceptor, args.accept_proxy),
        listeners: RwLock::new(listeners),
        closing: Waker::new()?,
        exhausted: Mutex::default(),
        failure: Mutex::default(),
    });
    memory::keep_reserve();
    let like_netcat = args.service.stdio;
    let endpoints = server.endpoints()?;
    place.announce(&endpoints, "connect", like_netcat)?;
    if let (Some(pin), Some(address)) = (made, endpoints.first()) {
        tracing::info!("Certificate {pin} (netkit tcp-client --tls --tls-pin {pin} {address})");
    }
    tracing::info!("Waiting for connection...");
    systemd::ready();
    server
        .start()
        .or_fail(Exit::Local, || "could not start a thread")?;
    let drained = server.wait(&stop);
    server.admission.close_episodes(|_| true);
    drained?;
    let failure = lock(&server.failure).take();
    failure.map_or(Ok(()), Err)
}

impl Args {
    /// Refuses `--accept-proxy` where everybody could claim to be anybody.
    fn check_claims(&self, listeners: &[Listener]) -> Result<(), Failure> {
        if !self.accept_proxy || self.access.has_allow() {
            return Ok(());
        }
        for listener in listeners {
            let address = listener.endpoint()?.inet();
            if address.is_some_and(|address| !is_loopback(address.ip())) {
                let message = "--accept-proxy beyond this machine needs --allow: whoever may connect may claim to be anybody";
                return Err(Failure::usage(message));
            }
        }
        Ok(())
    }

    /// Opens a socket for each address. Blocks while names are resolved.
    fn open(&self, place: &mut Place) -> Result<Vec<Listener>, Failure> {
        if let Some(passed) = place.passed.take() {
            return passed.listeners();
        }
        let (backlog, options) = (self.backlog, &self.socket);
        let mut listeners = place.open(&place.candidates()?, |address| {
            Listener::tcp(address, backlog, options)
        })?;
        let mode = self.unix_mode.unwrap_or(0o600);
        for (index, name) in place.unix.iter().enumerate() {
            // As with TCP, an address that is named twice is opened once.
            if place.unix[..index]
                .iter()
                .any(|known| known.is_same_as(name))
            {
                continue;
            }
            let listener = Listener::unix(name, backlog, mode, options);
            listeners.push(listener.map_err(|error| unix_failure(name, &error))?);
        }
        Ok(listeners)
    }

    /// How `--forward` reaches its target. It does not connect to `listeners`.
    fn way(&self, dialer: Dialer, listeners: &[Listener]) -> Result<Way, Failure> {
        let tls = self.tls.to_target();
        let own = listeners.iter().map(Listener::endpoint);
        Ok(Way {
            dialer,
            header: self.header.clone(),
            tls: tls
                .tls
                .then(|| Connector::new(&tls, Deadline::NEVER))
                .transpose()?,
            listeners: own.collect::<io::Result<_>>()?,
            rules: self.stream.passing(),
        })
    }

    /// What encrypts connections, with `--tls`.
    fn acceptor(&self, listeners: &[Listener]) -> Result<Option<Acceptor>, Failure> {
        if !self.tls.tls {
            return Ok(None);
        }
        let endpoints = listeners.iter().map(Listener::endpoint);
        let endpoints = endpoints.collect::<io::Result<Vec<_>>>()?;
        let addresses = endpoints.iter().filter_map(Endpoint::inet);
        let addresses = addresses.map(|address| address.ip());
        let addresses: Vec<_> = addresses.filter(|ip| !ip.is_unspecified()).collect();
        Acceptor::new(&self.tls, &addresses).map(Some)
    }
}

/// The mode of a file, in octal: `0660`.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| {
            format!("'{text}' is not a file mode; write one from 0 to 0777, for example 0660")
        })
}

/// Raises the limit of descriptors to what `connections` may need, or to the most that is permitted.
/// Too low a limit shows only when it is reached.
fn raise_descriptor_limit(connections: u32) {
    /// A connection that is joined to a program or to another server, with the pipes between them.
    const EACH: u64 = 4;
    const OTHERS: u64 = 64;
    let needed = u64::from(connections) * EACH + OTHERS;
    let Ok(Rlimit { current, maximum }) = limits::of(Resource::Nofile) else {
        return;
    };
    if current.is_some_and(|current| current < needed) {
        let current = Some(maximum.map_or(needed, |maximum| needed.min(maximum)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// What the threads of a server share.
struct Server {
    handler: Handler,
    taps: Option<Arc<Taps>>,
    /// Only of a server that runs programs.
    turns: Option<Arc<Turns>>,
    limits: LimitArgs,
    /// Only one connection is accepted.
    once: bool,
    admission: Admission,
    /// Empty once no more connections are accepted. A thread locks it for reading from before accept(2)
    /// until the connection is counted. So the thread that empties it misses none.
    listeners: RwLock<Vec<Listener>>,
    /// Readable once the listeners are to be closed.
    closing: Waker,
    /// accept(2) failed, since the system was out of descriptors or memory.
    exhausted: Mutex<Episode>,
    /// Why the server fails once all connections have ended.
    failure: Mutex<Option<Failure>>,
}

impl Server {
    /// Where it listens.
    fn endpoints(&self) -> io::Result<Vec<Endpoint>> {
        self.listeners().iter().map(Listener::endpoint).collect()
    }
}
