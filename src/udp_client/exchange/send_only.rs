//! `--no-wait`: sends datagrams, and waits for no answers.

use super::pacing::Pacing;
use super::payloads::{Payload, Payloads};
use super::report::{Cause, Causes, Report};
use super::sockets::Sockets;
use crate::exit::{Exit, Failure};

/// Ends when all of `payloads` are sent, and says what could not be.
pub fn run(sockets: Sockets<'_>, payloads: &mut Payloads, report: Report) -> Result<(), Failure> {
    let mut pacing = Pacing::new(sockets.address());
    let mut sender = Sender { sockets, report };
    while let Some(payload) = payloads.wait()? {
        pacing.wait(payload.bytes.len(), sender.sockets.address())?;
        sender.send(&payload)?;
        sender.sockets.route.watch.check()?;
    }
    if let Some((address, lost)) = pacing.lost() {
        let message = format!(
            "could not deliver all datagrams to {}: its queue was full, and {lost} of all that \
             came were lost",
            sender.sockets.route.name(address)
        );
        sender.report.fail(&message, Exit::Network);
    }
    sender.report.finish()
}

struct Sender<'a> {
    sockets: Sockets<'a>,
    report: Report,
}

impl Sender<'_> {
    /// Sends to the current address; to the next one, if the first datagram is refused.
    fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        let mut causes = Causes::default();
        while causes.0.len() < self.sockets.candidates.len() {
            let address = self.sockets.address();
            let is_first = self.sockets.port().is_none();
            let sent = self.sockets.send(payload)?;
            let is_sent = sent.is_ok();
            // The kernel knows by now whether anybody on this machine listens.
            let Some(error) = sent.map_or_else(|e| Ok(Some(e)), |_| self.sockets.take_error())?
            else {
                return Ok(());
            };
            self.sockets.close();
            self.sockets.advance();
            let cause = Cause::Failed(error);
            if is_first || !is_sent && !cause.is_refusal() {
                causes.0.push((address, cause));
                continue;
            }
            let which = if is_sent {
                format!("{payload}, or one before it,")
            } else {
                format!("what came before {payload},")
            };
            let name = self.sockets.route.name(address);
            let message = format!("could not send {which} to {name}: {cause}");
            self.report.fail(&message, cause.exit());
            if is_sent {
                return Ok(());
            }
        }
        let list = causes.list(self.sockets.route.target);
        let message = format!("could not send {payload} to {list}");
        self.report.fail(&message, causes.exit());
        Ok(())
    }
}
