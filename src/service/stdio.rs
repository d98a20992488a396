//! Joins a connection to standard input and output, as netcat's `-l` does.

use std::sync::Arc;

use super::connection::{Connection, Ended};
use crate::duplex::{Duplex, Reader};
use crate::exit::{Exit, Failure, cause};
use crate::output;
use crate::stream::StreamArgs;

/// Ends as a client does: see `relay`.
pub fn handle(connection: &Connection, args: &StreamArgs) -> Result<(), Ended> {
    let local = || {
        Ok(Duplex {
            reader: Reader::stdin()?,
            writer: args.stdout()?,
        })
    };
    let local = local().map_err(|error: std::io::Error| {
        let message = format!(
            "could not open standard input and output: {}",
            cause(&error)
        );
        Ended::Near(Failure::new(Exit::Local, message))
    })?;
    let remote = args
        .remote(Arc::clone(connection.stream()))
        .map_err(Ended::Failed)?;
    let rules = args.rules();
    connection.relay(output::NAME, args.local(local), remote, rules)
}
