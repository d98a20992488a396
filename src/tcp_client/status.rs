//! What a client tells about its connection: to a person at a terminal, or with `-v`.

use std::time::Instant;

use super::http::default_port;
use crate::logging::LoggingArgs;
use crate::net::race::Connected;
use crate::net::target::Address;
use crate::relay::Traffic;
use crate::terminal::is_at_terminal;
use crate::tls::Session;

pub struct Status {
    audience: Audience,
    /// One line has told what happens: no other does.
    has_begun: bool,
}

#[derive(PartialEq, Eq)]
enum Audience {
    Nobody,
    /// Standard input and standard error are a terminal.
    Person,
    Verbose,
}

impl Status {
    pub fn new(logging: &LoggingArgs) -> Self {
        let audience = if logging.verbose > 0 {
            Audience::Verbose
        } else if is_at_terminal() {
            Audience::Person
        } else {
            Audience::Nobody
        };
        Self {
            audience,
            has_begun: false,
        }
    }

    /// A page is requested, since nobody has asked for anything else.
    pub fn fetching(&mut self, target: &Address, has_tls: bool) {
        if self.audience != Audience::Verbose {
            self.has_begun = true;
            tracing::info!(
                "Fetching http{}://{}/ (--interactive lets you type a request)",
                if has_tls { "s" } else { "" },
                target.host_field(default_port(has_tls))
            );
        }
    }

    /// The connection is there. `reads_input`: what is typed is sent.
    pub fn connected(&self, target: &Address, connection: &Connected, reads_input: bool) {
        let peer = &connection.peer;
        let name = connection.name(target);
        match self.audience {
            Audience::Person if !self.has_begun => {
                let input = if reads_input {
                    "Ctrl-D ends input, "
                } else {
                    ""
                };
                tracing::info!("Connected to {name}. {input}Ctrl-C quits.");
            }
            Audience::Nobody | Audience::Person => {}
            Audience::Verbose => {
                let local = connection
                    .stream
                    .local()
                    .ok()
                    .flatten()
                    .map(tracing::field::display);
                let time = connection.took().as_secs_f64() * 1e3;
                tracing::info!(%peer, local, "connected to {name} in {time:.1} ms");
            }
        }
    }

    /// TLS has begun: with whom, and how.
    pub fn encrypted(&self, session: &Session) {
        if self.audience == Audience::Verbose {
            tracing::info!("{}", session.summary());
        }
    }

    /// The session that began at `start` is over. `is_broken`: a message tells why.
    pub fn ended(&self, traffic: &Traffic, start: Instant, is_broken: bool) {
        let Traffic { sent, received, .. } = traffic;
        match self.audience {
            Audience::Person if traffic.peer_ended && !is_broken => {
                tracing::info!("Connection closed by the peer.");
            }
            Audience::Nobody | Audience::Person => {}
            Audience::Verbose => {
                let how = match (is_broken, traffic.peer_ended) {
                    (true, _) => "broken off",
                    (false, true) => "closed by the peer",
                    (false, false) => "closed",
                };
                let time = start.elapsed().as_secs_f64();
                tracing::info!("{how}: {sent} bytes sent, {received} received in {time:.1} s");
            }
        }
    }
}
