//! One attempt to reach a target: a race to the first hop, then a dialogue with each proxy.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use super::route::Route;
use super::tunnel::{Refusal, Tunnel};
use crate::exit::{Exit, Failure, blame, cause};
use crate::net::connect::ConnectArgs;
use crate::net::peer::Endpoint;
use crate::net::race::{Connected, Race, Via};
use crate::net::stream::Stream;
use crate::net::target::Address;
use crate::units::told;
use crate::wait::{Deadline, Key, Ready, Set};

/// Its user calls [`Self::start_due`], waits until [`Self::next_start`] for what [`Self::watch`] has
/// added, and gives that to [`Self::connected`].
pub struct Attempt<'a> {
    args: &'a ConnectArgs,
    target: &'a Address,
    route: Route,
    race: Race<'a>,
    /// The dialogue with a proxy, once the race is over.
    tunnel: Option<Reached>,
    /// Which proxy has refused, and why.
    refused: Option<(usize, Refusal)>,
}

/// The first proxy has been reached.
struct Reached {
    tunnel: Tunnel,
    /// Which proxy is talked to.
    index: usize,
    peer: Endpoint,
    resolved: Instant,
    began: Instant,
    established: Instant,
}

impl<'a> Attempt<'a> {
    /// Goes the way that `route` says. `target` is for messages.
    pub fn new(args: &'a ConnectArgs, target: &'a Address, route: Route) -> Self {
        Self {
            args,
            target,
            race: Race::new(args, route.addresses.clone()),
            route,
            tunnel: None,
            refused: None,
        }
    }

    /// Starts what is due. Does not block.
    pub fn start_due(&mut self) {
        if self.tunnel.is_none() {
            self.race.start_due();
        }
    }

    /// When [`Self::start_due`] is due.
    pub fn next_start(&self) -> Deadline {
        match self.tunnel {
            Some(_) => Deadline::NEVER,
            None => self.race.next_start(),
        }
    }

    /// Whether it has failed.
    pub fn is_lost(&self) -> bool {
        self.refused.is_some() || self.tunnel.is_none() && self.race.is_lost()
    }

    /// Adds what is under way.
    pub fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key> {
        match &self.tunnel {
            Some(reached) => {
                let tunnel = &reached.tunnel;
                vec![set.add(tunnel.as_fd(), tunnel.events())]
            }
            None => self.race.watch(set),
        }
    }

    /// Takes what a wait for `keys` has found at `at`. `None`: it is not there yet, or is lost.
    pub fn connected(
        &mut self,
        keys: &[Key],
        ready: &Ready,
        at: Instant,
    ) -> io::Result<Option<Connected>> {
        let reached = match self.tunnel.take() {
            Some(reached) if keys.iter().any(|key| ready[*key]) => reached,
            Some(reached) => {
                self.tunnel = Some(reached);
                return Ok(None);
            }
            None => {
                let winner = self.race.winner(keys, ready, at)?;
                let Some(winner) = winner else {
                    return Ok(None);
                };
                match (self.route.hops.first(), &winner.reset) {
                    (None, _) => return Ok(Some(winner)),
                    (Some(_), Some(error)) => {
                        self.refuse(0, Refusal::new(blame(error), cause(error)));
                        return Ok(None);
                    }
                    (Some(_), None) => {}
                }
                let Some(tunnel) = self.tunnel_to(0, winner.stream) else {
                    return Ok(None);
                };
                Reached {
                    tunnel,
                    index: 0,
                    peer: winner.peer,
                    resolved: winner.resolved,
                    began: winner.began,
                    established: winner.established,
                }
            }
        };
        Ok(self.advance(reached))
    }

    fn tunnel_to(&self, index: usize, stream: Stream) -> Option<Tunnel> {
        let (hop, point) = (self.route.hops.get(index)?, self.route.point(index)?);
        Some(Tunnel::new(stream, hop, point))
    }

    fn advance(&mut self, mut reached: Reached) -> Option<Connected> {
        loop {
            match reached.tunnel.advance() {
                Ok(false) => {
                    self.tunnel = Some(reached);
                    return None;
                }
                Err(refusal) => {
                    self.refuse(reached.index, refusal);
                    return None;
                }
                Ok(true) => {
                    let stream = reached.tunnel.into_stream();
                    reached.index += 1;
                    if reached.index == self.route.hops.len() {
                        return Some(Connected {
                            stream,
                            peer: reached.peer,
                            resolved: reached.resolved,
                            began: reached.began,
                            established: reached.established,
                            via: Some(Via {
                                proxies: self.route.names(reached.index),
                                passed: Instant::now(),
                            }),
                            reset: None,
                        });
                    }
                    reached.tunnel = self.tunnel_to(reached.index, stream)?;
                }
            }
        }
    }

    /// The proxy `index` does not connect us. Another address of the target may be reached.
    fn refuse(&mut self, index: usize, refusal: Refusal) {
        let is_last = index + 1 == self.route.hops.len();
        if is_last && !refusal.is_final && self.route.targets.len() > 1 {
            self.route.targets.remove(0);
            self.race = Race::new(self.args, self.route.addresses.clone());
            return;
        }
        self.refused = Some((index, refusal));
    }

    /// The way that has led to `peer`: of several addresses that which was reached.
    pub fn way(&self, peer: &Endpoint) -> Route {
        let mut way = self.route.clone();
        way.addresses = vec![peer.clone()];
        way.targets.truncate(1);
        way
    }

    /// The error that came last, and the proxies on the way to where it came from; `None`: straight.
    pub fn last_error(&self) -> Option<(Option<String>, io::Error)> {
        if let Some((index, refusal)) = &self.refused {
            let asked = self.asked(*index);
            let error = io::Error::other(format!("{asked}{}", refusal.why));
            return Some((Some(self.route.names(*index)), error));
        }
        let error = self.race.last_error()?;
        let error = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        let through = self.route.hops.first().map(|_| self.route.names(0));
        Some((through, error))
    }

    fn sentence(&self, index: usize, why: &str) -> String {
        let (target, proxies) = (self.target, self.route.names(index));
        let asked = self.asked(index);
        format!("could not connect to {target} through {proxies}: {asked}{why}")
    }

    /// What the proxy `index` was asked for, if that is another proxy.
    fn asked(&self, index: usize) -> String {
        let point = self.route.between.get(index);
        point.map_or_else(String::new, |point| format!("asked for {point}: "))
    }

    /// Why it has failed, or that there was no answer within `limit`.
    pub fn failure(&self, limit: Deadline) -> Failure {
        if let Some((index, refusal)) = &self.refused {
            let mut failure = Failure::new(refusal.exit, self.sentence(*index, &refusal.why));
            failure.is_final |= refusal.is_final;
            return failure;
        }
        if let Some(reached) = &self.tunnel {
            let why = format!("no answer within {}", told(limit.length()));
            return Failure::new(Exit::Timeout, self.sentence(reached.index, &why));
        }
        let Some(first) = self.route.hops.first() else {
            return self.race.failure(self.target, limit);
        };
        let failure = self.race.failure(&first.address.clone().into(), limit);
        let target = self.target;
        let message = format!("could not connect to {target} through a proxy: {failure}");
        Failure::new(failure.exit, message)
    }
}
