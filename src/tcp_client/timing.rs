//! Prints when each step of a session was done, for `--timing`.

use std::time::Instant;

use crate::net::race::Connected;

/// When each step of a session was done.
pub struct Times {
    start: Instant,
    resolved: Instant,
    established: Instant,
    /// The last proxy had connected.
    proxied: Option<Instant>,
}

impl Times {
    pub fn of(start: Instant, connection: &Connected) -> Self {
        Self {
            start,
            resolved: connection.resolved,
            established: connection.established,
            proxied: connection.via.as_ref().map(|via| via.passed),
        }
    }

    pub fn tell(&self, encrypted: Option<Instant>, first_received: Option<Instant>) {
        let since_start = |at: Instant| format!("{:.1} ms", (at - self.start).as_secs_f64() * 1e3);
        let step = |name: &str, at: Option<Instant>| {
            at.map_or_else(String::new, |at| format!("{name} {}, ", since_start(at)))
        };
        tracing::info!(
            "resolve {}, connect {}, {}{}first byte {}, total {}",
            since_start(self.resolved),
            since_start(self.established),
            step("proxy", self.proxied),
            step("tls", encrypted),
            first_received.map_or_else(|| "none".to_owned(), since_start),
            since_start(Instant::now()),
        );
    }
}
