//! Sends datagrams to a server and prints its answers.

use std::ffi::OsString;

use crate::address::HostPort;
use crate::exchange::{self, ExchangeArgs};
use crate::exit::{self, Exit, Failure};
use crate::flow::Flows;
use crate::payloads::{InputArgs, Payloads};
use crate::resolve::ResolveArgs;
use crate::socket::{SocketArgs, SourceArgs};

const EXAMPLES: &str = "\
Examples:
  netkit udp-client 127.0.0.1:9999 Michael Tracy     two datagrams, two answers
  printf 'a\\nb\\n' | netkit udp-client HOST 9999      every line is a datagram
  echo 'x:1|c' | netkit udp-client --no-wait :8125   send and do not wait (statsd)
  netkit udp-client --retries 2 -W 0.5 HOST:9999 hi  try three times, half a second each";

/// Send datagrams to HOST:PORT, each DATA or else each line of standard input; print the answers
#[derive(clap::Args)]
#[command(
    override_usage = "netkit udp-client [OPTIONS] HOST:PORT [DATA]...\n       netkit udp-client [OPTIONS] HOST PORT [DATA]...",
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
    #[command(flatten)]
    resolve: ResolveArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Ends when everything was sent, and answered or given up.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (target, data) = args
        .target_and_data()
        .map_err(|message| Failure::new(Exit::Local, message))?;
    let mut payloads = Payloads::new(data, &args.input)?;
    let mut flows = Flows::new(&target, &args.resolve, &args.source, &args.socket)?;
    exchange::run(&mut flows, &mut payloads, &args.exchange)
}

impl Args {
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
