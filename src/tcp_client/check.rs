//! `-z`: says which ports of a host are open, by connecting to each and closing the connection.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::ping;
use crate::exit::{Failure, Worst};
use crate::json::{Event, milliseconds};
use crate::logging::LoggingArgs;
use crate::net::address::{self, HostPort};
use crate::net::connect::{ConnectArgs, connect_to};
use crate::output;
use crate::ping::options::PingArgs;
use crate::units::positive_duration;
use crate::wait::Deadline;

#[derive(clap::Args)]
#[command(next_help_heading = "Ping and check")]
pub struct CheckArgs {
    /// Say which ports are open: HOST:PORT or HOST 22,80-90
    #[arg(short = 'z', long)]
    check: bool,
    /// Try N ports at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
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
}

/// The address that accepted the connection, and how long that took.
type Checked = Result<(IpAddr, Duration), Failure>;

/// Connects to each port, `--parallel` of them at a time, and reports them in the order of `words`.
/// Fails if one of them is not open.
pub fn run(
    words: &[String],
    args: &CheckArgs,
    connect: &ConnectArgs,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    if args.is_netcats_interval() {
        let message = "-i alone is a ping; netcat's -i is --line-delay (a ping: --ping -i)";
        return Err(Failure::usage(message));
    }
    let targets = address::addresses(words).map_err(Failure::usage)?;
    if args.ping.is_wanted() {
        let [target] = &targets[..] else {
            let message = "a ping is of one port; write HOST PORT or HOST:PORT";
            return Err(Failure::usage(message));
        };
        let deadline = deadline.min(Deadline::within(connect.limit));
        return ping::run(target, args, connect, deadline, logging);
    }
    if args.json {
        let event = Event::new("start").with("v", 1);
        let event = event.with("host", targets[0].name());
        event.with("ports", targets.len()).print()?;
    }
    let addresses = connect.with_retries(deadline, || {
        connect.addresses(&targets[0], connect.limit(deadline))
    })?;
    let check = |target: &HostPort| {
        connect.with_retries(deadline, || {
            let mut addresses = addresses.clone();
            for address in &mut addresses {
                address.set_port(target.port);
            }
            let connected = connect_to(target, addresses, connect, connect.limit(deadline))?;
            Ok((connected.peer.ip(), connected.took()))
        })
    };
    let threads = at_a_time(args.parallel.unwrap_or(64), addresses.len());
    let mut open = 0;
    let mut worst = Worst::default();
    check_all(&targets, threads.into(), check, |target, checked| {
        match &checked {
            Ok(_) => open += 1,
            Err(failure) => worst.add(failure.exit),
        }
        print(target, &checked, args.json)
    })?;
    if args.json {
        let event = Event::new("summary").with("open", open);
        event.with("failed", targets.len() - open).print()?;
    }
    // The message of each failure has been printed.
    worst.result()
}

/// `asked`, or fewer if the limit of open descriptors does not permit so many: a check may connect to
/// all `addresses` of the host at once.
fn at_a_time(asked: u16, addresses: usize) -> u16 {
    /// What netkit has open besides.
    const RESERVE: u64 = 16;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = limit.saturating_sub(RESERVE) / addresses.max(1) as u64;
    asked.min(u16::try_from(most).unwrap_or(u16::MAX)).max(1)
}

/// Calls `check` for all `targets`, on as many `threads`. Gives the results to `report` in the order
/// of the targets, each as soon as all before it are known. An error of `report` ends it.
fn check_all(
    targets: &[HostPort],
    threads: usize,
    check: impl Fn(&HostPort) -> Checked + Sync,
    mut report: impl FnMut(&HostPort, Checked) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (sender, results) = mpsc::channel();
    let next = AtomicUsize::new(0);
    let work = |sender: Sender<_>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = targets.get(index) else {
                return;
            };
            if sender.send((index, check(target))).is_err() {
                // `report` has failed.
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(targets.len()) {
            let sender = sender.clone();
            let thread = thread::Builder::new().name("check".to_owned());
            if thread.spawn_scoped(scope, || work(sender)).is_err() {
                // The threads that were started take all targets.
                break;
            }
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut reported = 0;
        for (index, checked) in results {
            early.insert(index, checked);
            while let Some(checked) = early.remove(&reported) {
                report(&targets[reported], checked)?;
                reported += 1;
            }
        }
        if reported < targets.len() {
            let message = "could not check all ports: no thread could be started";
            return Err(Failure::local(message));
        }
        Ok(())
    })
}

fn print(target: &HostPort, checked: &Checked, json: bool) -> Result<(), Failure> {
    let event = |name| {
        let event = Event::new(name).with("host", target.name());
        event.with("port", target.port)
    };
    match checked {
        Ok((ip, time)) if json => {
            let event = event("open").with("address", ip.to_string());
            event.with("rtt_ms", milliseconds(*time)).print()
        }
        Ok((ip, time)) => {
            let line = format!("{target} ({ip}) open, {:.3} ms\n", milliseconds(*time));
            output::write_once(line.as_bytes())
        }
        Err(failure) if json => {
            let event = event("failed").with("exit", failure.exit as u8);
            event.with("reason", failure.to_string()).print()
        }
        Err(failure) => {
            tracing::warn!("{failure}");
            Ok(())
        }
    }
}
