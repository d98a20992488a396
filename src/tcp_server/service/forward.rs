//! Relays a connection to another server.

use std::sync::Arc;

use crate::exit::{Failure, blame};
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, connect};
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Fault, WhenClosed};
use crate::tcp_server::connection::{Connection, Ended};

/// Connects to `target` and joins the two, each direction to its own end. A failure on one side
/// resets both.
// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection, target: &HostPort, args: &ConnectArgs) -> Result<(), Ended> {
    let name = target.to_string();
    let connected = connect(target, args, connection.session_end).map_err(Ended::Local)?;
    let target = Arc::new(connected.stream);
    let mut local = Duplex::of_socket(target).map_err(Ended::Failed)?;
    // The client still gets what the target sent before it went away.
    local.writer.when_closed = WhenClosed::FailsAtTheEnd;
    let remote = connection.duplex()?;
    connection.relay(local, remote, Rules::PATIENT, |fault| match fault {
        Fault::Read(error) => {
            Failure::of(blame(error), format_args!("could not read {name}"), error)
        }
        Fault::Write(error) => {
            Failure::of(blame(error), format_args!("could not write {name}"), error)
        }
        Fault::Tap(_) => fault.failure(&name, &name),
    })
}
