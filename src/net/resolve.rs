//! Resolves names to addresses within a time limit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::net::address::is_numeric;
use crate::units::told;
use crate::wait::Deadline;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ResolveArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Do not resolve names: take addresses only
    #[arg(short, long)]
    numeric: bool,
}

/// The most that a look-up takes. The resolver of the C library may take longer: it asks each name
/// server twice, for 5 s each time (resolv.conf(5)).
const MOST: Duration = Duration::from_secs(9);

impl ResolveArgs {
    /// Whether `-4` and `-6` allow the family of `address`.
    pub fn allows(&self, address: &SocketAddr) -> bool {
        if address.is_ipv4() {
            !self.ipv6
        } else {
            !self.ipv4
        }
    }

    /// The same, for addresses that somebody else connects to.
    pub fn of_any_family(&self) -> Self {
        Self {
            numeric: self.numeric,
            ..Self::default()
        }
    }

    /// All addresses of `host` (empty: this machine) that the options allow, at least one, in the
    /// resolver's order (RFC 6724). A zone (`%eth0`) is kept. Blocks until `limit`, and for [`MOST`] at most.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        limit: Deadline,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let sentence = format!("could not resolve {host}");
        let numeric = host.is_empty() || is_numeric(host);
        if self.numeric && !numeric {
            let message = format!("{sentence}: it is a name, and -n allows addresses only");
            return Err(Failure::local(message));
        }
        // An address needs no resolver, so nothing blocks.
        let found = if host.is_empty() {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            Ok(loopback.map(|ip: IpAddr| SocketAddr::new(ip, port)).into())
        } else if numeric {
            lookup(host, port).map_err(|error| wrong_zone(host).unwrap_or(error))
        } else {
            lookup_until(host, port, Deadline::after(MOST).min(limit))
        };
        let found = found.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Failure::of(Exit::Timeout, &sentence, &error),
            _ => Failure::of(Exit::Resolve, &sentence, &error),
        })?;
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.len());
        for address in found {
            if self.allows(&address) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let family = if self.ipv6 { "IPv6" } else { "IPv4" };
            let message = format!("{sentence}: it has no {family} address");
            return Err(Failure::new(Exit::Resolve, message));
        }
        Ok(addresses)
    }
}

/// Why getaddrinfo(3) refuses a numeric address with a zone: it calls that an unknown name.
fn wrong_zone(host: &str) -> Option<io::Error> {
    let (text, zone) = host.split_once('%')?;
    let ip: Ipv6Addr = text.parse().ok()?;
    let is_multicast_of_link = ip.segments()[0] & 0xff0f == 0xff02;
    let message = if ip.is_unicast_link_local() || is_multicast_of_link {
        format!("this machine has no interface '{zone}'")
    } else {
        format!("only a link-local address has a zone; write {text}")
    };
    Some(io::Error::new(io::ErrorKind::NotFound, message))
}

fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Calls getaddrinfo(3) in a thread, as nothing can interrupt it. After `limit` this fails with
/// `TimedOut` and leaves the thread behind.
fn lookup_until(host: &str, port: u16, limit: Deadline) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    let look_up = move || {
        // Nobody receives after `limit`.
        let _ = sender.send(lookup(&name, port));
    };
    let thread = thread::Builder::new().name("resolve".to_owned());
    thread.spawn(look_up)?;
    let found = receiver.recv_timeout(limit.left().unwrap_or(Duration::MAX));
    found.unwrap_or_else(|_| {
        let message = format!("no answer within {}", told(limit.length()));
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}
