//! The way to a UDP target: its addresses, and sockets connected to one of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::address::HostPort;
use crate::exit::{Exit, Failure, cause};
use crate::resolve::{ResolveArgs, TimeLimit};
use crate::socket::{self, SocketArgs, SourceArgs};

pub struct Route<'a> {
    pub target: &'a HostPort,
    /// Never none.
    pub addresses: Vec<SocketAddr>,
    pub source: &'a SourceArgs,
    options: &'a SocketArgs,
}

impl<'a> Route<'a> {
    /// Resolves `target` within `limit`; opens nothing yet.
    pub fn new(
        target: &'a HostPort,
        resolve: &ResolveArgs,
        source: &'a SourceArgs,
        options: &'a SocketArgs,
        limit: Option<TimeLimit>,
    ) -> anyhow::Result<Self> {
        let mut addresses = resolve.resolve(&target.host, target.port, limit)?;
        addresses.retain(|address| source.suits(address));
        if addresses.is_empty() {
            let message =
                format!("could not send to {target}: it has no address of the family of --source");
            return Err(Failure::new(Exit::Local, message).into());
        }
        Ok(Self {
            target,
            addresses,
            source,
            options,
        })
    }

    /// A socket that is connected to `address` and does not block.
    pub fn open(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = socket::udp_client(&address, self.source, self.options)?;
        let local = socket.local_addr()?;
        tracing::debug!(%address, %local, "sending to {address} from {local}");
        Ok(socket)
    }

    /// The target as typed, and an address of it where that is another text.
    pub fn name(&self, address: SocketAddr) -> String {
        let typed = self.target.to_string();
        let resolved = address.to_string();
        if typed == resolved {
            typed
        } else {
            format!("{typed} ({resolved})")
        }
    }

    /// Why nothing can be sent to `address`.
    pub fn failure(&self, exit: Exit, address: SocketAddr, error: &io::Error) -> Failure {
        let name = self.name(address);
        Failure::new(exit, format!("could not send to {name}: {}", cause(error)))
    }
}
