//! One connection of a check or a ping: to the port, and with `--tls` a handshake over it.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::net::connect::ConnectArgs;
use crate::net::race::Connected;
use crate::net::target::Address;
use crate::proxy::{Attempt, Route};
use crate::tls::{ClientTlsArgs, Connector, Session};
use crate::units::told;
use crate::wait::{Deadline, IN, Key, Ready, Set};

/// How a check or a ping encrypts.
pub struct Encryption {
    /// `None`: it does not.
    connector: Option<Connector>,
    /// A certificate that ends sooner is a failure.
    expiry: Option<Duration>,
}

impl Encryption {
    /// Reads the files that `args` names, until `limit`.
    pub fn new(args: &ClientTlsArgs, limit: Deadline) -> Result<Self, Failure> {
        let connector = args.tls.then(|| Connector::with_verdict(args, limit));
        Ok(Self {
            connector: connector.transpose()?,
            expiry: args.tls_expiry,
        })
    }

    pub fn is_on(&self) -> bool {
        self.connector.is_some()
    }

    /// What JSON tells of a handshake with `target`. `took`: with the time of it.
    pub fn fields(
        &self,
        shaken: &Shaken,
        target: &Address,
        took: Option<Duration>,
    ) -> Vec<(&'static str, Value)> {
        let connector = self.connector.as_ref();
        let distrust = connector.and_then(|it| it.distrust(&shaken.session, target.host()));
        shaken.session.fields(took, distrust)
    }
}

/// Its user calls [`Self::start_due`], waits until [`Self::wake`] for what [`Self::watch`] has added,
/// and gives that to [`Self::dialed`].
pub struct Dial<'a> {
    target: &'a Address,
    attempt: Attempt<'a>,
    encryption: &'a Encryption,
    /// The connection stands, and TLS has begun.
    handshake: Option<Handshake>,
    /// Why TLS has failed.
    failure: Option<Failure>,
}

/// The port is open; with `--tls`, both sides have agreed and the server is trusted.
pub struct Dialed {
    pub connected: Arc<Connected>,
    pub shaken: Option<Shaken>,
}

/// What a handshake has shown.
pub struct Shaken {
    pub took: Duration,
    pub ended: Instant,
    /// It has told its end.
    pub session: Session,
    /// The certificate ends too soon.
    pub fault: Option<Failure>,
}

impl Dialed {
    /// From the attempt that won to its end, the handshake included.
    pub fn took(&self) -> Duration {
        self.ended() - self.connected.began
    }

    pub fn ended(&self) -> Instant {
        let shaken = self.shaken.as_ref();
        shaken.map_or_else(|| self.connected.reached(), |shaken| shaken.ended)
    }
}

impl<'a> Dial<'a> {
    /// Goes the way that `route` says.
    pub fn new(
        args: &'a ConnectArgs,
        target: &'a Address,
        route: Route,
        encryption: &'a Encryption,
    ) -> Self {
        Self {
            target,
            attempt: Attempt::new(args, target, route),
            encryption,
            handshake: None,
            failure: None,
        }
    }

    /// Starts what is due. Does not block.
    pub fn start_due(&mut self) {
        if self.handshake.is_none() {
            self.attempt.start_due();
        }
    }

    /// When to go on, whatever the sockets do.
    pub fn wake(&self) -> Deadline {
        match &self.handshake {
            Some(handshake) => handshake.settles_at,
            None => self.attempt.next_start(),
        }
    }

    /// Whether it has failed.
    pub fn is_lost(&self) -> bool {
        self.failure.is_some() || self.handshake.is_none() && self.attempt.is_lost()
    }

    /// Adds what is under way.
    pub fn watch<'s>(&'s self, set: &mut Set<'s>) -> Vec<Key> {
        match &self.handshake {
            Some(handshake) => vec![handshake.watch(set)],
            None => self.attempt.watch(set),
        }
    }

    /// Takes what a wait for `keys` has found at `at`. `None`: it is not over, or is lost. From `limit`
    /// on, nothing more is waited for.
    pub fn dialed(
        &mut self,
        keys: &[Key],
        ready: &Ready,
        at: Instant,
        limit: Deadline,
    ) -> io::Result<Option<Dialed>> {
        if self.handshake.is_none() {
            let Some(connected) = self.attempt.connected(keys, ready, at)? else {
                return Ok(None);
            };
            let connected = Arc::new(connected);
            let Some(connector) = &self.encryption.connector else {
                return Ok(Some(Dialed {
                    connected,
                    shaken: None,
                }));
            };
            let session = connector.begin(Arc::clone(&connected) as _, self.target.host());
            match session.map(|session| Handshake::new(connected, session)) {
                Ok(handshake) => self.handshake = Some(handshake),
                Err(failure) => self.failure = Some(failure),
            }
        }
        Ok(self.shake_hands(limit))
    }

    fn shake_hands(&mut self, limit: Deadline) -> Option<Dialed> {
        let handshake = self.handshake.as_mut()?;
        match handshake.proceed(limit) {
            Ok(true) => self.finish(),
            Ok(false) => None,
            Err(error) => {
                let name = handshake.connected.name(self.target);
                self.failure = Some(Connector::failure(&error, name, limit));
                None
            }
        }
    }

    fn finish(&mut self) -> Option<Dialed> {
        let Handshake {
            session,
            connected,
            ended,
            ..
        } = self.handshake.take()?;
        let took = ended?.saturating_duration_since(connected.reached());
        session.close(Deadline::now(), usize::MAX);
        Some(Dialed {
            shaken: Some(Shaken {
                took,
                ended: ended?,
                fault: self.fault(&session, &connected),
                session,
            }),
            connected,
        })
    }

    /// Session keys could not be written, or the certificate ends soon.
    fn fault(&self, session: &Session, connected: &Connected) -> Option<Failure> {
        let connector = self.encryption.connector.as_ref()?;
        if let Err(failure) = connector.check_keys() {
            return Some(failure);
        }
        let expiry = self.encryption.expiry?;
        let end = session.ends_within(expiry)?;
        let name = connected.name(self.target);
        let message = format!(
            "the certificate of {name} lasts until {end}, less than {} (--tls-expiry)",
            told(expiry)
        );
        Some(Failure::new(Exit::Network, message).that_stays())
    }

    /// The connection under the handshake.
    pub fn connected(&self) -> Option<&Connected> {
        let handshake = self.handshake.as_ref()?;
        Some(&handshake.connected)
    }

    /// The way that has led to `connected`: of several addresses that which was reached.
    pub fn way(&self, connected: &Connected) -> Route {
        self.attempt.way(&connected.peer)
    }

    /// The error that came last, and the proxies on the way to where it came from; `None`: straight.
    pub fn last_error(&self) -> Option<(Option<String>, io::Error)> {
        let Some(failure) = &self.failure else {
            return self.attempt.last_error();
        };
        let via = self
            .connected()
            .and_then(|connected| connected.via.as_ref());
        let through = via.map(|via| via.proxies.clone());
        Some((through, io::Error::other(failure.cause().to_owned())))
    }

    /// Takes why it has failed, or that there was no answer within `limit`.
    pub fn failure(&mut self, limit: Deadline) -> Failure {
        let failure = self.failure.take();
        failure.unwrap_or_else(|| self.attempt.failure(limit))
    }
}

/// The handshake over one connection.
struct Handshake {
    connected: Arc<Connected>,
    session: Session,
    /// When both sides had agreed.
    ended: Option<Instant>,
    /// Until then TLS 1.3 may still tell that our certificate is refused.
    settles_at: Deadline,
}

impl Handshake {
    fn new(connected: Arc<Connected>, session: Session) -> Self {
        Self {
            connected,
            session,
            ended: None,
            settles_at: Deadline::NEVER,
        }
    }

    fn watch<'s>(&'s self, set: &mut Set<'s>) -> Key {
        let events = self.ended.map_or_else(|| self.session.next(), |_| IN);
        set.add(self.session.as_fd(), events)
    }

    /// What a server may take to verify our certificate, besides two round trips.
    const SLOWEST: Duration = Duration::from_millis(50);

    /// Goes on. Whether it is over. From `limit` on, it waits for nothing more.
    fn proceed(&mut self, limit: Deadline) -> io::Result<bool> {
        if self.ended.is_none() {
            if !self.session.proceed()? {
                if limit.has_passed() {
                    return Err(ErrorKind::TimedOut.into());
                }
                return Ok(false);
            }
            let ended = Instant::now();
            let took = ended.saturating_duration_since(self.connected.reached());
            self.ended = Some(ended);
            self.settles_at = Deadline::after(2 * took + Self::SLOWEST);
        }
        // The first record after the handshake is a ticket, data, or a refusal.
        match self.session.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(self.settles_at.has_passed() || limit.has_passed())
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(error),
            // Whatever it does with a connection that says nothing, it speaks TLS.
            _ => Ok(true),
        }
    }
}
