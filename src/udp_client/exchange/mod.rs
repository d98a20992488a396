//! Sends datagrams one after another, and prints the answer to each.
//!
//! `ledger` says which datagram an arrival belongs to; it has no socket and no clock. `sockets` holds
//! the current socket and the earlier ones; it has no rules. This file asks and waits; `report`
//! prints.
//!
//! No answer is printed for another datagram, with one exception: a server answers twice without
//! repeating the question, and its second answer arrives after the next datagram was sent. That is
//! logged at the end at the latest, and the exit code is 1.

mod ledger;
pub mod payloads;
mod report;
mod send_only;
mod sockets;

use std::io;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure, cause};
use crate::net::datagram::BUFFER;
use crate::net::race::ATTEMPT_DELAY;
use crate::signal::{SIGINT, Signals, end_by};
use crate::udp_client::target::Target;
use crate::units::number;
use crate::wait::{Deadline, IN, Set, is_wait};
use ledger::{Arrival, Ledger, Port, PortPolicy};
use payloads::{Payload, Payloads};
pub use report::Style;
use report::{Cause, Causes, Frame, Report};
use sockets::Sockets;

#[derive(clap::Args)]
pub struct ExchangeArgs {
    /// Wait at most TIME for each answer
    ///
    /// Later answers are reported on standard error (by a ping: as "late") and count as lost. With
    /// --source-port, so are answers that could belong to an earlier datagram. While no address of
    /// a name has answered, the next one is asked too after 250ms.
    #[arg(short = 'W', long, value_name = "TIME", default_value = "1s", value_parser = crate::units::positive_duration)]
    pub timeout: Duration,
    /// Send again up to N times if unanswered
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u32>(0..=u32::MAX.into()))]
    retries: u32,
    /// Only send; do not wait for answers
    ///
    /// Sends at most 32 datagrams per millisecond so that receivers keep up. On Linux, waits for a
    /// slow receiver on this machine and reports what did not fit.
    #[arg(long)]
    pub no_wait: bool,
    /// Print all answers that come within --timeout
    ///
    /// The default for a multicast group and with --broadcast. Each answer of a group follows its
    /// sender and a tab.
    #[arg(long)]
    all: bool,
    /// Print answers as they are, even on a terminal
    ///
    /// Adds no newline and escapes no control characters.
    #[arg(long)]
    pub raw: bool,
}

/// How long surplus answers are waited for at the end. One of them would show that printed answers
/// belong to other datagrams. A server that answers twice does so in one go.
const SURPLUS_WAIT: Duration = Duration::from_millis(50);

/// Ends when every datagram has been answered or given up, or at `limit`. Each failure is logged when it
/// happens; the error at the end carries only the exit code.
pub fn run(
    target: Target<'_>,
    payloads: &mut Payloads,
    args: &ExchangeArgs,
    style: Style,
    limit: Deadline,
) -> Result<(), Failure> {
    let is_group = target.is_group();
    let frame = if args.raw || payloads.is_whole() {
        Frame::None
    } else if is_group {
        Frame::Sender
    } else {
        Frame::Line
    };
    let report = Report::start(target.typed, args.raw, frame, style)?;
    let sockets = Sockets::new(target);
    if args.no_wait {
        return send_only::run(sockets, payloads, report, limit);
    }
    let gathers = args.all || is_group;
    let policy = if gathers && !sockets.target.has_source_port() {
        PortPolicy::FreshPerDatagram
    } else {
        PortPolicy::Keep
    };
    let mut exchange = Exchange {
        args,
        limit,
        sockets,
        ledger: Ledger::new(policy, gathers),
        report,
        interrupt: style
            .json
            .then(|| Signals::catch(&[SIGINT], &[]))
            .transpose()?,
        buffer: vec![0; BUFFER],
    };
    let asked = exchange.ask_all(payloads);
    exchange.finish(asked)
}

struct Exchange<'a> {
    args: &'a ExchangeArgs,
    limit: Deadline,
    sockets: Sockets<'a>,
    ledger: Ledger,
    report: Report,
    /// Caught with `--json`, which prints a summary before SIGINT ends the process.
    interrupt: Option<Signals>,
    buffer: Vec<u8>,
}

/// What ended a wait.
enum Event {
    /// The awaited answer has come, and was printed.
    Answer,
    /// The network says that the awaited datagram did not arrive.
    Refused(io::Error),
    /// The deadline has passed, or standard input is ready, or nothing more can come.
    Over,
}

impl Exchange<'_> {
    fn ask_all(&mut self, payloads: &mut Payloads) -> Result<(), Failure> {
        while let Some(payload) = self.next(payloads)? {
            self.ask(&payload)?;
        }
        let end = Deadline::after(SURPLUS_WAIT);
        self.wait(end, false, Ledger::may_be_shifted).map(drop)
    }

    /// Sums up an exchange that has ended as `asked` says.
    fn finish(mut self, asked: Result<(), Failure>) -> Result<(), Failure> {
        let is_interrupted = self.is_interrupted();
        let gave_up = matches!(&asked, Err(failure) if failure.exit == Exit::Timeout);
        match asked {
            Err(failure) if gave_up => self.report.fail(&failure.to_string(), failure.exit),
            asked if !is_interrupted => asked?,
            _ => {}
        }
        self.report.summarize()?;
        let flushed = if is_interrupted || gave_up {
            // A summary that standard output does not take then does not keep the process.
            self.report.stdout.flush(Deadline::now())
        } else {
            self.flush()
        };
        self.report.say_counts();
        if self.is_interrupted() {
            end_by(SIGINT)?;
        }
        flushed.map_err(|failure| match failure.exit {
            Exit::Timeout if gave_up => Failure::announced(Exit::Timeout),
            _ => failure,
        })?;
        self.report.worst.result()
    }

    /// Blocks until the next datagram is complete. `None` is the end of input.
    fn next(&mut self, payloads: &mut Payloads) -> Result<Option<Rc<Payload>>, Failure> {
        while payloads.wants_input() {
            self.wait(Deadline::NEVER, true, |_| true)?;
            payloads.read()?;
        }
        Ok(payloads.next())
    }

    /// Sends `payload`, up to `--retries` times again, until it is answered or reported as unanswered.
    fn ask(&mut self, payload: &Rc<Payload>) -> Result<(), Failure> {
        self.report.sent += 1;
        // What has arrived by now cannot be the answer.
        self.wait(Deadline::now(), false, |_| true)?;
        let port = self.sockets.port();
        if port.is_some_and(|port| self.ledger.wants_fresh_port(port)) {
            self.sockets.replace();
        }
        let mut attempts = 0;
        loop {
            let limit = Deadline::after(self.args.timeout);
            let causes = self.attempt(payload, limit)?;
            attempts += 1;
            if causes.0.is_empty() {
                return self.gather(limit);
            }
            if causes.exit() == Exit::Local || attempts > u64::from(self.args.retries) {
                self.ledger.give_up();
                return self
                    .report
                    .unanswered(payload, &causes, attempts, &self.sockets);
            }
            // A datagram that is sent again at once after a refusal is refused again: the server
            // may be about to start.
            loop {
                match self.wait(limit, false, |_| true)? {
                    Event::Answer => return self.gather(limit),
                    Event::Refused(_) => {}
                    Event::Over => break,
                }
            }
        }
    }

    /// Waits until `limit` for more answers, where all are wanted.
    fn gather(&mut self, limit: Deadline) -> Result<(), Failure> {
        while self.ledger.gathers() && matches!(self.wait(limit, false, |_| true)?, Event::Answer) {
        }
        self.ledger.give_up();
        Ok(())
    }

    /// Asks each address that may answer, once, until one does or `limit` has passed. Returns why none
    /// did.
    fn attempt(&mut self, payload: &Rc<Payload>, limit: Deadline) -> Result<Causes, Failure> {
        let has_one_port = self.sockets.target.has_source_port();
        let mut causes = Causes::default();
        for others in (0..self.sockets.candidates.len()).rev() {
            let address = self.sockets.address();
            // An answer can still come from this address while the next is asked, unless that takes
            // its port.
            let patience = match u32::try_from(others) {
                Ok(others) if others > 0 && !has_one_port => {
                    let share = self.args.timeout / (others + 1);
                    Deadline::after(share.min(ATTEMPT_DELAY)).min(limit)
                }
                _ => limit,
            };
            let cause = match self.send(payload)? {
                Err(cause) => cause,
                Ok(()) => match self.wait(patience, false, Ledger::owes)? {
                    Event::Answer => return Ok(Causes::default()),
                    Event::Refused(error) => Cause::Failed(error),
                    Event::Over if self.ledger.is_in_doubt => Cause::Doubtful,
                    Event::Over => Cause::Silent(self.args.timeout),
                },
            };
            let took_all = matches!(cause, Cause::Silent(_) | Cause::Doubtful);
            causes.0.push((address, cause));
            self.sockets.advance();
            if took_all && has_one_port {
                break;
            }
        }
        Ok(causes)
    }

    /// Sends to the current address. The outer error is this machine's, and ends the exchange.
    fn send(&mut self, payload: &Rc<Payload>) -> Result<Result<(), Cause>, Failure> {
        let mut sent = self.sockets.send(payload)?.map_err(Cause::Unsent);
        if let (Err(cause), Some(port)) = (&sent, self.sockets.port())
            && cause.is_refusal()
        {
            // An earlier datagram was refused, and this one was not sent (udp(7)).
            self.ledger.refused(port);
            sent = self.sockets.send(payload)?.map_err(Cause::Unsent);
        }
        Ok(sent.map(|(port, at)| self.ledger.sent(port, payload, at)))
    }

    /// Blocks until standard output has taken all that was printed. Fails as [`Self::wait`] does.
    fn flush(&mut self) -> Result<(), Failure> {
        while !self.report.stdout.is_empty() {
            let mut set = Set::new();
            let output = self.report.stdout.watch(&mut set);
            set.add(self.interrupt.as_ref().map(Signals::as_fd), IN);
            let ready = set.wait(self.limit)?;
            self.check_end()?;
            if ready[output] {
                self.report.stdout.go_on()?;
            }
        }
        Ok(())
    }

    /// Fails at a caught SIGINT and at the limit.
    fn check_end(&self) -> Result<(), Failure> {
        if self.is_interrupted() {
            return Err(Failure::announced(Exit::Network));
        }
        if self.limit.has_passed() {
            let address = self.sockets.address();
            return Err(self.sockets.target.gave_up(address, self.limit));
        }
        Ok(())
    }

    /// Waits until `until` while `goes_on`, with `input` also for standard input, and reports what
    /// arrives. Fails when the reader of standard output has left, at a caught SIGINT and at the limit.
    fn wait(
        &mut self,
        until: Deadline,
        input: bool,
        goes_on: impl Fn(&Ledger) -> bool,
    ) -> Result<Event, Failure> {
        /// What has arrived in time is still read, but a server may send faster than that.
        const MOST_OVERDUE: usize = 4096;
        let stdin = io::stdin();
        let mut overdue = 0;
        while goes_on(&self.ledger) && overdue < MOST_OVERDUE {
            self.sockets.target.watch.check()?;
            self.flush()?;
            let is_over = until.has_passed();
            let mut set = Set::new();
            let ports = self.sockets.add_to(&mut set);
            let input = set.add(input.then(|| stdin.as_fd()), IN);
            let output = self.report.stdout.watch(&mut set);
            set.add(self.interrupt.as_ref().map(Signals::as_fd), IN);
            let ready = set.wait(until.min(self.limit))?;
            if ready[output] {
                self.report.stdout.go_on()?;
            }
            let mut arrived = ports.into_iter().filter(|(_, key)| ready[*key]).peekable();
            if self.is_interrupted() || arrived.peek().is_none() {
                self.check_end()?;
            }
            if is_over && arrived.peek().is_none() {
                break;
            }
            overdue += usize::from(is_over);
            for (port, _) in arrived {
                if let Some(event) = self.receive(port)? {
                    return Ok(event);
                }
            }
            if ready[input] {
                break;
            }
        }
        Ok(Event::Over)
    }

    /// Takes what has arrived at `port`: a datagram, or an error.
    fn receive(&mut self, port: Port) -> Result<Option<Event>, Failure> {
        let (count, source) = match self.sockets.receive(port, &mut self.buffer) {
            Ok(received) => received,
            Err(error) if is_wait(&error) => return Ok(None),
            Err(error) => {
                tracing::debug!(address = %port.peer, "{}", cause(&error));
                self.ledger.refused(port);
                let is_awaited = self.ledger.is_awaiting() && self.sockets.port() == Some(port);
                return Ok(is_awaited.then_some(Event::Refused(error)));
            }
        };
        self.sockets.target.watch.check()?;
        let received = &self.buffer[..count];
        let arrival = self.ledger.arrive(port, received, Instant::now());
        if let Arrival::Answer { number, rtt } = arrival {
            self.sockets.settle(port);
            self.report.answer(number, source, rtt, received)?;
            return Ok(Some(Event::Answer));
        }
        let suspect = self.ledger.take_suspect();
        self.report.stray(&arrival, source, received, suspect)?;
        Ok(None)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Signals::is_ending)
    }
}
