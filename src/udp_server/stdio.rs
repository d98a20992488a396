//! Joins the server to standard input and output, as netcat's `-lu` does.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::time::Duration;

use super::guard::Guard;
use super::socket::{Peer, ServerSocket};
use crate::exit::{Exit, Failure, Worst};
use crate::input::{self, Crlf};
use crate::json::Event;
use crate::net::datagram::PIECE;
use crate::net::pacing::Pacing;
use crate::output::Queue;
use crate::wait::{Deadline, IN, Key, Ready, Set};

#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct StdioArgs {
    /// Talk to the last peer heard, not to the first
    #[arg(short, long)]
    keep_open: bool,
    /// End a datagram without a newline by one
    ///
    /// On a terminal that is the default.
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    lines: bool,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Send \r\n for \n
    #[arg(short = 'C', long)]
    crlf: bool,
    /// Print datagrams as they are, even on a terminal
    #[arg(long)]
    raw: bool,
}

/// How a datagram is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Exact,
    Line,
    Event,
}

/// Prints what any peer sends, and sends standard input to one of them.
pub struct Stdio {
    form: Form,
    /// Whether the last peer heard gets standard input; otherwise the first.
    follows: bool,
    talk: Option<Talk>,
    input: Input,
    stdout: Queue,
    output: Key,
    silence: Silence,
}

/// Standard input, one datagram a read.
struct Input {
    /// `None` after its end.
    stdin: Option<io::Stdin>,
    key: Key,
    crlf: Option<Crlf>,
    buffer: Vec<u8>,
    /// Whether it could be read.
    worst: Worst,
}

impl Input {
    /// `None`: there is none now, or it has ended.
    fn read(&mut self) -> Option<Cow<'_, [u8]>> {
        let crlf = self.crlf.as_mut();
        let payload = input::read_datagram(&mut self.buffer, crlf, &mut self.worst)?;
        if payload.is_empty() {
            self.stdin = None;
            return None;
        }
        Some(payload)
    }
}

/// The peer that gets standard input.
struct Talk {
    peer: Peer,
    pacing: Pacing,
    /// Until when it gets nothing, so that it is not overrun.
    hold: Option<Deadline>,
}

/// When nothing has moved for too long. It begins with the first datagram.
struct Silence {
    idle_timeout: Option<Duration>,
    end: Deadline,
}

impl Silence {
    fn is_broken(&mut self) {
        self.end = Deadline::within(self.idle_timeout);
    }
}

impl Stdio {
    pub fn new(args: &StdioArgs, idle_timeout: Option<Duration>) -> Result<Self, Failure> {
        let form = if args.json {
            Form::Event
        } else if args.lines || !args.raw && io::stdout().is_terminal() {
            Form::Line
        } else {
            Form::Exact
        };
        Ok(Self {
            form,
            follows: args.keep_open,
            talk: None,
            input: Input {
                stdin: Some(io::stdin()),
                key: Key::ABSENT,
                crlf: args.crlf.then(Crlf::default),
                buffer: vec![0; PIECE],
                worst: Worst::default(),
            },
            stdout: Queue::open(args.raw)?,
            output: Key::ABSENT,
            silence: Silence {
                idle_timeout,
                end: Deadline::NEVER,
            },
        })
    }

    /// The server receives from `sockets` now.
    pub fn start(&mut self, sockets: &[ServerSocket]) -> Result<(), Failure> {
        if self.form != Form::Event {
            return Ok(());
        }
        for local in sockets.iter().map(|socket| socket.local) {
            let event = Event::new("start").with("v", 1);
            let event = event.with_address(&local);
            self.stdout.push_between(&event.line(), b"", "")?;
        }
        Ok(())
    }

    /// Whether nothing has moved for too long.
    pub fn is_over(&self) -> bool {
        self.silence.end.has_passed()
    }

    /// Whether another datagram can be taken.
    pub fn has_room(&self) -> bool {
        self.stdout.is_empty()
    }

    /// Adds the descriptors that [`Self::serve`] serves. Returns when it has something to do even if
    /// none is ready.
    pub fn watch<'a>(&'a mut self, set: &mut Set<'a>) -> Deadline {
        // Without a peer there is nobody to send to.
        let may_send = self.talk.as_ref().is_some_and(|talk| talk.hold.is_none());
        let stdin = self.input.stdin.as_ref().filter(|_| may_send);
        self.input.key = set.add(stdin.map(AsFd::as_fd), IN);
        self.output = self.stdout.watch(set);
        let hold = self.talk.as_ref().and_then(|talk| talk.hold);
        self.silence.end.min(hold.unwrap_or(Deadline::NEVER))
    }

    /// Prints a datagram. The peer may get standard input from now on.
    pub fn take(&mut self, payload: &[u8], peer: Peer, guard: &mut Guard) -> Result<(), Failure> {
        self.silence.is_broken();
        let talks = self.talk.as_ref().map(|talk| talk.peer);
        if (talks.is_none() || self.follows && talks != Some(peer))
            && guard.lets_send_to(peer.address)
        {
            let source = peer.address;
            tracing::info!(event = "talk", peer = %source, "Talking to {source}.");
            self.talk = Some(Talk {
                peer,
                pacing: Pacing::new(source),
                hold: None,
            });
        }
        match self.form {
            Form::Line if !payload.ends_with(b"\n") => self.stdout.push_between("", payload, "\n"),
            Form::Exact | Form::Line => self.stdout.push(payload),
            Form::Event => {
                let event = Event::new("datagram")
                    .with_address(&peer.address)
                    .with("size_bytes", payload.len());
                let line = event.with_data(payload).line();
                self.stdout.push_between(&line, b"", "")
            }
        }
    }

    /// Goes on printing, and sends what is on standard input as one datagram.
    pub fn serve(&mut self, ready: &Ready, guard: &mut Guard) -> Result<(), Failure> {
        if ready[self.output] {
            self.stdout.go_on()?;
        }
        if ready[self.input.key] {
            self.send_input(guard);
        }
        if let Some(talk) = &mut self.talk
            && talk.hold.is_some_and(Deadline::has_passed)
        {
            talk.hold = talk.pacing.hold(talk.peer.address);
        }
        Ok(())
    }

    fn send_input(&mut self, guard: &mut Guard) {
        let Some(talk) = &mut self.talk else {
            return;
        };
        let Some(payload) = self.input.read() else {
            return;
        };
        guard.send(&payload, &talk.peer, None);
        talk.pacing.sent(payload.len());
        talk.hold = talk.pacing.hold(talk.peer.address);
        self.silence.is_broken();
    }

    /// Blocks until everything is printed, or fails at `limit`.
    pub fn finish(&mut self, limit: Deadline) -> Result<(), Failure> {
        self.stdout.flush(limit)
    }

    /// Fails if the peer had no room for all that it was sent. Fails if standard input could not be read.
    pub fn result(&self) -> Result<(), Failure> {
        let pacing = self.talk.as_ref().map(|talk| &talk.pacing);
        match pacing.and_then(|pacing| pacing.lost(|peer| peer.to_string())) {
            Some(lost) if self.input.worst.result().is_ok() => {
                Err(Failure::new(Exit::Network, lost))
            }
            _ => self.input.worst.result(),
        }
    }
}
