//! Where a server listens, and how it tells that it is ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::getsockname;

use crate::exit::{Failure, cause};
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

impl ListenArgs {
    /// Opens a socket for each of `addresses` by `open`. With port 0 all get the same free port.
    pub fn open<S: AsFd>(
        &self,
        addresses: &[SocketAddr],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, Failure> {
        /// A port that is free on one address may be taken on the next.
        const ROUNDS: u32 = 16;
        let mut more_rounds = 1..ROUNDS;
        loop {
            match self.open_all(addresses, &open) {
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
        addresses: &[SocketAddr],
        open: impl Fn(SocketAddr) -> io::Result<S>,
    ) -> Result<Vec<S>, (SocketAddr, io::Error)> {
        let mut port = self.port;
        let mut sockets: Vec<S> = Vec::with_capacity(addresses.len());
        for mut address in addresses.iter().copied() {
            address.set_port(port);
            let opened = open(address).and_then(|socket| Ok((local(&socket)?.port(), socket)));
            match opened {
                Ok((bound, socket)) => {
                    port = bound;
                    sockets.push(socket);
                }
                // A machine without IPv6: `any` is IPv4 alone.
                Err(error)
                    if !sockets.is_empty()
                        && address.ip().is_unspecified()
                        && is_no_family(&error) => {}
                Err(error) => return Err((address, error)),
            }
        }
        Ok(sockets)
    }

    /// Tells on standard error, and with `--print-port` on standard output, where `sockets` are
    /// bound. `act` is what other hosts can do to them, in words.
    pub fn announce(&self, sockets: &[impl AsFd], act: &str) -> Result<(), Failure> {
        let locals = sockets.iter().map(local).collect::<io::Result<Vec<_>>>()?;
        for address in &locals {
            tracing::info!(%address, "Listening on {address}");
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

    /// The addresses of `--bind`, each once and with port 0.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let of_wanted_family = |ipv4: Ipv4Addr, ipv6: Ipv6Addr| {
            let both = [IpAddr::from(ipv4), ipv6.into()].map(|ip| SocketAddr::new(ip, 0));
            both.into_iter()
                .filter(|address| self.resolve.allows(address))
        };
        if self.bind.is_empty() {
            let loopback = of_wanted_family(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            return Ok(loopback.take(1).collect());
        }
        let mut addresses = Vec::new();
        for host in &self.bind {
            let found = if host == "any" {
                of_wanted_family(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED).collect()
            } else {
                let bare = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                let host = bare.unwrap_or(host);
                if host.is_empty() || host.parse::<HostPort>().is_ok() {
                    return Err(Failure::local(format!(
                        "could not listen on '{host}': it is not an address; the port belongs to -p"
                    )));
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

fn local(socket: &impl AsFd) -> io::Result<SocketAddr> {
    Ok(getsockname(socket)?.try_into()?)
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
    Failure::local(format!(
        "could not listen on {address}: {}{advice}",
        cause(error)
    ))
}
