//! Connects to a port again and again, and says how long each connection took.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::check::CheckArgs;
use crate::exit::{Failure, Worst};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, connect_to};
use crate::ping::report::{Report, Style};
use crate::ping::statistics::Statistics;
use crate::ping::{Answer, Kind};
use crate::signal::{SIGINT, SIGQUIT, Signals};
use crate::wait::{Deadline, IN, wait_for};

/// The header of a TCP segment without options (RFC 9293, section 3.1).
const TCP_HEADER: usize = 20;

/// Ends after the count, at `deadline` or at SIGINT, with ping(8)'s statistics; SIGQUIT prints
/// interim ones. An attempt that is under way is waited for. An error if not all connected.
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
        target,
        addresses,
        connect,
        deadline,
        signals,
        report,
        statistics: Statistics::default(),
        worst: Worst::default(),
    };
    let interval = args.interval.unwrap_or(Duration::from_secs(1));
    let mut due = Instant::now();
    for number in 1..=args.count.unwrap_or(u64::MAX) {
        if !ping.wait_until(Deadline::since(due, Duration::ZERO))? {
            break;
        }
        due += interval;
        ping.attempt(number)?;
    }
    ping.report.summary(&ping.statistics)?;
    // Each failure has been told.
    ping.worst.result()
}

struct Ping<'a> {
    target: &'a HostPort,
    addresses: Vec<SocketAddr>,
    connect: &'a ConnectArgs,
    deadline: Deadline,
    signals: Signals,
    report: Report,
    statistics: Statistics,
    worst: Worst,
}

impl Ping<'_> {
    /// Blocks until the next attempt is due; whether it is, before SIGINT and the deadline. Prints
    /// the statistics that SIGQUIT asks for.
    fn wait_until(&self, due: Deadline) -> Result<bool, Failure> {
        loop {
            if self.signals.arrived() && !self.signals.is_ending() {
                self.report.interim(&self.statistics)?;
            }
            if self.signals.is_ending() || self.deadline.has_passed() {
                return Ok(false);
            }
            if due.has_passed() {
                return Ok(true);
            }
            wait_for(self.signals.as_fd(), IN, due.min(self.deadline))?;
        }
    }

    /// Connects, and closes the connection again.
    fn attempt(&mut self, number: u64) -> Result<(), Failure> {
        let limit = self.connect.limit(self.deadline);
        let begin = Instant::now();
        self.statistics.sent(begin);
        match connect_to(self.target, self.addresses.clone(), self.connect, limit) {
            Ok((_, peer)) => {
                let end = Instant::now();
                let answer = Answer {
                    kind: Kind::Reply,
                    number,
                    time: end - begin,
                };
                self.statistics.answered(answer, end);
                self.report.address = peer;
                self.report.answer(&answer, 0, peer)
            }
            Err(error) => {
                self.statistics.refused(number, Instant::now());
                self.worst.add(error.exit);
                tracing::warn!("{error}");
                self.report.failed(number, &error.to_string())
            }
        }
    }
}
