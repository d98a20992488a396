//! `--generate`: the man page and the completions of shells, made of the same definitions as the help.

mod man;

use clap::builder::EnumValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum, ValueHint};
use clap_complete::shells::{Bash, Fish, Zsh};
use clap_complete::{Generator, generate};

use crate::exit::Failure;

const ID: &str = "generate";

#[derive(Clone, Copy, ValueEnum)]
pub enum Page {
    Man,
    Bash,
    Zsh,
    Fish,
}

pub fn option() -> Arg {
    Arg::new(ID)
        .long("generate")
        .value_name("PAGE")
        .value_parser(EnumValueParser::<Page>::new())
        .action(ArgAction::Set)
        .exclusive(true)
        .hide_short_help(true)
        .help("Print the man page, or the completions of a shell")
}

/// The page that was asked for. clap does not see that a subcommand is one thing too many.
pub fn chosen(matches: &ArgMatches) -> Option<Result<Page, Failure>> {
    let page = *matches.get_one(ID)?;
    Some(match matches.subcommand_name() {
        None => Ok(page),
        Some(name) => Err(Failure::usage(format!(
            "--generate does nothing with {name}"
        ))),
    })
}

/// The text of `page`. `netkit` is arranged as its help shows it.
pub fn text(page: Page, mut netkit: Command) -> Vec<u8> {
    // The options of a subcommand are deferred until then.
    netkit.build();
    match page {
        Page::Man => man::page(&netkit).into_bytes(),
        Page::Bash => completions(Bash, netkit),
        Page::Zsh => completions(Zsh, netkit),
        Page::Fish => completions(Fish, netkit),
    }
}

fn completions(shell: impl Generator, netkit: Command) -> Vec<u8> {
    let mut netkit = netkit.mut_subcommands(|subcommand| subcommand.mut_args(hinted));
    let mut text = Vec::new();
    generate(shell, &mut netkit, "netkit", &mut text);
    text
}

/// An option that says what its value is: shells offer files only where one is wanted.
fn hinted(option: Arg) -> Arg {
    let names = option.get_value_names().unwrap_or_default();
    let hint = match names.first().map_or("", |name| name.as_str()) {
        "FILE" => ValueHint::FilePath,
        "PROGRAM" => ValueHint::CommandWithArguments,
        "COMMAND" => ValueHint::CommandString,
        "HOST" | "HOST:PORT" => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    option.value_hint(hint)
}
