//! Connects to a TCP server, sends standard input and prints the answer.

mod check;
mod http;
mod ping;

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::{self, Exit, Failure, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::connect::{ConnectArgs, connect};
use crate::relay::duplex::{Duplex, Reader};
use crate::relay::options::{self, StreamArgs};
use crate::relay::{Broken, Rules, relay};
use crate::units::positive_duration;
use crate::wait::Deadline;
use crate::{escape, input, output};
use check::CheckArgs;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-client 127.0.0.1:9999                talk to a server
  netkit tcp-client www.sina.com.cn:80            fetch a page
  netkit tcp-client --get /robots.txt HOST 8080   fetch another page
  printf 'exit\\n' | netkit tcp-client HOST 9999   send what a pipe delivers, print the answer
  netkit tcp-client -z HOST 22,80,8000-8010       say which ports are open";

#[derive(Clone, clap::Args)]
#[command(
    override_usage = "netkit tcp-client [OPTIONS] HOST:PORT\n       netkit tcp-client [OPTIONS] HOST PORT",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(help = "HOST:PORT, HOST PORT, [IPv6]:PORT or :PORT (localhost)", value_name = "HOST:PORT", num_args = 0..=2, hide_short_help = true)]
    target: Vec<String>,

    /// Send TEXT instead of standard input; knows \r \n \t \0 \\ \xHH; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = unescaped, allow_hyphen_values = true, conflicts_with_all = ["get", "recv_only"])]
    send: Vec<Text>,
    /// Send an HTTP request for PATH [/] instead of standard input
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/", conflicts_with_all = ["send_only", "recv_only"])]
    get: Option<String>,
    /// Send standard input also on port 80, where a terminal fetches a page
    #[arg(long, conflicts_with_all = ["get", "send", "recv_only"])]
    interactive: bool,
    #[command(flatten)]
    stream: StreamArgs,

    /// Give up when nothing moved in either direction for TIME
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    idle_timeout: Option<Duration>,
    /// Give up when TIME has passed in all
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    deadline: Option<Duration>,

    /// At the end, say when resolving, connecting and the first byte were done, from the start
    #[arg(long)]
    timing: bool,

    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The bytes of one `--send`.
#[derive(Clone)]
struct Text(Vec<u8>);

fn unescaped(text: &str) -> Result<Text, String> {
    escape::unescape(text).map(Text)
}

/// Connects, and joins the connection to standard input and output. `relay` says when that ends.
pub fn run(args: &Args, logging: &LoggingArgs) -> Result<(), Failure> {
    let deadline = Deadline::within(args.deadline);
    if args.check.wanted {
        return check::run(&args.target, &args.check, &args.connect, deadline, logging);
    }
    let args = &args.clone().with_address();
    let path = args.get.as_deref();
    path.map_or(Ok(()), http::check_path)
        .map_err(Failure::local)?;
    let target = HostPort::from_words(&args.target).map_err(Failure::local)?;
    let reader = args.reader(&target, path)?;
    let start = Instant::now();
    let connection = connect(&target, &args.connect, deadline)?;
    let peer = connection.peer;
    // Only now: an attempt that fails must not empty the files of an earlier session.
    let taps = args.stream.tap.open(false)?;
    let local = connection.stream.local().ok().map(tracing::field::display);
    tracing::debug!(%peer, local, "connected to {peer}");
    let remote = Duplex::of_socket(Arc::new(connection.stream))?;
    let remote = args.stream.remote(remote, taps.map(|taps| taps.session(1)));
    let writer = options::stdout(args.stream.raw)?;
    let local = args.stream.local(Duplex { reader, writer });
    let (traffic, result) = relay(local, remote, &args.rules(&target, deadline));
    if args.timing {
        let since_start = |at: Instant| format!("{:.1} ms", (at - start).as_secs_f64() * 1e3);
        let first_byte = traffic.first_received.map(since_start);
        tracing::info!(
            "resolve {}, connect {}, first byte {}, total {}",
            since_start(connection.resolved),
            since_start(connection.established),
            first_byte.as_deref().unwrap_or("none"),
            since_start(Instant::now()),
        );
    }
    result.map_err(|broken| failure(target.at(peer), &broken, traffic.sent))
}

impl Args {
    /// The value of `--get` and of `-x` is optional, and takes the word that follows. When that leaves
    /// no address, the word was the address.
    fn with_address(mut self) -> Self {
        if HostPort::from_words(&self.target).is_ok() {
            return self;
        }
        let with = |word: &str| [&[word.to_owned()], &self.target[..]].concat();
        let path = self
            .get
            .as_deref()
            .filter(|path| !path.starts_with('/'))
            .map(with);
        let file = self
            .stream
            .tap
            .hex_dump
            .iter()
            .flatten()
            .filter_map(|path| path.to_str())
            .map(with)
            .next();
        if let Some(words) = path.filter(|words| HostPort::from_words(words).is_ok()) {
            self.target = words;
            self.get = Some("/".to_owned());
        } else if let Some(words) = file.filter(|words| HostPort::from_words(words).is_ok()) {
            self.target = words;
            self.stream.tap.hex_dump = Some(None);
        }
        self
    }

    /// Whether a page is requested where input delivers nothing.
    fn fetches(&self, target: &HostPort) -> bool {
        let is_plain = !self.interactive && !self.stream.send_only && !self.stream.recv_only;
        target.port == 80 && is_plain && self.send.is_empty() && self.get.is_none()
    }

    fn rules(&self, target: &HostPort, deadline: Deadline) -> Rules {
        Rules {
            if_no_input: self.fetches(target).then(|| http::get(target, "/")),
            idle_timeout: self.idle_timeout,
            deadline,
            ..self.stream.rules()
        }
    }

    /// What is sent. `path` is that of `--get`.
    fn reader(&self, target: &HostPort, path: Option<&str>) -> io::Result<Reader> {
        if let Some(path) = path {
            return Ok(Reader::bytes(http::get(target, path)).without_finish());
        }
        if !self.send.is_empty() {
            let texts = self.send.iter().flat_map(|text| &text.0);
            return Ok(Reader::bytes(texts.copied().collect()));
        }
        if self.fetches(target) && io::stdin().is_terminal() {
            tracing::info!(
                "Fetching http://{}/ (--interactive lets you type a request)",
                target.host_field()
            );
            return Ok(Reader::nothing());
        }
        Reader::stdin()
    }
}

/// A session with `peer` that broke after `sent` bytes.
fn failure(peer: impl Display, broken: &Broken, sent: u64) -> Failure {
    let sent = match broken {
        Broken::Receive(_) if sent == 0 => String::new(),
        _ => format!("; {sent} bytes were sent"),
    };
    let why = |error: &io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => format!("the peer has closed the connection{sent}"),
        _ => cause(error) + &sent,
    };
    let (exit, act, why) = match broken {
        Broken::Local(fault) => return fault.failure(input::NAME, output::NAME),
        Broken::Receive(error) => (blame(error), "receive from", why(error)),
        Broken::Send(error) => (blame(error), "send everything to", why(error)),
        Broken::Idle(time) => {
            let why = format!("nothing moved for {time:?}");
            (Exit::Timeout, "go on with", why)
        }
        Broken::Deadline(time) => {
            let why = format!("{time:?} have passed");
            (Exit::Timeout, "finish with", why)
        }
    };
    Failure::new(exit, format!("could not {act} {peer}: {why}"))
}
