//! netkit: TCP and UDP clients and servers for the command line.
//!
//! `main` parses the command line, sets up the log, runs one subcommand, and turns its result into
//! the exit code. Each subcommand has a folder; so has what they share: `relay` (moves the bytes of
//! a session), `check` (asks many ports), `ping` (numbers and text of pings), `server` (what servers
//! share) and `net` (addresses and sockets). Dependencies run one way, in that order.

mod check;
mod cli;
mod escape;
mod exit;
mod input;
mod json;
mod limits;
mod logging;
mod memory;
mod net;
mod output;
mod ping;
mod progress;
mod proxy;
mod relay;
mod server;
mod signal;
mod stderr;
mod tap;
mod tcp_client;
mod tcp_server;
mod terminal;
mod tls;
mod udp_client;
mod udp_server;
mod units;
mod usage;
mod wait;

use std::process::ExitCode;

use cli::{Cli, Command};
use exit::Failure;

fn main() -> ExitCode {
    let result = cli::parse().and_then(|cli| cli.map_or(Ok(()), run));
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                tracing::error!("{failure}");
            }
            ExitCode::from(failure.exit as u8)
        }
    };
    stderr::finish();
    code
}

fn run(cli: Cli) -> Result<(), Failure> {
    memory::share_one_arena();
    signal::obey_as_process_1()?;
    signal::survive_file_size_limit()?;
    let subcommand = cli.command.name();
    let result = match cli.command {
        // Only the clients print statistics, which -q and -v make shorter and longer.
        Command::TcpClient(args) => tcp_client::run(args, &cli.logging),
        Command::TcpServer(args) => tcp_server::run(&args),
        Command::UdpClient(args) => udp_client::run(args, &cli.logging),
        Command::UdpServer(args) => udp_server::run(&args, cli.logging.verbose > 0),
    };
    result.map_err(|failure| usage::point_to_help(failure, subcommand))
}
