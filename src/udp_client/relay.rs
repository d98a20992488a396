//! `udp-client --relay`: sends standard input as datagrams, and prints what arrives meanwhile.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::slice;
use std::time::Duration;

use crate::exit::{Exit, Failure, Worst, blame, cause};
use crate::input;
use crate::net::datagram::{BUFFER, largest};
use crate::net::pacing::Pacing;
use crate::output;
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::usage::needs;
use crate::wait::{Deadline, GONE, IN, Set, is_wait};

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

/// Ends when input has ended and nothing came for `--wait-after-eof`. A failure to send is logged
/// once until something arrives. The error at the end carries only the exit code.
pub fn run(target: &Target<'_>, args: &RelayArgs, raw: bool) -> Result<(), Failure> {
    let first = target.addresses[0];
    let socket = target.open(first);
    let mut relay = Relay {
        target,
        socket: socket.map_err(|error| target.failure(first, &error))?,
        pacing: Pacing::new(first),
        untried: target.addresses[1..].iter(),
        last: Vec::new(),
        said: false,
        worst: Worst::default(),
    };
    let escaped = output::escapes(raw);
    let reader = output::ReaderWatch::new()?;
    let stdin = io::stdin();
    let mut buffer = vec![0; BUFFER];
    let mut is_reading = true;
    let mut hold = relay.pacing.hold(first);
    let mut end = Deadline::NEVER;
    let wait_after_eof = args.wait_after_eof.unwrap_or(Duration::from_secs(1));
    loop {
        let is_over = end.has_passed();
        let mut set = Set::new();
        let socket = set.add(relay.socket.as_fd(), IN);
        let may_send = is_reading && hold.is_none();
        let input = set.add(may_send.then(|| stdin.as_fd()), IN);
        let output = set.add(reader.fd(), GONE);
        let ready = set.wait(end.min(hold.unwrap_or(Deadline::NEVER)))?;
        if ready[output] {
            return Err(output::ReaderWatch::left());
        }
        if ready[socket]
            && let Some(count) = relay.receive(&mut buffer)
        {
            output::write_answer(&buffer[..count], b"", escaped)?;
            if !is_reading {
                end = Deadline::after(wait_after_eof);
            }
        }
        if ready[input]
            && let Some(count) = input::read(&mut buffer[..largest(&relay.socket.address)])?
        {
            if count == 0 {
                is_reading = false;
                end = Deadline::after(wait_after_eof);
            } else {
                relay.send(&buffer[..count]);
                hold = relay.hold();
            }
        } else if hold.is_some_and(Deadline::has_passed) {
            hold = relay.hold();
        }
        target.watch.check()?;
        if is_over && !ready[socket] {
            return relay.finish();
        }
    }
}

struct Relay<'a> {
    target: &'a Target<'a>,
    socket: ClientSocket,
    pacing: Pacing,
    /// The addresses to go on to when this one refuses. Empty once something has arrived.
    untried: slice::Iter<'a, SocketAddr>,
    /// What was sent last, to send it to the next address again.
    last: Vec<u8>,
    /// A failure has been logged since something last arrived.
    said: bool,
    worst: Worst,
}

impl Relay<'_> {
    fn send(&mut self, payload: &[u8]) {
        if !self.untried.as_slice().is_empty() {
            self.last = payload.to_vec();
        }
        loop {
            match self.socket.send(payload) {
                Ok(_) => return self.pacing.sent(payload.len()),
                // An earlier datagram was refused, and this one was not sent (udp(7)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if !self.advance() {
                        self.fail(&error);
                    }
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Until when no more input is sent, so that the receiver is not overrun.
    fn hold(&mut self) -> Option<Deadline> {
        self.pacing.hold(self.socket.address)
    }

    /// Reports what the receiver had no room for. The error carries only the exit code.
    fn finish(mut self) -> Result<(), Failure> {
        let lost = self.pacing.lost(|receiver| self.target.name(receiver));
        if let Some(lost) = lost {
            tracing::error!("{lost}");
            self.worst.add(Exit::Network);
        }
        self.worst.result()
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match self.socket.receive(buffer) {
            Ok((count, _)) => {
                self.untried = [].iter();
                self.said = false;
                return Some(count);
            }
            Err(error) if is_wait(&error) => {}
            Err(error) => {
                if self.advance() {
                    let last = mem::take(&mut self.last);
                    self.send(&last);
                } else {
                    self.fail(&error);
                }
            }
        }
        None
    }

    /// Goes on to the next address, if there is one that can be sent to.
    fn advance(&mut self) -> bool {
        let next = self
            .untried
            .find_map(|address| self.target.open(*address).ok());
        next.map(|socket| self.socket = socket).is_some()
    }

    fn fail(&mut self, error: &io::Error) {
        if !self.said {
            let name = self.target.name(self.socket.address);
            tracing::error!("could not send to {name}: {}", cause(error));
        }
        self.said = true;
        self.worst.add(blame(error));
    }
}
