//! netkit: TCP and UDP clients and servers for the command line.
//!
//! Read on in this order: `cli` (what can be asked for), one subcommand (`tcp_client`,
//! `tcp_server`, `udp_client`, `udp_server`: its arguments and its `run`), then what they stand on:
//! `relay` (moves the bytes of a session), `duplex` (one end of it), `connect`, `resolve`,
//! `listen`, `socket`, `wait` (poll(2)), and the pure parts `address`, `units`, `escape`. How the
//! threads of a server work: `crew`, `scheduling`, `busy_poll`. What UDP needs stands apart: `route`
//! (addresses and sockets of a target), `exchange` (asks and waits for answers), `flow` (the sockets
//! it asks on), `receiver` (when a queue is full), `udp_relay`, `udp_check`, `refusal`, `multicast`;
//! and `udp_ping` (the loop) with its pure halves `probes` and `statistics`.

mod access;
mod address;
mod busy_poll;
mod cli;
mod connect;
mod connections;
mod crew;
mod datagram;
mod duplex;
mod episode;
mod escape;
mod exchange;
mod exit;
mod flow;
mod http;
mod limit;
mod listen;
mod logging;
mod matching;
mod multicast;
mod output;
mod payloads;
mod ping_report;
mod port_check;
mod probes;
mod program;
mod receiver;
mod refusal;
mod relay;
mod report;
mod resolve;
mod route;
mod scheduling;
mod service;
mod signal;
mod socket;
mod splice;
mod statistics;
mod stream;
mod tap;
mod tcp_client;
mod tcp_ping;
mod tcp_server;
mod udp_check;
mod udp_client;
mod udp_ping;
mod udp_relay;
mod udp_server;
mod units;
mod wait;

use std::process::ExitCode;

use cli::{Chosen, Cli, Command};

fn main() -> ExitCode {
    let result = cli::parse().and_then(|cli| cli.map_or(Ok(()), |cli| run(&cli)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !exit::is_silent(&error) {
                if let Some(error) = error.downcast_ref::<std::io::Error>() {
                    tracing::error!("could not go on: {}", exit::cause(error));
                } else {
                    tracing::error!("{error:#}");
                }
            }
            ExitCode::from(exit::exit_of(&error) as u8)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    logging::init(&cli.logging);
    match &cli.command {
        Command::TcpClient(Chosen(args)) => tcp_client::run(args, &cli.logging),
        Command::TcpServer(Chosen(args)) => tcp_server::run(args),
        Command::UdpClient(Chosen(args)) => udp_client::run(args, &cli.logging),
        Command::UdpServer(Chosen(args)) => udp_server::run(args),
    }
}
