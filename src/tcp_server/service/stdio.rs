//! Joins a connection to standard input and output, as netcat's `-l` does.

use crate::exit::{Exit, OrFail as _};
use crate::relay::duplex::{Duplex, Reader, Writer};
use crate::relay::options::StreamArgs;
use crate::relay::{Leftover, NoInput, Rules};
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::{input, output};

/// Standard input and output, for one connection after another.
pub struct Stdio {
    args: StreamArgs,
    /// For the next connection. `None`: there is none.
    leftover: Option<Leftover>,
}

impl Stdio {
    /// With `keeps_open` another connection follows each.
    pub fn new(args: StreamArgs, keeps_open: bool) -> Self {
        let leftover = keeps_open.then(Leftover::default);
        Self { args, leftover }
    }

    /// Ends as a client does: see `relay`.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        let local = self
            .local()
            .or_fail(Exit::Local, || "could not open standard input and output")
            .map_err(Ended::Local)?;
        let remote = self.args.remote(connection.duplex()?);
        let rules = Rules {
            no_input: NoInput::Nothing,
            ..self.args.rules()
        };
        connection.relay(self.args.local(local), remote, rules, |fault| {
            fault.failure(input::NAME, output::NAME)
        })
    }

    fn local(&self) -> std::io::Result<Duplex> {
        Ok(Duplex {
            reader: match &self.leftover {
                Some(leftover) => Reader::shared_stdin(leftover)?,
                None => Reader::stdin()?,
            },
            writer: Writer::stdout(self.args.raw)?,
        })
    }
}
