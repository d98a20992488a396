//! What a TCP server does with a connection.

mod chargen;
mod connection;
mod discard;
mod echo;
mod hello;

use std::time::Duration;

use clap::ValueEnum;

pub use connection::{Connection, Ended};

use crate::units::{duration, size};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// What to do with a connection
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// What `hello` says first
    #[arg(long, value_name = "TEXT", default_value = "Welcome!")]
    welcome: String,
    /// How long `hello` waits before every answer
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    delay: Duration,
    /// What one message to `hello` is
    #[arg(long, value_name = "FRAMING", default_value = "auto")]
    framing: hello::Framing,
    /// The longest message that `hello` answers
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = size)]
    max_message: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Greets, and answers every message X with `Hello, X!` until `exit`
    Hello,
    /// Sends back what it gets (RFC 862)
    Echo,
    /// Throws away what it gets (RFC 863)
    Discard,
    /// Sends printable characters for ever (RFC 864)
    Chargen,
}

impl ServiceArgs {
    /// Serves one connection to its end. Whoever called it closes the connection.
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        match self.service {
            Service::Hello => hello::handle(connection, self),
            Service::Echo => echo::handle(connection),
            Service::Discard => discard::handle(connection),
            Service::Chargen => chargen::handle(connection),
        }
    }
}
