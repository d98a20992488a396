//! `-z --tls`: shakes hands with a port that is open, and says what its certificate is.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::check::Checked;
use crate::exit::{Exit, Failure};
use crate::net::target::Address;
use crate::tls::{Connector, Session};
use crate::wait::{Deadline, IN, Key, Set};

/// How a check encrypts.
pub struct Encryption {
    /// `None`: it does not.
    pub connector: Option<Connector>,
    /// A certificate that ends sooner is a failure.
    pub expiry: Option<Duration>,
}

/// The handshake with one port.
pub struct Handshake<'a> {
    connector: &'a Connector,
    session: Session,
    target: &'a Address,
    /// The target and its address, as messages tell them.
    name: String,
    /// What is known of the port without TLS. Taken once all is known.
    open: Option<Checked>,
    began: Instant,
    /// How long the handshake took.
    took: Option<Duration>,
    /// Until then TLS 1.3 may still tell that our certificate is refused.
    pub settles_at: Deadline,
}

impl<'a> Handshake<'a> {
    pub fn new(
        connector: &'a Connector,
        session: Session,
        target: &'a Address,
        name: String,
        open: Checked,
    ) -> Self {
        Self {
            connector,
            session,
            target,
            name,
            open: Some(open),
            began: Instant::now(),
            took: None,
            settles_at: Deadline::NEVER,
        }
    }

    pub fn watch<'s>(&'s self, set: &mut Set<'s>) -> Key {
        let events = self.took.map_or_else(|| self.session.next(), |_| IN);
        set.add(self.session.as_fd(), events)
    }

    /// Goes on. `None`: it is not over.
    pub fn proceed(&mut self, limit: Deadline, expiry: Option<Duration>) -> Option<Checked> {
        let result = match self.took {
            None => self.session.proceed(),
            Some(_) => return self.settle(limit, expiry),
        };
        match result {
            Ok(false) if limit.has_passed() => {
                Some(self.failed(&ErrorKind::TimedOut.into(), limit))
            }
            Ok(false) => None,
            Ok(true) => {
                let took = self.began.elapsed();
                self.took = Some(took);
                self.settles_at = Deadline::after(2 * took + Self::SLOWEST);
                self.settle(limit, expiry)
            }
            Err(error) => Some(self.failed(&error, limit)),
        }
    }

    /// What a server may take to verify our certificate, besides two round trips.
    const SLOWEST: Duration = Duration::from_millis(50);

    /// Waits for the first record after the handshake: a ticket, data, or a refusal.
    fn settle(&mut self, limit: Deadline, expiry: Option<Duration>) -> Option<Checked> {
        match self.session.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let is_over = self.settles_at.has_passed() || limit.has_passed();
                is_over.then(|| self.finished(expiry))
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let message = format!("could not speak TLS with {}: {error}", self.name);
                Some(self.closed(Failure::new(Exit::Network, message)))
            }
            // Whatever it does with a connection that says nothing, it speaks TLS.
            _ => Some(self.finished(expiry)),
        }
    }

    fn failed(&mut self, error: &std::io::Error, limit: Deadline) -> Checked {
        self.closed(Connector::failure(error, &self.name, limit))
    }

    fn closed(&mut self, failure: Failure) -> Checked {
        let open = self.open.take();
        Checked {
            address: open.and_then(|open| open.address),
            ..Checked::failed(failure)
        }
    }

    fn finished(&mut self, expiry: Option<Duration>) -> Checked {
        let took = self.took.unwrap_or_default();
        let distrust = self.connector.distrust(&self.session, self.target.host());
        let fields = self.session.fields(took, distrust);
        if let Some(expiry) = expiry
            && let Some(end) = self.session.ends_within(expiry)
        {
            let name = &self.name;
            let message = format!(
                "the certificate of {name} lasts until {end}, less than {expiry:?} (--tls-expiry)"
            );
            let failure = Failure::new(Exit::Network, message).that_stays();
            return Checked {
                fields,
                ..self.closed(failure)
            };
        }
        self.session.close(Deadline::now(), usize::MAX);
        let open = self.open.take();
        let line = open.as_ref().and_then(|open| open.line.clone());
        let line = format!(
            "{}, {}",
            line.unwrap_or_default(),
            self.session.result(took)
        );
        match open {
            Some(open) => Checked {
                line: Some(line),
                fields,
                ..open
            },
            None => Checked::failed(Failure::announced(Exit::Network)),
        }
    }
}
