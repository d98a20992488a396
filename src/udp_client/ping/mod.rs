//! Sends numbered datagrams at a steady pace, and times what comes back.

mod probes;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::escape::quoted;
use crate::exit::{Exit, Failure, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::datagram::{BUFFER, largest};
use crate::output;
use crate::ping::report::{Answer, Kind, Report, Style};
use crate::ping::statistics::{Statistics, percent};
use crate::signal::Attention;
use crate::tap::DatagramTap;
use crate::udp_client::socket::{ClientSocket, send_when_room};
use crate::udp_client::target::Target;
use crate::units::{count, positive_duration, size};
use crate::usage::needs;
use crate::wait::Deadline;
use crate::wait::{self, Alarm, GONE, IN, Set, poll};
use probes::{Meaning, Probes};

/// The header of a datagram (RFC 768).
const UDP_HEADER: usize = 8;

/// Options of the client that a ping has no use for.
const NOT_WITH_PINGS: [&str; 7] = [
    "retries", "no_wait", "raw", "whole", "chunk", "check", "relay",
];

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
    #[arg(long, conflicts_with_all = NOT_WITH_PINGS)]
    ping: bool,
    /// Stop after N probes
    #[arg(short, long, value_name = "N", value_parser = count, conflicts_with_all = NOT_WITH_PINGS)]
    count: Option<u64>,
    /// Send a probe every TIME [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = positive_duration, conflicts_with_all = NOT_WITH_PINGS)]
    interval: Option<Duration>,
    /// Stop after TIME in total; unsent probes are lost
    #[arg(short = 'w', long, value_name = "TIME", value_parser = positive_duration)]
    pub deadline: Option<Duration>,
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
    let bytes = size(text)?;
    let sizes = probes::sizes();
    if bytes < sizes.start {
        return Err(format!(
            "'{text}' has no room for what tells answers apart: that takes {} bytes",
            sizes.start
        ));
    }
    if !sizes.contains(&bytes) {
        return Err(format!(
            "'{text}' is more than a datagram carries: 65507 bytes over IPv4, 65527 over IPv6"
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
    /// Whether this is asked for.
    pub fn is_wanted(&self) -> bool {
        self.ping || self.count.is_some() || self.interval.is_some()
    }

    /// Refuses an option that does nothing without a ping.
    pub fn check(&self) -> Result<(), Failure> {
        needs(
            "--ping, -c or -i",
            self.is_wanted(),
            &[
                ("-w", self.deadline.is_some()),
                ("-s", self.size.is_some()),
                ("--max-loss", self.max_loss.is_some()),
                ("-D", self.timestamp),
                ("-O", self.report_missing),
                ("-A", self.adaptive),
                ("-f", self.flood),
            ],
        )
    }

    fn size(&self) -> usize {
        self.size.unwrap_or(56)
    }

    fn max_loss(&self) -> f64 {
        self.max_loss.unwrap_or(0.0)
    }

    fn pace(&self) -> Pace {
        let interval = self.interval.unwrap_or(Duration::from_secs(1));
        match (self.flood, self.interval) {
            (true, None) => Pace::Answers {
                least: Duration::ZERO,
                most: Duration::from_millis(10),
            },
            _ if self.adaptive => Pace::Answers {
                // What ping(8) allows to everybody.
                least: Duration::from_millis(2).min(interval),
                most: interval,
            },
            _ => Pace::Every(interval),
        }
    }
}

/// When probes are sent.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Every(Duration),
    /// When the last one was answered, between these times after it was sent.
    Answers {
        least: Duration,
        most: Duration,
    },
}

/// How far behind its schedule a run catches up. What was missed beyond that, as when this process
/// was stopped, is not made up for by a burst.
const CATCH_UP: Duration = Duration::from_millis(100);

/// When the next probe is due. All times are since the start.
#[derive(Debug)]
struct Schedule {
    pace: Pace,
    due: Duration,
    last: Duration,
}

impl Schedule {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            due: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// When the one after the next is due, if that is sent at `at`.
    fn after(&self, at: Duration) -> Duration {
        match self.pace {
            // From when it was due, not from when it was sent: delays do not add up.
            Pace::Every(interval) if self.due.is_zero() => at + interval,
            Pace::Every(interval) => (self.due + interval).max(at.saturating_sub(CATCH_UP)),
            Pace::Answers { most, .. } => at + most,
        }
    }

    fn sent(&mut self, at: Duration) {
        self.last = at;
        self.due = self.after(at);
    }

    fn answered(&mut self) {
        if let Pace::Answers { least, .. } = self.pace {
            self.due = self.due.min(self.last + least);
        }
    }
}

/// For how long an address may be the only one before the next is tried too, as RFC 8305 has it for
/// connections.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long to wait for the system to have room for a probe.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// At the end late answers are waited for as long again as the time limit was, but not longer than
/// this; and if some have come, for as long as the slowest of them would take, within bounds.
const LINGER: Duration = Duration::from_secs(2);
const MOST_LINGER: Duration = Duration::from_secs(10);

/// Ends after the last probe's answer, or when it was waited for long enough; at `deadline`, and at
/// SIGINT. The error says only that too much was lost.
pub fn run(
    route: &Target<'_>,
    timeout: Duration,
    deadline: Deadline,
    args: &PingArgs,
    json: bool,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    for address in &route.addresses {
        if args.size() > largest(address) {
            let message = format!(
                "could not send to {}: a probe of {} bytes is too large for a datagram over {}, \
                 which carries {} at most",
                route.name(*address),
                args.size(),
                if address.is_ipv4() { "IPv4" } else { "IPv6" },
                largest(address)
            );
            return Err(Failure::local(message));
        }
    }
    let attention = Attention::install()?;
    let mut probes = Probes::new(args.size(), timeout);
    let start = Instant::now();
    let Chosen {
        link,
        address,
        sent,
        refused,
    } = choose(route, &mut probes)?;
    let style = match (json, args.flood) {
        (true, _) => Style::Events,
        (false, true) => Style::Dots,
        (false, false) => Style::Lines,
    };
    let report = Report {
        style,
        quiet: logging.is_quiet(),
        label: "udp_seq",
        verbose: logging.is_verbose(),
        timestamps: args.timestamp,
        target: route.typed.clone(),
        address,
    };
    report.start(args.size(), UDP_HEADER, timeout)?;
    let mut ping = Ping {
        args,
        timeout,
        deadline,
        name: route.name(address),
        link,
        probes,
        watch: Rc::clone(&route.watch),
        statistics: Statistics {
            is_adaptive: args.adaptive || args.flood,
            ..Statistics::default()
        },
        report,
        schedule: Schedule::new(args.pace()),
        attention,
        alarm: Alarm::new(start),
        stdout: output::Reader::new()?,
        buffer: vec![0; BUFFER],
        start,
        began: None,
        ended: Duration::ZERO,
        slowest: Duration::ZERO,
        stopped: false,
        unexpected: 0,
        is_local_fault: false,
        has_keyboard: io::stdin().is_terminal(),
    };
    if let Some(at) = sent {
        ping.report.sending()?;
        ping.sent(at);
    }
    if let Some(error) = refused {
        ping.refused(&error)?;
    }
    ping.run()?;
    ping.finish()
}

/// Where probes go.
struct Chosen {
    link: ClientSocket,
    address: SocketAddr,
    /// When the first probe went there, if it has gone.
    sent: Option<Instant>,
    /// Why that did not arrive.
    refused: Option<io::Error>,
}

/// Where there are several addresses the first probe is sent to one after another, until one
/// answers. If none does it is the first that did not refuse; or else the last.
fn choose(route: &Target<'_>, probes: &mut Probes) -> Result<Chosen, Failure> {
    let mut candidates: Vec<Chosen> = Vec::new();
    let mut failure = None;
    for &address in &route.addresses {
        let link = match route.open(address) {
            Ok(link) => link,
            Err(error) => {
                failure = Some(route.failure(blame(&error), address, &error));
                continue;
            }
        };
        let mut candidate = Chosen {
            link,
            address,
            sent: None,
            refused: None,
        };
        if route.addresses.len() == 1 {
            return Ok(candidate);
        }
        match send_when_room(&candidate.link, SEND_PATIENCE, probes.payload()) {
            Ok(at) => candidate.sent = Some(at),
            Err(error) => candidate.refused = Some(error),
        }
        candidates.push(candidate);
        if let Some(index) = first_answer(&mut candidates)? {
            return Ok(candidates.swap_remove(index));
        }
    }
    let open = candidates
        .iter()
        .position(|candidate| candidate.refused.is_none());
    let index = open.or(candidates.len().checked_sub(1));
    match (index, failure) {
        (Some(index), _) => Ok(candidates.swap_remove(index)),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::local("could not send: there is no address")),
    }
}

/// Gives the last candidate its head start; which one has been answered, if one has.
fn first_answer(candidates: &mut [Chosen]) -> Result<Option<usize>, Failure> {
    let until = Instant::now() + HEAD_START;
    loop {
        let is_over = candidates
            .last()
            .is_none_or(|candidate| candidate.refused.is_some());
        let left = until.saturating_duration_since(Instant::now());
        if is_over || left.is_zero() {
            return Ok(None);
        }
        let open: Vec<usize> = (0..candidates.len())
            .filter(|&index| candidates[index].refused.is_none())
            .collect();
        let mut descriptors: Vec<PollFd<'_>> = open
            .iter()
            .map(|&index| PollFd::new(&candidates[index].link, PollFlags::IN))
            .collect();
        poll(&mut descriptors, Some(left))?;
        let ready: Vec<bool> = wait::ready(&descriptors).collect();
        for (&index, _) in open.iter().zip(&ready).filter(|(_, is_ready)| **is_ready) {
            match candidates[index].link.take_error()? {
                // The answer stays where it is, for the loop to take.
                None => return Ok(Some(index)),
                Some(error) => candidates[index].refused = Some(error),
            }
        }
    }
}

struct Ping<'a> {
    args: &'a PingArgs,
    timeout: Duration,
    deadline: Deadline,
    /// The peer in messages.
    name: String,
    link: ClientSocket,
    probes: Probes,
    watch: Rc<DatagramTap>,
    statistics: Statistics,
    report: Report,
    schedule: Schedule,
    attention: Attention,
    alarm: Alarm,
    stdout: output::Reader,
    buffer: Vec<u8>,
    /// All durations that are points in time count from here.
    start: Instant,
    /// When the first probe was sent.
    began: Option<Duration>,
    /// When something was last sent or received.
    ended: Duration,
    /// How long the slowest of the late answers took.
    slowest: Duration,
    /// This process was stopped, and has not looked at its socket since.
    stopped: bool,
    /// How many datagrams have come that answer nothing.
    unexpected: u64,
    /// A probe was not sent, and it was this machine that did not let it.
    is_local_fault: bool,
    /// Whether standard input is a terminal at which Enter may be pressed.
    has_keyboard: bool,
}

/// What poll(2) found ready.
#[derive(Default)]
struct Ready {
    /// Something has arrived, or an error: at this time at the latest.
    socket: Option<Duration>,
    stdin: bool,
    output_closed: bool,
}

impl Ping<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            if self.attention.interrupted() || self.is_past_deadline() {
                return Ok(());
            }
            if self.is_sending() && self.now() >= self.schedule.due {
                self.send()?;
            }
            let Some(until) = self.next_event() else {
                return Ok(());
            };
            let ready = self.wait(until)?;
            if ready.output_closed {
                let error = io::Error::from(io::ErrorKind::BrokenPipe);
                return Err(Failure::of_output(output::NAME, &error));
            }
            self.stopped |= self.attention.resumed();
            // Also when its time seems to be up: it may have come while this process did nothing.
            if ready.socket.is_some() || self.stopped || self.has_expired() {
                self.receive(ready.socket)?;
            }
            self.expire(self.now())?;
            if self.attention.asked() | (ready.stdin && self.entered()) {
                self.report.interim(&self.statistics, self.time())?;
            }
            self.watch.check()?;
        }
    }

    /// The statistics, and what they mean.
    fn finish(&self) -> Result<(), Failure> {
        self.report.summary(&self.statistics, self.time())?;
        if self.is_local_fault {
            return Err(Failure::announced(Exit::Local));
        }
        let Statistics {
            transmitted,
            received,
            ..
        } = self.statistics;
        // What there was no time for has not been answered.
        let wanted = match self.args.count {
            Some(count) if self.is_past_deadline() => count,
            _ => transmitted,
        };
        let loss = percent(wanted - received.min(wanted), wanted);
        if loss > self.args.max_loss() || (transmitted == 0 && self.args.max_loss() < 100.0) {
            return Err(Failure::announced(Exit::Network));
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// From the first probe to what was last sent or received.
    fn time(&self) -> Duration {
        self.ended.saturating_sub(self.began.unwrap_or_default())
    }

    fn is_past_deadline(&self) -> bool {
        self.deadline.has_passed()
    }

    fn is_sending(&self) -> bool {
        let count = self.args.count;
        count.is_none_or(|count| self.probes.sent() < count)
    }

    fn has_expired(&mut self) -> bool {
        let now = self.now();
        self.probes.next_expiry().is_some_and(|at| at < now)
    }

    /// When there will be something to do though nothing happens; `None`: never.
    fn next_event(&mut self) -> Option<Duration> {
        // A nanosecond more: at the time limit it is not over.
        let expiry = self.probes.next_expiry();
        let expiry = expiry.map(|expiry| expiry + Duration::from_nanos(1));
        if self.is_sending() {
            return expiry.into_iter().chain([self.schedule.due]).min();
        }
        expiry.or_else(|| self.end_of_linger())
    }

    /// Until when a late answer to the last probes is waited for.
    fn end_of_linger(&self) -> Option<Duration> {
        let keep = self.slowest.max(self.timeout) + self.timeout.min(LINGER);
        let keep = keep.min(self.timeout + MOST_LINGER);
        let now = self.now();
        let since = now.saturating_sub(keep);
        self.probes.last_lost(since).map(|sent| sent + keep)
    }

    fn wait(&mut self, until: Duration) -> Result<Ready, Failure> {
        let left = self.deadline.left();
        let until = left.map_or(until, |left| until.min(self.now() + left));
        self.alarm.set(until)?;
        let stdin = io::stdin();
        let listens = self.has_keyboard && is_foreground(stdin.as_fd());
        let mut set = Set::new();
        let socket = set.add(self.link.as_fd(), IN);
        set.add(self.attention.as_fd(), IN);
        let stdin = set.add(listens.then(|| stdin.as_fd()), IN);
        let output = set.add(self.stdout.fd(), GONE);
        let ready = self.alarm.wait(set)?;
        let now = self.now();
        Ok(Ready {
            socket: ready[socket].then_some(now),
            stdin: ready[stdin],
            output_closed: ready[output],
        })
    }

    /// Whether somebody has pressed Enter.
    fn entered(&mut self) -> bool {
        let count = rustix::io::read(io::stdin(), &mut [0; 256]);
        self.has_keyboard = count.is_ok_and(|count| count > 0);
        self.has_keyboard
    }

    fn send(&mut self) -> Result<(), Failure> {
        /// So many errors of earlier probes may be waiting to be told.
        const MOST_PENDING: usize = 16;
        let last = self.probes.sent();
        if self.args.report_missing && self.probes.awaits_last() {
            self.report.missing(last)?;
        }
        self.report.sending()?;
        // Before it is sent: from here to its answer there is as little to do as there can be.
        let now = self.now();
        let next = self.schedule.after(now);
        self.alarm.set(next.min(now + self.timeout))?;
        for _ in 0..=MOST_PENDING {
            match send_when_room(&self.link, SEND_PATIENCE, self.probes.payload()) {
                Ok(at) => {
                    self.sent(at);
                    return Ok(());
                }
                // It is about an earlier probe, and nothing was sent (udp(7)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.refused(&error)?;
                }
                Err(error) => return self.unsent(&error),
            }
        }
        self.unsent(&io::ErrorKind::ConnectionRefused.into())
    }

    fn sent(&mut self, at: Instant) {
        let at = at.saturating_duration_since(self.start);
        self.stopped |= self.attention.resumed();
        self.note(at);
    }

    /// A probe that could not be sent counts, and is not waited for.
    fn unsent(&mut self, error: &io::Error) -> Result<(), Failure> {
        self.note(self.now());
        let number = self.probes.sent();
        self.probes.refuse_last();
        self.statistics.errors += 1;
        self.is_local_fault |= blame(error) == Exit::Local;
        self.report.unsent(number, error, &self.name)
    }

    fn note(&mut self, at: Duration) {
        self.probes.send(at);
        self.statistics.transmitted += 1;
        self.schedule.sent(at);
        self.began.get_or_insert(at);
        self.ended = at;
    }

    /// Takes what has arrived, the first of it before `first`; not for ever, should somebody send
    /// without end.
    fn receive(&mut self, mut first: Option<Duration>) -> Result<(), Failure> {
        const MOST: usize = 64;
        for _ in 0..MOST {
            match self.link.receive(&mut self.buffer) {
                Ok((count, source)) => {
                    let at = first.take().unwrap_or_else(|| self.now());
                    self.stopped |= self.attention.resumed();
                    self.arrived(count, source, at)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stopped = false;
                    self.attention.resumed();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    first = None;
                    self.refused(&error)?;
                }
            }
        }
        Ok(())
    }

    fn arrived(&mut self, count: usize, source: SocketAddr, at: Duration) -> Result<(), Failure> {
        if !self.stopped {
            self.expire(at)?;
        }
        let received = &self.buffer[..count];
        let answers = self.probes.answers(received, at);
        if answers.is_empty() {
            let name = if self.link.is_group() {
                source.to_string()
            } else {
                self.name.clone()
            };
            let text = quoted(received);
            if self.unexpected > 0 {
                tracing::debug!("unexpected datagram from {name}: {text}");
            } else {
                tracing::warn!(
                    "unexpected datagram from {name}: {text} (an answer holds what was sent)"
                );
            }
            self.unexpected += 1;
            return self.report.unexpected(received);
        }
        self.ended = at;
        for answer in answers {
            let answer = self.take(answer, count, source);
            self.report.answer(&answer)?;
        }
        Ok(())
    }

    /// Counts an answer in.
    fn take(&mut self, meaning: Meaning, bytes: usize, source: SocketAddr) -> Answer {
        // How long one took that came while this process was stopped, nobody knows.
        let known = |time| (!self.stopped).then_some(time);
        let statistics = &mut self.statistics;
        let (kind, number, time) = match meaning {
            Meaning::Reply { number, time } => {
                statistics.received += 1;
                if let Some(time) = known(time) {
                    statistics.times.add(time);
                }
                self.schedule.answered();
                (Kind::Reply, number, time)
            }
            Meaning::Late { number, time } => {
                statistics.late += 1;
                self.slowest = self.slowest.max(known(time).unwrap_or_default());
                (Kind::Late, number, time)
            }
            Meaning::Duplicate { number, time } => {
                statistics.duplicates += 1;
                (Kind::Duplicate, number, time)
            }
        };
        statistics.acknowledge(number);
        Answer {
            kind,
            number,
            bytes,
            source,
            time: known(time),
        }
    }

    fn refused(&mut self, error: &io::Error) -> Result<(), Failure> {
        let Some(number) = self.probes.refuse() else {
            tracing::debug!("{}: {}", self.name, cause(error));
            return Ok(());
        };
        self.statistics.errors += 1;
        self.statistics.acknowledge(number);
        self.ended = self.now();
        self.report.refused(number, error)
    }

    fn expire(&mut self, now: Duration) -> Result<(), Failure> {
        while let Some(number) = self.probes.expire(now) {
            self.report.lost(number)?;
        }
        Ok(())
    }
}

/// Whether what is typed there is for this process: to read anything else would stop it (SIGTTIN).
/// A terminal that is not the session's has no foreground.
fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}
