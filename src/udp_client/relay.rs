//! Turns standard input into datagrams while it prints whatever arrives.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::exit::{Failure, Worst, blame, cause};
use crate::input;
use crate::net::datagram::{BUFFER, largest};
use crate::output;
use crate::udp_client::socket::{Link, send_when_room};
use crate::udp_client::target::Route;
use crate::usage::needs;
use crate::wait::{Deadline, GONE, IN, Set};

#[derive(clap::Args)]
pub struct RelayArgs {
    /// Send each read of input, print what arrives (nc -u)
    #[arg(long, conflicts_with_all = ["timeout", "retries", "no_wait", "whole", "chunk", "json"])]
    pub relay: bool,
    /// With --relay: after input ends, stop once nothing arrives for TIME [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = crate::units::duration)]
    wait_after_eof: Option<Duration>,
}

impl RelayArgs {
    /// Refuses an option that does nothing without `--relay`.
    pub fn check(&self) -> Result<(), Failure> {
        let wait = ("--wait-after-eof", self.wait_after_eof.is_some());
        needs("--relay", self.relay, &[wait])
    }
}

/// How long to wait for the system to have room for a datagram.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// Ends when input has ended and nothing came for a while. That something could not be sent, or did
/// not arrive, is said when it happens, once until something arrives; the error at the end carries
/// only the exit code.
pub fn run(route: &Route<'_>, args: &RelayArgs, raw: bool) -> Result<(), Failure> {
    let mut relay = Relay {
        route,
        at: 0,
        link: open(route, 0)?,
        last: Vec::new(),
        heard: false,
        said: false,
        worst: Worst::default(),
    };
    let escaped = output::escapes(raw);
    let reader = output::Reader::new()?;
    let mut buffer = vec![0; BUFFER];
    let mut reading = true;
    let mut end = Deadline::NEVER;
    let wait_after_eof = args.wait_after_eof.unwrap_or(Duration::from_secs(1));
    loop {
        let is_over = end.has_passed();
        let (arrived, input) = wait(&relay.link, reading, &reader, end)?;
        if arrived && let Some(count) = relay.receive(&mut buffer) {
            output::write_answer(&buffer[..count], b"", escaped)?;
            if !reading {
                end = Deadline::after(wait_after_eof);
            }
        }
        if input && let Some(count) = input::read(&mut buffer[..largest(&relay.link.address())])? {
            if count == 0 {
                reading = false;
                end = Deadline::after(wait_after_eof);
            } else {
                relay.send(&buffer[..count]);
            }
        }
        route.watch.check()?;
        if is_over && !arrived {
            return relay.worst.result();
        }
    }
}

struct Relay<'a> {
    route: &'a Route<'a>,
    /// Which of the route's addresses is sent to.
    at: usize,
    link: Link,
    /// What was sent last, while it is not known whether anybody is there.
    last: Vec<u8>,
    /// Something has arrived, and no other address is tried any more.
    heard: bool,
    /// It has been said that nothing can be sent.
    said: bool,
    worst: Worst,
}

impl Relay<'_> {
    fn send(&mut self, payload: &[u8]) {
        if !self.heard {
            self.last = payload.to_vec();
        }
        loop {
            match send_when_room(&self.link, SEND_PATIENCE, payload) {
                Ok(_) => return,
                // What was sent before did not arrive, and this has not been sent (udp(7)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if !self.advance() {
                        self.fail(&error);
                    }
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match self.link.receive(buffer) {
            Ok((count, _)) => {
                self.heard = true;
                self.said = false;
                Some(count)
            }
            Err(error) => {
                let is_nothing = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
                if !is_nothing {
                    if self.advance() {
                        let last = std::mem::take(&mut self.last);
                        self.send(&last);
                    } else {
                        self.fail(&error);
                    }
                }
                None
            }
        }
    }

    /// Goes on to the next address, as long as nobody has been heard.
    fn advance(&mut self) -> bool {
        if self.heard || self.at + 1 >= self.route.addresses.len() {
            return false;
        }
        let next = open(self.route, self.at + 1);
        next.is_ok_and(|link| {
            self.at += 1;
            self.link = link;
            true
        })
    }

    fn fail(&mut self, error: &io::Error) {
        if !self.said {
            let name = self.route.name(self.link.address());
            tracing::error!("could not send to {name}: {}", cause(error));
        }
        self.said = true;
        self.worst.add(blame(error));
    }
}

fn open(route: &Route<'_>, at: usize) -> Result<Link, Failure> {
    let address = route.addresses[at];
    route
        .open(address)
        .map_err(|error| route.failure(blame(&error), address, &error))
}

/// Whether something has arrived, and whether standard input is ready, if it is `reading`.
fn wait(
    link: &Link,
    reading: bool,
    output: &output::Reader,
    deadline: Deadline,
) -> Result<(bool, bool), Failure> {
    let stdin = io::stdin();
    let mut set = Set::new();
    let arrived = set.add(link.as_fd(), IN);
    let input = set.add(reading.then(|| stdin.as_fd()), IN);
    let left = set.add(output.fd(), GONE);
    let ready = set.wait(deadline)?;
    if ready[left] {
        return Err(output::Reader::left());
    }
    Ok((ready[arrived], ready[input]))
}
