//! The open connections of a server: counted, limited, and cut off at the end.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::admission::Rejected;
use super::connection::ACKNOWLEDGEMENT;
use crate::net::stream::Stream;
use crate::server::host::{host, is_loopback, share};
use crate::wait::{Deadline, Waker, lock};

/// A closing connection is not open, but has a thread. At least this many may be closing at a time.
const MOST_LEAVING: usize = 64;

/// The open connections and the permits. The server ends after the last permit.
pub struct Connections {
    most: u32,
    /// `None`: a host's share of `most`, except on loopback.
    most_per_host: Option<u32>,
    state: Mutex<State>,
    /// Wakes the main thread.
    pub waker: Waker,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Arc<Stream>>,
    open_per_host: BTreeMap<IpAddr, u32>,
    /// How many permits live.
    permits: usize,
    last_number: u64,
    /// No more connections are added.
    is_closed: bool,
    is_cut_off: bool,
}

/// Permission to serve a connection. The connection counts as open until [`Self::release`] or the
/// drop of this. The server does not end before the drop.
pub struct Permit {
    connections: Arc<Connections>,
    /// The first connection of a server is 1.
    pub number: u64,
    /// `None`: it is on a Unix socket.
    host: Option<IpAddr>,
}

impl Connections {
    /// `most` connections may be open at once, and `most_per_host` of one host. By default that is three
    /// quarters, and all on loopback.
    pub fn new(most: u32, most_per_host: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            most,
            most_per_host,
            state: Mutex::default(),
            waker: Waker::new()?,
        })
    }

    /// Counts a connection as open, unless too many are, in all or from the host of `ip`.
    pub fn add(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        ip: Option<IpAddr>,
    ) -> Result<Permit, Rejected> {
        let mut state = lock(&self.state);
        let most = self.most as usize;
        if state.open.len() >= most || state.permits >= most + most.max(MOST_LEAVING) {
            return Err(Rejected::Full(self.most));
        }
        let host = ip.map(|ip| self.add_to_host(&mut state, ip)).transpose()?;
        state.last_number += 1;
        let number = state.last_number;
        state.open.insert(number, Arc::clone(stream));
        state.permits += 1;
        Ok(Permit {
            connections: Arc::clone(self),
            number,
            host,
        })
    }

    /// Counts a connection from `ip`, unless too many are open from its host, which this returns.
    fn add_to_host(&self, state: &mut State, ip: IpAddr) -> Result<IpAddr, Rejected> {
        let host = host(ip);
        let default = || (!is_loopback(ip)).then(|| share(self.most));
        let open = state.open_per_host.entry(host).or_default();
        match self.most_per_host.or_else(default) {
            Some(most) if *open >= most => return Err(Rejected::FullForHost(most)),
            _ => *open += 1,
        }
        Ok(host)
    }

    /// No more connections are added from now on. Returns how many are open.
    pub fn close(&self) -> usize {
        let mut state = lock(&self.state);
        state.is_closed = true;
        self.waker.wake();
        state.open.len()
    }

    /// Whether a connection has ever been added.
    pub fn have_begun(&self) -> bool {
        lock(&self.state).last_number > 0
    }

    /// Whether no more are added, and all permits are dropped: every end has been logged.
    pub fn have_ended(&self) -> bool {
        let state = lock(&self.state);
        state.is_closed && state.permits == 0
    }

    /// Resets the open connections, so that their threads fail. Blocks as [`await_acknowledgements`]
    /// does. Returns how many they are.
    pub fn cut_off(&self) -> usize {
        let open: Vec<_> = {
            let mut state = lock(&self.state);
            state.is_cut_off = true;
            state.open.values().cloned().collect()
        };
        await_acknowledgements(&open);
        for stream in &open {
            stream.reset();
        }
        open.len()
    }

    /// The end of the process resets the open connections from now on. Their threads see nothing of
    /// this. Blocks as [`await_acknowledgements`] does.
    pub fn reset_at_exit(&self) {
        let open: Vec<_> = lock(&self.state).open.values().cloned().collect();
        await_acknowledgements(&open);
        for stream in &open {
            stream.reset_on_close();
        }
    }
}

/// Blocks until each peer has acknowledged what was sent to it, for [`ACKNOWLEDGEMENT`] at most.
fn await_acknowledgements(open: &[Arc<Stream>]) {
    let limit = Deadline::after(ACKNOWLEDGEMENT);
    for stream in open {
        let _ = stream.await_acknowledgement(limit);
    }
}

impl Permit {
    /// Counts the connection for the host of `ip`, unless too many are open from there.
    pub fn claim(&mut self, ip: IpAddr) -> Result<(), Rejected> {
        let connections = Arc::clone(&self.connections);
        let mut state = lock(&connections.state);
        // One that was cut off is not open.
        if state.open.contains_key(&self.number) {
            self.host = Some(connections.add_to_host(&mut state, ip)?);
        }
        Ok(())
    }

    /// Gives the place to another connection. Returns whether this one was cut off. If it was not, it
    /// is not cut off later either: the caller closes it.
    pub fn release(&self) -> bool {
        let mut state = lock(&self.connections.state);
        if state.open.remove(&self.number).is_some()
            && let Some(host) = self.host
            && let Some(open) = state.open_per_host.get_mut(&host)
        {
            *open -= 1;
            if *open == 0 {
                state.open_per_host.remove(&host);
            }
        }
        state.is_cut_off
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
        let mut state = lock(&self.connections.state);
        state.permits -= 1;
        if state.is_closed {
            self.connections.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    use crate::net::listener::Listener;
    use crate::net::options::TcpSocketArgs;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn connections(most: u32, most_per_host: Option<u32>) -> Arc<Connections> {
        Arc::new(Connections::new(most, most_per_host).unwrap())
    }

    /// A stream and the client at its other end.
    fn stream() -> (Arc<Stream>, TcpStream) {
        let listener = Listener::tcp((IP, 0).into(), 1, &TcpSocketArgs::default()).unwrap();
        let address = listener.endpoint().unwrap().inet().unwrap();
        let client = TcpStream::connect(address).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn a_released_place_is_for_the_next_connection() {
        let connections = connections(1, Some(1));
        let (stream, _client) = stream();
        let first = connections.add(&stream, Some(IP)).unwrap();
        let rejected = connections.add(&stream, Some(IP)).err();
        assert_eq!(rejected, Some(Rejected::Full(1)));
        assert!(!first.release());
        let second = connections.add(&stream, Some(IP)).unwrap();
        // To release it twice, as the drop does, frees no other place.
        drop(first);
        assert!(connections.add(&stream, Some(IP)).is_err());
        assert_eq!((second.number, connections.close()), (2, 1));
    }

    #[test]
    fn each_host_has_its_own_limit() {
        let connections = connections(9, Some(2));
        let (stream, _client) = stream();
        let [one, other] = [IP, Ipv4Addr::new(127, 0, 0, 2).into()];
        let permits: Vec<_> = [one, one, other]
            .map(|ip| connections.add(&stream, Some(ip)).unwrap())
            .into();
        let rejected = connections.add(&stream, Some(one)).err();
        assert_eq!(rejected, Some(Rejected::FullForHost(2)));
        assert!(connections.add(&stream, Some(other)).is_ok());
        drop(permits);
        assert!(connections.add(&stream, Some(one)).is_ok());
        assert_eq!(lock(&connections.state).open_per_host.len(), 0);
    }

    #[test]
    fn one_host_may_take_three_quarters_unless_it_is_this_machine() {
        let (stream, _client) = stream();
        let taken = |most, given, address: &str| {
            let connections = connections(most, given);
            let ip = address.parse().unwrap();
            let permits: Vec<_> = (0..10)
                .filter_map(|_| connections.add(&stream, Some(ip)).ok())
                .collect();
            permits.len()
        };
        assert_eq!(taken(8, None, "192.0.2.1"), 6);
        assert_eq!(taken(8, None, "2001:db8::1"), 6);
        assert_eq!(taken(1, None, "192.0.2.1"), 1);
        assert_eq!(taken(8, Some(8), "192.0.2.1"), 8);
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(taken(8, None, loopback), 8);
            assert_eq!(taken(8, Some(2), loopback), 2);
        }
    }

    #[test]
    fn a_network_of_64_bits_is_one_host() {
        let connections = connections(4, None);
        let (stream, _client) = stream();
        let add = |ip: &str| connections.add(&stream, Some(ip.parse().unwrap()));
        let permits: Vec<_> = (1..4)
            .map(|number| add(&format!("2001:db8::{number}")).unwrap())
            .collect();
        assert_eq!(add("2001:db8::4").err(), Some(Rejected::FullForHost(3)));
        assert!(add("2001:db8:0:1::4").is_ok());
        drop(permits);
    }

    #[test]
    fn connections_that_take_leave_are_bounded_too() {
        let connections = connections(1, None);
        let (stream, _client) = stream();
        let mut leaving = Vec::new();
        for _ in 0..=MOST_LEAVING {
            let permit = connections.add(&stream, Some(IP)).unwrap();
            permit.release();
            leaving.push(permit);
        }
        let rejected = connections.add(&stream, Some(IP)).err();
        assert_eq!(rejected, Some(Rejected::Full(1)));
        leaving.pop();
        assert!(connections.add(&stream, Some(IP)).is_ok());
    }

    #[test]
    fn they_have_ended_once_no_more_come_and_every_permit_is_dropped() {
        let connections = connections(1, None);
        let (stream, _client) = stream();
        let permit = connections.add(&stream, Some(IP)).unwrap();
        assert_eq!(connections.close(), 1);
        assert!(connections.waker.clear());
        permit.release();
        assert!(!connections.have_ended());
        drop(permit);
        assert!(connections.have_ended());
        assert!(connections.waker.clear());
    }

    #[test]
    fn they_have_not_ended_while_more_may_come() {
        assert!(!connections(1, None).have_ended());
    }

    #[test]
    fn only_open_connections_are_cut_off() {
        let connections = connections(2, None);
        let [(open, open_client), (released, released_client)] = [stream(), stream()];
        let permits = [&open, &released].map(|stream| connections.add(stream, Some(IP)).unwrap());
        assert!(!permits[1].release());
        assert_eq!(connections.cut_off(), 1);
        assert!(permits[0].release());
        // The reset has come to one client only.
        for client in [&open_client, &released_client] {
            client.set_nonblocking(true).unwrap();
        }
        let error = open_client.peek(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = released_client.peek(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
