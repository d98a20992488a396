//! Connects to a port again and again, and says how long each connection took.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::exit::{Failure, Worst};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, connect_to};
use crate::ping::report::{Answer, Kind, Report, Style};
use crate::ping::statistics::Statistics;
use crate::signal::Attention;
use crate::wait::{Deadline, IN, wait_for};

/// How often, and how it is told.
pub struct Pace {
    /// `None`: until interrupted.
    pub count: Option<u64>,
    pub interval: Duration,
    pub json: bool,
}

/// The header of a TCP segment without options (RFC 9293, section 3.1).
const TCP_HEADER: usize = 20;

/// Ends after the count, at the deadline or at SIGINT, with ping(8)'s statistics; SIGQUIT prints
/// interim ones. An attempt that is under way is waited for. An error if not all connected.
pub fn run(
    target: &HostPort,
    connect: &ConnectArgs,
    deadline: Deadline,
    pace: &Pace,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let addresses = connect.addresses(target, connect.limit(deadline))?;
    let attention = Attention::install()?;
    let mut report = Report {
        style: if pace.json {
            Style::Events
        } else {
            Style::Lines
        },
        quiet: logging.is_quiet(),
        label: "tcp_seq",
        verbose: logging.is_verbose(),
        timestamps: false,
        target: target.clone(),
        address: addresses[0],
    };
    report.start(0, TCP_HEADER, connect.connect_timeout)?;
    let mut statistics = Statistics::default();
    let mut worst = Worst::default();
    let start = Instant::now();
    let mut next = start;
    let mut last = start;
    for number in 1..=pace.count.unwrap_or(u64::MAX) {
        if !wait_until(
            Deadline::since(next, Duration::ZERO),
            deadline,
            &attention,
            |asked| {
                if asked {
                    report.interim(&statistics, start.elapsed())
                } else {
                    Ok(())
                }
            },
        )? {
            break;
        }
        next += pace.interval;
        statistics.transmitted += 1;
        let begin = Instant::now();
        match connect_to(target, addresses.clone(), connect, connect.limit(deadline)) {
            Ok((_, peer)) => {
                last = Instant::now();
                let time = last - begin;
                statistics.received += 1;
                statistics.times.add(time);
                report.address = peer;
                let kind = Kind::Reply;
                report.answer(&Answer {
                    kind,
                    source: peer,
                    number,
                    bytes: 0,
                    time: Some(time),
                })?;
            }
            Err(error) => {
                last = Instant::now();
                statistics.errors += 1;
                worst.add(error.exit);
                tracing::warn!("{error}");
                report.failed(number, &format!("{error}"))?;
            }
        }
    }
    report.summary(&statistics, last - start)?;
    // Each failure has been told.
    worst.result()
}

/// Whether the next attempt is due; not when SIGINT or the deadline has come first. `tell` is told
/// when SIGQUIT asks for statistics.
fn wait_until(
    due: Deadline,
    deadline: Deadline,
    attention: &Attention,
    tell: impl Fn(bool) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    loop {
        tell(attention.asked())?;
        if attention.interrupted() || deadline.has_passed() {
            return Ok(false);
        }
        if due.has_passed() {
            return Ok(true);
        }
        wait_for(attention.as_fd(), IN, due.min(deadline))?;
    }
}
