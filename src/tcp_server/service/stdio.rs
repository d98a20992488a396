//! Joins a connection to standard input and output, as netcat's `-l` does.

use crate::exit::{Exit, OrFail as _};
use crate::relay::duplex::{Duplex, Reader, Writer};
use crate::relay::options::StreamArgs;
use crate::relay::{NoInput, Rules};
use crate::tcp_server::connection::{Connection, Ended};
use crate::{input, output};

/// Ends as a client does: see `relay`.
// Stack budget: see pool.
#[inline(never)]
pub fn handle(connection: &Connection, args: &StreamArgs) -> Result<(), Ended> {
    let local = Reader::stdin().and_then(|reader| {
        let writer = Writer::stdout(args.raw)?;
        Ok(Duplex { reader, writer })
    });
    let local = local
        .or_fail(Exit::Local, || "could not open standard input and output")
        .map_err(Ended::Local)?;
    let remote = args.remote(connection.duplex()?);
    let rules = Rules {
        no_input: NoInput::Nothing,
        ..args.rules()
    };
    connection.relay(args.local(local), remote, rules, |fault| {
        fault.failure(input::NAME, output::NAME)
    })
}
