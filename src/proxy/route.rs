//! What is known of the way to a target: where the first hop is, and what each proxy is asked for.

use std::fmt;
use std::net::SocketAddr;

use super::hop::Hop;
use super::socks;
use crate::exit::{Exit, Failure};
use crate::net::address::{HostPort, is_numeric};
use crate::net::peer::Endpoint;
use crate::net::resolve::ResolveArgs;
use crate::wait::Deadline;

/// What a proxy is asked to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    Address(SocketAddr),
    /// The proxy resolves it.
    Name(HostPort),
}

/// The way to the ports of one host.
#[derive(Clone)]
pub struct Route {
    pub hops: Vec<Hop>,
    /// Of the first proxy; without one, of the target. At least one.
    pub addresses: Vec<Endpoint>,
    /// What each proxy but the last is asked for.
    pub between: Vec<Point>,
    /// What the last is asked for: one after another, until one can be connected to.
    pub targets: Vec<Point>,
}

impl Point {
    /// An address is one, without a zone, which means nothing elsewhere. A name is one.
    pub fn of(target: &HostPort) -> Self {
        let bare = target.host.split('%').next().unwrap_or_default();
        match bare.parse() {
            Ok(ip) if is_numeric(&target.host) => Self::Address(SocketAddr::new(ip, target.port)),
            _ => Self::Name(HostPort {
                host: target.name().to_owned(),
                port: target.port,
            }),
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(name) => name.port,
        }
    }

    fn set_port(&mut self, port: u16) {
        match self {
            Self::Address(address) => address.set_port(port),
            Self::Name(name) => name.port = port,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Route {
    /// The way without a proxy.
    pub fn straight(addresses: Vec<Endpoint>) -> Self {
        Self {
            hops: Vec::new(),
            addresses,
            between: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// The way to `target` through `hops`, whose first is at `addresses`. Resolves what the proxies do
    /// not, by `limit`.
    pub fn by(
        hops: Vec<Hop>,
        addresses: Vec<Endpoint>,
        target: &HostPort,
        resolve: &ResolveArgs,
        limit: Deadline,
    ) -> Result<Self, Failure> {
        let mut between = Vec::new();
        for pair in hops.windows(2) {
            let points = points(&pair[0], &pair[1].address, resolve, limit)?;
            between.extend(points.into_iter().next());
        }
        let targets = match hops.last() {
            Some(last) => points(last, target, resolve, limit)?,
            None => Vec::new(),
        };
        Ok(Self {
            hops,
            addresses,
            between,
            targets,
        })
    }

    /// The same way to another port of the host.
    pub fn at_port(mut self, port: Option<u16>) -> Self {
        let Some(port) = port else { return self };
        for target in &mut self.targets {
            target.set_port(port);
        }
        if self.hops.is_empty() {
            for address in &mut self.addresses {
                if let Endpoint::Inet(address) = address {
                    address.set_port(port);
                }
            }
        }
        self
    }

    /// The first address of the target, if this machine connects to it.
    pub fn first_address(&self) -> Option<SocketAddr> {
        let first = self.addresses.first().filter(|_| self.hops.is_empty());
        first.and_then(Endpoint::inet)
    }

    /// Whether this is known before an answer: a proxy, a Unix socket, the only address.
    pub fn knows_who_answers(&self) -> bool {
        !self.hops.is_empty() || self.addresses.len() == 1
    }

    /// The address of a target that has but one, if this machine connects to it.
    pub fn only_address(&self) -> Option<SocketAddr> {
        match &self.addresses[..] {
            [address] if self.hops.is_empty() => address.inet(),
            _ => None,
        }
    }

    /// All proxies in words. `None`: it leads straight to the target.
    pub fn through(&self) -> Option<String> {
        let last = self.hops.len().checked_sub(1)?;
        Some(self.names(last))
    }

    /// What the proxy `index` is asked for. `None`: there is no such proxy.
    pub fn point(&self, index: usize) -> Option<&Point> {
        self.between.get(index).or_else(|| {
            let is_last = index + 1 == self.hops.len();
            self.targets.first().filter(|_| is_last)
        })
    }

    /// The proxies up to `index`, in words.
    pub fn names(&self, index: usize) -> String {
        let hops = self.hops.iter().take(index + 1).map(ToString::to_string);
        hops.collect::<Vec<_>>().join(", ")
    }
}

/// What `hop` may be asked for to reach `target`, at least one.
fn points(
    hop: &Hop,
    target: &HostPort,
    resolve: &ResolveArgs,
    limit: Deadline,
) -> Result<Vec<Point>, Failure> {
    let refused = |why: String| {
        Failure::local(format!(
            "could not connect to {target} through {hop}: {why}"
        ))
    };
    let literal = Point::of(target);
    if matches!(literal, Point::Address(_)) || !hop.kind.resolves_here() {
        socks::check(hop.kind, &literal).map_err(refused)?;
        return Ok(vec![literal]);
    }
    // -4 and -6 are about the way to the first proxy.
    let found = resolve
        .of_any_family()
        .resolve(&target.host, target.port, limit)?;
    let found = found.into_iter().map(Point::Address);
    let points: Vec<Point> = found
        .filter(|point| socks::check(hop.kind, point).is_ok())
        .collect();
    if points.is_empty() {
        let message = format!("could not resolve {}: it has no IPv4 address", target.host);
        return Err(Failure::new(Exit::Resolve, message));
    }
    Ok(points)
}
