//! Where a server listens, and how it tells that it is ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::getsockname;

use crate::exit::{Failure, cause};
use crate::net::address::{self, HostPort, is_numeric};
use crate::net::resolve::ResolveArgs;
use crate::net::services::Protocol;
use crate::output;
use crate::stderr::is_at_terminal;
use crate::wait::Deadline;

#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(
        help = "9999, 0.0.0.0:9999 or [::]:9999; a port alone is this machine",
        value_name = "ADDRESS:PORT"
    )]
    place: Option<String>,
    /// Listen on port N; 0 takes a free one
    #[arg(short, long, value_name = "N")]
    port: Option<String>,
    /// Listen on ADDRESS; `any` is all [default: 127.0.0.1]
    ///
    /// A name works too. May be repeated. With -6 the default is `::1`.
    #[arg(short, long, value_name = "ADDRESS", visible_alias = "host")]
    pub bind: Vec<String>,
    /// Print the port first on standard output
    #[arg(long)]
    print_port: bool,
    #[command(flatten)]
    pub resolve: ResolveArgs,
}

impl ListenArgs {
    /// What the options say, for a server of `protocol`. `runs_program`: `-e` may have taken the port.
    pub fn place(&self, protocol: Protocol, runs_program: bool) -> Result<Place, Failure> {
        let (host, port) = match (&self.place, &self.port) {
            (Some(place), Some(_)) => Err(format!("{place} names the port already: leave --port out")),
            (Some(place), None) => address::place(place, protocol),
            (None, Some(port)) => address::listen_port(port, protocol).map(|port| (None, port)),
            (None, None) if runs_program => Err(
                "which port? -e takes all that follows it; write netkit tcp-server 9999 -e /bin/cat"
                    .replace("tcp", protocol.name()),
            ),
            (None, None) => Err("which port? write --port 9999, or --port 0 for a free one".into()),
        }
        .map_err(Failure::usage)?;
        if let (Some(place), true, false) = (&self.place, host.is_some(), self.bind.is_empty()) {
            let message = format!("{place} names the address already: leave --bind out");
            return Err(Failure::usage(message));
        }
        Ok(Place {
            port,
            hosts: host.map_or_else(|| self.bind.clone(), |host| vec![host]),
            resolve: self.resolve.clone(),
            print_port: self.print_port,
        })
    }
}

/// Where a server listens.
pub struct Place {
    port: u16,
    /// Names and addresses; none are this machine.
    hosts: Vec<String>,
    resolve: ResolveArgs,
    print_port: bool,
}

/// An address to listen on, with port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub address: SocketAddr,
    /// The name that it belongs to, counted. Of a name those addresses are bound that this machine has.
    name: Option<usize>,
}

impl From<SocketAddr> for Candidate {
    /// An address that must be bound.
    fn from(address: SocketAddr) -> Self {
        let name = None;
        Self { address, name }
    }
}

impl Place {
    /// Whether an address is asked for.
    pub fn has_address(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Opens a socket for each of `candidates` by `open`. With port 0 all get the same free port.
    pub fn open<S: AsFd>(
        &self,
        candidates: &[Candidate],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, Failure> {
        /// A port that is free on one address may be taken on the next.
        const ROUNDS: u32 = 16;
        let mut more_rounds = 1..ROUNDS;
        loop {
            match self.open_all(candidates, &open) {
                Err((_, error))
                    if self.port == 0
                        && error.kind() == io::ErrorKind::AddrInUse
                        && more_rounds.next().is_some() => {}
                result => return result.map_err(|(address, error)| failure(address, &error)),
            }
        }
    }

    fn open_all<S: AsFd>(
        &self,
        candidates: &[Candidate],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, (SocketAddr, io::Error)> {
        let mut port = self.port;
        let mut sockets: Vec<S> = Vec::with_capacity(candidates.len());
        let mut bound_names = Vec::new();
        let mut missing = Vec::new();
        for &Candidate { mut address, name } in candidates {
            address.set_port(port);
            let opened = open(address).and_then(|socket| Ok((local(&socket)?.port(), socket)));
            match opened {
                Ok((bound, socket)) => {
                    port = bound;
                    sockets.push(socket);
                    bound_names.push(name);
                }
                // A machine without IPv6 may still have `::1 localhost` in /etc/hosts.
                Err(error) if name.is_some() && is_missing(&error) => {
                    missing.push((name, address, error));
                }
                Err(error) => return Err((address, error)),
            }
        }
        let mut missing = missing.into_iter();
        match missing.find(|(name, ..)| !bound_names.contains(name)) {
            Some((_, address, error)) => Err((address, error)),
            None => Ok(sockets),
        }
    }

    /// Tells on standard error, and with `--print-port` on standard output, where `sockets` are
    /// bound. `act` is what other hosts can do to them, in words. `like_netcat`: who types `-l` expects
    /// that they can.
    pub fn announce(
        &self,
        sockets: &[impl AsFd],
        act: &str,
        like_netcat: bool,
    ) -> Result<(), Failure> {
        let locals = sockets.iter().map(local).collect::<io::Result<Vec<_>>>()?;
        for address in &locals {
            tracing::info!(%address, "Listening on {address}");
        }
        if like_netcat && !self.has_address() && is_at_terminal() {
            tracing::info!("This machine only; -b any for all.");
        }
        let is_open = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
        if let Some(open) = locals.iter().find(is_open) {
            if open.ip().is_unspecified() {
                tracing::warn!(
                    "every host that can reach this machine can {act}: it listens on all its addresses"
                );
            } else {
                tracing::warn!("every host that can reach {} can {act}", open.ip());
            }
        }
        if self.print_port
            && let Some(address) = locals.first()
        {
            output::write_once(format!("{}\n", address.port()).as_bytes())?;
        }
        Ok(())
    }

    /// The addresses, each once. Blocks while names are resolved.
    pub fn candidates(&self) -> Result<Vec<Candidate>, Failure> {
        let of_wanted_family = |ipv4: Ipv4Addr, ipv6: Ipv6Addr| {
            let both = [IpAddr::from(ipv4), ipv6.into()].map(|ip| SocketAddr::new(ip, 0));
            both.into_iter()
                .filter(|address| self.resolve.allows(address))
        };
        if self.hosts.is_empty() {
            let loopback = of_wanted_family(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            return Ok(loopback.take(1).map(Candidate::from).collect());
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let bare = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
            let host = bare.unwrap_or(host);
            let found = if host == "any" {
                of_wanted_family(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED).collect()
            } else if host.is_empty() || host.parse::<HostPort>().is_ok() {
                return Err(Failure::usage(format!(
                    "could not listen on '{host}': it is not an address; the port belongs to -p"
                )));
            } else {
                self.resolve.resolve(host, 0, Deadline::NEVER)?
            };
            for address in found {
                let name = (!is_numeric(host)).then_some(index);
                match candidates.iter_mut().find(|known| known.address == address) {
                    Some(known) => known.name = known.name.or(name),
                    None => candidates.push(Candidate { address, name }),
                }
            }
        }
        Ok(candidates)
    }
}

fn local(socket: &impl AsFd) -> io::Result<SocketAddr> {
    Ok(getsockname(socket)?.try_into()?)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

fn failure(address: SocketAddr, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => " (another program uses the port; -p 0 takes a free one)",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            " (ports below 1024 are for root)"
        }
        io::ErrorKind::AddrNotAvailable => " (it is not an address of this machine)",
        _ => "",
    };
    Failure::local(format!(
        "could not listen on {address}: {}{advice}",
        cause(error)
    ))
}
