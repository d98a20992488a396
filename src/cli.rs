//! The command line: the options that all subcommands share, and the subcommands.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::exit::{self, Exit, Failure};
use crate::logging::LoggingArgs;
use crate::{output, tcp_client, tcp_server, udp_client, udp_server};

/// TCP and UDP clients and servers for the command line
#[derive(Parser)]
#[command(
    version,
    after_help = "`netkit SUBCOMMAND --help` explains a subcommand.",
    after_long_help = exit::TABLE,
    disable_help_subcommand = true,
    subcommand_value_name = "SUBCOMMAND",
    subcommand_help_heading = "Subcommands"
)]
pub struct Cli {
    #[command(flatten)]
    pub logging: LoggingArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    TcpClient(tcp_client::Args),
    TcpServer(tcp_server::Args),
    UdpClient(udp_client::Args),
    UdpServer(udp_server::Args),
}

/// Reads the command line. `None`: help or the version was asked for, and has been printed.
pub fn parse() -> anyhow::Result<Option<Cli>> {
    let parsed = Cli::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let error = match parsed {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    let text = error.render().to_string();
    if !error.use_stderr() {
        output::write_once(text.as_bytes())?;
        return Ok(None);
    }
    crate::logging::init(&LoggingArgs::default());
    let text = text.trim_end();
    Err(Failure::new(Exit::Local, text.strip_prefix("error: ").unwrap_or(text)).into())
}
