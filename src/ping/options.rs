//! The options of both clients' pings.

use std::time::Duration;

use super::screen;
use crate::exit::Failure;
use crate::terminal;
use crate::units::{count, positive_duration};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
pub struct PingArgs {
    /// Ping: send probes, time the answers
    ///
    /// -c and -i imply it. At the end, and at Ctrl-C, it prints statistics; SIGQUIT or Enter prints interim ones. -q
    /// prints only the statistics and what -O reports. -v adds percentiles (accurate to 0.5 %) and
    /// jitter (how much one time differs from the one before; RFC 3550's too), also to -q.
    ///
    /// Before the statistics stand outages (two probes or more that were lost in a row), the longest run
    /// of losses, and how many answers came out of order (RFC 4737). -v tells an outage as it happens.
    /// When nothing has answered 10 probes, the name is resolved again, and a new address is pinged.
    ///
    /// Over UDP, every answer that contains the probe counts. One that is late is printed, but its probe
    /// is lost; at the end, late answers are waited for as long again (2s at most).
    #[arg(long)]
    ping: bool,
    /// Stop after N probes
    #[arg(short, long, value_name = "N", value_parser = count)]
    pub count: Option<u64>,
    /// Send a probe every TIME [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = positive_duration)]
    pub interval: Option<Duration>,
    /// Exit 1 if more than PERCENT is lost [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = percentage)]
    pub max_loss: Option<f64>,
    /// Start each line with the Unix time
    #[arg(short = 'D', long)]
    pub timestamp: bool,
    /// Report an unanswered probe at the next one
    #[arg(short = 'O', long)]
    pub report_missing: bool,
    /// Draw a strip, a character for each probe
    ///
    /// The higher the bar the longer the time, on a logarithmic scale that each row of 60 chooses anew; !
    /// is lost, ~ late, + answered twice. A status line stands below. Terminals only.
    #[arg(long, conflicts_with_all = ["json", "timestamp", "report_missing"])]
    pub live: bool,
    /// Ring the terminal's bell at each answer
    #[arg(short, long, conflicts_with = "json")]
    pub audible: bool,
}

impl PingArgs {
    #[cfg(test)]
    pub const DEFAULT: Self = Self {
        ping: false,
        count: None,
        interval: None,
        max_loss: None,
        timestamp: false,
        report_missing: false,
        live: false,
        audible: false,
    };

    pub fn is_wanted(&self) -> bool {
        self.ping || self.count.is_some() || self.interval.is_some()
    }

    /// Fails if `--live` has no terminal to draw on.
    pub fn check_terminal(&self) -> Result<(), Failure> {
        let message = match screen::bars() {
            _ if !self.live => return Ok(()),
            Some(_) if terminal::is_dumb() => {
                "--live needs a terminal that can move its cursor, and TERM is dumb"
            }
            Some(_) => return Ok(()),
            None => "--live needs a terminal as standard output",
        };
        Err(Failure::usage(message))
    }

    /// Whether nothing but `-i` asks for a ping.
    pub fn is_only_interval(&self) -> bool {
        self.interval.is_some() && self.count.is_none() && !self.ping
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!(
            "'{text}' is not a percentage; write 0 to 100, for example 5 or 0.1"
        )),
    }
}
