//! netkit: TCP and UDP clients and servers for the command line.
//!
//! Read on in this order: `cli` (what can be asked for), one subcommand (`tcp_client`,
//! `tcp_server`, `udp_client`, `udp_server`: its arguments and its `run`), then what they stand on:
//! `relay` (moves the bytes of a session), `duplex` (one end of it), `connect`, `resolve`,
//! `listen`, `socket`, and the pure parts `address`, `units`, `escape`.

mod address;
mod cli;
mod connect;
mod connections;
mod duplex;
mod escape;
mod exit;
mod http;
mod listen;
mod logging;
mod output;
mod relay;
mod resolve;
mod service;
mod signal;
mod socket;
mod splice;
mod stream;
mod tcp_client;
mod tcp_server;
mod udp_client;
mod udp_server;
mod units;
mod workers;

use std::process::ExitCode;

use cli::{Cli, Command};
use exit::Exit;

fn main() -> ExitCode {
    let result = cli::parse().and_then(|cli| cli.map_or(Ok(()), |cli| run(&cli)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = exit::exit_of(&error);
            if exit != Exit::OutputClosed {
                tracing::error!("{error:#}");
            }
            ExitCode::from(exit as u8)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    logging::init(&cli.logging);
    match &cli.command {
        Command::TcpClient(args) => tcp_client::run(args),
        Command::TcpServer(args) => tcp_server::run(args),
        Command::UdpClient(args) => udp_client::run(args),
        Command::UdpServer(args) => udp_server::run(args),
    }
}
