//! `-z`: says which ports are open, by connecting to each and closing the connection.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dial::{Dial, Dialed, Encryption};
use super::{Args, ping};
use crate::check::report::Report;
use crate::check::{Attempt, Checked, Plan, State, at_a_time};
use crate::exit::Failure;
use crate::json::milliseconds;
use crate::logging::LoggingArgs;
use crate::net::connect::ConnectArgs;
use crate::net::race::Connected;
use crate::net::services::Protocol;
use crate::net::target::{self, Address};
use crate::ping::options::PingArgs;
use crate::progress::Progress;
use crate::proxy::{Dialer, Route};
use crate::units::{number, positive_duration};
use crate::wait::{Deadline, Key, Ready, Set};

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Say which of HOST:22,80,8000-8010 are open
    ///
    /// Several targets may follow, or HOST PORTS. Of one port a failure is an error. Of several, -v
    /// tells those that are not open, and a summary stands at the end.
    #[arg(short = 'z', long)]
    check: bool,
    /// Try N ports at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = number::<u16>(1..=65535))]
    parallel: Option<u16>,
    /// Check again until all are open, for TIME
    ///
    /// Exit 4 if TIME passes first. --retry-delay is the time between two checks.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, conflicts_with = "retry")]
    wait: Option<Duration>,
    #[command(flatten)]
    pub ping: PingArgs,
    /// Limit each connection of a ping [default: 1s]
    #[arg(short = 'W', long, value_name = "TIME", value_parser = positive_duration)]
    pub timeout: Option<Duration>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

impl CheckArgs {
    /// Whether ports are checked instead of talked to.
    pub fn is_wanted(&self) -> bool {
        self.check || self.ping.is_wanted()
    }

    /// Whether `-i` was typed alone, and not by a person who looks at a ping.
    fn is_netcats_interval(&self) -> bool {
        !self.check && self.ping.is_only_interval() && !io::stdin().is_terminal()
    }

    /// Whether ports that are not open are checked again, whatever `--retry` says.
    pub fn is_repeated(&self) -> bool {
        self.wait.is_some()
    }

    fn plan(&self, connect: &ConnectArgs, deadline: Deadline) -> Plan {
        /// The descriptors that one attempt may need: a host may have several addresses.
        const EACH: usize = 4;
        Plan {
            at_a_time: at_a_time(self.parallel.unwrap_or(64), EACH),
            rounds: match self.wait {
                Some(_) => u32::MAX,
                None => connect.attempts(),
            },
            delay: connect.delay(),
            wait: Deadline::within(self.wait),
            deadline,
        }
    }
}

/// Connects to each port, `--parallel` of them at a time, and reports them in the order of `words`.
/// Fails if one of them is not open.
pub fn run(
    all: &Args,
    dialer: &Dialer,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let (words, args, connect) = (&all.target, &all.check, &dialer.args);
    if args.is_netcats_interval() {
        let message = "-i alone is a ping; netcat's -i is --line-delay (a ping: --ping -i)";
        return Err(Failure::usage(message));
    }
    let targets = target::targets(words, Protocol::Tcp).map_err(Failure::usage)?;
    if args.ping.is_wanted() {
        let [target] = &targets[..] else {
            let message = "a ping is of one port; write HOST PORT or HOST:PORT";
            return Err(Failure::usage(message));
        };
        let deadline = deadline.min(Deadline::within(connect.limit));
        let encryption = Encryption::new(&all.tls, deadline)?;
        return ping::run(target, args, (dialer, &encryption), deadline, logging);
    }
    let encryption = Encryption::new(&all.tls, deadline)?;
    let plan = args.plan(connect, deadline);
    let end = plan.end();
    let mut report = Report::start(&targets, &words.join(" "), args.json, logging.verbose > 0)?;
    report.course.progress = Progress::start(all.stream.progress_of_check(targets.len()));
    crate::check::run(
        report,
        &plan,
        |target| dialer.route(target, connect.limit(end)),
        |target, route| {
            let limit = connect.limit(end);
            Connecting::new(target, route, connect, limit, &encryption)
        },
    )
}

/// One port that is being connected to.
struct Connecting<'a> {
    target: &'a Address,
    /// The address of a host that has but one.
    only: Option<SocketAddr>,
    dial: Dial<'a>,
    limit: Deadline,
    encryption: &'a Encryption,
}

impl<'a> Connecting<'a> {
    /// `route` leads to the host of `target`.
    fn new(
        target: &'a Address,
        route: Route,
        connect: &'a ConnectArgs,
        limit: Deadline,
        encryption: &'a Encryption,
    ) -> Self {
        let route = route.at_port(target.port());
        Self {
            target,
            only: route.only_address(),
            dial: Dial::new(connect, target, route, encryption),
            limit,
            encryption,
        }
    }

    fn open(&self, dialed: Dialed) -> Checked {
        let (target, connected) = (self.target, &dialed.connected);
        let time = connected.took();
        let address = address_of(connected);
        let name = connected.name(target);
        let line = format!("{name} open, {:.3} ms", milliseconds(time));
        let Some(shaken) = dialed.shaken else {
            return Checked {
                state: State::Open,
                address,
                time: Some(time),
                line: Some(line),
                failure: None,
                fields: Vec::new(),
            };
        };
        let took = Some(shaken.took);
        let fields = self.encryption.fields(&shaken, target, took);
        if let Some(failure) = shaken.fault {
            return Checked {
                address,
                fields,
                ..Checked::failed(failure)
            };
        }
        Checked {
            state: State::Open,
            address,
            time: Some(time),
            line: Some(format!("{line}, {}", shaken.session.result(took))),
            failure: None,
            fields,
        }
    }
}

/// The address of the target, if this machine connects to it.
fn address_of(connected: &Connected) -> Option<SocketAddr> {
    connected.peer.inet().filter(|_| connected.via.is_none())
}

impl Attempt for Connecting<'_> {
    fn proceed(&mut self) {
        if !self.limit.has_passed() {
            self.dial.start_due();
        }
    }

    fn wake(&self) -> Deadline {
        if self.dial.is_lost() {
            return Deadline::now();
        }
        self.limit.min(self.dial.wake())
    }

    fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key> {
        self.dial.watch(set)
    }

    fn result(&mut self, keys: &[Key], ready: &Ready, at: Instant) -> io::Result<Option<Checked>> {
        if let Some(dialed) = self.dial.dialed(keys, ready, at, self.limit)? {
            return Ok(Some(self.open(dialed)));
        }
        if !self.dial.is_lost() && !self.limit.has_passed_at(at) {
            return Ok(None);
        }
        let address = self.dial.connected().and_then(address_of);
        Ok(Some(Checked {
            address: address.or(self.only),
            ..Checked::failed(self.dial.failure(self.limit))
        }))
    }
}
