//! How a client connects: its time limit, its retries, the addresses that it may use.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::exit::Failure;
use crate::net::address::HostPort;
use crate::net::follow::Follower;
use crate::net::options::{SourceArgs, TcpSocketArgs};
use crate::net::peer::Endpoint;
use crate::net::resolve::ResolveArgs;
use crate::net::target::Address;
use crate::units::{number, positive_duration};
use crate::wait::Deadline;

#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// Give up connecting after TIME [default: 10s]
    ///
    /// In a ping this is --deadline.
    #[arg(short = 'w', value_name = "TIME", value_parser = positive_duration, conflicts_with = "connect_timeout")]
    pub limit: Option<Duration>,
    /// The long name of -w, but not in a ping
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    connect_timeout: Option<Duration>,
    #[command(flatten)]
    pub resolve: ResolveArgs,
    /// Retry a failed connection up to N times [default: 0]
    ///
    /// A terminal shows after 2 s which attempt is under way, and why the last one failed.
    #[arg(long, value_name = "N", value_parser = number::<u32>(0..=u32::MAX.into()))]
    retry: Option<u32>,
    /// Wait TIME before trying again [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = crate::units::duration)]
    retry_delay: Option<Duration>,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    pub(super) socket: TcpSocketArgs,
    /// Each failed attempt that is repeated is told.
    #[arg(skip)]
    pub is_verbose: bool,
}

impl ConnectArgs {
    /// The defaults, with these options for resolving.
    pub fn new(resolve: ResolveArgs) -> Self {
        Self {
            limit: None,
            connect_timeout: None,
            resolve,
            retry: None,
            retry_delay: None,
            source: SourceArgs::default(),
            socket: TcpSocketArgs::default(),
            is_verbose: false,
        }
    }

    /// What follows `target` to a new address.
    pub fn follower<'a>(&'a self, target: &'a HostPort) -> Follower<'a> {
        Follower::new(target, &self.resolve, &self.source)
    }

    /// How often a connection is tried, at most.
    pub fn attempts(&self) -> u32 {
        self.retry.unwrap_or(0).saturating_add(1)
    }

    /// The time between two attempts.
    pub fn delay(&self) -> Duration {
        self.retry_delay.unwrap_or(Duration::from_secs(1))
    }

    /// The time limit of one attempt that begins now.
    pub fn limit(&self, deadline: Deadline) -> Deadline {
        self.limit_since(Instant::now(), deadline)
    }

    /// The time limit of an attempt that began at `start`.
    pub fn limit_since(&self, start: Instant, deadline: Deadline) -> Deadline {
        const DEFAULT: Duration = Duration::from_secs(10);
        let given = self.connect_timeout.or(self.limit);
        Deadline::since(start, given.unwrap_or(DEFAULT)).min(deadline)
    }

    /// Resolves `target`: its addresses that these options can connect to, at least one.
    pub fn addresses(&self, target: &Address, limit: Deadline) -> Result<Vec<Endpoint>, Failure> {
        match target {
            Address::Inet(target) => {
                let addresses = self.inet_addresses(target, limit)?;
                Ok(addresses.into_iter().map(Endpoint::Inet).collect())
            }
            Address::Unix(name) => Ok(vec![Endpoint::Unix(name.clone())]),
        }
    }

    /// As [`Self::addresses`].
    pub fn inet_addresses(
        &self,
        target: &HostPort,
        limit: Deadline,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = self.resolve.resolve(&target.host, target.port, limit)?;
        addresses.retain(|address| self.source.suits(address));
        if addresses.is_empty() {
            let message = format!(
                "could not connect to {target}: it has no address of the family of --source"
            );
            return Err(Failure::local(message));
        }
        Ok(addresses)
    }
}
