//! Says which ports of a host are open, without sending anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::ping;
use crate::exit::{Failure, Worst};
use crate::json::{Event, milliseconds};
use crate::logging::LoggingArgs;
use crate::net::address::{self, HostPort};
use crate::net::connect::{ConnectArgs, connect_to};
use crate::output;
use crate::wait::Deadline;

#[derive(clap::Args)]
#[command(next_help_heading = "Checking ports")]
pub struct CheckArgs {
    /// Say which ports are open: HOST:PORT or HOST 22,80-90
    #[arg(short = 'z', long = "check", conflicts_with_all = [
        "send", "get", "interactive", "crlf", "send_only", "recv_only", "raw", "no_shutdown", "half_close_wait",
        "wait_after_eof", "idle_timeout", "hex_dump", "record", "timing",
    ])]
    pub wanted: bool,
    /// Try N ports at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
    /// Try one port N times, and print ping's statistics
    #[arg(short, long, value_name = "N", value_parser = crate::units::count, conflicts_with = "retry")]
    pub count: Option<u64>,
    /// Try one port every TIME [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = crate::units::positive_duration, conflicts_with = "retry")]
    pub interval: Option<Duration>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

impl CheckArgs {
    /// Each option that needs `-z`, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--parallel", self.parallel.is_some()),
            ("-c", self.count.is_some()),
            ("-i", self.interval.is_some()),
            ("--json", self.json),
        ]
    }
}

/// Who answered and how long it took.
type Checked = Result<(IpAddr, Duration), Failure>;

/// Tries all ports side by side, a bounded number at a time, and reports them in order. An error if
/// one of them is not open.
pub fn run(
    words: &[String],
    args: &CheckArgs,
    connect: &ConnectArgs,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let targets = address::addresses(words).map_err(Failure::local)?;
    if args.count.is_some() || args.interval.is_some() {
        let [target] = &targets[..] else {
            let message = "-c and -i are for one port; write HOST PORT or HOST:PORT";
            return Err(Failure::local(message));
        };
        return ping::run(target, args, connect, deadline, logging);
    }
    let mut report = Report {
        json: args.json,
        open: 0,
        failed: 0,
        worst: Worst::default(),
    };
    report.start(&targets[0].host, targets.len())?;
    let addresses = connect.with_retries(deadline, || {
        connect.addresses(&targets[0], connect.limit(deadline))
    })?;
    let checks = Checks {
        targets,
        addresses,
        connect,
        deadline,
        next: AtomicUsize::new(0),
    };
    checks.run(args.parallel.unwrap_or(64).into(), &mut report)?;
    report.end()
}

/// Ports of one host to check.
struct Checks<'a> {
    targets: Vec<HostPort>,
    addresses: Vec<SocketAddr>,
    connect: &'a ConnectArgs,
    deadline: Deadline,
    /// The first target that no thread has taken.
    next: AtomicUsize,
}

impl Checks<'_> {
    fn run(&self, parallel: usize, report: &mut Report) -> Result<(), Failure> {
        thread::scope(|scope| {
            let (sender, results) = mpsc::channel();
            let parallel = at_a_time(parallel, self.addresses.len()).min(self.targets.len());
            for _ in 0..parallel {
                let sender = sender.clone();
                let thread = thread::Builder::new().name("check".to_owned());
                let thread = thread.spawn_scoped(scope, move || self.work(&sender));
                if thread.is_err() {
                    // Those that run already have to do.
                    break;
                }
            }
            drop(sender);
            report.print_in_order(&self.targets, &results)
        })
    }

    /// Checks one target after another until none is left, or nobody wants the results.
    fn work(&self, results: &Sender<(usize, Checked)>) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = self.targets.get(index) else {
                return;
            };
            if results.send((index, self.check(target))).is_err() {
                return;
            }
        }
    }

    /// Connects to `target` and closes the connection again.
    fn check(&self, target: &HostPort) -> Checked {
        self.connect.with_retries(self.deadline, || {
            let mut addresses = self.addresses.clone();
            for address in &mut addresses {
                address.set_port(target.port);
            }
            let start = Instant::now();
            let limit = self.connect.limit(self.deadline);
            let (_, peer) = connect_to(target, addresses, self.connect, limit)?;
            Ok((peer.ip(), start.elapsed()))
        })
    }
}

/// As many as asked for, or as the limit of open descriptors allows.
fn at_a_time(asked: usize, addresses: usize) -> usize {
    /// What netkit has open besides.
    const RESERVE: u64 = 16;
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return asked;
    };
    let most = limit.saturating_sub(RESERVE) / addresses.max(1) as u64;
    asked
        .min(usize::try_from(most).unwrap_or(usize::MAX))
        .max(1)
}

struct Report {
    json: bool,
    open: usize,
    failed: usize,
    worst: Worst,
}

impl Report {
    fn start(&self, host: &str, ports: usize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        Event::new("start")
            .with("v", 1)
            .with("host", host)
            .with("ports", ports)
            .print()
    }

    /// Prints results in the order of `targets`, each as soon as all before it are known.
    fn print_in_order(
        &mut self,
        targets: &[HostPort],
        results: &Receiver<(usize, Checked)>,
    ) -> Result<(), Failure> {
        let mut early = BTreeMap::new();
        for (index, target) in targets.iter().enumerate() {
            let result = loop {
                if let Some(result) = early.remove(&index) {
                    break result;
                }
                let Ok((index, result)) = results.recv() else {
                    let message = "could not check all ports: no thread could be started";
                    return Err(Failure::local(message));
                };
                early.insert(index, result);
            };
            self.print(target, result)?;
        }
        Ok(())
    }

    fn print(&mut self, target: &HostPort, result: Checked) -> Result<(), Failure> {
        let event = |name| {
            Event::new(name)
                .with("host", target.host.as_str())
                .with("port", target.port)
        };
        match result {
            Ok((address, time)) => {
                self.open += 1;
                let time = milliseconds(time);
                if self.json {
                    let address = address.to_string();
                    event("open")
                        .with("address", address)
                        .with("rtt_ms", time)
                        .print()
                } else {
                    let line = format!("{target} ({address}) open, {time:.3} ms\n");
                    output::write_once(line.as_bytes())
                }
            }
            Err(error) => {
                let exit = error.exit;
                self.failed += 1;
                self.worst.add(exit);
                if self.json {
                    event("failed")
                        .with("exit", exit as u8)
                        .with("reason", format!("{error}"))
                        .print()
                } else {
                    tracing::warn!("{error}");
                    Ok(())
                }
            }
        }
    }

    /// Fails if a port was not open.
    fn end(&self) -> Result<(), Failure> {
        if self.json {
            Event::new("summary")
                .with("open", self.open)
                .with("failed", self.failed)
                .print()?;
        }
        // Each has been reported already.
        self.worst.result()
    }
}
