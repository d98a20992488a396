//! What a TCP server does with a connection.

mod broker;
mod chargen;
mod connection;
mod discard;
mod echo;
mod exec;
mod forward;
mod hello;
mod stdio;

use std::ffi::OsString;

use clap::ValueEnum;

use broker::Broker;
pub use connection::{Connection, Ended};
use exec::Program;
use hello::HelloArgs;

use crate::address::HostPort;
use crate::connect::ConnectArgs;
use crate::stream::StreamArgs;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// What to do with a connection
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// Run PROGRAM, with the connection as its standard input and output; takes all that follows
    #[arg(short, long, value_names = ["PROGRAM", "ARG"], num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["service", "sh_exec", "forward"])]
    exec: Option<Vec<OsString>>,
    /// Run COMMAND by /bin/sh in the same way
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["service", "forward"])]
    sh_exec: Option<String>,
    /// Relay every connection to HOST:PORT
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "service")]
    forward: Option<HostPort>,
    #[command(flatten)]
    hello: HelloArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Greets, and answers every message X with `Hello, X!` until `exit`
    Hello,
    /// Sends back what it gets (RFC 862)
    Echo,
    /// Throws away what it gets (RFC 863)
    Discard,
    /// Sends printable characters for ever (RFC 864)
    Chargen,
    /// Joins the connection to standard input and output
    Stdio,
    /// Sends what one connection sends to all others
    Broker,
    /// Sends every line to all others, with the name of its sender
    Chat,
}

/// What a server does with a connection, and what it needs for that.
pub enum Handler {
    Hello(HelloArgs),
    Echo,
    Discard,
    Chargen,
    Stdio(StreamArgs),
    Broker(Broker),
    Exec(Program, StreamArgs),
    Forward(HostPort, ConnectArgs),
}

impl Handler {
    /// Refuses options that would do nothing with the service that is asked for.
    pub fn new(
        args: &ServiceArgs,
        stream: &StreamArgs,
        connect: ConnectArgs,
    ) -> Result<Self, String> {
        let handler = Self::choose(args, stream, connect);
        if !matches!(handler, Self::Hello(_)) && !is_default(&args.hello) {
            return Err(
                "--welcome, --delay, --framing and --max-message are for `hello` only".to_owned(),
            );
        }
        if !matches!(handler, Self::Stdio(_) | Self::Exec(..)) && !is_default(stream) {
            return Err(
                "an option for streams is for `--service stdio`, --exec and --sh-exec only"
                    .to_owned(),
            );
        }
        Ok(handler)
    }

    fn choose(args: &ServiceArgs, stream: &StreamArgs, connect: ConnectArgs) -> Self {
        if let Some(words) = &args.exec {
            return Self::Exec(Program::Direct(words.clone()), stream.clone());
        }
        if let Some(line) = &args.sh_exec {
            return Self::Exec(Program::Shell(line.clone()), stream.clone());
        }
        if let Some(target) = &args.forward {
            return Self::Forward(target.clone(), connect);
        }
        match args.service {
            Service::Hello => Self::Hello(args.hello.clone()),
            Service::Echo => Self::Echo,
            Service::Discard => Self::Discard,
            Service::Chargen => Self::Chargen,
            Service::Stdio => Self::Stdio(stream.clone()),
            Service::Broker => Self::Broker(Broker::new(broker::Kind::Bytes)),
            Service::Chat => Self::Broker(Broker::new(broker::Kind::Chat)),
        }
    }

    /// Standard input and output are for one connection at a time.
    pub fn takes_one_at_a_time(&self) -> bool {
        matches!(self, Self::Stdio(_))
    }

    /// Serves one connection to its end. Whoever called it closes the connection.
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        match self {
            Self::Hello(args) => hello::handle(connection, args),
            Self::Echo => echo::handle(connection),
            Self::Discard => discard::handle(connection),
            Self::Chargen => chargen::handle(connection),
            Self::Stdio(args) => stdio::handle(connection, args),
            Self::Broker(broker) => broker.handle(connection),
            Self::Exec(program, args) => program.handle(connection, args),
            Self::Forward(target, args) => forward::handle(connection, target, args),
        }
    }
}

/// Whether a group of options is as it is when none of them is given.
fn is_default<T: clap::Args + PartialEq>(given: &T) -> bool {
    let matches = T::augment_args(clap::Command::new("default")).get_matches_from(["default"]);
    T::from_arg_matches(&matches).is_ok_and(|default| default == *given)
}
