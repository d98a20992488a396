//! What an exchange prints, and its exit code.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::ledger::Arrival;
use super::payloads::Payload;
use super::sockets::Sockets;
use crate::escape::quoted;
use crate::exit::{Exit, Failure, Worst, blame, cause};
use crate::json::{self, Event};
use crate::net::address::HostPort;
use crate::output::Queue;
use crate::units::told;
use crate::wait::Deadline;

/// Why one address has not answered a datagram.
pub enum Cause {
    /// The datagram could not be sent.
    Unsent(io::Error),
    /// The datagram did not arrive, or its answer could not be received.
    Failed(io::Error),
    Silent(Duration),
    /// What came may be the answer to an earlier datagram.
    Doubtful,
}

impl Cause {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unsent(error) | Self::Failed(error) => blame(error),
            Self::Silent(_) | Self::Doubtful => Exit::Network,
        }
    }

    /// Whether a datagram from the same port did not arrive.
    pub fn is_refusal(&self) -> bool {
        let (Self::Unsent(error) | Self::Failed(error)) = self else {
            return false;
        };
        error.kind() == io::ErrorKind::ConnectionRefused
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(error) | Self::Failed(error) => f.write_str(&cause(error)),
            Self::Silent(time) => write!(f, "nothing came within {}", told(*time)),
            Self::Doubtful => f.write_str("what came may be the answer to an earlier one"),
        }
    }
}

/// The addresses that have not answered a datagram, and why.
#[derive(Default)]
pub struct Causes(pub Vec<(SocketAddr, Cause)>);

impl Causes {
    pub fn any(&self, is_meant: impl Fn(&Cause) -> bool) -> bool {
        self.0.iter().any(|(_, cause)| is_meant(cause))
    }

    /// This machine's fault, if the datagram could not be sent to any address.
    pub fn exit(&self) -> Exit {
        let mut exits = self.0.iter().map(|(_, cause)| cause.exit());
        exits
            .find(|exit| *exit == Exit::Network)
            .unwrap_or(Exit::Local)
    }

    /// The addresses as typed and as resolved, and what happened at each.
    pub fn list(&self, target: &HostPort) -> String {
        let failures = self.0.iter();
        target.tried(failures.map(|(address, cause)| (*address, cause.to_string())))
    }
}

/// What stands around an answer that is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    None,
    /// A newline follows.
    Line,
    /// The sender and a tab come first, and a newline follows.
    Sender,
}

/// How the exchange is told.
#[derive(Clone, Copy)]
pub struct Style {
    /// As events on standard output.
    pub json: bool,
    /// With a message for each answer, and one at the end.
    pub verbose: bool,
}

/// Prints answers, one a line, or with `--json` events; logs the rest; and keeps the exit code.
pub struct Report {
    style: Style,
    /// What standard output has not taken yet.
    pub stdout: Queue,
    frame: Frame,
    pub sent: u64,
    answered: u64,
    /// The last datagram that was answered.
    last_answered: Option<u64>,
    pub worst: Worst,
}

impl Report {
    pub fn start(
        target: &HostPort,
        raw: bool,
        frame: Frame,
        style: Style,
    ) -> Result<Self, Failure> {
        let mut report = Self {
            style,
            stdout: Queue::open(raw)?,
            frame,
            sent: 0,
            answered: 0,
            last_answered: None,
            worst: Worst::default(),
        };
        if style.json {
            report.print(Event::start(&target.to_string()))?;
        }
        Ok(report)
    }

    fn print(&mut self, event: Event) -> Result<(), Failure> {
        self.stdout.push_between(&event.line(), b"", "")
    }

    /// An awaited answer to the datagram with this number.
    pub fn answer(
        &mut self,
        number: u64,
        address: SocketAddr,
        rtt: Option<Duration>,
        answer: &[u8],
    ) -> Result<(), Failure> {
        // Of a group several may answer.
        if self.last_answered.replace(number) != Some(number) {
            self.answered += 1;
        }
        if self.style.verbose {
            let time = rtt.map(|rtt| format!(" in {:.1} ms", json::milliseconds(rtt)));
            let (time, size) = (time.unwrap_or_default(), answer.len());
            tracing::info!("datagram {number} was answered by {address}{time}: {size} bytes");
        }
        if !self.style.json {
            return match self.frame {
                Frame::None => self.stdout.push(answer),
                Frame::Line => self.stdout.push_between("", answer, "\n"),
                Frame::Sender => {
                    let sender = format!("{address}\t");
                    self.stdout.push_between(&sender, answer, "\n")
                }
            };
        }
        let event = Event::new("answer")
            .with("seq", number)
            .with_address(&address)
            .with("size_bytes", answer.len())
            .with("rtt_ms", rtt.map(json::milliseconds));
        self.print(event.with_data(answer))
    }

    /// An arrival that is not the awaited answer. It may show that answers up to the datagram
    /// `suspect` were printed for the wrong ones.
    pub fn stray(
        &mut self,
        arrival: &Arrival,
        address: SocketAddr,
        received: &[u8],
        suspect: Option<u64>,
    ) -> Result<(), Failure> {
        let (name, kind, payload) = match arrival {
            Arrival::Late(payload) => ("late", "late answer", Some(payload)),
            Arrival::Second(payload) => ("duplicate", "second answer", Some(payload)),
            Arrival::Doubtful(payload) => ("doubtful", "doubtful answer", Some(payload)),
            Arrival::Answer { .. } | Arrival::Unexpected => {
                ("unexpected", "unexpected datagram", None)
            }
        };
        let number = payload.map(|payload| payload.number);
        let to = payload.map_or_else(String::new, |payload| format!(" to {payload}"));
        let text = quoted(received);
        tracing::warn!(%address, number, "{kind} from {address}{to}: {text}");
        if let Some(suspect) = suspect {
            tracing::error!(
                %address,
                "{address} sends more than it is asked for: answers up to datagram {suspect} may \
                 belong to the one before"
            );
            self.worst.add(Exit::Network);
        }
        if !self.style.json {
            return Ok(());
        }
        let mut event = Event::new(name).with("seq", number);
        if let Some(suspect) = suspect {
            event = event.with("suspect", suspect);
        }
        let event = event
            .with_address(&address)
            .with("size_bytes", received.len());
        self.print(event.with_data(received))
    }

    /// `payload` was sent `attempts` times, and has no answer for `causes`.
    pub fn unanswered(
        &mut self,
        payload: &Payload,
        causes: &Causes,
        attempts: u64,
        sockets: &Sockets<'_>,
    ) -> Result<(), Failure> {
        let list = causes.list(sockets.target.typed);
        let was_sent = causes.any(|cause| !matches!(cause, Cause::Unsent(_)));
        let message = if causes.exit() == Exit::Local && !was_sent {
            format!("could not send {payload} to {list}")
        } else {
            let times = match attempts {
                1 => String::new(),
                _ => format!(" (sent {attempts} times)"),
            };
            let is_refused =
                causes.any(|cause| matches!(cause, Cause::Unsent(_) | Cause::Failed(_)));
            let advice = if sockets.has_moved && is_refused {
                // As nc -lu does, which then refuses all others.
                " (if it talks only to the first port that it hears from, --source-port N keeps one)"
            } else if causes.any(|cause| matches!(cause, Cause::Doubtful)) {
                " (without --source-port it would come to a port of its own)"
            } else {
                ""
            };
            match &causes.0[..] {
                [(address, Cause::Silent(time))] => {
                    let target = sockets.target.typed.at(*address);
                    let text = payload.text();
                    let time = told(*time);
                    format!("no answer from {target} to {text} within {time}{times}{advice}")
                }
                _ => format!("could not get an answer to {payload} from {list}{times}{advice}"),
            }
        };
        self.fail(&message, causes.exit());
        if !self.style.json {
            return Ok(());
        }
        let event = Event::new("unanswered").with("seq", payload.number);
        self.print(event.with("error", list))
    }

    /// Logs `message`, and counts `exit` for the exit code.
    pub fn fail(&mut self, message: &str, exit: Exit) {
        tracing::error!("{message}");
        self.worst.add(exit);
    }

    /// With -v, at the end.
    pub fn say_counts(&self) {
        if self.style.verbose {
            let (sent, answered) = (self.sent, self.answered);
            tracing::info!("{sent} sent, {answered} answered");
        }
    }

    /// Adds the last event, if events are printed.
    pub fn summarize(&mut self) -> Result<(), Failure> {
        if !self.style.json {
            return Ok(());
        }
        let event = Event::new("summary")
            .with("sent", self.sent)
            .with("answered", self.answered)
            .with("unanswered", self.sent - self.answered);
        self.print(event)
    }

    /// Blocks until all is printed, or fails at `limit`. Otherwise the error carries only the exit code.
    pub fn finish(mut self, limit: Deadline) -> Result<(), Failure> {
        self.summarize()?;
        self.stdout.flush(limit)?;
        self.worst.result()
    }
}
