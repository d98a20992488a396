//! Sends datagrams one after another, and prints the answer to each.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};
use crate::flow::{Cause, Event, Flows, Whose};
use crate::output;
use crate::payloads::{Next, Payload, Payloads};

#[derive(Clone, Debug, clap::Args)]
pub struct ExchangeArgs {
    /// How long one answer may take
    #[arg(short = 'W', long, value_name = "TIME", default_value = "1s", value_parser = crate::units::positive_duration)]
    pub timeout: Duration,
    /// Send a datagram again up to N times while it is not answered
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "pinging"
    )]
    retries: u32,
    /// Send only; do not wait for answers
    #[arg(long, conflicts_with_all = ["timeout", "retries", "pinging"])]
    no_wait: bool,
    /// Print answers as they are, also on a terminal
    #[arg(long, conflicts_with_all = ["no_wait", "pinging"])]
    raw: bool,
}

/// Ends when all of `payloads` are done with. What became of each one is said when it happens; the
/// error at the end carries only the exit code, and this machine's comes before the network's.
pub fn run(
    flows: &mut Flows<'_>,
    payloads: &mut Payloads,
    args: &ExchangeArgs,
) -> anyhow::Result<()> {
    let mut worst = None;
    if args.no_wait {
        while let Some(payload) = payloads.wait()? {
            send(flows, &payload, &mut worst)?;
        }
    } else {
        let escaped = output::escapes(args.raw);
        while let Some(payload) = next(flows, payloads)? {
            if ask(flows, &payload, args, &mut worst)? {
                output::write_answer(flows.answer(), escaped)?;
            }
        }
    }
    match worst {
        None => Ok(()),
        Some(exit) => Err(Failure::announced(exit).into()),
    }
}

/// The next datagram, as soon as there is one; what arrives before it is reported.
fn next(flows: &mut Flows<'_>, payloads: &mut Payloads) -> anyhow::Result<Option<Rc<Payload>>> {
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

/// Sends `payload`, again if need be, and waits for the answer: whether there is one.
fn ask(
    flows: &mut Flows<'_>,
    payload: &Rc<Payload>,
    args: &ExchangeArgs,
    worst: &mut Option<Exit>,
) -> anyhow::Result<bool> {
    let mut sent: u64 = 0;
    loop {
        let limit = Instant::now() + args.timeout;
        let Some(causes) = attempt(flows, payload, args.timeout)? else {
            return Ok(true);
        };
        sent += 1;
        let is_too_large = |(_, cause): &(_, Cause)| matches!(cause, Cause::TooLarge { .. });
        if causes.iter().all(is_too_large) {
            let message = format!("could not send {payload} to {}", list(flows, &causes));
            fail(&message, exit_of(&causes), worst);
            return Ok(false);
        }
        if sent > u64::from(args.retries) {
            let times = match sent {
                1 => String::new(),
                _ => format!(" (sent {sent} times)"),
            };
            let is_refused = |(_, cause): &(_, Cause)| matches!(cause, Cause::Refused(_));
            let advice = if flows.has_moved() && causes.iter().any(is_refused) {
                // As nc -lu does, and then refuses all others.
                " (if it talks only to the first port that it hears from, --source-port N keeps one)"
            } else {
                ""
            };
            let list = list(flows, &causes);
            let message =
                format!("could not get an answer to {payload} from {list}{times}{advice}");
            fail(&message, exit_of(&causes), worst);
            return Ok(false);
        }
        // After a refusal there is time left. To send again at once would only be refused again:
        // who is to answer may be about to start.
        if rest(flows, payload, limit)? {
            return Ok(true);
        }
    }
}

/// One round of the addresses that come into question; `None`: there is an answer.
fn attempt(
    flows: &mut Flows<'_>,
    payload: &Rc<Payload>,
    timeout: Duration,
) -> anyhow::Result<Option<Causes>> {
    let mut causes = Vec::new();
    for _ in 0..flows.candidates() {
        let address = flows.address();
        let cause = match flows.send(payload)? {
            Err(cause) => cause,
            Ok(()) => match flows.wait(Some(payload), Some(Instant::now() + timeout), None)? {
                Event::Answer => return Ok(None),
                Event::Refused(error) => Cause::Refused(error),
                Event::Time | Event::Input => Cause::Silent(timeout),
            },
        };
        let silent = matches!(cause, Cause::Silent(_));
        causes.push((address, cause));
        // It may be that only this address is out of order. But silence costs time, of which each
        // attempt has only so much.
        flows.advance();
        if silent {
            break;
        }
    }
    Ok(Some(causes))
}

/// Waits until `limit` for an answer that comes in spite of all: whether it does.
fn rest(flows: &mut Flows<'_>, payload: &Payload, limit: Instant) -> anyhow::Result<bool> {
    loop {
        match flows.wait(Some(payload), Some(limit), None)? {
            Event::Answer => return Ok(true),
            Event::Time => return Ok(false),
            Event::Refused(_) | Event::Input => {}
        }
    }
}

/// Sends `payload` and waits for nothing.
fn send(
    flows: &mut Flows<'_>,
    payload: &Rc<Payload>,
    worst: &mut Option<Exit>,
) -> anyhow::Result<()> {
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
    fail(&message, exit_of(&causes), worst);
    Ok(())
}

/// Says that a datagram has failed; `worst` becomes the exit code of all.
fn fail(message: &str, exit: Exit, worst: &mut Option<Exit>) {
    tracing::error!("{message}");
    if *worst != Some(Exit::Local) {
        *worst = Some(exit);
    }
}

fn exit_of(causes: &Causes) -> Exit {
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
