//! Joins a connection to standard input and output, as netcat's `-l` does.

use super::Streams;
use crate::exit::{Failure, cause};
use crate::output;
use crate::relay::duplex::{Duplex, Reader};
use crate::relay::options;
use crate::tcp_server::connection::{Connection, Ended};

/// Ends as a client does: see `relay`.
#[inline(never)]
pub fn handle(connection: &Connection, streams: &Streams) -> Result<(), Ended> {
    let local = || {
        Ok(Duplex {
            reader: Reader::stdin()?,
            writer: options::stdout(streams.args.raw)?,
        })
    };
    let local = local().map_err(|error: std::io::Error| {
        let message = format!(
            "could not open standard input and output: {}",
            cause(&error)
        );
        Ended::Near(Failure::local(message))
    })?;
    let remote = streams.remote(connection)?;
    let local = streams.args.local(local);
    connection.relay(output::NAME, local, remote, &streams.args.rules())
}
