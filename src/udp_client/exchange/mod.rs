//! Sends datagrams one after another, and prints the answer to each.

mod ledger;
mod pacing;
pub mod payloads;
pub mod sockets;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure, Worst};
use crate::signal::Interrupt;
use crate::wait::{self, Deadline};
use crate::{json, output};
use pacing::Receiver;
use payloads::{Next, Payload, Payloads};
use sockets::{Cause, Event, Flows, Whose};

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
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Only send; do not wait for answers
    ///
    /// Sends at most 32 datagrams per millisecond so that receivers keep up. On Linux, waits for a
    /// slow receiver on this machine and reports what did not fit.
    #[arg(long, conflicts_with_all = ["timeout", "retries"])]
    no_wait: bool,
    /// Do not escape received data on a terminal
    #[arg(long, conflicts_with_all = ["no_wait"])]
    pub raw: bool,
}

/// How long late answers to the last datagrams are waited for, if the time limit is not shorter.
const LINGER: Duration = Duration::from_secs(2);

/// How long after one address of a name the next is asked too, until one has answered: as for TCP
/// (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Ends when all of `payloads` are done with. What became of each one is said when it happens; the
/// error at the end carries only the exit code, and this machine's comes before the network's.
pub fn run(
    flows: &mut Flows<'_>,
    payloads: &mut Payloads,
    args: &ExchangeArgs,
    json: bool,
) -> Result<(), Failure> {
    let mut worst = Worst::default();
    if args.no_wait {
        let mut burst = Burst::new(Instant::now());
        let mut receiver = Receiver::new(flows.address());
        while let Some(payload) = payloads.wait()? {
            if let Some(pause) = burst.pause(payload.bytes.len(), Instant::now()) {
                wait::pause(Deadline::after(pause))?;
                if receiver.address() != flows.address() {
                    receiver = Receiver::new(flows.address());
                }
                receiver.wait()?;
            }
            send(flows, &payload, &mut worst)?;
            flows.check()?;
        }
        report_lost(flows, &receiver, &mut worst);
    } else {
        let mut report = Report::start(flows, args.raw, json)?;
        let asked = ask_all(flows, payloads, args, &mut report, &mut worst);
        if !flows.is_interrupted() {
            asked?;
        }
        report.finish()?;
        if flows.is_interrupted() {
            Interrupt::end()?;
        }
    }
    worst.result()
}

fn ask_all(
    flows: &mut Flows<'_>,
    payloads: &mut Payloads,
    args: &ExchangeArgs,
    report: &mut Report,
    worst: &mut Worst,
) -> Result<(), Failure> {
    let mut silent = None;
    while let Some(payload) = next(flows, payloads)? {
        report.sent += 1;
        let causes = ask(flows, &payload, args, worst)?;
        let is_silent = |(_, cause): &(_, Cause)| matches!(cause, Cause::Silent(_));
        if causes.iter().any(is_silent) {
            silent = Some(Instant::now());
        }
        report.done(flows, &payload, &causes)?;
    }
    if let Some(since) = silent {
        flows.linger(since + args.timeout.min(LINGER))?;
    }
    flows.settle_at_end()?;
    if flows.is_suspicious() && worst.is_none() {
        worst.add(Exit::Network);
    }
    Ok(())
}

/// How fast datagrams go out that nobody answers. What a receiver's queue has no room for is lost
/// without a word. Linux's holds 208 KiB, which is some 270 small ones: bursts are much less than
/// that, and have time between them in which an ordinary program takes them.
const BURST: usize = 32;
const BURST_TIME: Duration = Duration::from_millis(1);
/// How many bytes count for one more datagram.
const WEIGHT: usize = 2048;

/// What has gone out since the last pause.
struct Burst {
    began: Instant,
    weight: usize,
}

impl Burst {
    fn new(began: Instant) -> Self {
        Self { began, weight: 0 }
    }

    /// How long to wait before the next datagram, which has `size` bytes, if it begins a burst.
    fn pause(&mut self, size: usize, now: Instant) -> Option<Duration> {
        let end = self.began + BURST_TIME;
        let pause = if self.weight == 0 || now >= end {
            // Time that was not used is not made up for.
            Some(Duration::ZERO)
        } else {
            (self.weight >= BURST).then(|| end - now)
        };
        if let Some(pause) = pause {
            *self = Self::new(now + pause);
        }
        self.weight += 1 + size / WEIGHT;
        pause
    }
}

/// Says what `receiver` had no room for.
fn report_lost(flows: &Flows<'_>, receiver: &Receiver, worst: &mut Worst) {
    let lost = receiver.lost();
    if lost > 0 {
        let name = flows.name(receiver.address());
        let message = format!(
            "could not deliver all datagrams to {name}: its queue was full, and {lost} of all that came were \
             lost"
        );
        fail(&message, Exit::Network, worst);
    }
}

/// What is printed: each answer on a line, or events.
struct Report {
    json: bool,
    escaped: bool,
    sent: u64,
    answered: u64,
}

impl Report {
    fn start(flows: &Flows<'_>, raw: bool, json: bool) -> Result<Self, Failure> {
        if json {
            json::Event::new("start")
                .with("v", 1)
                .with("target", flows.target().to_string())
                .print()?;
        }
        Ok(Self {
            json,
            escaped: output::escapes(raw),
            sent: 0,
            answered: 0,
        })
    }

    /// `payload` was answered, if there are no `causes` why not.
    fn done(
        &mut self,
        flows: &Flows<'_>,
        payload: &Payload,
        causes: &Causes,
    ) -> Result<(), Failure> {
        let answer = flows.answer();
        if causes.is_empty() {
            self.answered += 1;
        }
        match (self.json, causes.is_empty()) {
            (false, true) => output::write_answer(answer, b"\n", self.escaped),
            (false, false) => Ok(()),
            (true, true) => json::Event::new("answer")
                .with("number", payload.number)
                .with("address", flows.from().to_string())
                .with("bytes", answer.len())
                .with("rtt_ms", flows.rtt().map(json::milliseconds))
                .with_data(answer)
                .print(),
            (true, false) => json::Event::new("unanswered")
                .with("number", payload.number)
                .with("message", list(flows, causes))
                .print(),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        json::Event::new("summary")
            .with("sent", self.sent)
            .with("answered", self.answered)
            .with("unanswered", self.sent - self.answered)
            .print()
    }
}

/// The next datagram, as soon as there is one; what arrives before it is reported.
fn next(flows: &mut Flows<'_>, payloads: &mut Payloads) -> Result<Option<Rc<Payload>>, Failure> {
    loop {
        match payloads.next() {
            Next::Payload(payload) => return Ok(Some(payload)),
            Next::End => return Ok(None),
            Next::Input => {
                flows.wait(None, None, Some(io::stdin().as_fd()))?;
                payloads.read()?;
            }
        }
    }
}

/// The addresses that a datagram was sent to in vain, and why it was at each.
type Causes = Vec<(SocketAddr, Cause)>;

/// Sends `payload`, again if need be, and waits for the answer. Without one, why there is none.
fn ask(
    flows: &mut Flows<'_>,
    payload: &Rc<Payload>,
    args: &ExchangeArgs,
    worst: &mut Worst,
) -> Result<Causes, Failure> {
    let mut sent: u64 = 0;
    loop {
        let limit = Instant::now() + args.timeout;
        let Some(causes) = attempt(flows, payload, args.timeout)? else {
            return Ok(Causes::new());
        };
        sent += 1;
        let is_too_large = |(_, cause): &(_, Cause)| matches!(cause, Cause::TooLarge { .. });
        if causes.iter().all(is_too_large) {
            let message = format!("could not send {payload} to {}", list(flows, &causes));
            fail(&message, blame(&causes), worst);
            return Ok(causes);
        }
        if sent > u64::from(args.retries) {
            let times = match sent {
                1 => String::new(),
                _ => format!(" (sent {sent} times)"),
            };
            let has = |kind: fn(&Cause) -> bool| causes.iter().any(|(_, cause)| kind(cause));
            let advice = if flows.has_moved() && has(|cause| matches!(cause, Cause::Refused(_))) {
                // As nc -lu does, and then refuses all others.
                " (if it talks only to the first port that it hears from, --source-port N keeps one)"
            } else if flows.is_of_one_port() && has(|cause| matches!(cause, Cause::Doubtful)) {
                " (without --source-port it would come to a port of its own)"
            } else {
                ""
            };
            let list = list(flows, &causes);
            let message =
                format!("could not get an answer to {payload} from {list}{times}{advice}");
            fail(&message, blame(&causes), worst);
            return Ok(causes);
        }
        // After a refusal there is time left. To send again at once would only be refused again:
        // who is to answer may be about to start.
        if rest(flows, payload, limit)? {
            return Ok(Causes::new());
        }
    }
}

/// One round of the addresses that come into question, of which the last has all of `timeout`;
/// `None`: there is an answer.
fn attempt(
    flows: &mut Flows<'_>,
    payload: &Rc<Payload>,
    timeout: Duration,
) -> Result<Option<Causes>, Failure> {
    let mut causes = Vec::new();
    for others in (0..flows.candidates()).rev() {
        let address = flows.address();
        // It may be that only this address is out of order. The answer may still come from it
        // while the next is asked, unless that takes its port.
        let patience = if others > 0 && !flows.is_of_one_port() {
            timeout.min(NEXT_ADDRESS)
        } else {
            timeout
        };
        let cause = match flows.send(payload)? {
            Err(cause) => cause,
            Ok(()) => match flows.wait(Some(payload), Some(Instant::now() + patience), None)? {
                Event::Answer => return Ok(None),
                Event::Refused(error) => Cause::Refused(error),
                Event::Doubtful => Cause::Doubtful,
                Event::Time | Event::Input => Cause::Silent(timeout),
            },
        };
        let took_all = !matches!(cause, Cause::Refused(_) | Cause::TooLarge { .. });
        causes.push((address, cause));
        flows.advance();
        if took_all && flows.is_of_one_port() {
            break;
        }
    }
    Ok(Some(causes))
}

/// Waits until `limit` for an answer that comes in spite of all: whether it does.
fn rest(flows: &mut Flows<'_>, payload: &Payload, limit: Instant) -> Result<bool, Failure> {
    loop {
        match flows.wait(Some(payload), Some(limit), None)? {
            Event::Answer => return Ok(true),
            Event::Time | Event::Doubtful => return Ok(false),
            Event::Refused(_) | Event::Input => {}
        }
    }
}

/// Sends `payload` and waits for nothing.
fn send(flows: &mut Flows<'_>, payload: &Rc<Payload>, worst: &mut Worst) -> Result<(), Failure> {
    let mut causes = Vec::new();
    while causes.len() < flows.candidates() {
        let address = flows.address();
        let Err((whose, cause)) = flows.send_only(payload)? else {
            return Ok(());
        };
        flows.forget();
        flows.advance();
        let which = match whose {
            Whose::This => {
                causes.push((address, cause));
                continue;
            }
            Whose::Either => format!("{payload}, or one before it,"),
            Whose::Earlier => format!("what came before {payload},"),
        };
        let message = format!("could not send {which} to {}: {cause}", flows.name(address));
        fail(&message, cause.exit(), worst);
        if whose == Whose::Either {
            return Ok(());
        }
    }
    let message = format!("could not send {payload} to {}", list(flows, &causes));
    fail(&message, blame(&causes), worst);
    Ok(())
}

/// Says that a datagram has failed; `worst` becomes the exit code of all.
fn fail(message: &str, exit: Exit, worst: &mut Worst) {
    tracing::error!("{message}");
    worst.add(exit);
}

fn blame(causes: &Causes) -> Exit {
    let mut exits = causes.iter().map(|(_, cause)| cause.exit());
    exits
        .find(|exit| *exit == Exit::Network)
        .unwrap_or(Exit::Local)
}

/// The addresses as typed and as resolved, and what happened at each.
fn list(flows: &Flows<'_>, causes: &Causes) -> String {
    if let [(address, cause)] = causes.as_slice() {
        return format!("{}: {cause}", flows.name(*address));
    }
    let each: Vec<String> = causes
        .iter()
        .map(|(address, cause)| format!("{address}: {cause}"))
        .collect();
    format!("{}: {}", flows.target(), each.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of the datagrams goes out, where sending takes no time.
    fn times(size: usize, count: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let mut now = start;
        let datagrams = 0..count;
        datagrams
            .map(|_| {
                now += burst.pause(size, now).unwrap_or_default();
                now.duration_since(start)
            })
            .collect()
    }

    #[test]
    fn small_datagrams_go_out_in_bursts_with_pauses() {
        let times = times(10, 3 * BURST);
        assert_eq!(times[BURST - 1], Duration::ZERO);
        assert_eq!(times[BURST], BURST_TIME);
        assert_eq!(times[3 * BURST - 1], 2 * BURST_TIME);
    }

    #[test]
    fn large_datagrams_have_a_pause_each() {
        let times = times(65_507, 3);
        assert_eq!(times, [Duration::ZERO, BURST_TIME, 2 * BURST_TIME]);
    }

    #[test]
    fn time_that_was_not_used_is_not_made_up_for() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let later = start + 100 * BURST_TIME;
        let pauses: Vec<_> = (0..=BURST).map(|_| burst.pause(1, later)).collect();
        assert_eq!(pauses[0], Some(Duration::ZERO));
        assert!(pauses[1..BURST].iter().all(Option::is_none));
        assert_eq!(pauses[BURST], Some(BURST_TIME));
    }
}
