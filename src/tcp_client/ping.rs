//! Connects to a port again and again, and says how long each connection took.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::check::CheckArgs;
use crate::exit::{Exit, Failure, cause};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::ConnectArgs;
use crate::net::follow::Follower;
use crate::net::peer::Endpoint;
use crate::net::race::{Connected, Race};
use crate::ping::console::{Console, Woken};
use crate::ping::report::{Protocol, Report, Style};
use crate::ping::schedule::{Pace, Schedule};
use crate::ping::session::Session;
use crate::ping::{Answer, Arrival, Kind};
use crate::wait::{Deadline, IN, Key, Set};

/// Ends when the last attempt is over; at `deadline`; and at SIGINT. If too many attempts failed, the
/// error carries only the exit code.
pub fn run(
    target: &HostPort,
    args: &CheckArgs,
    connect: &ConnectArgs,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    args.ping.check_terminal()?;
    let addresses = connect.inet_addresses(target, deadline)?;
    let style = match (args.json, args.ping.live) {
        (true, _) => Style::Events,
        (false, true) => Style::Live,
        (false, false) => Style::Lines,
    };
    let typed = target.to_string();
    let report = Report::new(
        style,
        Protocol::Tcp,
        &args.ping,
        logging,
        typed,
        addresses[0],
    );
    let interval = args.ping.interval.unwrap_or(Duration::from_secs(1));
    let schedule = Schedule::new(Pace::Every(interval));
    let console = Console::new(deadline)?;
    let mut ping = Ping {
        target,
        connect,
        timeout: args.timeout.unwrap_or(Duration::from_secs(1)),
        session: Session::new(&args.ping, console, report, schedule)?,
        has_started: false,
        sent: 0,
        awaits_last: false,
        probes: VecDeque::new(),
        addresses,
        follower: connect.follower(target),
    };
    if ping.addresses.len() == 1 {
        ping.start()?;
    }
    ping.run()?;
    ping.start()?;
    let in_flight = ping.probes.len() as u64;
    ping.session.finish(in_flight)
}

struct Ping<'a> {
    target: &'a HostPort,
    connect: &'a ConnectArgs,
    /// How long one attempt may take.
    timeout: Duration,
    session: Session<'a>,
    /// Whether the first line has been printed.
    has_started: bool,
    /// How many probes were sent, which is the number of the last.
    sent: u64,
    /// Whether the last is neither answered nor refused.
    awaits_last: bool,
    /// Under way, oldest first.
    probes: VecDeque<Probe<'a>>,
    /// All that the target has, until one of them answers: then that one.
    addresses: Vec<SocketAddr>,
    follower: Follower<'a>,
}

struct Probe<'a> {
    number: u64,
    expiry: Instant,
    race: Race<'a>,
}

impl Ping<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        while !self.session.console.is_over() {
            let has_more = self.session.has_more(self.sent);
            if has_more && self.session.is_due(Instant::now()) {
                self.send()?;
            }
            self.start_due()?;
            if self.probes.is_empty() && !self.session.has_more(self.sent) {
                return Ok(());
            }
            let (keys, news, woken) = self.wait()?;
            self.receive(&keys, &woken)?;
            self.expire(Instant::now())?;
            if woken.ready[news]
                && let Some(addresses) = self.follower.moved(&self.addresses)
            {
                self.session.report.address = addresses[0];
                self.addresses = addresses;
            }
            if self.session.has_long_silence() {
                self.follower.start();
            }
        }
        Ok(())
    }

    /// Prints the first line, once.
    fn start(&mut self) -> Result<(), Failure> {
        if !self.has_started {
            self.has_started = true;
            self.session.start(0, self.timeout)?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.awaits_last && self.session.reports_missing() {
            self.start()?;
        }
        self.sent += 1;
        self.session.sending(self.sent, self.awaits_last)?;
        self.awaits_last = true;
        let now = Instant::now();
        let next = self.session.sent(now)?;
        // Arm the timer before connecting, so that nothing delays seeing the answer.
        self.session.console.set_alarm(next)?;
        let addresses = self.addresses.iter().copied().map(Endpoint::Inet);
        self.probes.push_back(Probe {
            number: self.sent,
            expiry: now + self.timeout,
            race: Race::new(self.connect, addresses.collect()),
        });
        Ok(())
    }

    /// Starts the attempts that are due, and counts the probes of which all attempts have failed.
    fn start_due(&mut self) -> Result<(), Failure> {
        let mut index = 0;
        while let Some(probe) = self.probes.get_mut(index) {
            probe.race.start_due();
            if !probe.race.is_lost() {
                index += 1;
            } else if let Some(probe) = self.probes.remove(index) {
                self.failed(&probe)?;
            }
        }
        Ok(())
    }

    /// Waits for the attempts. Returns the keys of each probe, and that of the look-up.
    fn wait(&mut self) -> Result<(Vec<Vec<Key>>, Key, Woken), Failure> {
        let expiry = self.probes.front().map(|probe| probe.expiry);
        let until = if self.session.has_more(self.sent) {
            Some(self.session.next_event(expiry))
        } else {
            expiry
        };
        let races = self.probes.iter().map(|probe| &probe.race);
        let next_start = races.fold(Deadline::NEVER, |next, race| next.min(race.next_start()));
        if let Some(until) = until {
            self.session.console.set_alarm(until)?;
        }
        self.session.console.end_wait_at(next_start)?;
        let mut set = Set::new();
        let keys = self.probes.iter().map(|probe| probe.race.watch(&mut set));
        let keys = keys.collect();
        let news = set.add(self.follower.fd(), IN);
        Ok((keys, news, self.session.wait(set)?))
    }

    fn receive(&mut self, keys: &[Vec<Key>], woken: &Woken) -> Result<(), Failure> {
        let mut answers = Vec::new();
        for (probe, keys) in self.probes.iter_mut().zip(keys) {
            let winner = probe.race.winner(keys, &woken.ready, woken.at)?;
            answers.extend(winner.map(|connected| (probe.number, connected)));
        }
        for (number, connected) in answers {
            self.probes.retain(|probe| probe.number != number);
            self.answered(number, &connected)?;
        }
        Ok(())
    }

    fn answered(&mut self, number: u64, connected: &Connected) -> Result<(), Failure> {
        self.settle(number);
        let report = &mut self.session.report;
        report.address = connected.peer.inet().unwrap_or(report.address);
        let source = report.address;
        if self.addresses.len() > 1 {
            self.addresses = vec![source];
        }
        self.start()?;
        let answer = Answer {
            kind: Kind::Reply,
            number,
            time: connected.took(),
        };
        let arrival = Arrival {
            source,
            size: 0,
            hop_limit: None,
        };
        self.session
            .answered(answer, &arrival, connected.established)
    }

    fn failed(&mut self, probe: &Probe<'_>) -> Result<(), Failure> {
        self.settle(probe.number);
        self.start()?;
        let failure = probe
            .race
            .failure(&self.target.clone().into(), Deadline::after(self.timeout));
        match probe.race.last_error() {
            Some(error) if failure.exit != Exit::Local => self.session.refused(probe.number, error),
            error => {
                tracing::error!("{failure}");
                let cause = error.map(cause).unwrap_or_default();
                self.session.unsent(probe.number, failure.exit, &cause)
            }
        }
    }

    /// Gives up the attempts that have taken too long.
    fn expire(&mut self, now: Instant) -> Result<(), Failure> {
        while let Some(probe) = self.probes.front().filter(|probe| probe.expiry <= now) {
            let number = probe.number;
            self.probes.pop_front();
            if self.session.report.style == Style::Events {
                self.start()?;
            }
            self.session.lost(number)?;
        }
        Ok(())
    }

    fn settle(&mut self, number: u64) {
        self.awaits_last &= number != self.sent;
    }
}
