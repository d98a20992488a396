//! `--no-wait`: sends datagrams, and waits for no answers.

use std::io;

use super::pacing::Pacing;
use super::payloads::{Payload, Payloads};
use super::report::{Cause, Causes, Report};
use super::sockets::Sockets;
use crate::exit::{Exit, Failure};
use crate::udp_client::socket::{SEND_PATIENCE, send_when_room};

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
        while causes.0.len() < self.sockets.candidates() {
            let address = self.sockets.address();
            let is_first = self.sockets.port().is_none();
            let Err((is_sent, cause)) = self.send_once(payload)? else {
                return Ok(());
            };
            self.sockets.advance();
            let is_refused = matches!(&cause, Cause::Refused(error) if error.kind() == io::ErrorKind::ConnectionRefused);
            if is_first || !is_sent && !is_refused {
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

    /// The inner error: whether `payload` has been sent all the same, and what the network says of
    /// it or of an earlier datagram. Closes the socket then.
    fn send_once(&mut self, payload: &Payload) -> Result<Result<(), (bool, Cause)>, Failure> {
        if let Some(cause) = Cause::of_size(payload, self.sockets.address()) {
            return Ok(Err((false, cause)));
        }
        let link = match self.sockets.current()? {
            Ok((_, link)) => link,
            Err(error) => return Ok(Err((false, Cause::Refused(error)))),
        };
        let sent = send_when_room(link, SEND_PATIENCE, &payload.bytes);
        let is_sent = sent.is_ok();
        // The kernel knows by now whether anybody on this machine listens.
        let error = match sent {
            Ok(_) => link.take_error()?,
            Err(error) => Some(error),
        };
        Ok(error.map_or(Ok(()), |error| {
            self.sockets.close();
            Err((is_sent, Cause::Refused(error)))
        }))
    }
}
