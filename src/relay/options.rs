//! How a stream session treats its bytes: the options that clients and servers share.

use std::time::Duration;

use crate::input::Crlf;
use crate::progress::{Plan, SizeArgs};
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Encoding, Reader, Writer};
use crate::tap::TapArgs;
use crate::units::{Patience, duration, patience, size};

#[derive(Clone, Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub struct StreamArgs {
    /// Send \r\n for \n
    #[arg(short = 'C', long)]
    pub crlf: bool,
    /// Only send; discard what the peer sends
    #[arg(long, conflicts_with_all = ["recv_only", "raw"])]
    pub send_only: bool,
    /// Only receive; send nothing
    ///
    /// The sending side stays open. Some senders (nc, ncat, busybox nc) send nothing more once they see
    /// its end. Without this option an input without a byte ends it when the peer is silent.
    #[arg(long, conflicts_with_all = ["crlf", "no_shutdown", "half_close_wait"])]
    pub recv_only: bool,
    /// Do not escape received data on a terminal
    #[arg(long)]
    pub raw: bool,
    /// Keep the sending side open when input ends
    #[arg(long)]
    pub no_shutdown: bool,
    /// After the peer ends, wait TIME for more input
    ///
    /// `0` leaves at once, `forever` waits for the end of input. By default netkit leaves a terminal, or an
    /// input that has delivered nothing, after 0.5s. It sends any other input to its end.
    #[arg(long, value_name = "TIME", value_parser = patience)]
    half_close_wait: Option<Patience>,
    /// Wait at most TIME for the peer after input ends
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait_after_eof: Option<Duration>,
    /// Pass at most SIZE bytes a second each way
    ///
    /// A tenth of a second's worth may pass at once. On a server the limit is for each connection.
    #[arg(long, value_name = "SIZE", value_parser = size, visible_alias = "limit-rate")]
    max_rate: Option<usize>,
    #[command(flatten)]
    progress: SizeArgs,
    #[command(flatten)]
    pub tap: TapArgs,
}

impl StreamArgs {
    /// Applies the options to the end of the peer.
    pub fn remote(&self, mut remote: Duplex) -> Duplex {
        if self.crlf {
            remote.writer.encoding = Encoding::Crlf(Crlf::default());
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
        /// With `--send-only` only the peer's end is still to come, and not every server ends.
        const SEND_ONLY_WAIT: Duration = Duration::from_millis(500);
        Rules {
            progress: self.progress.of_stdio(),
            half_close_wait: self.half_close_wait,
            wait_after_eof: self
                .wait_after_eof
                .or(self.send_only.then_some(SEND_ONLY_WAIT)),
            ..self.passing()
        }
    }

    /// How a session with anything passes bytes.
    pub fn passing(&self) -> Rules {
        Rules {
            max_rate: self.max_rate,
            progress: self.progress.asked_for(),
            ..Rules::PATIENT
        }
    }

    /// What a check of `count` ports shows.
    pub fn progress_of_check(&self, count: usize) -> Option<Plan> {
        self.progress.progress.of_check(count)
    }

    /// What repeated attempts to connect show.
    pub fn progress_of_retries(&self) -> Option<Plan> {
        self.progress.of_retries()
    }
}
