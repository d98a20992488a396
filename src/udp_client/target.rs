//! The target of a UDP client: its addresses, and sockets towards them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::exit::{Exit, Failure, blame, cause};
use crate::net::address::HostPort;
use crate::net::follow::Follower;
use crate::net::multicast::GroupArgs;
use crate::net::options::{SocketArgs, SourceArgs};
use crate::net::resolve::ResolveArgs;
use crate::net::socket;
use crate::tap::{DatagramTap, TapArgs};
use crate::udp_client::socket::ClientSocket;
use crate::units::told;
use crate::wait::Deadline;

/// How a UDP client reaches its target.
#[derive(clap::Args)]
pub struct TargetArgs {
    #[command(flatten)]
    pub tap: TapArgs,
    #[command(flatten)]
    resolve: ResolveArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    group: GroupArgs,
}

impl TargetArgs {
    /// Opens the files of `-x` and `--record`. At `limit` nothing waits for them any more. Call it after
    /// all checks: a command that cannot run must not empty the files of an earlier one.
    pub fn watch(&self, limit: Deadline) -> Result<Rc<DatagramTap>, Failure> {
        let taps = self.tap.open()?;
        Ok(Rc::new(DatagramTap::new(taps.as_ref(), limit)))
    }

    /// Resolves `typed` by `limit`.
    pub fn addresses(&self, typed: &HostPort, limit: Deadline) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = self.resolve.resolve(&typed.host, typed.port, limit)?;
        addresses.retain(|address| self.source.suits(address));
        if addresses.is_empty() {
            let message =
                format!("could not send to {typed}: it has no address of the family of --source");
            return Err(Failure::local(message));
        }
        Ok(addresses)
    }
}

pub struct Target<'a> {
    /// As the user typed it.
    pub typed: &'a HostPort,
    /// Never empty.
    pub addresses: Vec<SocketAddr>,
    /// Records all datagrams.
    pub watch: Rc<DatagramTap>,
    args: &'a TargetArgs,
}

impl<'a> Target<'a> {
    /// Resolves `typed` by `limit`. Opens no socket, and records nothing until [`Self::record`].
    pub fn new(
        typed: &'a HostPort,
        args: &'a TargetArgs,
        limit: Deadline,
    ) -> Result<Self, Failure> {
        let addresses = args.addresses(typed, limit)?;
        let watch = Rc::new(DatagramTap::new(None, limit));
        Ok(Self::of(typed, addresses, watch, args))
    }

    /// A target with these `addresses`, at least one.
    pub fn of(
        typed: &'a HostPort,
        addresses: Vec<SocketAddr>,
        watch: Rc<DatagramTap>,
        args: &'a TargetArgs,
    ) -> Self {
        Self {
            typed,
            addresses,
            watch,
            args,
        }
    }

    /// See [`TargetArgs::watch`].
    pub fn record(&mut self, limit: Deadline) -> Result<(), Failure> {
        self.watch = self.args.watch(limit)?;
        Ok(())
    }

    /// Opens a socket towards `address`.
    pub fn open(&self, address: SocketAddr) -> io::Result<ClientSocket> {
        let TargetArgs {
            source,
            socket,
            group,
            ..
        } = self.args;
        let socket = socket::udp_client(&address, source, socket, group).map_err(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied || group.is_group(&address) {
                return error;
            }
            let message = format!("{} (a broadcast address takes --broadcast)", cause(&error));
            io::Error::new(error.kind(), message)
        })?;
        let mut local = socket.local_addr()?;
        if local.ip().is_unspecified()
            && let Some(ip) = socket::source_towards(address)
        {
            local.set_ip(ip);
        }
        tracing::debug!(%address, %local, "sending to {address} from {local}");
        Ok(ClientSocket {
            socket,
            address,
            local,
            is_group: group.is_group(&address),
            watch: Rc::clone(&self.watch),
        })
    }

    /// What follows the target to a new address.
    pub fn follower(&self) -> Follower<'a> {
        Follower::new(self.typed, &self.args.resolve, &self.args.source)
    }

    /// Whether several members of a group may answer one datagram.
    pub fn is_group(&self) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|address| self.args.group.is_group(address))
    }

    /// Whether the user has named the port to send from.
    pub fn has_source_port(&self) -> bool {
        self.args.source.source_port.is_some()
    }

    /// "typed (resolved)".
    pub fn name(&self, address: SocketAddr) -> String {
        self.typed.at(address).to_string()
    }

    /// Says that `--deadline`, which is `limit`, has passed.
    pub fn gave_up(&self, address: SocketAddr, limit: Deadline) -> Failure {
        let (name, time) = (self.name(address), limit.length());
        let message = format!("gave up on {name} after {} (--deadline)", told(time));
        Failure::new(Exit::Timeout, message)
    }

    /// Says why nothing can be sent to `address`.
    pub fn failure(&self, address: SocketAddr, error: &io::Error) -> Failure {
        let sentence = format!("could not send to {}", self.typed.at(address));
        Failure::of(blame(error), sentence, error)
    }
}
