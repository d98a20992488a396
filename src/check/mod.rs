//! Checks of ports, of both clients: many side by side, told in the order that was typed.
//!
//! Each client has its own [`Attempt`]. [`run`] keeps a bounded number of them under way. It repeats those
//! that found no open port. A [`report::Report`] gets the results.

pub mod report;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Resource;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::limits;
use crate::net::address::HostPort;
use crate::net::target::Address;
use crate::units::told;
use crate::wait::{Deadline, Key, Ready, Set};
use report::Report;

/// What is checked.
pub trait Target: Display + Sync {
    /// What is resolved, once for all its ports.
    fn host(&self) -> String;
    /// `None`: it has none.
    fn port(&self) -> Option<u16>;
}

impl Target for HostPort {
    fn host(&self) -> String {
        self.host.clone()
    }

    fn port(&self) -> Option<u16> {
        Some(self.port)
    }
}

impl Target for Address {
    fn host(&self) -> String {
        match self {
            Self::Inet(address) => address.host.clone(),
            Self::Unix(name) => name.to_string(),
        }
    }

    fn port(&self) -> Option<u16> {
        self.port()
    }
}

/// What is known of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// The peer or the network said no.
    Closed,
    /// Nothing came within the time limit.
    Silent,
    /// It could not be asked.
    Failed,
}

/// The result for one port.
pub struct Checked {
    pub state: State,
    /// The address that has answered, or has not.
    pub address: Option<SocketAddr>,
    /// How long the answer took.
    pub time: Option<Duration>,
    /// What standard output tells of it.
    pub line: Option<String>,
    /// Why the port is not open, where that is an error.
    pub failure: Option<Failure>,
    /// What else JSON tells of it.
    pub fields: Vec<(&'static str, Value)>,
}

impl Checked {
    /// The port is not open, for the reason that `failure` tells.
    pub fn failed(failure: Failure) -> Self {
        let state = match failure.exit {
            Exit::Network => State::Closed,
            Exit::Timeout => State::Silent,
            _ => State::Failed,
        };
        Self {
            state,
            address: None,
            time: None,
            line: None,
            failure: Some(failure),
            fields: Vec::new(),
        }
    }

    /// Whether it is of use to ask again.
    fn may_change(&self) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| !failure.is_final)
    }
}

/// One port that is being asked.
pub trait Attempt {
    /// Does what is due. Never blocks.
    fn proceed(&mut self);

    /// When [`Self::proceed`] or [`Self::result`] is due at the latest.
    fn wake(&self) -> Deadline;

    /// Adds what it waits for.
    fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key>;

    /// Takes what a wait for `keys` has found at `at`. `None`: it is not over.
    fn result(&mut self, keys: &[Key], ready: &Ready, at: Instant) -> io::Result<Option<Checked>>;
}

/// How many ports are asked at a time, and how often.
pub struct Plan {
    pub at_a_time: usize,
    /// How often a port is asked that is not open, at most.
    pub rounds: u32,
    /// The time between two rounds.
    pub delay: Duration,
    /// Until when rounds follow.
    pub wait: Deadline,
    pub deadline: Deadline,
}

impl Plan {
    /// When the rounds end at the latest.
    pub fn end(&self) -> Deadline {
        self.deadline.min(self.wait)
    }

    /// The result of a port for which no time is left.
    fn give_up(&self, mut checked: Checked) -> Checked {
        let end = self.end();
        let option = if end == self.wait {
            "--wait"
        } else {
            "--deadline"
        };
        checked.failure = checked.failure.map(|failure| {
            let length = told(end.length());
            let message = format!("{failure}; gave up after {length} ({option})");
            Failure::new(Exit::Timeout, message)
        });
        checked
    }
}

/// `asked`, or fewer if the limit of open descriptors does not permit so many: one attempt may need
/// `each` of them.
pub fn at_a_time(asked: u16, each: usize) -> usize {
    /// What netkit has open besides.
    const RESERVE: u64 = 16;
    let limit = limits::of(Resource::Nofile)
        .ok()
        .and_then(|limit| limit.current);
    let limit = limit.unwrap_or(u64::MAX);
    let most = usize::try_from(limit.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
    usize::from(asked).min(most / each).max(1)
}

/// Asks all ports of `report`, each by an attempt that `begin` makes. `begin` gets what `resolve` has
/// found for a port of the same host. Rounds follow until all are open, or until `plan` ends
/// them. The error carries the exit code.
pub fn run<'a, T: Target, F: Clone + Send, A: Attempt>(
    report: Report<'a, T>,
    plan: &'a Plan,
    resolve: impl Fn(&T) -> Result<F, Failure> + Sync,
    begin: impl Fn(&'a T, F) -> A,
) -> Result<(), Failure> {
    let mut checker = Checker {
        plan,
        report,
        names: Names::new(),
        is_last_round: false,
        known: BTreeMap::new(),
        pending: BTreeMap::new(),
    };
    let mut ports: Vec<usize> = (0..checker.report.targets.len()).collect();
    for round in 1.. {
        checker.is_last_round = round >= plan.rounds;
        checker.resolve(&ports, &resolve);
        checker.ask(&ports, &begin)?;
        let pending = std::mem::take(&mut checker.pending);
        if pending.is_empty() {
            break;
        }
        let number = match plan.rounds {
            u32::MAX => round.to_string(),
            rounds => format!("{round} of {rounds}"),
        };
        let next = Deadline::after(plan.delay).min(plan.end());
        checker.report.pause(&number, &pending, next)?;
        if plan.end().has_passed() {
            for (port, checked) in pending {
                checker.report.settle(port, plan.give_up(checked))?;
            }
            break;
        }
        ports = pending.keys().copied().collect();
        checker.known = pending;
    }
    checker.report.finish(plan.deadline)
}

/// What was found for each host, or why nothing was.
type Names<F> = BTreeMap<String, Result<F, (Exit, String)>>;

struct Checker<'a, T, F> {
    plan: &'a Plan,
    report: Report<'a, T>,
    names: Names<F>,
    is_last_round: bool,
    /// What the round before has shown.
    known: BTreeMap<usize, Checked>,
    /// The ports that were not open in this round, and are asked in the next.
    pending: BTreeMap<usize, Checked>,
}

impl<'a, T: Target, F: Clone + Send> Checker<'a, T, F> {
    /// Looks up the hosts of `ports`, several at a time.
    fn resolve(&mut self, ports: &[usize], resolve: &(impl Fn(&T) -> Result<F, Failure> + Sync)) {
        /// Each takes a thread.
        const AT_A_TIME: usize = 16;
        let targets = ports.iter().map(|port| &self.report.targets[*port]);
        let targets = targets.map(|target| (target.host(), target));
        let is_unknown = |(host, _): &(String, &T)| !matches!(self.names.get(host), Some(Ok(_)));
        let hosts: BTreeMap<String, &T> = targets.filter(is_unknown).collect();
        let hosts: Vec<(String, &T)> = hosts.into_iter().collect();
        let look_up = |(host, target): &(String, &T)| {
            let found = resolve(target).map_err(|failure| (failure.exit, failure.to_string()));
            (host.clone(), found)
        };
        for hosts in hosts.chunks(AT_A_TIME) {
            if let [host] = hosts {
                self.names.extend([look_up(host)]);
                continue;
            }
            let found = thread::scope(|scope| {
                let threads = hosts.iter().map(|host| {
                    let thread = thread::Builder::new().name("resolve".to_owned());
                    thread.spawn_scoped(scope, || look_up(host))
                });
                let threads: Vec<_> = threads.filter_map(Result::ok).collect();
                let found = threads.into_iter().filter_map(|thread| thread.join().ok());
                found.collect::<Vec<_>>()
            });
            self.names.extend(found);
        }
    }

    /// Asks each of `ports` once.
    fn ask<A: Attempt>(
        &mut self,
        ports: &[usize],
        begin: &impl Fn(&'a T, F) -> A,
    ) -> Result<(), Failure> {
        self.report.course.asked = self.report.targets.len() - ports.len();
        let mut waiting = ports.iter().copied();
        let mut under_way: Vec<(usize, A)> = Vec::new();
        loop {
            while under_way.len() < self.plan.at_a_time
                && let Some(port) = waiting.next()
            {
                match self.found(port) {
                    Ok(found) => {
                        let target = &self.report.targets[port];
                        under_way.push((port, begin(target, found)));
                    }
                    Err(failure) => self.settle(port, Checked::failed(failure))?,
                }
            }
            if under_way.is_empty() {
                return Ok(());
            }
            let mut wake = self.report.show_progress();
            for (_, attempt) in &mut under_way {
                attempt.proceed();
                wake = wake.min(attempt.wake());
            }
            let mut set = Set::new();
            let attempts = under_way.iter();
            let keys = attempts.map(|(_, attempt)| attempt.watch(&mut set));
            let keys: Vec<Vec<Key>> = keys.collect();
            let stdout = self.report.stdout.watch(&mut set);
            let ready = set.wait(wake)?;
            let at = Instant::now();
            if ready[stdout] {
                self.report.stdout.go_on()?;
            }
            for ((port, mut attempt), keys) in std::mem::take(&mut under_way).into_iter().zip(keys)
            {
                match attempt.result(&keys, &ready, at)? {
                    Some(checked) => self.settle(port, checked)?,
                    None => under_way.push((port, attempt)),
                }
            }
        }
    }

    fn found(&self, port: usize) -> Result<F, Failure> {
        let host = self.report.targets[port].host();
        match self.names.get(&host) {
            Some(Ok(found)) => Ok(found.clone()),
            Some(Err((exit, sentence))) => Err(Failure::new(*exit, sentence.clone())),
            None => {
                let message = format!("could not resolve {host}: no thread could be started");
                Err(Failure::local(message))
            }
        }
    }

    fn settle(&mut self, port: usize, checked: Checked) -> Result<(), Failure> {
        self.report.course.asked += 1;
        // An attempt that the end of the rounds has cut off tells nothing.
        if checked.state == State::Silent
            && self.plan.end().has_passed()
            && let Some(known) = self.known.remove(&port)
        {
            return self.report.settle(port, self.plan.give_up(known));
        }
        if !self.is_last_round && checked.may_change() {
            self.pending.insert(port, checked);
            return Ok(());
        }
        self.report.settle(port, checked)
    }
}
