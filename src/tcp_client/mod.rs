//! Connects to a TCP server, sends standard input and prints the answer.

mod check;
mod dial;
mod http;
pub mod modes;
mod ping;
mod status;
mod timing;

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::{self, Exit, Failure, blame, cause};
use crate::logging::LoggingArgs;
use crate::net::address::HostPort;
use crate::net::backlog::unacknowledged;
use crate::net::connect::ConnectArgs;
use crate::net::race::Connected;
use crate::net::services::Protocol;
use crate::net::stream::Stream;
use crate::net::target::Address;
use crate::proxy::header::Ends;
use crate::proxy::{Dialer, HeaderArgs, ProxyArgs};
use crate::relay::duplex::{Duplex, Reader, Writer};
use crate::relay::options::StreamArgs;
use crate::relay::pace::{Pace, Pieces};
use crate::relay::{Broken, NoInput, Rules, Traffic, relay};
use crate::tap::{self, Direction, End, Tap};
use crate::tls::{ClientTlsArgs, Connector, Session};
use crate::units::{self, positive_duration, told};
use crate::wait::Deadline;
use crate::{escape, input, output};
use check::CheckArgs;
use status::Status;
use timing::Times;

const EXAMPLES: &str = "\
Examples:
  netkit tcp-client 127.0.0.1:9999                talk to a server
  netkit tcp-client http://www.sina.com.cn/       fetch a page
  netkit tcp-client --get /robots.txt HOST 8080   fetch another page
  printf 'exit\\n' | netkit tcp-client HOST 9999   send a pipe, print the answer
  netkit tcp-client -z HOST:22,80,8000-8010       say which ports are open";

#[derive(clap::Args)]
#[command(
    override_usage = "netkit tcp-client [OPTIONS] HOST:PORT\n       netkit tcp-client [OPTIONS] HOST PORT",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE)
)]
pub struct Args {
    // Not a doc comment: rustdoc would look for what is in brackets.
    #[arg(help = "HOST:PORT, HOST PORT, [IPv6]:PORT, :PORT (localhost) or unix:PATH", value_name = "HOST:PORT", num_args = 0..)]
    target: Vec<String>,

    /// Send TEXT instead of standard input
    ///
    /// Escapes: \r \n \t \0 \\ \xHH. Several texts are sent one after another.
    #[arg(long, value_name = "TEXT", value_parser = escape::unescape, allow_hyphen_values = true)]
    send: Vec<Bytes>,
    /// Send the next --send or line after an answer
    ///
    /// An answer is over when the peer has been silent for TIME (200 ms if none is given). A
    /// greeting is waited for as long.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "200ms", value_parser = positive_duration, conflicts_with_all = ["recv_only", "line_delay"])]
    lockstep: Option<Duration>,
    /// Send a line, wait TIME (nc -i)
    #[arg(long, value_name = "TIME", value_parser = positive_duration, conflicts_with = "recv_only")]
    line_delay: Option<Duration>,
    /// Request PATH over HTTP [default: /]
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "absent, without a path, with a path")]
    get: Option<Option<String>>,
    /// On port 80: send what I type, fetch nothing
    #[arg(long, conflicts_with = "recv_only")]
    interactive: bool,
    #[command(flatten)]
    stream: StreamArgs,

    /// Give up after TIME without data
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
    #[command(flatten)]
    tls: ClientTlsArgs,
    #[command(flatten)]
    proxy: ProxyArgs,
    #[command(flatten)]
    header: HeaderArgs,
}

/// The bytes of one `--send`. `Vec<Vec<_>>` is another thing to clap.
type Bytes = Vec<u8>;

/// Checks ports, pings one, or holds a session with one.
pub fn run(mut args: Args, logging: &LoggingArgs) -> Result<(), Failure> {
    let deadline = Deadline::within(args.deadline);
    args.connect.is_verbose = logging.verbose > 0;
    let dialer = Dialer::new(args.connect.clone(), &args.proxy)?;
    if args.check.is_wanted() {
        return check::run(&args, &dialer, deadline, logging);
    }
    let target = args.take_target()?;
    connect_and_relay(&args, &dialer, &target, deadline, logging)
}

/// Connects, and joins the connection to standard input and output. `relay` says when that ends.
fn connect_and_relay(
    args: &Args,
    dialer: &Dialer,
    target: &Address,
    deadline: Deadline,
    logging: &LoggingArgs,
) -> Result<(), Failure> {
    let mut status = Status::new(logging);
    let reader = args.reader(target, &mut status)?;
    let connector = args.connector(deadline)?;
    let start = Instant::now();
    let connection = args.connected(dialer, target, deadline)?;
    let name = connection.name(target);
    let was_reset = connection.reset.is_some();
    // Only now: an attempt that fails must not empty the files of an earlier session.
    let taps = args.stream.tap.open()?;
    let reads_input = reader.fd().is_some() && !args.stream.recv_only;
    status.connected(target, &connection, reads_input);
    let limit = args.connect.limit_since(connection.resolved, deadline);
    let (ends, times) = (connection.ends(), Times::of(start, &connection));
    let socket = Arc::new(connection.stream);
    let shake_hands = |connector: Connector| {
        let socket = Arc::clone(&socket) as _;
        connector.shake_hands(socket, target.host(), &name, limit)
    };
    let connector = connector.filter(|_| !was_reset);
    let session = connector.map(shake_hands).transpose()?.map(Rc::new);
    let encrypted = session.is_some().then(Instant::now);
    if let Some(session) = &session {
        status.encrypted(session);
    }
    let ends = ends.map(|(local, remote)| tap::Ends::new(local, remote));
    let tap = taps.map(|taps| taps.session(None, ends, Direction::Sent, &name));
    let remote = args.remote(socket, session.as_ref(), tap.as_ref())?;
    let local = args.local(reader)?;
    let (traffic, result) = match connection.reset {
        Some(error) => broken_before(tap.as_ref(), error),
        None => relay(local, remote, &args.rules(target, deadline)),
    };
    if let (Some(session), Ok(())) = (&session, &result) {
        close(session, &traffic);
    }
    // If relay has failed, it has waited for the files.
    let waits = result.is_ok() || was_reset;
    let recorded = match tap {
        Some(tap) if waits => tap.close(deadline),
        _ => Ok(()),
    };
    if args.timing {
        times.tell(encrypted, traffic.first_received);
    }
    if result.is_ok() {
        http::explain_silence(&traffic, &name);
    }
    status.ended(&traffic, connection.established, result.is_err());
    result.map_err(|broken| failure(&name, &broken, traffic.sent))?;
    recorded
}

/// The session of a connection that its peer has reset before it began.
fn broken_before(tap: Option<&Tap>, error: io::Error) -> (Traffic, Result<(), Broken>) {
    if let Some(tap) = tap {
        tap.ended(Direction::Received, End::Reset);
    }
    (Traffic::default(), Err(Broken::Receive(error)))
}

/// Ends TLS in order. Blocks until the system has taken our end, for half a second at most.
fn close(session: &Session, traffic: &Traffic) {
    const MOST_TIME: Duration = Duration::from_millis(500);
    let limit = if traffic.peer_ended {
        Deadline::after(MOST_TIME)
    } else {
        Deadline::now()
    };
    session.close(limit, usize::MAX);
}

impl Args {
    /// The target, as an address or a URL. Words that an option before it took are taken back.
    fn take_target(&mut self) -> Result<Address, Failure> {
        self.read_url().map_err(Failure::usage)?;
        HostPort::take_back(&mut self.target, &mut self.get, Protocol::Tcp);
        HostPort::take_back(
            &mut self.target,
            &mut self.stream.tap.hex_dump,
            Protocol::Tcp,
        );
        self.stream.tap.check()?;
        if let Some(Some(path)) = &self.get {
            http::check_path(path).map_err(Failure::usage)?;
        }
        if let Some(word) = self.target.get(2) {
            let message = format!("too many arguments: '{word}'; write HOST PORT or HOST:PORT");
            return Err(Failure::usage(message));
        }
        let target = Address::from_words(&self.target).map_err(Failure::usage)?;
        let page_port = http::default_port(self.tls.tls);
        if self.interactive && target.port() != Some(page_port) {
            let message = format!("--interactive needs port {page_port}");
            return Err(Failure::usage(message));
        }
        Ok(target)
    }

    /// Connects, and sends the PROXY header if one is wanted.
    fn connected(
        &self,
        dialer: &Dialer,
        target: &Address,
        deadline: Deadline,
    ) -> Result<Connected, Failure> {
        let progress = self.stream.progress_of_retries();
        let connection = dialer.connect(target, deadline, progress)?;
        if connection.reset.is_none() {
            let ends = || connection.ends().map(Ends::from);
            let name = connection.name(target);
            self.header.send(&connection.stream, ends, &name)?;
        }
        Ok(connection)
    }

    /// What encrypts, with `--tls` or an `https://` URL. Blocks as long as pipes among its files have not
    /// ended, until `deadline`.
    fn connector(&self, deadline: Deadline) -> Result<Option<Connector>, Failure> {
        let tls = self.tls.tls.then(|| Connector::new(&self.tls, deadline));
        tls.transpose()
    }

    /// The URL that stands in place of the address, if one does.
    fn url(&self) -> Option<&str> {
        let [word] = &self.target[..] else {
            return None;
        };
        Some(&word[..]).filter(|word| http::is_url(word))
    }

    /// Makes a URL an address and the path of `--get`.
    fn read_url(&mut self) -> Result<(), String> {
        let Some(url) = self.url() else { return Ok(()) };
        if self.get.is_some() {
            return Err(format!("'{url}' names the path already: leave --get out"));
        }
        let is_https = http::is_https(url);
        let (target, path) = http::read_url(url)?;
        self.tls.tls |= is_https;
        self.target = vec![target.to_string()];
        self.get = Some(Some(path));
        Ok(())
    }

    /// Whether a page is requested where input delivers nothing.
    fn fetches(&self, target: &Address) -> bool {
        let is_plain = !self.interactive && !self.stream.send_only && !self.stream.recv_only;
        let is_page = target.port() == Some(http::default_port(self.tls.tls));
        is_page && is_plain && self.send.is_empty() && self.get.is_none()
    }

    fn rules(&self, target: &Address, deadline: Deadline) -> Rules {
        let no_input = if self.fetches(target) {
            NoInput::Bytes(http::get(target, "/", self.tls.tls))
        } else if self.send.is_empty() && !self.stream.send_only {
            NoInput::EndAfterSilence
        } else {
            NoInput::End
        };
        Rules {
            no_input,
            idle_timeout: self.idle_timeout,
            deadline,
            pace: self.pace(),
            queued: unacknowledged,
            ..self.stream.rules()
        }
    }

    fn pace(&self) -> Pace {
        let delay = self.line_delay.map_or(Pace::None, Pace::Delay);
        self.lockstep.map_or(delay, Pace::Lockstep)
    }

    /// The connection, encrypted by `session`.
    fn remote(
        &self,
        socket: Arc<Stream>,
        session: Option<&Rc<Session>>,
        tap: Option<&Tap>,
    ) -> io::Result<Duplex> {
        let mut remote = match session {
            Some(session) => Duplex::of_session(Rc::clone(session)),
            None => Duplex::of_socket(socket)?,
        };
        if let Some(tap) = tap {
            remote.record(tap);
        }
        Ok(self.stream.remote(remote))
    }

    /// What is sent, and standard output.
    fn local(&self, reader: Reader) -> io::Result<Duplex> {
        let (reader, writer) = (reader.with_head(), Writer::stdout(self.stream.raw)?);
        Ok(self.stream.local(Duplex { reader, writer }))
    }

    /// What is sent.
    fn reader(&self, target: &Address, status: &mut Status) -> io::Result<Reader> {
        if let Some(path) = &self.get {
            let path = path.as_deref().unwrap_or("/");
            return Ok(Reader::bytes(http::get(target, path, self.tls.tls)).without_finish());
        }
        if !self.send.is_empty() {
            return Ok(match self.pace() {
                Pace::None => Reader::bytes(self.send.concat()),
                Pace::Lockstep(_) => {
                    Reader::bytes(Vec::new()).in_pieces(Pieces::of(self.send.clone()))
                }
                Pace::Delay(_) => {
                    let mut lines = Pieces::lines();
                    lines.push(&self.send.concat());
                    lines.push(b"");
                    Reader::bytes(Vec::new()).in_pieces(lines)
                }
            });
        }
        if self.fetches(target) && io::stdin().is_terminal() {
            status.fetching(target, self.tls.tls);
            return Ok(Reader::nothing());
        }
        let stdin = Reader::stdin()?;
        Ok(match self.pace() {
            Pace::None => stdin,
            Pace::Lockstep(_) | Pace::Delay(_) => stdin.in_pieces(Pieces::lines()),
        })
    }
}

/// A session with `peer` that broke after `sent` bytes.
fn failure(peer: impl Display, broken: &Broken, sent: u64) -> Failure {
    let sent = match broken {
        Broken::Receive(_) if sent == 0 => String::new(),
        _ => format!("; {}", units::sent(sent)),
    };
    let (act, error) = match broken {
        Broken::Local(fault) => return fault.failure(input::NAME, output::NAME),
        Broken::Receive(error) => ("receive from", error),
        Broken::Send(error) => ("send everything to", error),
        Broken::Idle(time) => {
            let message = format!(
                "gave up on {peer}: no data for {} (--idle-timeout)",
                told(*time)
            );
            return Failure::new(Exit::Timeout, message);
        }
        Broken::Deadline(time) => {
            let message = format!("gave up on {peer} after {} (--deadline)", told(*time));
            return Failure::new(Exit::Timeout, message);
        }
    };
    let why = match error.kind() {
        io::ErrorKind::BrokenPipe => "the peer has closed the connection".to_owned(),
        _ => cause(error),
    };
    let message = format!("could not {act} {peer}: {why}{sent}");
    Failure::new(blame(error), message)
}
