//! `udp-client --ping`: sends numbered datagrams and times the answers.
//!
//! [`schedule`] says when a probe is sent, and [`probes`] which probe an answer belongs to. This file
//! sends and receives. [`crate::ping`] counts and prints.

mod alarm;
mod candidates;
mod console;
mod probes;
mod schedule;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::escape::quoted;
use crate::exit::{Exit, Failure, Worst, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::datagram::{BUFFER, largest, payload_size};
use crate::ping::Kind;
use crate::ping::report::{Report, Style};
use crate::ping::statistics::{Statistics, percent};
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::units::{count, positive_duration};
use crate::wait::{Deadline, is_wait};
use candidates::{Candidate, choose};
use console::Console;
use probes::{LEAST, Probes};
use schedule::{Pace, Schedule};

/// The header of a datagram (RFC 768).
const UDP_HEADER: usize = 8;

#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[command(next_help_heading = "Ping")]
pub struct PingArgs {
    /// Send probes, time the answers (implied by -c, -i)
    ///
    /// Every answer that contains the probe counts, so a greeting does too. An answer after its time
    /// limit is printed as late, and its probe counts as lost. At the end, netkit waits for late
    /// answers for as long again (2s at most).
    ///
    /// -q prints only the statistics and what -O reports. -v adds percentiles (accurate to 0.5 %) and
    /// jitter (how much one time differs from the one before), also to -q. Ctrl-C ends with the
    /// statistics; SIGQUIT or Enter prints interim ones.
    #[arg(long)]
    ping: bool,
    /// Stop after N probes
    #[arg(short, long, value_name = "N", value_parser = count)]
    count: Option<u64>,
    /// Send a probe every TIME [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = positive_duration)]
    interval: Option<Duration>,
    /// Send BYTES in each probe, at least 16 [default: 56]
    #[arg(short, long, value_name = "BYTES", value_parser = probe_size)]
    size: Option<usize>,
    /// Exit 1 if more than PERCENT is lost [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = percentage)]
    max_loss: Option<f64>,
    /// Start each line with the time in seconds since 1970
    #[arg(short = 'D', long)]
    timestamp: bool,
    /// Report an unanswered probe when the next is sent
    #[arg(short = 'O', long)]
    report_missing: bool,
    /// Send as soon as the last is answered (2 ms apart at least)
    ///
    /// Without an answer, send after the interval.
    #[arg(short = 'A', long)]
    adaptive: bool,
    /// Send as fast as answers arrive, or 100/s; print dots
    #[arg(short = 'f', long, conflicts_with_all = ["adaptive", "timestamp", "report_missing"])]
    flood: bool,
}

fn probe_size(text: &str) -> Result<usize, String> {
    let bytes = payload_size(text)?;
    if bytes < LEAST {
        return Err(format!(
            "'{text}' has no room for what tells answers apart: that takes {LEAST} bytes"
        ));
    }
    Ok(bytes)
}

fn percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!(
            "'{text}' is not a percentage; write 0 to 100, for example 5 or 0.1"
        )),
    }
}

impl PingArgs {
    pub fn is_wanted(&self) -> bool {
        self.ping || self.count.is_some() || self.interval.is_some()
    }

    fn pace(&self) -> Pace {
        let interval = self.interval.unwrap_or(Duration::from_secs(1));
        match (self.flood, self.interval) {
            (true, None) => Pace::Answers {
                least: Duration::ZERO,
                most: Duration::from_millis(10),
            },
            _ if self.adaptive => Pace::Answers {
                // ping(8) allows this interval to every user.
                least: Duration::from_millis(2).min(interval),
                most: interval,
            },
            _ => Pace::Every(interval),
        }
    }
}

/// Ends when the last probe is answered, or no answer is awaited any more; at `deadline`; and at
/// SIGINT. If too many probes were lost, the error carries only the exit code.
pub fn run(
    target: &Target<'_>,
    timeout: Duration,
    deadline: Deadline,
    args: &PingArgs,
    json: bool,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let size = args.size.unwrap_or(56);
    check_size(target, size)?;
    let console = Console::new()?;
    let mut probes = Probes::new(size, timeout);
    let Candidate { socket, sent } = choose(target, probes.payload())?;
    let report = Report {
        style: match (json, args.flood) {
            (true, _) => Style::Events,
            (false, true) => Style::Dots,
            (false, false) => Style::Lines,
        },
        quiet: logging.quiet,
        label: "udp_seq",
        verbose: logging.verbose > 0,
        timestamps: args.timestamp,
        target: target.typed.to_string(),
        address: socket.address,
    };
    report.start(size, UDP_HEADER, timeout)?;
    let mut ping = Ping {
        args,
        target,
        deadline,
        socket,
        probes,
        schedule: Schedule::new(args.pace()),
        statistics: Statistics {
            is_adaptive: args.adaptive || args.flood,
            ..Statistics::default()
        },
        report,
        console,
        worst: Worst::default(),
    };
    if let Some(at) = sent {
        ping.report.sending()?;
        ping.schedule.sent(at);
        ping.statistics.sent(at);
        ping.probes.send(at);
    }
    ping.run()?;
    ping.finish()
}

fn check_size(target: &Target<'_>, size: usize) -> Result<(), Failure> {
    let is_too_small = |address: &&SocketAddr| size > largest(address);
    let Some(address) = target.addresses.iter().find(is_too_small) else {
        return Ok(());
    };
    Err(Failure::local(format!(
        "could not send to {}: a probe of {size} bytes is too large for a datagram over {}, \
         which carries {} at most",
        target.name(*address),
        if address.is_ipv4() { "IPv4" } else { "IPv6" },
        largest(address)
    )))
}

struct Ping<'a> {
    args: &'a PingArgs,
    target: &'a Target<'a>,
    deadline: Deadline,
    socket: ClientSocket,
    probes: Probes,
    schedule: Schedule,
    statistics: Statistics,
    report: Report,
    console: Console,
    worst: Worst,
}

impl Ping<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.console.signals.is_ending() || self.deadline.has_passed() {
                return Ok(());
            }
            if self.is_sending() && self.schedule.is_due(Instant::now()) {
                self.send()?;
            }
            let Some(until) = self.next_event() else {
                return Ok(());
            };
            self.set_alarm(until)?;
            let (arrived, asks) = self.console.wait(&self.socket)?;
            if let Some(at) = arrived {
                self.receive(&mut buffer, at)?;
            }
            self.expire(Instant::now())?;
            if asks {
                self.report.interim(&self.statistics)?;
            }
            self.target.watch.check()?;
        }
    }

    /// Prints the statistics. The error carries the exit code of the losses.
    fn finish(mut self) -> Result<(), Failure> {
        self.report.summary(&self.statistics)?;
        let sent = self.statistics.transmitted;
        // Probes that the deadline left no time to send are lost.
        let wanted = match self.args.count {
            Some(count) if self.deadline.has_passed() => count,
            _ => sent,
        };
        let loss = percent(wanted.saturating_sub(self.statistics.received), wanted);
        let most = self.args.max_loss.unwrap_or(0.0);
        if loss > most || (sent == 0 && most < 100.0) {
            self.worst.add(Exit::Network);
        }
        self.worst.result()
    }

    fn is_sending(&self) -> bool {
        let count = self.args.count;
        count.is_none_or(|count| self.probes.sent() < count)
    }

    /// When to go on if nothing arrives. `None`: all is done.
    fn next_event(&mut self) -> Option<Instant> {
        let expiry = self.probes.next_expiry();
        if self.is_sending() {
            return expiry.into_iter().chain(self.schedule.due()).min();
        }
        let linger = || self.probes.end_of_linger();
        expiry.or_else(|| linger().filter(|end| *end > Instant::now()))
    }

    fn set_alarm(&mut self, at: Instant) -> io::Result<()> {
        let until = Deadline::since(at, Duration::ZERO);
        self.console.alarm.set(until.min(self.deadline))
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.args.report_missing && self.probes.awaits_last() {
            self.report.missing(self.probes.sent())?;
        }
        self.report.sending()?;
        let now = Instant::now();
        let next = self.schedule.sent(now);
        // Arm the timer before sending, so that nothing delays reading the answer.
        self.set_alarm(next)?;
        let sent = match self.socket.send(self.probes.payload()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // An earlier probe was refused, and this one was not sent (udp(7)).
                self.refused(&error)?;
                self.socket.send(self.probes.payload())
            }
            sent => sent,
        };
        self.statistics.sent(now);
        match sent {
            Ok(at) => self.probes.send(at),
            Err(error) => self.unsent(&error)?,
        }
        Ok(())
    }

    /// The probe could not be sent. It counts, but no answer is awaited.
    fn unsent(&mut self, error: &io::Error) -> Result<(), Failure> {
        self.probes.send(Instant::now());
        self.probes.refuse_last();
        self.statistics.errors += 1;
        if blame(error) == Exit::Local {
            self.worst.add(Exit::Local);
        }
        let number = self.probes.sent();
        let name = self.target.name(self.socket.address);
        let cause = cause(error);
        tracing::error!("could not send probe {number} to {name}: {cause}");
        self.report.failed(number, &cause)
    }

    /// Takes what has arrived, the first datagram at `at`.
    fn receive(&mut self, buffer: &mut [u8], mut at: Instant) -> Result<(), Failure> {
        /// A peer may send without end.
        const MOST: usize = 64;
        for _ in 0..MOST {
            match self.socket.receive(buffer) {
                Ok((count, source)) => self.arrived(&buffer[..count], source, at)?,
                Err(error) if is_wait(&error) => return Ok(()),
                Err(error) => self.refused(&error)?,
            }
            at = Instant::now();
        }
        Ok(())
    }

    fn arrived(&mut self, received: &[u8], source: SocketAddr, at: Instant) -> Result<(), Failure> {
        self.expire(at)?;
        let answers = self.probes.answers(received, at);
        if answers.is_empty() {
            return self.unexpected(received, source);
        }
        for answer in answers {
            if answer.kind == Kind::Reply {
                self.schedule.answered();
            }
            self.statistics.answered(answer, at);
            self.report.answer(&answer, received.len(), source)?;
        }
        Ok(())
    }

    fn unexpected(&mut self, received: &[u8], source: SocketAddr) -> Result<(), Failure> {
        let name = if self.socket.is_group {
            source.to_string()
        } else {
            self.target.name(source)
        };
        let text = quoted(received);
        if self.statistics.unexpected > 0 {
            tracing::debug!("unexpected datagram from {name}: {text}");
        } else {
            tracing::warn!(
                "unexpected datagram from {name}: {text} (an answer holds what was sent)"
            );
        }
        self.statistics.unexpected += 1;
        self.report.unexpected(received)
    }

    /// The network says that a probe did not arrive.
    fn refused(&mut self, error: &io::Error) -> Result<(), Failure> {
        let Some(number) = self.probes.refuse() else {
            let name = self.target.name(self.socket.address);
            tracing::debug!("{name}: {}", cause(error));
            return Ok(());
        };
        self.statistics.refused(number, Instant::now());
        self.report.refused(number, error)
    }

    fn expire(&mut self, now: Instant) -> Result<(), Failure> {
        while let Some(number) = self.probes.expire(now) {
            self.report.lost(number)?;
        }
        Ok(())
    }
}
