//! Where a server listens, and how it tells that it is ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::getsockname;

use crate::exit::{Failure, cause};
use crate::net::address::{self, HostPort, is_numeric};
use crate::net::peer::Endpoint;
use crate::net::resolve::ResolveArgs;
use crate::net::services::Protocol;
use crate::net::target::Address;
use crate::net::unix::UnixName;
use crate::output;
use crate::server::systemd::Passed;
use crate::terminal::is_at_terminal;
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
    /// A name works too. May be repeated. With -6 the default is `::1`. A TCP server listens on a Unix
    /// socket too: unix:PATH, or unix:@NAME for an abstract name of Linux. `systemd` takes the sockets
    /// that systemd passes.
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
        if self.is_systemd() {
            if self.bind.len() > 1 || self.place.is_some() || self.port.is_some() {
                let message =
                    "--bind systemd takes the places from systemd: name no other, and no port";
                return Err(Failure::usage(message));
            }
            return Ok(Place {
                port: None,
                hosts: Vec::new(),
                unix: Vec::new(),
                passed: Some(Passed::take()?),
                resolve: self.resolve.clone(),
                print_port: self.print_port,
            });
        }
        let mut hosts = self.bind.clone();
        let mut port = None;
        if let Some(operand) = self.unix_operand() {
            if self.port.is_some() || !hosts.is_empty() {
                let message = format!("{operand} is the address: leave --port and --bind out");
                return Err(Failure::usage(message));
            }
            hosts.push(operand.to_owned());
        } else if !self.is_unix_only() {
            let (host, number) = self.host_and_port(protocol, runs_program)?;
            hosts.extend(host);
            port = Some(number);
        } else if let Some(port) = self.place.as_ref().or(self.port.as_ref()) {
            let message = format!(
                "port {port} does nothing with a Unix socket alone; --bind ADDRESS adds one of TCP"
            );
            return Err(Failure::usage(message));
        }
        let (unix, hosts): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| is_unix(host));
        let unix = unix.iter().map(|word| {
            match Address::take_from(std::slice::from_ref(word), protocol)? {
                (Address::Unix(name), _) => Ok(name),
                (Address::Inet(address), _) => Err(format!("{address} is not a Unix socket")),
            }
        });
        Ok(Place {
            port,
            hosts,
            unix: unix.collect::<Result<_, _>>().map_err(Failure::usage)?,
            passed: None,
            resolve: self.resolve.clone(),
            print_port: self.print_port,
        })
    }

    /// Whether it listens on what systemd passes.
    pub fn is_systemd(&self) -> bool {
        self.bind.iter().any(|host| host == "systemd")
    }

    /// Whether it listens on Unix sockets, and nowhere else.
    pub fn is_unix_only(&self) -> bool {
        let mut hosts = self.bind.iter();
        let all_are = !self.bind.is_empty() && hosts.all(|host| is_unix(host));
        self.unix_operand().is_some() || all_are
    }

    /// Whether one of the places is a Unix socket with a file.
    pub fn has_unix_file(&self) -> bool {
        let mut words = self
            .bind
            .iter()
            .map(String::as_str)
            .chain(self.unix_operand());
        words.any(|word| matches!(UnixName::read(word), Some(Ok(UnixName::Path(_)))))
    }

    fn unix_operand(&self) -> Option<&str> {
        self.place.as_deref().filter(|place| is_unix(place))
    }

    fn host_and_port(
        &self,
        protocol: Protocol,
        runs_program: bool,
    ) -> Result<(Option<String>, u16), Failure> {
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
        Ok((host, port))
    }
}

fn is_unix(word: &str) -> bool {
    UnixName::read(word).is_some()
}

/// Where a server listens.
pub struct Place {
    /// `None`: on no address of IP.
    port: Option<u16>,
    /// Names and addresses; none are this machine.
    hosts: Vec<String>,
    pub unix: Vec<UnixName>,
    /// What systemd has passed. Then it listens nowhere else.
    pub passed: Option<Passed>,
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
                    if self.port == Some(0)
                        && error.kind() == io::ErrorKind::AddrInUse
                        && more_rounds.next().is_some() => {}
                result => {
                    return result.map_err(|(address, error)| failure(address, &error, candidates));
                }
            }
        }
    }

    fn open_all<S: AsFd>(
        &self,
        candidates: &[Candidate],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, (SocketAddr, io::Error)> {
        let mut port = self.port.unwrap_or_default();
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

    /// Tells on standard error, and with `--print-port` on standard output, where a server listens:
    /// at `endpoints`. `act` is what others can do to it, in words. `like_netcat`: who types `-l`
    /// expects that other hosts can.
    pub fn announce(
        &self,
        endpoints: &[Endpoint],
        act: &str,
        like_netcat: bool,
    ) -> Result<(), Failure> {
        for address in endpoints {
            tracing::info!(%address, "Listening on {address}");
        }
        let inet: Vec<SocketAddr> = endpoints.iter().filter_map(Endpoint::inet).collect();
        if like_netcat && !self.has_address() && !inet.is_empty() && is_at_terminal() {
            tracing::info!("This machine only; -b any for all.");
        }
        let is_open = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
        if let Some(open) = inet.iter().find(is_open) {
            if open.ip().is_unspecified() {
                tracing::warn!(
                    "every host that can reach this machine can {act}: it listens on all its addresses"
                );
            } else {
                tracing::warn!("every host that can reach {} can {act}", open.ip());
            }
        }
        for endpoint in endpoints {
            if let Endpoint::Unix(name @ UnixName::Abstract(_)) = endpoint {
                tracing::warn!("every user of this machine can {act}: {name} has no file mode");
            }
        }
        if self.print_port
            && let Some(address) = inet.first()
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
        if self.port.is_none() {
            return Ok(Vec::new());
        }
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

/// Says why no socket could be opened at `name`.
pub fn unix_failure(name: &UnixName, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there)",
        _ => "",
    };
    let cause = cause(error);
    Failure::local(format!("could not listen on {name}: {cause}{advice}"))
}

/// Says why one of `candidates`, `address`, could not be bound.
fn failure(address: SocketAddr, error: &io::Error, candidates: &[Candidate]) -> Failure {
    let ip = address.ip();
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(earlier) = overlapping(ip, candidates)
    {
        let all = if ip.is_unspecified() { ip } else { earlier };
        return Failure::usage(format!(
            "could not listen on {earlier} and on {ip}: {all} is all addresses"
        ));
    }
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

/// The address before `ip` that excludes it: one of the two is all addresses of the family.
fn overlapping(ip: IpAddr, candidates: &[Candidate]) -> Option<IpAddr> {
    let ips = candidates.iter().map(|candidate| candidate.address.ip());
    let mut earlier = ips.take_while(|known| *known != ip);
    earlier.find(|known| {
        known.is_ipv4() == ip.is_ipv4() && (known.is_unspecified() || ip.is_unspecified())
    })
}
