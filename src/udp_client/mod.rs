//! Sends datagrams to a server and prints its answers.

mod check;
mod exchange;
pub mod modes;
mod mtu;
mod ping;
mod relay;
mod socket;
mod target;
mod token;

use std::borrow::Cow;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use crate::exit::{self, Failure};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::services::Protocol;
use crate::net::target::udp_targets;
use crate::units::positive_duration;
use crate::wait::Deadline;
use exchange::ExchangeArgs;
use exchange::payloads::{InputArgs, Payloads};
use ping::ProbeArgs;
use relay::RelayArgs;
use target::{Target, TargetArgs};

const EXAMPLES: &str = "\
Examples:
  netkit udp-client 127.0.0.1:9999 Michael Tracy     two datagrams, two answers
  netkit udp-client -c 5 -i 0.2 HOST:9999            five probes and statistics
  printf 'a\\nb\\n' | netkit udp-client HOST 9999      every line is a datagram
  echo 'x:1|c' | netkit udp-client --no-wait :8125   send, do not wait (statsd)";

#[derive(clap::Args)]
#[command(
    override_usage = "netkit udp-client [OPTIONS] HOST:PORT [DATA]...\n       netkit udp-client [OPTIONS] HOST PORT [DATA]...",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(help = "Where to send; then what, one datagram each", long_help = "HOST:PORT, HOST PORT, [IPv6]:PORT or :PORT (localhost); then one datagram each. Without DATA, each line of standard input is a datagram.", value_name = "HOST:PORT [DATA]", num_args = 0..)]
    words: Vec<OsString>,

    #[command(flatten)]
    exchange: ExchangeArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    relay: RelayArgs,
    /// Stop after TIME in total
    ///
    /// Exit 4. A ping ends with its statistics: exit 1 if fewer than -c N were answered.
    #[arg(short = 'w', long, value_name = "TIME", value_parser = positive_duration)]
    deadline: Option<Duration>,
    /// Say which ports are open, or open|filtered
    ///
    /// Sends an empty datagram. A port that does not answer is open|filtered.
    #[arg(short = 'z', long)]
    check: bool,
    /// Find the largest packet that arrives whole
    ///
    /// That is the path MTU. The target has to answer, as for a ping; what routers tell by ICMP is only a
    /// hint. A size is tried 3 times. -v tells each try. Linux only.
    #[arg(long)]
    mtu: bool,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    ping: ProbeArgs,
}

/// Ends when everything was sent, and answered or given up.
pub fn run(mut args: Args, logging: &LoggingArgs) -> Result<(), Failure> {
    let deadline = Deadline::within(args.deadline);
    HostPort::take_back(
        &mut args.words,
        &mut args.target.tap.hex_dump,
        Protocol::Udp,
    );
    args.target.tap.check()?;
    if args.check {
        return args.check_ports(logging);
    }
    let (typed, data) = args.target_and_data().map_err(Failure::usage)?;
    if !data.is_empty()
        && let Some(mode) = args.mode_without_data()
    {
        let message = format!("could not send DATA: {mode}");
        return Err(Failure::usage(message));
    }
    args.ping.check_terminal()?;
    let mut target = Target::new(&typed, &args.target, deadline)?;
    let is_exchange = !args.ping.is_wanted() && !args.relay.relay && !args.mtu;
    let payloads = is_exchange.then(|| Payloads::new(&data, &args.input));
    let payloads = payloads.transpose()?;
    args.ping.check_size(&target)?;
    target.record(deadline)?;
    let watch = Rc::clone(&target.watch);
    let timeout = args.exchange.timeout;
    let result = if args.mtu {
        mtu::run(&target, timeout, deadline, args.json, logging.verbose > 0)
    } else if let Some(mut payloads) = payloads {
        let style = exchange::Style {
            json: args.json,
            verbose: logging.verbose > 0,
        };
        exchange::run(target, &mut payloads, &args.exchange, style, deadline)
    } else if args.ping.is_wanted() {
        ping::run(&target, timeout, deadline, &args.ping, args.json, logging)
    } else {
        relay::run(&target, &args.relay, args.exchange.raw, deadline)
    };
    // A record that is not whole is this machine's trouble, which comes first.
    watch.finish()?;
    result
}

impl Args {
    /// Why nothing can be done with DATA, if so.
    fn mode_without_data(&self) -> Option<&'static str> {
        if self.mtu {
            Some("--mtu sends probes of its own")
        } else if self.ping.is_wanted() {
            Some("a ping, which -c and -i imply, sends probes of its own")
        } else if self.relay.relay {
            Some("--relay sends standard input")
        } else {
            None
        }
    }

    fn check_ports(&self, logging: &LoggingArgs) -> Result<(), Failure> {
        let words = self.words.iter().map(|word| word.to_string_lossy());
        let words: Vec<String> = words.map(Cow::into_owned).collect();
        let targets = udp_targets(&words).map_err(Failure::usage)?;
        let timeout = self.exchange.timeout;
        let verbose = logging.verbose > 0;
        check::run(
            &targets,
            &words.join(" "),
            &self.target,
            timeout,
            self.json,
            verbose,
        )
    }

    /// Addresses are text; data may be any bytes.
    fn target_and_data(&self) -> Result<(HostPort, Vec<OsString>), String> {
        let words: Vec<String> = self
            .words
            .iter()
            .take(2)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let (target, rest) = HostPort::take_from(&words, Protocol::Udp)?;
        Ok((target, self.words[words.len() - rest.len()..].to_vec()))
    }
}
