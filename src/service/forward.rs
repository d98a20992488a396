//! Relays a connection to another server.

use std::sync::Arc;

use super::connection::{Connection, Ended};
use crate::address::HostPort;
use crate::connect::{ConnectArgs, connect};
use crate::duplex::Duplex;
use crate::exit::{Failure, exit_of};
use crate::relay::Rules;

/// Connects to `target` and joins the two, each direction to its own end.
pub fn handle(connection: &Connection, target: &HostPort, args: &ConnectArgs) -> Result<(), Ended> {
    let name = target.to_string();
    let connected = connect(target, args, connection.session_limit())
        .map_err(|error| Ended::Near(Failure::new(exit_of(&error), format!("{error:#}"))))?;
    let local = Duplex::of_stream(Arc::new(connected.stream)).map_err(Ended::Failed)?;
    // What the target said before it went away still reaches the client.
    let local = Duplex {
        writer: local.writer.that_may_close(),
        ..local
    };
    let remote = Duplex::of_stream(Arc::clone(connection.stream())).map_err(Ended::Failed)?;
    connection.relay(&name, local, remote, &Rules::PATIENT)
}
