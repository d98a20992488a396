//! Connects to targets, through the proxies that the user has named.

use std::io;
use std::time::Instant;

use super::attempt::Attempt;
use super::hop::Hop;
use super::retries::Retries;
use super::route::Route;
use super::{ProxyArgs, surroundings};
use crate::exit::{Exit, Failure, OrFail as _};
use crate::net::connect::ConnectArgs;
use crate::net::follow::Follower;
use crate::net::race::Connected;
use crate::net::target::Address;
use crate::progress::Plan;
use crate::wait::{Deadline, Set};

pub struct Dialer {
    pub args: ConnectArgs,
    hops: Vec<Hop>,
    /// Targets that are connected to without a proxy: the value of `NO_PROXY`.
    excluded: String,
}

impl Dialer {
    pub fn new(args: ConnectArgs, proxy: &ProxyArgs) -> Result<Self, Failure> {
        let mut dialer = Self {
            args,
            hops: Vec::new(),
            excluded: String::new(),
        };
        let mut urls = proxy.proxy.clone();
        if urls.iter().any(|url| url == "env") {
            if urls.len() > 1 {
                let message = "--proxy env is the whole chain: name no other proxy";
                return Err(Failure::usage(message));
            }
            urls = surroundings::variable("ALL_PROXY").into_iter().collect();
            dialer.excluded = surroundings::variable("NO_PROXY").unwrap_or_default();
        }
        if !urls.is_empty() {
            let usual = surroundings::credentials();
            let hops = urls.iter().map(|url| Hop::read(url, usual.as_ref()));
            dialer.hops = hops.collect::<Result<_, _>>().map_err(Failure::usage)?;
        }
        Ok(dialer)
    }

    /// Resolves what the way to `target` needs.
    pub fn route(&self, target: &Address, limit: Deadline) -> Result<Route, Failure> {
        let (args, hops) = (&self.args, &self.hops);
        match (target, hops.first()) {
            (Address::Inet(inet), Some(first)) if !surroundings::excludes(&self.excluded, inet) => {
                let addresses = args.addresses(&first.address.clone().into(), limit)?;
                Route::by(hops.clone(), addresses, inet, &args.resolve, limit)
            }
            _ => Ok(Route::straight(args.addresses(target, limit)?)),
        }
    }

    /// What follows the name that was resolved for `route`: that of the first proxy, or of `target`. `None`:
    /// there is no name.
    pub fn follower<'a>(&'a self, target: &'a Address, route: &Route) -> Option<Follower<'a>> {
        let first = self.hops.first().filter(|_| !route.hops.is_empty());
        match (first, target) {
            (Some(first), _) => Some(self.args.follower(&first.address)),
            (None, Address::Inet(target)) => Some(self.args.follower(target)),
            (None, Address::Unix(_)) => None,
        }
    }

    /// Connects to `target`. Gives up at the connect timeout, at `deadline`, or after `--retry` attempts
    /// more. `progress` shows which attempt is under way.
    pub fn connect(
        &self,
        target: &Address,
        deadline: Deadline,
        progress: Option<Plan>,
    ) -> Result<Connected, Failure> {
        Retries::new(&self.args, progress).run(deadline, |retries| {
            let limit = self.args.limit(deadline);
            let route = self.route(target, limit)?;
            self.try_once(route, target, limit, || retries.show_progress())
        })
    }

    /// As [`Self::connect`], once and by a known way.
    pub fn connect_by(
        &self,
        route: Route,
        target: &Address,
        limit: Deadline,
    ) -> Result<Connected, Failure> {
        self.try_once(route, target, limit, || Deadline::NEVER)
    }

    /// `show` is called while that blocks, and says when it is due again.
    fn try_once(
        &self,
        route: Route,
        target: &Address,
        limit: Deadline,
        show: impl FnMut() -> Deadline,
    ) -> Result<Connected, Failure> {
        let mut attempt = Attempt::new(&self.args, target, route);
        let reached = run(&mut attempt, limit, show);
        let reached = reached.or_fail(Exit::Local, || format!("could not connect to {target}"))?;
        reached.ok_or_else(|| attempt.failure(limit))
    }
}

/// Blocks until `limit` at most. `None`: all attempts failed, or `limit` passed.
fn run(
    attempt: &mut Attempt<'_>,
    limit: Deadline,
    mut show: impl FnMut() -> Deadline,
) -> io::Result<Option<Connected>> {
    while !limit.has_passed() {
        attempt.start_due();
        if attempt.is_lost() {
            break;
        }
        let mut set = Set::new();
        let keys = attempt.watch(&mut set);
        let ready = set.wait(limit.min(attempt.next_start()).min(show()))?;
        if let Some(connected) = attempt.connected(&keys, &ready, Instant::now())? {
            return Ok(Some(connected));
        }
    }
    Ok(None)
}
