//! Relays a connection to another server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::exit::{Failure, blame};
use crate::net::peer::Endpoint;
use crate::net::socket::is_local;
use crate::net::stream::Stream;
use crate::net::target::Address;
use crate::proxy::{Dialer, HeaderArgs};
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Fault, WhenClosed};
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::tls::{Connector, Session};
use crate::wait::Deadline;

/// How long a target may take to end after both directions have.
const END: Duration = Duration::from_millis(500);

/// Where connections are forwarded to.
pub struct Forward {
    pub target: Address,
    pub way: Way,
}

/// How a target is reached.
pub struct Way {
    pub dialer: Dialer,
    pub header: HeaderArgs,
    /// What encrypts the way to the target, with `--forward-tls`.
    pub tls: Option<Connector>,
    /// The addresses of this server. A connection to one of them would be forwarded again, and again.
    pub listeners: Vec<Endpoint>,
    /// How bytes pass.
    pub rules: Rules,
}

impl Forward {
    /// Connects to the target and joins the two, each direction to its own end. A failure on one side
    /// resets both.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        let limit = connection.limit();
        let failed = |failure| {
            let limit = connection.check(limit);
            limit.err().unwrap_or(Ended::Local(failure))
        };
        let connect_limit = self.way.dialer.args.limit(limit);
        let (target, name) = self.connect(connect_limit).map_err(failed)?;
        let header = self
            .way
            .header
            .send(&target, || connection.named_ends(), &name);
        header.map_err(failed)?;
        let target = Arc::new(target);
        let session = self.encrypt(Arc::clone(&target), name, connect_limit);
        let session = session.map_err(failed)?;
        let mut local = match &session {
            Some(session) => Duplex::of_session(Rc::clone(session)),
            None => Duplex::of_socket(target).map_err(Ended::Failed)?,
        };
        // The client still gets what the target sent before it went away.
        local.writer.when_closed = WhenClosed::FailsAtTheEnd;
        let remote = connection.duplex()?;
        let rules = self.way.rules.clone();
        connection.relay(local, remote, rules, |fault| match fault {
            Fault::Read(error) => self.failure("read", error),
            Fault::Write(error) => self.failure("write", error),
            Fault::Tap(failure) => failure.clone(),
        })?;
        if let Some(session) = session {
            session.close(Deadline::after(END), usize::MAX);
        }
        Ok(())
    }

    /// Shakes hands with the target. `None`: there is no TLS.
    fn encrypt(
        &self,
        target: Arc<Stream>,
        name: String,
        limit: Deadline,
    ) -> Result<Option<Rc<Session>>, Failure> {
        let Some(tls) = &self.way.tls else {
            return Ok(None);
        };
        let session = tls.shake_hands(target as _, self.target.host(), name, limit)?;
        Ok(Some(Rc::new(session)))
    }

    fn failure(&self, act: &str, error: &io::Error) -> Failure {
        let sentence = format!("could not {act} {}", self.target);
        Failure::of(blame(error), sentence, error)
    }

    fn connect(&self, limit: Deadline) -> Result<(Stream, String), Failure> {
        let mut route = self.way.dialer.route(&self.target, limit)?;
        route.addresses.retain(|address| !self.is_own(address));
        if route.addresses.is_empty() {
            let sentence = format!(
                "could not connect to {}: this server listens there",
                self.target
            );
            return Err(Failure::local(sentence));
        }
        let connected = self.way.dialer.connect_by(route, &self.target, limit)?;
        if let Some(error) = &connected.reset {
            return Err(self.failure("read", error));
        }
        let name = connected.name(&self.target);
        Ok((connected.stream, name))
    }

    fn is_own(&self, endpoint: &Endpoint) -> bool {
        self.way
            .listeners
            .iter()
            .any(|listener| match (listener, endpoint) {
                (Endpoint::Inet(listener), Endpoint::Inet(address)) => takes(*listener, *address),
                (Endpoint::Unix(listener), Endpoint::Unix(name)) => listener.is_same_as(name),
                _ => false,
            })
    }
}

/// Whether `listener` takes connections to `address`.
fn takes(listener: SocketAddr, address: SocketAddr) -> bool {
    let ip = match address.ip().to_canonical() {
        // Both reach this machine.
        ip if ip.is_unspecified() && ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let takes_any = listener.ip().is_unspecified() && listener.is_ipv4() == ip.is_ipv4();
    listener.port() == address.port()
        && (listener.ip() == ip || takes_any && is_local(SocketAddr::new(ip, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_server_is_known_in_all_its_forms() {
        let takes = |listener: &str, address: &str| {
            takes(listener.parse().unwrap(), address.parse().unwrap())
        };
        for (listener, own, other) in [
            ("127.0.0.1:9", "127.0.0.1:9", "127.0.0.1:8"),
            ("127.0.0.1:9", "0.0.0.0:9", "127.0.0.2:9"),
            ("127.0.0.1:9", "[::ffff:127.0.0.1]:9", "[::1]:9"),
            ("0.0.0.0:9", "127.0.0.2:9", "192.0.2.1:9"),
            ("[::1]:9", "[::]:9", "127.0.0.1:9"),
        ] {
            assert!(takes(listener, own), "{listener} {own}");
            assert!(!takes(listener, other), "{listener} {other}");
        }
    }
}
