//! `udp-client -z`: says which UDP ports are open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::socket::ClientSocket;
use super::target::{Target, TargetArgs};
use crate::check::report::Report;
use crate::check::{Attempt, Checked, Plan, State, at_a_time};
use crate::exit::{Exit, Failure};
use crate::json::milliseconds;
use crate::net::address::HostPort;
use crate::net::datagram::BUFFER;
use crate::wait::{Deadline, IN, Key, Ready, Set, if_ready};

/// Sends an empty datagram to each port, and reports them in the order of `targets`. `typed` are the
/// words that name them. Fails if one of them is closed.
pub fn run(
    targets: &[HostPort],
    typed: &str,
    args: &TargetArgs,
    timeout: Duration,
    json: bool,
    verbose: bool,
) -> Result<(), Failure> {
    /// Each needs a socket.
    const AT_A_TIME: u16 = 64;
    let plan = Plan {
        at_a_time: at_a_time(AT_A_TIME, 1),
        rounds: 1,
        delay: Duration::ZERO,
        wait: Deadline::NEVER,
        deadline: Deadline::NEVER,
    };
    let watch = args.watch(Deadline::NEVER)?;
    let report = Report::start(targets, typed, json, verbose)?;
    let checked = crate::check::run(
        report,
        &plan,
        |target| args.addresses(target, Deadline::NEVER),
        |target, mut addresses| {
            for address in &mut addresses {
                address.set_port(target.port);
            }
            Asking {
                target: Target::of(target, addresses, Rc::clone(&watch), args),
                timeout,
                next: 0,
                asked: None,
                found: None,
            }
        },
    );
    watch.finish()?;
    checked
}

/// One port that is being asked, at one address after another until one answers.
struct Asking<'a> {
    target: Target<'a>,
    timeout: Duration,
    /// The index of the address that is asked next.
    next: usize,
    asked: Option<Asked>,
    /// The best result so far: a silent address may be open, a closed one is not.
    found: Option<Checked>,
}

/// An address that has not answered yet.
struct Asked {
    socket: ClientSocket,
    sent: Instant,
    end: Deadline,
}

impl Asking<'_> {
    fn ask(&self, address: SocketAddr) -> io::Result<Asked> {
        let socket = self.target.open(address)?;
        let sent = socket.send(b"")?;
        Ok(Asked {
            socket,
            sent,
            end: Deadline::since(sent, self.timeout),
        })
    }

    fn failed(&self, address: SocketAddr, error: &io::Error) -> Checked {
        Checked {
            address: Some(address),
            ..Checked::failed(self.target.failure(address, error))
        }
    }

    /// The host has said that nobody listens.
    fn closed(&self, address: SocketAddr) -> Failure {
        let name = self.target.name(address);
        let message = format!("could not get an answer from {name}: connection refused");
        Failure::new(Exit::Network, message)
    }

    /// Keeps `checked` if it says more than the results of the addresses before.
    fn keep(&mut self, checked: Checked) {
        let says = |state| match state {
            State::Open | State::Silent => 2,
            State::Closed => 1,
            State::Failed => 0,
        };
        let found = self.found.as_ref();
        if found.is_none_or(|found| says(found.state) < says(checked.state)) {
            self.found = Some(checked);
        }
    }

    fn checked(&self, state: State, address: SocketAddr, time: Option<Duration>) -> Checked {
        let words = match state {
            State::Open => "open",
            State::Silent => "open|filtered",
            State::Closed | State::Failed => "closed",
        };
        let millis = time.map(|time| format!(", {:.3} ms", milliseconds(time)));
        let millis = millis.unwrap_or_default();
        Checked {
            state,
            address: Some(address),
            time,
            line: Some(format!("{} {words}{millis}", self.target.name(address))),
            failure: None,
            fields: Vec::new(),
        }
    }
}

impl Attempt for Asking<'_> {
    fn proceed(&mut self) {
        while self.asked.is_none()
            && let Some(&address) = self.target.addresses.get(self.next)
        {
            self.next += 1;
            match self.ask(address) {
                Ok(asked) => self.asked = Some(asked),
                Err(error) => self.keep(self.failed(address, &error)),
            }
        }
    }

    fn wake(&self) -> Deadline {
        let asked = self.asked.as_ref();
        asked.map_or_else(Deadline::now, |asked| asked.end)
    }

    fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key> {
        let asked = self.asked.as_ref();
        let socket = asked.map(|asked| asked.socket.as_fd());
        vec![set.add(socket, IN)]
    }

    fn result(&mut self, keys: &[Key], ready: &Ready, at: Instant) -> io::Result<Option<Checked>> {
        let Some(asked) = &self.asked else {
            return Ok(self.found.take());
        };
        let address = asked.socket.address;
        let time = Some(at - asked.sent);
        let received = if ready[keys[0]] {
            if_ready(asked.socket.receive(&mut vec![0; BUFFER]))
        } else {
            Ok(None)
        };
        let checked = match received {
            Ok(Some(_)) => return Ok(Some(self.checked(State::Open, address, time))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Checked {
                failure: Some(self.closed(address)),
                ..self.checked(State::Closed, address, time)
            },
            Ok(None) if asked.end.has_passed_at(at) => self.checked(State::Silent, address, None),
            Ok(None) => return Ok(None),
            Err(error) => self.failed(address, &error),
        };
        self.asked = None;
        self.keep(checked);
        self.proceed();
        Ok(self.found.take_if(|_| self.asked.is_none()))
    }
}
