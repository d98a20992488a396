//! The command line: the options that all subcommands share, and the subcommands.

mod generate;
mod pages;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, FromArgMatches as _, Subcommand};

use crate::exit::{self, Exit, Failure};
use crate::logging::{self, LoggingArgs};
use crate::usage::{self, Typed};
use crate::{output, stderr, tcp_client, tcp_server, udp_client, udp_server};

pub struct Cli {
    pub logging: LoggingArgs,
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    TcpClient(tcp_client::Args),
    TcpServer(tcp_server::Args),
    UdpClient(udp_client::Args),
    UdpServer(udp_server::Args),
}

impl Command {
    /// As it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TcpClient(_) => "tcp-client",
            Self::TcpServer(_) => "tcp-server",
            Self::UdpClient(_) => "udp-client",
            Self::UdpServer(_) => "udp-server",
        }
    }

    /// Refuses options that do nothing in this combination.
    fn check(&self, typed: &Typed) -> Result<(), Failure> {
        match self {
            Self::TcpClient(args) => args.check_options(typed),
            Self::TcpServer(args) => args.check_options(typed),
            Self::UdpClient(args) => args.check_options(typed),
            Self::UdpServer(args) => args.check_options(typed),
        }
    }
}

/// What a `clap::Command` is for.
#[derive(Clone, Copy)]
enum Purpose {
    /// Options stand as they are declared, without groups.
    Parse,
    /// Options stand in the groups of the help pages. To arrange them takes longer than all else that
    /// a short session does before it connects.
    Show,
}

fn command(purpose: Purpose) -> clap::Command {
    let netkit = clap::Command::new("netkit")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about("TCP and UDP clients and servers for the command line")
        .max_term_width(100)
        .after_help(
            "`netkit SUBCOMMAND -h` explains a subcommand. tcp and udp are short for the\nclients.",
        )
        .after_long_help(exit::TABLE)
        .disable_help_subcommand(true)
        .arg(generate::option())
        // clap would want one with --generate too.
        .subcommand_required(matches!(purpose, Purpose::Show))
        .subcommand_value_name("SUBCOMMAND")
        .subcommand_help_heading("Subcommands")
        .subcommands([
            subcommand::<tcp_client::Args>(
                purpose,
                "tcp-client",
                "Connect to HOST:PORT: send standard input, print the answer",
            )
            .alias("tcp"),
            subcommand::<tcp_server::Args>(
                purpose,
                "tcp-server",
                "Listen on PORT and serve every connection",
            ),
            subcommand::<udp_client::Args>(
                purpose,
                "udp-client",
                "Send datagrams to HOST:PORT and print the answers; or ping it",
            )
            .alias("udp"),
            subcommand::<udp_server::Args>(
                purpose,
                "udp-server",
                "Listen on PORT and answer every datagram",
            ),
        ]);
    LoggingArgs::augment_args(netkit).mut_arg("log_format", |option| option.hide_short_help(true))
}

/// A subcommand whose options clap builds only when it is chosen: building those of all four takes as
/// long as the rest of a short session.
fn subcommand<A: Args>(purpose: Purpose, name: &'static str, about: &'static str) -> clap::Command {
    clap::Command::new(name)
        .about(about)
        .display_name("netkit")
        .defer(match purpose {
            Purpose::Parse => with_options::<A>,
            Purpose::Show => |command| pages::arranged(with_options::<A>(command)),
        })
}

fn with_options<A: Args>(command: clap::Command) -> clap::Command {
    // `augment_args` replaces it by the documentation of an option group.
    let about = command.get_about().cloned().unwrap_or_default();
    A::augment_args(command)
        .about(about)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(pages::help_and_version())
        .mut_args(adjusted)
}

/// Lets an option have a negative number as its value: its own parser then says what is wrong with it.
fn adjusted(option: Arg) -> Arg {
    // After an option that can do without a value, `-4` is an option.
    let takes_value = option.get_action().takes_values() && !option.is_positional();
    let may_be_alone = option
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    option.allow_negative_numbers(takes_value && !may_be_alone)
}

/// The command line, with `help [SUBCOMMAND]` as `[SUBCOMMAND] --help`.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.truncate(2);
        words.push("--help".into());
    }
    words
}

/// What is told where only the name of the program, or of a subcommand too, was typed: the short help,
/// or the usage and the examples.
fn introduction(words: &[OsString]) -> Option<String> {
    let name = match words {
        [_] => return Some(command(Purpose::Show).render_help().to_string()),
        [_, word] => word.to_str().filter(|word| !word.starts_with('-'))?,
        _ => return None,
    };
    let mut netkit = command(Purpose::Show);
    netkit.build();
    let subcommand = netkit.find_subcommand_mut(name)?;
    let name = subcommand.get_name().to_owned();
    let examples = subcommand.get_after_help().cloned().unwrap_or_default();
    let usage = subcommand.render_usage();
    Some(format!(
        "{usage}\n\n{examples}\n\n`netkit {name} -h` explains the options.\n"
    ))
}

/// Reads the command line. `None` after help, the version or a page of `--generate`, which it prints.
pub fn parse() -> Result<Option<Cli>, Failure> {
    let words = words();
    if let Some(text) = introduction(&words) {
        stderr::write_line(text.as_bytes());
        return Err(Failure::announced(Exit::Local));
    }
    let mut all = command(Purpose::Parse);
    let matches = all.try_get_matches_from_mut(&words);
    if let Some(page) = matches.as_ref().ok().and_then(generate::chosen) {
        logging::init(&LoggingArgs::default());
        output::write_once(&generate::text(page?, command(Purpose::Show)))?;
        return Ok(None);
    }
    let parsed = matches.and_then(|mut matches| {
        let typed = Typed::of(&all, &matches);
        let cli = Cli {
            logging: LoggingArgs::from_arg_matches_mut(&mut matches)?,
            command: Command::from_arg_matches_mut(&mut matches)?,
        };
        Ok((cli, typed))
    });
    let error = match parsed {
        Ok((cli, typed)) => {
            logging::init(&cli.logging);
            let checked = usage::check_netcat().and_then(|()| cli.command.check(&typed));
            checked.map_err(|failure| usage::point_to_help(failure, cli.command.name()))?;
            return Ok(Some(cli));
        }
        Err(error) => error,
    };
    if !error.use_stderr() {
        logging::init(&LoggingArgs::default());
        let error = match error.kind() {
            ErrorKind::DisplayHelp => {
                let shown = command(Purpose::Show).try_get_matches_from(&words);
                shown.err().unwrap_or(error)
            }
            _ => error,
        };
        output::write_once(error.render().to_string().as_bytes())?;
        return Ok(None);
    }
    // clap understands what stands before the error.
    let command = command(Purpose::Parse)
        .ignore_errors(true)
        .disable_help_flag(true);
    let understood = command.try_get_matches_from(&words).ok();
    let understood = understood.as_ref();
    let logging = understood.and_then(|matches| LoggingArgs::from_arg_matches(matches).ok());
    logging::init(&logging.unwrap_or_default());
    let subcommand = understood.and_then(ArgMatches::subcommand_name);
    Err(Failure::local(usage::line(&error, &all, subcommand)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command(Purpose::Show).debug_assert();
    }

    #[test]
    fn every_option_says_in_which_modes_it_does_something() {
        let mut netkit = command(Purpose::Show);
        netkit.build();
        for (name, rows) in [
            ("tcp-client", tcp_client::modes::OPTIONS),
            ("tcp-server", tcp_server::modes::OPTIONS),
            ("udp-client", udp_client::modes::OPTIONS),
            ("udp-server", udp_server::modes::OPTIONS),
        ] {
            let options = netkit.find_subcommand(name).unwrap().get_arguments();
            let mut options: Vec<&str> = options.map(|option| option.get_id().as_str()).collect();
            let mut in_rows: Vec<&str> = rows.iter().flat_map(|(ids, _)| *ids).copied().collect();
            options.sort_unstable();
            in_rows.sort_unstable();
            assert_eq!(options, in_rows, "write a row for it in {name}'s modes.rs");
        }
    }

    #[test]
    fn every_option_has_a_group() {
        let mut netkit = command(Purpose::Show);
        netkit.build();
        for subcommand in netkit.get_subcommands() {
            let groups = pages::groups(subcommand.get_name());
            for option in subcommand.get_arguments() {
                let id = option.get_id().as_str();
                let count = groups.iter().filter(|(_, ids)| ids.contains(&id)).count();
                let expected = usize::from(!option.is_positional() || id == "place");
                assert_eq!(count, expected, "write {id} into cli/pages.rs once");
            }
        }
    }

    #[test]
    fn advice_on_an_option_of_netcat_names_options_that_exist() {
        let mut netkit = command(Purpose::Show);
        netkit.build();
        for subcommand in netkit.get_subcommands() {
            let name = subcommand.get_name();
            let has = |option: &str| {
                let mut options = subcommand.get_arguments();
                options.any(|known| {
                    let short = known.get_short().map(|short| format!("-{short}"));
                    let long = known.get_long().map(|long| format!("--{long}"));
                    [short, long]
                        .into_iter()
                        .flatten()
                        .any(|known| known == option)
                })
            };
            for option in usage::netcat_options().filter(|option| !has(option)) {
                let words = ["netkit", name, option];
                let mut netkit = command(Purpose::Parse);
                let error = netkit.try_get_matches_from_mut(words);
                let line = usage::line(&error.err().unwrap(), &netkit, Some(name));
                let advice = line.split("; ").nth(1).unwrap();
                assert!(!advice.starts_with("tip"), "{line}");
                // Another subcommand stands in quotes.
                let advice = advice.split('\'').next().unwrap();
                for word in advice
                    .split([' ', ','])
                    .filter(|word| word.starts_with('-'))
                {
                    assert!(has(word), "{name} has no {word}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_refused_value_stands_in_its_message_once() {
        let mut netkit = command(Purpose::Show);
        netkit.build();
        let mut refused = 0;
        for subcommand in netkit.get_subcommands() {
            let name = subcommand.get_name();
            let options = subcommand.get_arguments();
            for option in options.filter(|option| option.get_action().takes_values()) {
                let Some(long) = option.get_long() else {
                    continue;
                };
                let words = ["netkit", name, &format!("--{long}=<<\\q>>")];
                let mut netkit = command(Purpose::Parse);
                let Err(error) = netkit.try_get_matches_from_mut(words) else {
                    continue;
                };
                if error.kind() == ErrorKind::ValueValidation {
                    let line = usage::line(&error, &netkit, Some(name));
                    // An advice may use it.
                    let reason = line.split("; ").next().unwrap_or_default();
                    assert_eq!(reason.matches("<<\\q>>").count(), 1, "{line}");
                    assert!(line.contains(&format!("(--{long})")), "{line}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 60, "{refused}");
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let cases = [
            (
                "tcp-server --portt 1",
                "unexpected argument '--portt' found; tip: a similar argument exists: '--port'; \
                 see 'netkit tcp-server -h'",
            ),
            (
                "tcp-client --tsl",
                "unexpected argument '--tsl' found; tip: a similar argument exists: '--tls' \
                 (or '--ssl'); see 'netkit tcp-client -h'",
            ),
            (
                "tcp-server --hst",
                "unexpected argument '--hst' found; tip: a similar argument exists: '--bind' \
                 (or '--host'); see 'netkit tcp-server -h'",
            ),
            (
                "tcp-server --limit-rat 1",
                "unexpected argument '--limit-rat' found; tip: a similar argument exists: \
                 '--max-rate' (or '--limit-rate'); see 'netkit tcp-server -h'",
            ),
            (
                "tc a:1",
                "unrecognized subcommand 'tc'; tip: a similar subcommand exists: 'tcp-client' \
                 (or 'tcp'); see 'netkit -h'",
            ),
            (
                "--port 1 tcp-server",
                "unexpected argument '--port' found; tip: 'tcp-server --port' exists; \
                 see 'netkit -h'",
            ),
            (
                "tcp-server -p 1 --service ech",
                "'ech' is unknown (--service); there are hello, echo, discard, chargen, stdio, broker, chat; \
                 tip: a similar value exists: 'echo'; see 'netkit tcp-server -h'",
            ),
            (
                "tcp-server -p 1 -p 2",
                "the argument '--port <N>' cannot be used multiple times; \
                 see 'netkit tcp-server -h'",
            ),
            (
                "tcp-server --idle-timeout -5ms",
                "unexpected argument '-5' found; no option takes less than zero; \
                 see 'netkit tcp-server -h'",
            ),
            (
                "tcp-client --raw=5",
                "unexpected value '5' for '--raw' found; no more were expected; \
                 see 'netkit tcp-client -h'",
            ),
            (
                "udp-client :9999 -5",
                "unexpected argument '-5' found; no option takes less than zero, and data that \
                 begins with - follows --; see 'netkit udp-client -h'",
            ),
            (
                "udp-client :9999 --whole --chunk 5",
                "the argument '--whole' cannot be used with '--chunk <SIZE>'; \
                 see 'netkit udp-client -h'",
            ),
        ];
        for (line, expected) in cases {
            let words = ["netkit"].into_iter().chain(line.split(' '));
            let mut netkit = command(Purpose::Parse);
            let error = netkit.try_get_matches_from_mut(words).err().unwrap();
            let subcommand = line.split(' ').next().filter(|word| word.contains("p-"));
            let told = usage::line(&error, &netkit, subcommand);
            assert_eq!(told, expected, "{line}");
        }
    }
}
