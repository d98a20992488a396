//! `udp-client -z`: says whether a UDP port is open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::json::{self, Event};
use crate::net::datagram::BUFFER;
use crate::output;
use crate::ping::text;
use crate::udp_client::target::Target;
use crate::wait::{Deadline, IN, is_wait, wait_for};

/// What one empty datagram says about a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was answered after this time.
    Open(Duration),
    /// The network said after this time that it did not arrive.
    Closed(Duration),
    /// Nothing came: the server does not answer, or a filter or the network dropped the datagram.
    Silent,
}

/// Prints one line: about the first open address, else the first silent one, else the last closed
/// one. The error carries only the exit code, where all are closed.
pub fn run(target: &Target<'_>, timeout: Duration, json: bool) -> Result<(), Failure> {
    if json {
        let event = Event::new("start").with("v", 1);
        event.with("target", target.typed.to_string()).print()?;
    }
    let (mut found, mut failure) = (None, None);
    for &address in &target.addresses {
        match check(target, address, timeout) {
            Ok(State::Open(time)) => return print(target, address, State::Open(time), json),
            Ok(_) if matches!(found, Some((_, State::Silent))) => {}
            Ok(state) => found = Some((address, state)),
            Err(error) => failure = Some(target.failure(address, &error)),
        }
        target.watch.check()?;
    }
    let Some((address, state)) = found else {
        return failure.map_or(Ok(()), Err);
    };
    print(target, address, state, json)?;
    match state {
        State::Closed(_) => Err(Failure::announced(Exit::Network)),
        State::Open(_) | State::Silent => Ok(()),
    }
}

fn check(target: &Target<'_>, address: SocketAddr, timeout: Duration) -> io::Result<State> {
    let socket = target.open(address)?;
    let sent = socket.send(b"")?;
    let end = Deadline::since(sent, timeout);
    let mut buffer = vec![0; BUFFER];
    loop {
        let is_over = end.has_passed();
        wait_for(socket.as_fd(), IN, end)?;
        let received = socket.receive(&mut buffer);
        let time = sent.elapsed();
        match received {
            Ok(_) => return Ok(State::Open(time)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(State::Closed(time));
            }
            Err(error) if !is_wait(&error) => return Err(error),
            Err(_) if is_over => return Ok(State::Silent),
            Err(_) => {}
        }
    }
}

fn print(
    target: &Target<'_>,
    address: SocketAddr,
    state: State,
    json: bool,
) -> Result<(), Failure> {
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
    let target = target.name(address);
    let time = time.map_or_else(String::new, |time| {
        format!(", {} ms", text::milliseconds(time))
    });
    output::write_once(format!("{target} {name}{time}\n").as_bytes())
}
