//! Asks whether somebody listens on a UDP port.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::exit::{Exit, Failure, blame};
use crate::json::{self, Event};
use crate::net::datagram::BUFFER;
use crate::output;
use crate::ping::text;
use crate::udp_client::socket::send_when_room;
use crate::udp_client::target::Route;
use crate::wait::poll;

/// What one empty datagram says about a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was answered.
    Open(Duration),
    /// The network said that it did not arrive.
    Closed(Duration),
    /// Nothing came: somebody may be there, or a filter, or the datagram was lost.
    Silent,
}

/// How long to wait for the system to have room for a datagram.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// Prints one line, about the first address that is open, else about one that is silent. The error
/// says that all are closed.
pub fn run(route: &Route<'_>, timeout: Duration, json: bool) -> Result<(), Failure> {
    if json {
        Event::new("start")
            .with("v", 1)
            .with("target", route.target.to_string())
            .print()?;
    }
    let (mut silent, mut closed, mut failure) = (None, None, None);
    for &address in &route.addresses {
        match check(route, address, timeout) {
            Ok(state @ State::Open(_)) => return print(route, address, state, json),
            Ok(State::Silent) => silent = silent.or(Some((address, State::Silent))),
            Ok(state) => closed = Some((address, state)),
            Err(error) => failure = Some(route.failure(blame(&error), address, &error)),
        }
        route.watch.check()?;
    }
    if let Some((address, state)) = silent {
        return print(route, address, state, json);
    }
    let Some((address, state)) = closed else {
        return failure.map_or(Ok(()), Err);
    };
    print(route, address, state, json)?;
    Err(Failure::announced(Exit::Network))
}

fn check(route: &Route<'_>, address: SocketAddr, timeout: Duration) -> io::Result<State> {
    let link = route.open(address)?;
    let sent = send_when_room(&link, SEND_PATIENCE, b"")?;
    let until = sent + timeout;
    let mut buffer = vec![0; BUFFER];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        poll(&mut [PollFd::new(&link, PollFlags::IN)], Some(left))?;
        let result = link.receive(&mut buffer);
        let time = sent.elapsed();
        match result {
            Ok(_) => return Ok(State::Open(time)),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => return Ok(State::Closed(time)),
                io::ErrorKind::WouldBlock if left.is_zero() => return Ok(State::Silent),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

fn print(route: &Route<'_>, address: SocketAddr, state: State, json: bool) -> Result<(), Failure> {
    let (name, time) = match state {
        State::Open(time) => ("open", Some(time)),
        State::Closed(time) => ("closed", Some(time)),
        State::Silent => ("open|filtered", None),
    };
    if json {
        return Event::new(name)
            .with("address", address.ip().to_string())
            .with("port", address.port())
            .with("rtt_ms", time.map(json::milliseconds))
            .print();
    }
    let (typed, resolved) = (route.target.to_string(), address.to_string());
    let ip = if typed == resolved {
        String::new()
    } else {
        format!(" ({})", address.ip())
    };
    let time = time.map_or_else(String::new, |time| {
        format!(", {} ms", text::milliseconds(time))
    });
    output::write_once(format!("{typed}{ip} {name}{time}\n").as_bytes())
}
