//! Sends datagrams to a server and prints its answers.

use std::ffi::OsString;

use crate::address::HostPort;
use crate::exchange::{self, ExchangeArgs};
use crate::exit::{self, Exit, Failure};
use crate::flow::Flows;
use crate::logging::LoggingArgs;
use crate::payloads::{InputArgs, Payloads};
use crate::resolve::{ResolveArgs, TimeLimit};
use crate::route::Route;
use crate::socket::{SocketArgs, SourceArgs};
use crate::udp_ping::{self, PingArgs};

const EXAMPLES: &str = "\
Examples:
  netkit udp-client 127.0.0.1:9999 Michael Tracy     two datagrams, two answers
  printf 'a\\nb\\n' | netkit udp-client HOST 9999      every line is a datagram
  echo 'x:1|c' | netkit udp-client --no-wait :8125   send and do not wait (statsd)
  netkit udp-client -c 5 -i 0.2 HOST:9999            five probes, their times and statistics";

/// Options that `-h` leaves to `--help`.
const RARE: [&str; 15] = [
    "raw",
    "timestamp",
    "report_missing",
    "adaptive",
    "ipv4",
    "ipv6",
    "numeric",
    "source",
    "source_port",
    "interface",
    "ttl",
    "dscp",
    "recv_buffer",
    "send_buffer",
    "reuse_port",
];

/// Send datagrams to HOST:PORT, each DATA or else each line of standard input; print the answers
#[derive(clap::Args)]
#[command(
    override_usage = "netkit udp-client [OPTIONS] HOST:PORT [DATA]...\n       netkit udp-client [OPTIONS] HOST PORT [DATA]...",
    mut_args(|arg| {
        let is_rare = RARE.contains(&arg.get_id().as_str());
        if is_rare { arg.hide_short_help(true) } else { arg }
    }),
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(help = "HOST:PORT, HOST PORT, [IPv6]:PORT or :PORT (localhost); then what to send", value_name = "HOST:PORT [DATA]", num_args = 0..)]
    words: Vec<OsString>,

    #[command(flatten)]
    exchange: ExchangeArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Report as JSON, one object a line
    #[arg(long, conflicts_with_all = ["no_wait", "raw"])]
    json: bool,
    #[command(flatten)]
    resolve: ResolveArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    ping: PingArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Ends when everything was sent, and answered or given up.
pub fn run(args: &Args, logging: &LoggingArgs) -> anyhow::Result<()> {
    let deadline = args.ping.deadline.map(TimeLimit::after);
    let (target, data) = args
        .target_and_data()
        .map_err(|message| Failure::new(Exit::Local, message))?;
    if !data.is_empty()
        && let Some(mode) = args.mode_without_data()
    {
        let message = format!("could not send DATA: {mode}");
        return Err(Failure::new(Exit::Local, message).into());
    }
    let route = Route::new(&target, &args.resolve, &args.source, &args.socket, deadline)?;
    if args.ping.is_wanted() {
        let timeout = args.exchange.timeout;
        return udp_ping::run(&route, timeout, deadline, &args.ping, args.json, logging);
    }
    let mut payloads = Payloads::new(data, &args.input)?;
    let mut flows = Flows::new(route, args.json)?;
    exchange::run(&mut flows, &mut payloads, &args.exchange, args.json)
}

impl Args {
    fn mode_without_data(&self) -> Option<&'static str> {
        self.ping.is_wanted().then_some("--ping sends its own")
    }

    /// Addresses are text; data may be any bytes.
    fn target_and_data(&self) -> Result<(HostPort, Vec<OsString>), String> {
        let words: Vec<String> = self
            .words
            .iter()
            .take(2)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let (target, rest) = HostPort::take_from(&words)?;
        Ok((target, self.words[words.len() - rest.len()..].to_vec()))
    }
}
