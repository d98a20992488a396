//! What a TCP server does with a connection: one file a service.
//!
//! Each service has a function `handle`, which serves one connection to its end. It never closes the
//! connection: that is for `serve`.

mod broker;
mod chargen;
mod discard;
mod echo;
mod exec;
mod forward;
mod hello;
mod stdio;

use std::ffi::OsString;
use std::sync::Arc;

use clap::ValueEnum;

use broker::Broker;
use forward::Forward;
pub use forward::Way;
use hello::HelloArgs;
use stdio::Stdio;

use super::connection::Connection;
use super::ended::Ended;
use super::modes;
use super::turns::Turn;
use crate::exit::Failure;
use crate::net::target::Address;
use crate::relay::options::StreamArgs;
use crate::server::program::Program;
use crate::usage::Mode;

#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Choose what to do with a connection
    #[arg(long, value_name = "NAME", default_value = "hello")]
    service: Service,
    /// Talk to one connection, as nc -l
    ///
    /// With -e or --sh-exec: serve one connection, then exit. -k goes on.
    #[arg(short = 'l', long, conflicts_with_all = ["service", "forward"])]
    pub stdio: bool,
    /// Run PROGRAM ARG... for each; must come last
    ///
    /// The connection is its standard input and output.
    #[arg(short, long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["service", "sh_exec", "forward"])]
    exec: Option<Vec<OsString>>,
    /// Run COMMAND with /bin/sh in the same way
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["service", "forward"])]
    sh_exec: Option<String>,
    /// Forward every connection to HOST:PORT
    ///
    /// Or to a Unix socket: unix:PATH.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "service")]
    forward: Option<Address>,
    #[command(flatten)]
    hello: HelloArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Greet, and answer every message X with `Hello, X!` until `exit`
    Hello,
    /// Send back what arrives (RFC 862)
    Echo,
    /// Discard what arrives (RFC 863)
    Discard,
    /// Send printable characters without end (RFC 864)
    Chargen,
    /// Join the connection to standard input and output
    Stdio,
    /// Send what arrives to all other connections, and standard input to all
    Broker,
    /// Send every line to all others, with the name of its sender; a terminal takes part
    Chat,
}

impl ServiceArgs {
    /// Without a program or `--forward`.
    fn service(&self) -> Service {
        if self.stdio {
            Service::Stdio
        } else {
            self.service
        }
    }

    pub fn runs_program(&self) -> bool {
        self.exec.is_some() || self.sh_exec.is_some()
    }

    /// The service that is asked for, for the table of options.
    pub fn mode(&self) -> Mode {
        if self.runs_program() {
            return modes::EXEC;
        }
        if self.forward.is_some() {
            return modes::FORWARD;
        }
        match self.service() {
            Service::Hello => modes::HELLO,
            Service::Echo => modes::ECHO,
            Service::Discard => modes::DISCARD,
            Service::Chargen => modes::CHARGEN,
            Service::Stdio => modes::STDIO,
            Service::Broker => modes::BROKER,
            Service::Chat => modes::CHAT,
        }
    }
}

/// What a server does with a connection, and what it needs for that.
pub enum Handler {
    Hello(HelloArgs),
    Echo,
    Discard,
    Chargen,
    Stdio(Stdio),
    Broker(Arc<Broker>),
    Exec(Program, StreamArgs),
    Forward(Box<Forward>),
}

impl Handler {
    /// Opens what the service needs. `way` is for `--forward`. With `keeps_open`, `stdio` serves one
    /// connection after another.
    pub fn new(
        args: &ServiceArgs,
        stream: &StreamArgs,
        keeps_open: bool,
        way: impl FnOnce() -> Result<Way, Failure>,
    ) -> Result<Self, Failure> {
        let program = Program::new(args.exec.as_deref(), args.sh_exec.as_deref())?;
        if let Some(program) = program {
            return Ok(Self::Exec(program, stream.clone()));
        }
        if let Some(target) = args.forward.clone() {
            let way = way()?;
            return Ok(Self::Forward(Box::new(Forward { target, way })));
        }
        Ok(match args.service() {
            Service::Hello => Self::Hello(args.hello.clone()),
            Service::Echo => Self::Echo,
            Service::Discard => Self::Discard,
            Service::Chargen => Self::Chargen,
            Service::Stdio => Self::Stdio(Stdio::new(stream.clone(), keeps_open)),
            Service::Broker => Self::Broker(Broker::start(broker::Kind::Bytes)?),
            Service::Chat => Self::Broker(Broker::start(broker::Kind::Chat)?),
        })
    }

    /// Whether it serves one connection at a time, as it needs standard input and output.
    pub fn takes_one_at_a_time(&self) -> bool {
        matches!(self, Self::Stdio(_))
    }

    /// The program that it runs for each connection.
    pub fn program(&self) -> Option<&Program> {
        match self {
            Self::Exec(program, _) => Some(program),
            _ => None,
        }
    }

    /// Blocks until the service is done with the connection. The caller closes it. `turn` is its turn
    /// to start a program.
    pub fn handle(&self, connection: &Connection, turn: Option<Turn>) -> Result<(), Ended> {
        match self {
            Self::Hello(args) => hello::handle(connection, args),
            Self::Echo => echo::handle(connection),
            Self::Discard => discard::handle(connection),
            Self::Chargen => chargen::handle(connection),
            Self::Stdio(stdio) => stdio.handle(connection),
            Self::Broker(broker) => broker.handle(connection),
            Self::Exec(program, args) => exec::handle(program, connection, args, turn),
            Self::Forward(forward) => forward.handle(connection),
        }
    }
}
