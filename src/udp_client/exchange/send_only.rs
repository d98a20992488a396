//! `--no-wait`: sends datagrams, and waits for no answers.

use super::payloads::{Payload, Payloads};
use super::report::{Cause, Causes, Report};
use super::sockets::Sockets;
use crate::exit::{Exit, Failure};
use crate::net::pacing::Pacing;
use crate::wait::{Deadline, pause};

/// Ends when all of `payloads` are sent, or at `limit`. The error carries only the exit code.
pub fn run(
    mut sockets: Sockets<'_>,
    payloads: &mut Payloads,
    mut report: Report,
    limit: Deadline,
) -> Result<(), Failure> {
    let mut pacing = Pacing::new(sockets.address());
    let is_cut_short = loop {
        let Some(payload) = payloads.wait(limit)? else {
            break payloads.wants_input();
        };
        while let Some(until) = pacing.hold(sockets.address())
            && !limit.has_passed()
        {
            pause(until.min(limit))?;
        }
        if limit.has_passed() {
            break true;
        }
        send(&payload, &mut sockets, &mut report)?;
        pacing.sent(payload.bytes.len());
        sockets.target.watch.check()?;
    };
    if is_cut_short {
        let given_up = sockets.target.gave_up(sockets.address(), limit);
        report.fail(&given_up.to_string(), given_up.exit);
    }
    if let Some(lost) = pacing.lost(|receiver| sockets.target.name(receiver)) {
        report.fail(&lost, Exit::Network);
    }
    report.finish(limit)
}

/// Sends `payload` to the current address; to the next one, if this one refuses its first datagram.
fn send(payload: &Payload, sockets: &mut Sockets<'_>, report: &mut Report) -> Result<(), Failure> {
    let mut causes = Causes::default();
    while causes.0.len() < sockets.candidates.len() {
        let address = sockets.address();
        let is_first = sockets.port().is_none();
        let sent = sockets.send(payload)?;
        let is_sent = sent.is_ok();
        // The kernel knows by now whether a program on this machine listens.
        let error = match sent {
            Ok(_) => sockets.take_error()?,
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            return Ok(());
        };
        sockets.close();
        sockets.advance();
        let cause = Cause::Unsent(error);
        if is_first || !is_sent && !cause.is_refusal() {
            causes.0.push((address, cause));
            continue;
        }
        let which = if is_sent {
            format!("{payload}, or one before it,")
        } else {
            format!("what came before {payload},")
        };
        let name = sockets.target.name(address);
        report.fail(
            &format!("could not send {which} to {name}: {cause}"),
            cause.exit(),
        );
        if is_sent {
            return Ok(());
        }
    }
    let list = causes.list(sockets.target.typed);
    report.fail(
        &format!("could not send {payload} to {list}"),
        causes.exit(),
    );
    Ok(())
}
