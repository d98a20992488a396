//! Connects to a TCP server: standard input goes to it, and what it sends goes to standard output.

mod check;
mod http;
mod ping;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::{self, Exit, Failure, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, connect};
use crate::relay::duplex::{Duplex, Reader};
use crate::relay::options::{self, StreamArgs};
use crate::relay::{Broken, Rules, Traffic, relay};
use crate::units::positive_duration;
use crate::usage::needs;
use crate::wait::Deadline;
use crate::{escape, input, output, tap};
use check::CheckArgs;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-client 127.0.0.1:9999                talk to a server
  netkit tcp-client www.sina.com.cn:80            fetch a page
  netkit tcp-client --get /robots.txt HOST 8080   fetch another page
  printf 'exit\\n' | netkit tcp-client HOST 9999   send a pipe, print the answer
  netkit tcp-client -z HOST 22,80,8000-8010       say which ports are open";

#[derive(clap::Args)]
#[command(
    override_usage = "netkit tcp-client [OPTIONS] HOST:PORT\n       netkit tcp-client [OPTIONS] HOST PORT",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(help = "HOST:PORT, HOST PORT, [IPv6]:PORT or :PORT (localhost)", value_name = "HOST:PORT", num_args = 0..=2)]
    target: Vec<String>,

    /// Send TEXT instead of standard input (escapes: \r \n \t \0 \\ \xHH)
    ///
    /// Several texts are sent one after another.
    #[arg(long, value_name = "TEXT", value_parser = escape::unescape, allow_hyphen_values = true, conflicts_with_all = ["get", "recv_only"])]
    send: Vec<Bytes>,
    /// Request PATH over HTTP instead of sending input [default: /]
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with_all = ["send_only", "recv_only"])]
    #[expect(clippy::option_option, reason = "absent, without a path, with a path")]
    get: Option<Option<String>>,
    /// On port 80: send what I type, do not fetch a page
    #[arg(long, conflicts_with_all = ["get", "send", "recv_only"])]
    interactive: bool,
    #[command(flatten)]
    stream: StreamArgs,

    /// Give up after TIME without data in either direction
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Give up after TIME in total
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    deadline: Option<Duration>,

    /// Print the time to resolve, connect, first byte
    #[arg(long)]
    timing: bool,

    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The bytes of one `--send`. `Vec<Vec<_>>` is another thing to clap.
type Bytes = Vec<u8>;

/// Ends when both directions have ended; see `relay` for how each does.
pub fn run(mut args: Args, logging: &LoggingArgs) -> Result<(), Failure> {
    let deadline = Deadline::within(args.deadline);
    if args.check.wanted {
        return check::run(&args.target, &args.check, &args.connect, deadline, logging);
    }
    needs("-z", args.check.wanted, &args.check.given())?;
    HostPort::take_back(&mut args.target, &mut args.get);
    HostPort::take_back(&mut args.target, &mut args.stream.tap.hex_dump);
    let path = args.get.as_ref().map(|path| path.as_deref().unwrap_or("/"));
    path.map_or(Ok(()), http::check_path)
        .map_err(Failure::local)?;
    let target = HostPort::from_words(&args.target).map_err(Failure::local)?;
    let reader = args.reader(&target, path)?;
    let start = Instant::now();
    let connection = connect(&target, &args.connect, deadline)?;
    let stream = connection.stream;
    let peer = connection.peer;
    // Only now: what an earlier session left in the files is not lost to a failing attempt.
    let taps = args.stream.tap.open(false)?;
    let local = stream.local().ok().map(tracing::field::display);
    tracing::debug!(%peer, local, "connected to {peer}");

    let remote = args
        .stream
        .remote(Arc::new(stream), taps.map(|taps| taps.session(1)))?;
    let local = args.stream.local(Duplex {
        reader,
        writer: options::stdout(args.stream.raw)?,
    });
    let rules = Rules {
        idle_timeout: args.idle_timeout,
        deadline,
        ..args.stream.rules()
    };
    let mut traffic = Traffic::default();
    let result = relay(local, remote, &rules, &mut traffic);
    if args.timing {
        let since_start = |at: Instant| format!("{:.1} ms", (at - start).as_secs_f64() * 1e3);
        let first_byte = traffic
            .first_received
            .map_or_else(|| "none".to_owned(), since_start);
        tracing::info!(
            "resolve {}, connect {}, first byte {first_byte}, total {}",
            since_start(connection.resolved),
            since_start(connection.established),
            since_start(Instant::now()),
        );
    }
    result.map_err(|broken| args.failure(&target.at(peer).to_string(), &broken))
}

impl Args {
    fn reader(&self, target: &HostPort, path: Option<&str>) -> io::Result<Reader> {
        Ok(if let Some(path) = path {
            Reader::bytes(http::get(target, path)).without_finish()
        } else if !self.send.is_empty() {
            Reader::bytes(self.send.concat())
        } else if target.port != 80
            || self.interactive
            || self.stream.send_only
            || self.stream.recv_only
        {
            Reader::stdin()?
        } else if io::stdin().is_terminal() {
            tracing::info!(
                "Fetching http://{}/ (--interactive lets you type a request)",
                target.host_field()
            );
            Reader::bytes(http::get(target, "/")).without_finish()
        } else {
            Reader::stdin()?.or_if_empty(http::get(target, "/"))
        })
    }

    fn failure(&self, peer: &str, broken: &Broken) -> Failure {
        match broken {
            Broken::Output(error) => Failure::of_output(output::NAME, error),
            Broken::Input(error) => input::unreadable(input::NAME, error),
            Broken::Receive { error, sent } => {
                let sent = match sent {
                    0 => String::new(),
                    _ => format!("; {sent} bytes were sent"),
                };
                Failure::new(
                    blame(error),
                    format!("could not receive from {peer}: {}{sent}", cause(error)),
                )
            }
            Broken::Send { error, sent } => {
                let why = match error.kind() {
                    io::ErrorKind::BrokenPipe => "the peer has closed the connection".to_owned(),
                    _ => cause(error),
                };
                Failure::new(
                    blame(error),
                    format!("could not send everything to {peer}: {why}; {sent} bytes were sent"),
                )
            }
            Broken::Tap(error) => tap::failure(error),
            Broken::Idle => {
                let time = self.idle_timeout.unwrap_or_default();
                Failure::new(
                    Exit::Timeout,
                    format!("could not go on with {peer}: nothing moved for {time:?}"),
                )
            }
            Broken::Deadline => {
                let time = self.deadline.unwrap_or_default();
                Failure::new(
                    Exit::Timeout,
                    format!("could not finish with {peer}: {time:?} have passed"),
                )
            }
        }
    }
}
