//! Connects to a port again and again, and says how long each connection took.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::check::CheckArgs;
use crate::exit::{Failure, Worst};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, Connected, connect_to};
use crate::ping::report::{Report, Style};
use crate::ping::statistics::Statistics;
use crate::ping::{Answer, Kind};
use crate::signal::{SIGINT, SIGQUIT, Signals};
use crate::wait::{Deadline, IN, wait_for};

/// The header of a TCP segment without options (RFC 9293, section 3.1).
const TCP_HEADER: usize = 20;

/// Ends after `--count` attempts, at `deadline` or at SIGINT, and prints the statistics of ping(8). An
/// attempt that has begun is finished first. Fails if an attempt did.
pub fn run(
    target: &HostPort,
    args: &CheckArgs,
    connect: &ConnectArgs,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let addresses = connect.addresses(target, connect.limit(deadline))?;
    let signals = Signals::catch(&[SIGINT], &[SIGQUIT])?;
    let style = if args.json {
        Style::Events
    } else {
        Style::Lines
    };
    let report = Report {
        style,
        quiet: logging.quiet,
        label: "tcp_seq",
        verbose: logging.verbose > 0,
        timestamps: false,
        target: target.to_string(),
        address: addresses[0],
    };
    report.start(0, TCP_HEADER, connect.connect_timeout)?;
    let mut ping = Ping {
        signals,
        report,
        statistics: Statistics::default(),
        worst: Worst::default(),
    };
    let interval = args.interval.unwrap_or(Duration::from_secs(1));
    let mut due = Instant::now();
    for number in 1..=args.count.unwrap_or(u64::MAX) {
        if !ping.wait_until(Deadline::since(due, Duration::ZERO), deadline)? {
            break;
        }
        due += interval;
        let begin = Instant::now();
        ping.statistics.sent(begin);
        let limit = connect.limit(deadline);
        let connected = connect_to(target, addresses.clone(), connect, limit);
        ping.count(number, connected)?;
    }
    ping.report.summary(&ping.statistics)?;
    // The message of each failure has been printed.
    ping.worst.result()
}

struct Ping {
    signals: Signals,
    report: Report,
    statistics: Statistics,
    worst: Worst,
}

impl Ping {
    /// Blocks until `due`, and prints the statistics at each SIGQUIT. Returns false if SIGINT or
    /// `deadline` comes first.
    fn wait_until(&self, due: Deadline, deadline: Deadline) -> Result<bool, Failure> {
        loop {
            if self.signals.arrived() && !self.signals.is_ending() {
                self.report.interim(&self.statistics)?;
            }
            if self.signals.is_ending() || deadline.has_passed() {
                return Ok(false);
            }
            if due.has_passed() {
                return Ok(true);
            }
            wait_for(self.signals.as_fd(), IN, due.min(deadline))?;
        }
    }

    /// Counts and prints an attempt that is over, and closes the connection.
    fn count(&mut self, number: u64, connected: Result<Connected, Failure>) -> Result<(), Failure> {
        let end = Instant::now();
        match connected {
            Ok(connected) => {
                let answer = Answer {
                    kind: Kind::Reply,
                    number,
                    time: connected.took(),
                };
                self.statistics.answered(answer, end);
                self.report.address = connected.peer;
                self.report.answer(&answer, 0, connected.peer)
            }
            Err(failure) => {
                self.statistics.refused(number, end);
                self.worst.add(failure.exit);
                tracing::warn!("{failure}");
                self.report.failed(number, &failure.to_string())
            }
        }
    }
}
