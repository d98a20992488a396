//! Turns standard input into datagrams while it prints whatever arrives.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::escape::TerminalEscape;
use crate::exit::{Exit, Failure, blame, cause};
use crate::net::datagram::{BUFFER, largest};
use crate::output;
use crate::relay::duplex::Writer;
use crate::udp_client::socket::{Link, send_when_room};
use crate::udp_client::target::Route;
use crate::wait::{self, poll};

#[derive(Clone, Debug, clap::Args)]
pub struct RelayArgs {
    /// Send each read of standard input, print whatever arrives meanwhile (nc -u)
    #[arg(long, conflicts_with_all = ["pinging", "timeout", "retries", "no_wait", "whole", "chunk", "json"])]
    pub relay: bool,
    /// With --relay: after the end of input wait until nothing came for TIME
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::units::duration, requires = "relay")]
    wait_after_eof: Duration,
}

/// How long to wait for the system to have room for a datagram.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// Ends when input has ended and nothing came for a while. That something could not be sent, or did
/// not arrive, is said when it happens, once until something arrives; the error at the end carries
/// only the exit code.
pub fn run(route: &Route<'_>, args: &RelayArgs, raw: bool) -> anyhow::Result<()> {
    let mut relay = Relay {
        route,
        at: 0,
        link: open(route, 0)?,
        last: Vec::new(),
        heard: false,
        said: false,
        worst: None,
    };
    let escaped = output::escapes(raw);
    let stdout = Writer::stdout()?;
    let mut buffer = vec![0; BUFFER];
    // Until when, once input has ended.
    let mut until = None;
    loop {
        let left = until.map(|until: Instant| until.saturating_duration_since(Instant::now()));
        let (arrived, input) = wait(&relay.link, until.is_none(), &stdout, left)?;
        if arrived && let Some(count) = relay.receive(&mut buffer) {
            output::write_once(&shown(&buffer[..count], escaped))?;
            until = until.map(|_| Instant::now() + args.wait_after_eof);
        }
        if input && let Some(count) = read(&mut buffer[..largest(&relay.link.address())])? {
            if count == 0 {
                until = Some(Instant::now() + args.wait_after_eof);
            } else {
                relay.send(&buffer[..count]);
            }
        }
        route.watch.check()?;
        if left == Some(Duration::ZERO) && !arrived {
            break;
        }
    }
    match relay.worst {
        None => Ok(()),
        Some(exit) => Err(Failure::announced(exit).into()),
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
    worst: Option<Exit>,
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
        if self.worst != Some(Exit::Local) {
            self.worst = Some(blame(error));
        }
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
    stdout: &Writer,
    timeout: Option<Duration>,
) -> anyhow::Result<(bool, bool)> {
    let stdin = io::stdin();
    let mut descriptors = vec![PollFd::new(link, PollFlags::IN)];
    if reading {
        descriptors.push(PollFd::new(&stdin, PollFlags::IN));
    }
    if let Some(output) = stdout.pipe() {
        // POLLERR comes unasked: the reader is gone (poll(2)).
        descriptors.push(PollFd::from_borrowed_fd(output, PollFlags::empty()));
    }
    poll(&mut descriptors, timeout)?;
    let mut ready = wait::ready(&descriptors);
    let arrived = ready.next() == Some(true);
    let input = reading && ready.next() == Some(true);
    if ready.next() == Some(true) {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        return Err(Failure::of_output(output::NAME, &error).into());
    }
    Ok((arrived, input))
}

/// Reads standard input once; 0 is its end, and `None` says that there is nothing yet.
fn read(buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    match rustix::io::read(io::stdin().as_fd(), buffer).map_err(io::Error::from) {
        Ok(count) => Ok(Some(count)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => {
                let message = format!("could not read standard input: {}", cause(&error));
                Err(Failure::new(Exit::Local, message))
            }
        },
    }
}

fn shown(received: &[u8], escaped: bool) -> Vec<u8> {
    if !escaped {
        return received.to_vec();
    }
    let mut text = Vec::with_capacity(received.len());
    let mut escape = TerminalEscape::default();
    escape.push(received, &mut text);
    escape.finish(&mut text);
    text
}
