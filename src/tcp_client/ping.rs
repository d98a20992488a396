//! Connects to a port again and again, and says how long each connection took.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::check::CheckArgs;
use super::dial::{Dial, Dialed, Encryption};
use crate::exit::{Exit, Failure, cause};
use crate::logging::LoggingArgs;
use crate::net::connect::ConnectArgs;
use crate::net::follow::Follower;
use crate::net::peer::Endpoint;
use crate::net::target::Address;
use crate::ping::console::{Console, Woken};
use crate::ping::destination::Destination;
use crate::ping::report::{News, Protocol, Report, Style};
use crate::ping::schedule::{Pace, Schedule};
use crate::ping::session::Session;
use crate::ping::{Answer, Arrival, Kind};
use crate::proxy::{Dialer, Route};
use crate::wait::{Deadline, IN, Key, Set};

/// Ends when the last attempt is over; at `deadline`; and at SIGINT. If too many attempts failed, the
/// error carries only the exit code.
pub fn run(
    target: &Address,
    args: &CheckArgs,
    (dialer, encryption): (&Dialer, &Encryption),
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    args.ping.check_terminal()?;
    let route = dialer.route(target, deadline)?;
    let style = match (args.json, args.ping.live) {
        (true, _) => Style::Events,
        (false, true) => Style::Live,
        (false, false) => Style::Lines,
    };
    let destination = Destination {
        target: target.to_string(),
        through: route.through(),
        port: target.port(),
        address: route.first_address(),
    };
    let report = Report::new(style, Protocol::Tcp, &args.ping, logging, destination);
    let interval = args.ping.interval.unwrap_or(Duration::from_secs(1));
    let schedule = Schedule::new(Pace::Every(interval));
    let console = Console::new(deadline)?;
    let mut ping = Ping {
        target,
        connect: &dialer.args,
        encryption,
        timeout: args.timeout.unwrap_or(Duration::from_secs(1)),
        session: Session::new(&args.ping, console, report, schedule)?,
        has_started: false,
        sent: 0,
        awaits_last: false,
        has_told: false,
        probes: VecDeque::new(),
        follower: dialer.follower(target, &route),
        route,
    };
    // The first line tells the certificate too.
    if ping.route.knows_who_answers() && !encryption.is_on() {
        ping.start()?;
    }
    ping.run()?;
    ping.start()?;
    let in_flight = ping.probes.len() as u64;
    ping.session.finish(in_flight)
}

struct Ping<'a> {
    target: &'a Address,
    connect: &'a ConnectArgs,
    encryption: &'a Encryption,
    /// How long one attempt may take.
    timeout: Duration,
    session: Session<'a>,
    /// Whether the first line has been printed.
    has_started: bool,
    /// How many probes were sent, which is the number of the last.
    sent: u64,
    /// Whether the last is neither answered nor refused.
    awaits_last: bool,
    /// Whether the certificate has been told.
    has_told: bool,
    /// Under way, oldest first.
    probes: VecDeque<Probe<'a>>,
    /// With all addresses, until one of them answers: then with that one.
    route: Route,
    follower: Option<Follower<'a>>,
}

struct Probe<'a> {
    number: u64,
    expiry: Instant,
    dial: Dial<'a>,
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
            if woken.ready[news] {
                self.follow();
            }
            if self.session.has_long_silence()
                && let Some(follower) = &mut self.follower
            {
                follower.start();
            }
        }
        Ok(())
    }

    /// Goes to the new address, if there is one.
    fn follow(&mut self) {
        let current: Vec<_> = self
            .route
            .addresses
            .iter()
            .filter_map(Endpoint::inet)
            .collect();
        let follower = self.follower.as_mut();
        if let Some(addresses) = follower.and_then(|follower| follower.moved(&current)) {
            self.route.addresses = addresses.into_iter().map(Endpoint::Inet).collect();
            self.session.report.destination.address = self.route.first_address();
        }
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
        self.probes.push_back(Probe {
            number: self.sent,
            expiry: now + self.timeout,
            dial: Dial::new(
                self.connect,
                self.target,
                self.route.clone(),
                self.encryption,
            ),
        });
        Ok(())
    }

    /// Starts the attempts that are due, and counts the probes of which all attempts have failed.
    fn start_due(&mut self) -> Result<(), Failure> {
        let mut index = 0;
        while let Some(probe) = self.probes.get_mut(index) {
            probe.dial.start_due();
            if !probe.dial.is_lost() {
                index += 1;
            } else if let Some(mut probe) = self.probes.remove(index) {
                self.failed(&mut probe)?;
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
        let dials = self.probes.iter().map(|probe| &probe.dial);
        let wake = dials.map(Dial::wake).fold(Deadline::NEVER, Deadline::min);
        if let Some(until) = until {
            self.session.console.set_alarm(until)?;
        }
        self.session.console.end_wait_at(wake)?;
        let mut set = Set::new();
        let dials = self.probes.iter().map(|probe| &probe.dial);
        let keys = dials.map(|dial| dial.watch(&mut set)).collect();
        let news = set.add(self.follower.as_ref().and_then(Follower::fd), IN);
        Ok((keys, news, self.session.wait(set)?))
    }

    fn receive(&mut self, keys: &[Vec<Key>], woken: &Woken) -> Result<(), Failure> {
        let mut answers = Vec::new();
        for (probe, keys) in self.probes.iter_mut().zip(keys) {
            let left = probe.expiry.saturating_duration_since(woken.at);
            let limit = Deadline::after(left);
            let dialed = probe.dial.dialed(keys, &woken.ready, woken.at, limit)?;
            if let Some(dialed) = dialed {
                let way = probe.dial.way(&dialed.connected);
                answers.push((probe.number, dialed, way));
            }
        }
        for (number, dialed, way) in answers {
            self.probes.retain(|probe| probe.number != number);
            self.route = way;
            self.answered(number, dialed)?;
        }
        Ok(())
    }

    fn answered(&mut self, number: u64, dialed: Dialed) -> Result<(), Failure> {
        self.settle(number);
        let address = self.route.first_address();
        self.session.report.destination.address = address;
        if let Some(shaken) = dialed.shaken.as_ref().filter(|_| !self.has_told) {
            self.has_told = true;
            self.session.report.news = Some(News {
                line: shaken.session.result(None),
                fields: self.encryption.fields(shaken, self.target, None),
            });
        }
        self.start()?;
        let (time, at) = (dialed.took(), dialed.ended());
        let handshake = dialed.shaken.as_ref().map(|shaken| shaken.took);
        if let Some(failure) = dialed.shaken.and_then(|shaken| shaken.fault) {
            let error = io::Error::other(failure.to_string());
            return self.session.refused(number, None, &error);
        }
        let answer = Answer {
            kind: Kind::Reply,
            number,
            time,
        };
        let arrival = Arrival {
            source: address,
            size: 0,
            hop_limit: None,
            handshake,
        };
        self.session.answered(answer, &arrival, at)
    }

    fn failed(&mut self, probe: &mut Probe<'_>) -> Result<(), Failure> {
        self.settle(probe.number);
        self.start()?;
        let last = probe.dial.last_error();
        let failure = probe.dial.failure(Deadline::after(self.timeout));
        match last {
            Some((by, error)) if failure.exit != Exit::Local => {
                self.session.refused(probe.number, by.as_deref(), &error)
            }
            last => {
                tracing::error!("{failure}");
                let cause = last.map(|(_, error)| cause(&error)).unwrap_or_default();
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
