//! How a stream session treats its bytes: the options that clients and servers share.

use std::io;
use std::time::Duration;

use crate::escape::TerminalEscape;
use crate::output;
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Encoding, Reader, Writer};
use crate::tap::{Tap, TapArgs};
use crate::units::{Patience, duration, patience};

#[derive(Clone, Debug, PartialEq, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub struct StreamArgs {
    /// Send \r\n for \n
    #[arg(short = 'C', long)]
    pub crlf: bool,
    /// Send only; what the peer sends is thrown away
    #[arg(hide_short_help = true, long, conflicts_with = "recv_only")]
    pub send_only: bool,
    /// Receive only; nothing is sent
    #[arg(hide_short_help = true, long)]
    pub recv_only: bool,
    /// Print what the peer sends as it is, also on a terminal
    #[arg(hide_short_help = true, long)]
    pub raw: bool,
    /// Leave the sending side open when input ends
    #[arg(hide_short_help = true, long)]
    pub no_shutdown: bool,
    /// After the peer's end go on until input was silent for TIME, or 'forever'
    #[arg(hide_short_help = true, long, value_name = "TIME", default_value = "0.5s", value_parser = patience)]
    pub half_close_wait: Patience,
    /// After the end of input wait at most TIME for the peer
    #[arg(hide_short_help = true, long, value_name = "TIME", value_parser = duration)]
    pub wait_after_eof: Option<Duration>,
    #[command(flatten)]
    pub tap: TapArgs,
}

impl StreamArgs {
    /// The options that mean nothing to a session with a program.
    pub fn without_what_programs_use(&self) -> Self {
        Self {
            crlf: false,
            send_only: false,
            recv_only: false,
            tap: TapArgs::default(),
            ..self.clone()
        }
    }

    /// Applies the options to the end of the peer. `tap` records it.
    pub fn remote(&self, mut remote: Duplex, tap: Option<Tap>) -> Duplex {
        remote.reader.tap.clone_from(&tap);
        remote.writer.tap = tap;
        if self.crlf {
            let after_return = false;
            remote.writer.encoding = Encoding::Crlf { after_return };
        }
        remote
    }

    /// Applies the options to the local end.
    pub fn local(&self, mut local: Duplex) -> Duplex {
        if self.recv_only {
            local.reader = Reader::nothing();
        }
        if self.send_only {
            local.writer = Writer::discard();
        }
        local.reader.finishes &= !self.no_shutdown;
        local
    }

    /// When a session with standard input and output ends.
    pub fn rules(&self) -> Rules {
        /// With `--send-only` only the end of the peer is awaited, and not every server ends.
        const SEND_ONLY_WAIT: Duration = Duration::from_millis(500);
        Rules {
            half_close_wait: self.half_close_wait,
            wait_after_eof: self
                .wait_after_eof
                .or(self.send_only.then_some(SEND_ONLY_WAIT)),
            ..Rules::PATIENT
        }
    }
}

/// Standard output. On a terminal control characters are escaped, unless `raw`.
pub fn stdout(raw: bool) -> io::Result<Writer> {
    let mut stdout = Writer::stdout()?;
    if output::escapes(raw) {
        stdout.encoding = Encoding::Terminal(TerminalEscape::default());
    }
    Ok(stdout)
}
