//! Where a server listens: its addresses, and how it tells that it is ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;

use crate::exit::{Exit, Failure, cause};
use crate::net::address::HostPort;
use crate::net::resolve::ResolveArgs;
use crate::output;
use crate::wait::Deadline;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenArgs {
    /// Listen on port N; 0 takes a free one
    #[arg(short, long, value_name = "N", value_parser = crate::net::address::listen_port)]
    pub port: u16,
    /// Listen on ADDRESS; `any` is all [default: 127.0.0.1]
    ///
    /// A name works too. May be repeated. With -6 the default is `::1`.
    #[arg(short, long, value_name = "ADDRESS", visible_alias = "host")]
    pub bind: Vec<String>,
    /// Print the port as the first line of standard output
    #[arg(long)]
    pub print_port: bool,
    #[command(flatten)]
    pub resolve: ResolveArgs,
}

/// A socket that can say where it is bound.
pub trait Bound {
    /// What others can do to it, in words.
    const ACT: &'static str;

    fn local(&self) -> io::Result<SocketAddr>;
}

impl Bound for std::net::TcpListener {
    const ACT: &'static str = "connect";

    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl<S: Bound> Bound for Arc<S> {
    const ACT: &'static str = S::ACT;

    fn local(&self) -> io::Result<SocketAddr> {
        (**self).local()
    }
}

impl ListenArgs {
    /// Opens a socket for each of `addresses` by `open`. With port 0 all get the same free port.
    pub fn open<S: Bound>(
        &self,
        addresses: &[SocketAddr],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, Failure> {
        /// A port that is free on one address may be taken on the next.
        const ROUNDS: usize = 16;
        let mut round = 1;
        loop {
            match self.open_all(addresses, &open) {
                Err((_, error))
                    if self.port == 0
                        && error.kind() == io::ErrorKind::AddrInUse
                        && round < ROUNDS =>
                {
                    round += 1;
                }
                Err((address, error)) => return Err(failure(address, &error)),
                Ok(sockets) => return Ok(sockets),
            }
        }
    }

    fn open_all<S: Bound>(
        &self,
        addresses: &[SocketAddr],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, (SocketAddr, io::Error)> {
        let mut port = self.port;
        let mut sockets: Vec<S> = Vec::with_capacity(addresses.len());
        for mut address in addresses.iter().copied() {
            address.set_port(port);
            match open(address) {
                Ok(socket) => {
                    port = socket.local().map_err(|error| (address, error))?.port();
                    sockets.push(socket);
                }
                // `any` on a machine without IPv6 is IPv4.
                Err(error)
                    if !sockets.is_empty()
                        && address.ip().is_unspecified()
                        && is_no_family(&error) => {}
                Err(error) => return Err((address, error)),
            }
        }
        Ok(sockets)
    }

    /// Says on standard error, and on standard output if asked to, where the server can be reached.
    pub fn announce<S: Bound>(&self, sockets: &[S]) -> Result<(), Failure> {
        let locals = sockets
            .iter()
            .map(Bound::local)
            .collect::<io::Result<Vec<_>>>()?;
        for address in &locals {
            tracing::info!(%address, "Listening on {address}");
        }
        if let Some(open) = locals
            .iter()
            .find(|address| !address.ip().to_canonical().is_loopback())
        {
            let act = S::ACT;
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

    /// The addresses of `--bind`, save for the port.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let ipv4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let ip: IpAddr = if self.resolve.allows(&ipv4) {
            ipv4.ip()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        let default = [ip.to_string()];
        let hosts = if self.bind.is_empty() {
            &default[..]
        } else {
            &self.bind
        };
        let mut addresses = Vec::new();
        for host in hosts {
            let found = if host == "any" {
                let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
                let all = all.map(|ip| SocketAddr::new(ip, 0));
                all.into_iter()
                    .filter(|address| self.resolve.allows(address))
                    .collect()
            } else {
                let host = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'))
                    .unwrap_or(host);
                if host.is_empty() || host.parse::<HostPort>().is_ok() {
                    let message = format!(
                        "could not listen on '{host}': it is not an address; the port belongs to -p"
                    );
                    return Err(Failure::local(message));
                }
                self.resolve.resolve(host, 0, Deadline::NEVER)?
            };
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Ok(addresses)
    }
}

fn is_no_family(error: &io::Error) -> bool {
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
    Failure::new(
        Exit::Local,
        format!("could not listen on {address}: {}{advice}", cause(error)),
    )
}
