//! Answers datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags};

use crate::datagram::{BUFFER, largest};
use crate::duplex::poll;
use crate::episode::Episode;
use crate::exit::{self, cause};
use crate::limit::Limiter;
use crate::listen::ListenArgs;
use crate::refusal::{self, GREETING, Refusal};
use crate::signal::Stop;
use crate::socket::{self, SocketArgs};

const EXAMPLES: &str = "\
Examples:
  netkit udp-server --port 9999                     greet: every datagram X is answered Hello, X!
  netkit udp-server -p 0 --print-port               on any free port, which is printed
  netkit udp-server -p 9999 --service echo -b any   echo for everybody who can reach this machine";

/// Answer every datagram
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
pub struct Args {
    /// What becomes of a datagram
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// Answer one host at most N times a second, loopback aside; 0: without a limit
    #[arg(long, value_name = "N", default_value = "10000", value_parser = crate::limit::rate)]
    rate_limit: u32,
    /// After SIGINT or SIGTERM answer what has arrived already, for at most TIME
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::units::duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Answer X with `Hello, X!`
    Hello,
    /// Send back what comes (RFC 862)
    Echo,
    /// Answer nothing (RFC 863)
    Discard,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let stop = Stop::install()?;
    let sockets = args
        .listen
        .open(|address| socket::udp_server(address, &args.socket))?;
    args.listen.announce(&sockets)?;
    let mut clerk = Clerk::new(args, &sockets)?;
    for address in &clerk.own {
        tracing::info!(%address, "Bind UDP on {address}...");
    }
    serve(&sockets, &mut clerk, &stop)?;
    let limit = Instant::now() + args.drain_timeout;
    for socket in &sockets {
        while Instant::now() < limit && clerk.handle(socket) {}
    }
    clerk.close_episodes(|_| true);
    Ok(())
}

/// Answers what comes to any of `sockets`, until a signal arrives.
fn serve(sockets: &[UdpSocket], clerk: &mut Clerk, stop: &Stop) -> io::Result<()> {
    /// How many datagrams of one socket are answered before the others, and signals, have a turn.
    const BATCH: usize = 256;
    loop {
        let timeout = clerk
            .next_end()
            .map(|end| end.saturating_duration_since(Instant::now()));
        let mut descriptors: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        descriptors.push(PollFd::new(stop, PollFlags::IN));
        poll(&mut descriptors, timeout)?;
        if stop.arrived() {
            return Ok(());
        }
        for (socket, descriptor) in sockets.iter().zip(&descriptors) {
            if !descriptor.revents().is_empty() {
                let mut turns = 0..BATCH;
                while turns.next().is_some() && clerk.handle(socket) {}
            }
        }
        if timeout == Some(Duration::ZERO) {
            let now = Instant::now();
            clerk.close_episodes(|end| end <= now);
        }
    }
}

/// Answers datagrams, and keeps count of those that it does not.
struct Clerk {
    /// Where the server's sockets are bound.
    own: Vec<SocketAddr>,
    service: Service,
    limiter: Option<Limiter>,
    refused: [(Refusal, Episode); Refusal::ALL.len()],
    failed: Episode,
    /// The greeting, room for a datagram and for `!`: an answer is made where its question was
    /// received.
    buffer: Vec<u8>,
}

impl Clerk {
    fn new(args: &Args, sockets: &[UdpSocket]) -> io::Result<Self> {
        let mut buffer = GREETING.to_vec();
        buffer.resize(GREETING.len() + BUFFER + 1, 0);
        Ok(Self {
            own: sockets
                .iter()
                .map(UdpSocket::local_addr)
                .collect::<io::Result<_>>()?,
            service: args.service,
            limiter: NonZeroU32::new(args.rate_limit)
                .map(|rate| Limiter::new(rate, Instant::now())),
            refused: Refusal::ALL.map(|refusal| (refusal, Episode::default())),
            failed: Episode::default(),
            buffer,
        })
    }

    /// Receives a datagram and answers it; `false`: there is none. Nothing that a datagram contains
    /// or causes is an error.
    fn handle(&mut self, socket: &UdpSocket) -> bool {
        match socket.recv_from(&mut self.buffer[GREETING.len()..]) {
            Ok((size, source)) => {
                match self.refusal(size, source) {
                    Some(refusal) => self.refuse(refusal, source),
                    None => self.answer(socket, size, source),
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                self.fail("could not receive a datagram", &error);
                false
            }
        }
    }

    /// Why there must be no answer, if there would be one.
    fn refusal(&mut self, size: usize, source: SocketAddr) -> Option<Refusal> {
        let payload = &self.buffer[GREETING.len()..][..size];
        let of_payload = match self.service {
            Service::Hello => refusal::of_greeting(payload),
            Service::Echo => None,
            Service::Discard => return None,
        };
        refusal::of_source(source, &self.own, socket::is_local)
            .or(of_payload)
            .or_else(|| {
                let limiter = self.limiter.as_mut()?;
                (!limiter.allows(source.ip(), Instant::now())).then_some(Refusal::Rate)
            })
    }

    fn answer(&mut self, socket: &UdpSocket, size: usize, source: SocketAddr) {
        tracing::info!(%source, size, "Received from {source}.");
        let end = GREETING.len() + size;
        let answer = match self.service {
            Service::Hello => {
                self.buffer[end] = b'!';
                &self.buffer[..=end]
            }
            Service::Echo => &self.buffer[GREETING.len()..end],
            Service::Discard => return,
        };
        if answer.len() > largest(&source) {
            self.refuse(Refusal::TooLarge, source);
        } else if let Err(error) = send_to(socket, answer, source) {
            self.fail(&format!("could not answer {source}"), &error);
        }
    }

    fn refuse(&mut self, refusal: Refusal, source: SocketAddr) {
        let (_, episode) = &mut self.refused[refusal as usize];
        if episode.happened(Instant::now()) {
            tracing::warn!(%source, "no answer to a datagram from {source}: {refusal}");
        }
    }

    fn fail(&mut self, what: &str, error: &io::Error) {
        if self.failed.happened(Instant::now()) {
            tracing::warn!("{what}: {}", cause(error));
        }
    }

    /// When the next episode is over, if it stays quiet.
    fn next_end(&self) -> Option<Instant> {
        let refused = self.refused.iter().map(|(_, episode)| episode);
        refused.chain([&self.failed]).filter_map(Episode::end).min()
    }

    /// Says of the episodes whose end `is_over` how much happened, where that is not said yet.
    fn close_episodes(&mut self, is_over: impl Fn(Instant) -> bool) {
        for (refusal, episode) in &mut self.refused {
            if episode.end().is_some_and(&is_over) {
                let count = episode.close();
                if count > 1 {
                    tracing::warn!(count, "no answer to {count} datagrams in all: {refusal}");
                }
            }
        }
        if self.failed.end().is_some_and(&is_over) {
            let count = self.failed.close();
            if count > 1 {
                tracing::warn!(
                    count,
                    "{count} datagrams in all could not be received or answered"
                );
            }
        }
    }
}

/// Sends an answer. Where the system has no room it waits a moment for it, as a socket that blocks
/// would.
fn send_to(socket: &UdpSocket, answer: &[u8], source: SocketAddr) -> io::Result<usize> {
    /// All other clients wait as well.
    const PATIENCE: Duration = Duration::from_millis(10);
    match socket.send_to(answer, source) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(PATIENCE))?;
            socket.send_to(answer, source)
        }
        result => result,
    }
}
