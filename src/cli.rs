//! The command line: the options that all subcommands share, and the subcommands.

use clap::{Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches, Parser, Subcommand};

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
    arg_required_else_help = false,
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
    /// Connect to HOST:PORT; standard input goes to the peer, what the peer sends goes to standard
    /// output
    TcpClient(Chosen<tcp_client::Args>),
    /// Listen on a port; every accepted connection is served by a thread of its own
    TcpServer(Chosen<tcp_server::Args>),
    /// Send datagrams to HOST:PORT, each DATA or else each line of standard input; print the
    /// answers
    UdpClient(Chosen<udp_client::Args>),
    /// Answer every datagram
    UdpServer(Chosen<udp_server::Args>),
}

/// The arguments of a subcommand. They are built once it is the one that was chosen: those of all
/// four cost as much as the rest of a short session.
pub struct Chosen<A>(pub A);

impl<A: Args> Args for Chosen<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // What is in it already: the subcommand's line in netkit's own help, and the options of
            // all subcommands, which come first here and are last in the help.
            let about = command.get_about().cloned().unwrap_or_default();
            let global: Vec<Arg> = command.get_arguments().cloned().collect();
            let put_last = |command: clap::Command, option: Arg| {
                command.mut_arg(option.get_id().clone(), |_| option)
            };
            let command = A::augment_args(command).about(about);
            global
                .into_iter()
                .fold(command, put_last)
                .mut_args(with_negative_numbers)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        A::augment_args_for_update(command)
    }
}

/// An option reads a negative number as its value, so that its own reader says what is wrong with
/// it. One that can do without a value does not: what follows it may be `-4`.
fn with_negative_numbers(option: Arg) -> Arg {
    let takes_value = option.get_action().takes_values() && !option.is_positional();
    let may_be_alone = option
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    option.allow_negative_numbers(takes_value && !may_be_alone)
}

impl<A: FromArgMatches> FromArgMatches for Chosen<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Reads the command line. `None`: help or the version was asked for, and has been printed.
pub fn parse() -> Result<Option<Cli>, Failure> {
    let parsed = Cli::command()
        .try_get_matches()
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let error = match parsed {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    // Nothing has been read, but a program that reads the log expects objects all the same.
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let json = words.iter().any(|word| word == "--log-format=json")
        || words
            .windows(2)
            .any(|pair| pair == ["--log-format", "json"]);
    crate::logging::init(&LoggingArgs::for_usage_errors(json));
    let text = error.render().to_string();
    if !error.use_stderr() {
        output::write_once(text.as_bytes())?;
        return Ok(None);
    }
    let known = |word: &String| Cli::command().find_subcommand(word).is_some();
    // Not every argument is text.
    let words = std::env::args_os().skip(1);
    let subcommand = words.filter_map(|word| word.into_string().ok()).find(known);
    Err(Failure::new(
        Exit::Local,
        on_one_line(&text, subcommand.as_deref()),
    ))
}

/// What clap says over several lines, on one: its reason, its tip, and where to read more.
fn on_one_line(text: &str, subcommand: Option<&str>) -> String {
    /// Which of several options would do, as clap puts it, and as people do.
    const PING: (&str, &str) = (
        "the following required arguments were not provided: <--ping|--count <N>|--interval <TIME>>",
        "an option that only a ping takes was given without --ping, -c or -i",
    );
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let paragraphs = text.split("\n\n").take_while(|paragraph| {
        !paragraph.starts_with("Usage: ") && !paragraph.starts_with("For more information")
    });
    // How to pass an option's name as an address is no help.
    let paragraphs = paragraphs.filter(|paragraph| !paragraph.contains("tip: to pass '"));
    let mut line = String::new();
    for paragraph in paragraphs {
        for word in paragraph.split_whitespace() {
            line.push_str(word);
            line.push(' ');
        }
        line.truncate(line.trim_end().len());
        line.push_str("; ");
    }
    let unexpected = line.strip_prefix("unexpected argument '-").unwrap_or("");
    if unexpected.starts_with(|first: char| first.is_ascii_digit()) {
        line.push_str("no option takes less than zero");
        if subcommand == Some("udp-client") {
            line.push_str(", and data that begins with - follows --");
        }
        line.push_str("; ");
    }
    let line = line.replace(PING.0, PING.1);
    let subcommand = subcommand
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    format!("{line}see 'netkit{subcommand} --help'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_of_clap_is_one_line() {
        let line = |args: &[&str]| {
            let error = Cli::command().try_get_matches_from(args).err().unwrap();
            on_one_line(&error.render().to_string(), Some(args[1]))
        };
        assert_eq!(
            line(&["netkit", "tcp-server"]),
            "the following required arguments were not provided: --port <N>; \
             see 'netkit tcp-server --help'"
        );
        assert_eq!(
            line(&["netkit", "tcp-server", "--portt", "1"]),
            "unexpected argument '--portt' found; tip: a similar argument exists: '--port'; \
             see 'netkit tcp-server --help'"
        );
        assert_eq!(
            line(&["netkit", "tcp-server", "--idle-timeout", "-5ms"]),
            "unexpected argument '-5' found; no option takes less than zero; \
             see 'netkit tcp-server --help'"
        );
        assert_eq!(
            line(&["netkit", "udp-client", ":9999", "-5"]),
            "unexpected argument '-5' found; no option takes less than zero, and data that begins \
             with - follows --; see 'netkit udp-client --help'"
        );
    }
}
