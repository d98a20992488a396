//! `udp-client --relay`: sends standard input as datagrams, and prints what arrives meanwhile.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::slice;
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure, Worst, blame, cause};
use crate::input::{self, Crlf};
use crate::net::datagram::{BUFFER, PIECE};
use crate::net::pacing::Pacing;
use crate::output::Queue;
use crate::udp_client::socket::ClientSocket;
use crate::udp_client::target::Target;
use crate::units::{duration, positive_duration};
use crate::wait::{Deadline, IN, Set, is_wait};

#[derive(clap::Args)]
pub struct RelayArgs {
    /// Send input, print what arrives, as nc -u
    ///
    /// Reads at most 8192 bytes, which other netcats receive whole too.
    #[arg(long)]
    pub relay: bool,
    /// With --relay: send \r\n for \n
    #[arg(short = 'C', long)]
    crlf: bool,
    /// Wait at most TIME for the peer after input ends
    ///
    /// Each arrival starts it again [default: 1s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait_after_eof: Option<Duration>,
    /// End a relay after TIME without data
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
}

/// Ends when input has ended and nothing came for `--wait-after-eof`, when nothing moved for
/// `--idle-timeout`, or at `limit`. A failure to send is logged once until something arrives. The error
/// at the end carries only the exit code.
pub fn run(
    target: &Target<'_>,
    args: &RelayArgs,
    raw: bool,
    limit: Deadline,
) -> Result<(), Failure> {
    let mut relay = Relay::open(target, args)?;
    let mut stdout = Queue::open(raw)?;
    let stdin = io::stdin();
    let mut buffer = vec![0; BUFFER];
    let mut silence = Silence::new(args);
    loop {
        // What standard output has no room for stays in the socket's buffer.
        let has_room = stdout.is_empty();
        let end = silence.end(has_room);
        let is_over = end.has_passed();
        let mut set = Set::new();
        let socket = set.add(has_room.then(|| relay.socket.as_fd()), IN);
        let may_send = !silence.is_after_eof && relay.hold.is_none();
        let input = set.add(may_send.then(|| stdin.as_fd()), IN);
        let output = stdout.watch(&mut set);
        let hold = relay.hold.unwrap_or(Deadline::NEVER);
        let ready = set.wait(end.min(hold).min(limit))?;
        if ready[output] {
            stdout.go_on()?;
            silence.is_broken();
        }
        if ready[socket]
            && let Some(count) = relay.receive(&mut buffer)
        {
            stdout.push(&buffer[..count])?;
            silence.is_broken();
        }
        if ready[input]
            && let Some(is_end) = relay.send_input(&mut buffer)
        {
            silence.is_after_eof = is_end;
            silence.is_broken();
        }
        if hold.has_passed() {
            relay.look();
        }
        target.watch.check()?;
        if limit.has_passed() {
            return relay.give_up(limit);
        }
        if is_over && !ready[socket] {
            stdout.flush(Deadline::now())?;
            return relay.finish();
        }
    }
}

/// Since when nothing has moved, and how long that may last.
struct Silence {
    since: Instant,
    idle_timeout: Option<Duration>,
    wait_after_eof: Duration,
    is_after_eof: bool,
}

impl Silence {
    fn new(args: &RelayArgs) -> Self {
        Self {
            since: Instant::now(),
            idle_timeout: args.idle_timeout,
            wait_after_eof: args.wait_after_eof.unwrap_or(Duration::from_secs(1)),
            is_after_eof: false,
        }
    }

    /// Something has moved, or input has ended.
    fn is_broken(&mut self) {
        self.since = Instant::now();
    }

    /// When it has lasted too long. Arrivals are awaited only while standard output `has_room`.
    fn end(&self, has_room: bool) -> Deadline {
        let idle = self.idle_timeout;
        let idle = idle.map_or(Deadline::NEVER, |time| Deadline::since(self.since, time));
        if self.is_after_eof && has_room {
            idle.min(Deadline::since(self.since, self.wait_after_eof))
        } else {
            idle
        }
    }
}

struct Relay<'a> {
    target: &'a Target<'a>,
    socket: ClientSocket,
    pacing: Pacing,
    /// Until when no more input is sent, so that the receiver is not overrun.
    hold: Option<Deadline>,
    crlf: Option<Crlf>,
    /// The addresses to go on to when this one refuses. Empty once something has arrived.
    untried: slice::Iter<'a, SocketAddr>,
    /// What was sent last, to send it to the next address again.
    last: Vec<u8>,
    /// A failure has been logged since something last arrived.
    said: bool,
    worst: Worst,
}

impl<'a> Relay<'a> {
    fn open(target: &'a Target<'a>, args: &RelayArgs) -> Result<Self, Failure> {
        let first = target.addresses[0];
        let socket = target.open(first);
        let mut pacing = Pacing::new(first);
        Ok(Self {
            target,
            socket: socket.map_err(|error| target.failure(first, &error))?,
            hold: pacing.hold(first),
            pacing,
            crlf: args.crlf.then(Crlf::default),
            untried: target.addresses[1..].iter(),
            last: Vec::new(),
            said: false,
            worst: Worst::default(),
        })
    }

    /// Reads standard input once, and sends that as one datagram. Returns whether that was the end.
    /// `None`: nothing is there yet.
    fn send_input(&mut self, buffer: &mut [u8]) -> Option<bool> {
        let (buffer, crlf) = (&mut buffer[..PIECE], self.crlf.as_mut());
        let payload = input::read_datagram(buffer, crlf, &mut self.worst)?;
        if !payload.is_empty() {
            self.send(&payload);
        }
        Some(payload.is_empty())
    }

    fn send(&mut self, payload: &[u8]) {
        if !self.untried.as_slice().is_empty() {
            self.last = payload.to_vec();
        }
        loop {
            match self.socket.send(payload) {
                Ok(_) => {
                    self.pacing.sent(payload.len());
                    return self.look();
                }
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

    /// Looks whether the receiver has room for more.
    fn look(&mut self) {
        self.hold = self.pacing.hold(self.socket.address);
    }

    fn give_up(mut self, limit: Deadline) -> Result<(), Failure> {
        let given_up = self.target.gave_up(self.socket.address, limit);
        tracing::error!("{given_up}");
        self.worst.add(given_up.exit);
        self.finish()
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
