//! Usage errors on one line: the reason, a tip, and where to read more.
//!
//! A subcommand has modes (talk, check, ping; or a service each) and a table of the modes in which
//! each option does something. clap cannot keep such rules: it drops `requires` where the required
//! option conflicts with another that was given.

mod curl;
mod netcat;
mod ping;
mod tip;

#[cfg(test)]
pub use netcat::options as netcat_options;

use std::error::Error as _;

use clap::ArgMatches;
use clap::error::{ContextKind, Error, ErrorKind};
use clap::parser::ValueSource;

use crate::escape::quoted;
use crate::exit::Failure;
use tip::{meant_subcommand, suggestion, tip};

/// A way to use a subcommand, named by the options that choose it. The default way may have no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub &'static [&'static str]);

/// Options by their ids, with the modes in which they do something. Every option has a row.
pub type Rows = [(&'static [&'static str], &'static [Mode])];

/// The options that were typed, in the order of their declaration.
pub struct Typed(Vec<TypedOption>);

struct TypedOption {
    id: String,
    /// `-c` if it has a letter, or else `--count`.
    name: String,
    /// As it was typed.
    spelled: String,
}

impl Typed {
    /// Those of the subcommand that `matches` names.
    pub fn of(command: &clap::Command, matches: &ArgMatches) -> Self {
        let chosen = matches.subcommand();
        let chosen = chosen.and_then(|(name, matches)| {
            let command = command.find_subcommand(name)?;
            Some((command.get_arguments(), matches))
        });
        let Some((options, matches)) = chosen else {
            return Self(Vec::new());
        };
        let words = arguments();
        let is_word = |name: &String| {
            words
                .iter()
                .any(|word| word.split('=').next() == Some(name))
        };
        let typed = options.filter_map(|option| {
            let id = option.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                return None;
            }
            let long = option.get_long().map(|long| format!("--{long}"));
            let short = option.get_short().map(|short| format!("-{short}"));
            let name = short.or(long.clone())?;
            let spelled = long.filter(is_word).unwrap_or_else(|| name.clone());
            let id = id.to_owned();
            Some(TypedOption { id, name, spelled })
        });
        Self(typed.collect())
    }

    /// Refuses the first option that does nothing in `mode`.
    pub fn check(&self, mode: Mode, rows: &Rows) -> Result<(), Failure> {
        for option in &self.0 {
            let mut rows = rows.iter();
            let row = rows.find(|(ids, _)| ids.contains(&&option.id[..]));
            let Some((_, modes)) = row else { continue };
            if !modes.contains(&mode) {
                return Err(Failure::usage(self.refusal(option, mode, modes)));
            }
        }
        Ok(())
    }

    /// Refuses `option`, by its id, where `other`, by its id and name, was not typed.
    pub fn require(&self, option: &str, (other, other_name): (&str, &str)) -> Result<(), Failure> {
        let find = |id: &str| self.0.iter().find(|typed| typed.id == id);
        match (find(option), find(other)) {
            (Some(option), None) => {
                let message = format!("{} needs {other_name}", option.spelled);
                Err(Failure::usage(message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses `options`, by their ids, if `other`, by its id and name, was typed.
    pub fn exclude_with(
        &self,
        options: &[&str],
        (other, other_name): (&str, &str),
    ) -> Result<(), Failure> {
        let is_typed = self.0.iter().any(|typed| typed.id == other);
        if is_typed {
            self.exclude(options, other_name)
        } else {
            Ok(())
        }
    }

    /// Refuses `options`, by their ids, beside the option `other`.
    pub fn exclude(&self, options: &[&str], other: &str) -> Result<(), Failure> {
        let mut typed = self.0.iter();
        match typed.find(|typed| options.contains(&&typed.id[..])) {
            Some(option) => {
                let message = format!("{} does nothing with {other}", option.spelled);
                Err(Failure::usage(message))
            }
            None => Ok(()),
        }
    }

    fn refusal(&self, option: &TypedOption, mode: Mode, modes: &[Mode]) -> String {
        /// More names would hide what is wrong.
        const MOST_NAMES: usize = 4;
        let names: Vec<&str> = modes.iter().flat_map(|mode| mode.0).copied().collect();
        let is_choice = modes.contains(&Mode(&[])) || names.contains(&&option.name[..]);
        let option = &option.spelled;
        match &names[..] {
            [others @ .., last] if !is_choice && names.len() <= MOST_NAMES => {
                let others = others.join(", ");
                let or = if others.is_empty() { "" } else { " or " };
                format!("{option} needs {others}{or}{last}")
            }
            _ => {
                let typed = mode.0.iter().find_map(|name| {
                    let (option, value) = name.split_at(name.find(' ').unwrap_or(name.len()));
                    let typed = self.0.iter().find(|typed| typed.name == option)?;
                    Some(format!("{}{value}", typed.spelled))
                });
                let first = || mode.0.first().copied().unwrap_or_default().to_owned();
                let chosen_by = typed.unwrap_or_else(first);
                format!("{option} does nothing with {chosen_by}")
            }
        }
    }
}

const SUBCOMMANDS: &str = "there are tcp-client, tcp-server, udp-client and udp-server";

/// The arguments, as text.
fn arguments() -> Vec<String> {
    let arguments = std::env::args_os().skip(1);
    arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// Refuses what means something else to netcat, although netkit could read it.
pub fn check_netcat() -> Result<(), Failure> {
    match netcat::quits_after_eof(&arguments()) {
        Some(advice) => Err(Failure::usage(advice)),
        None => Ok(()),
    }
}

/// Ends a usage error with the way to the help of `subcommand`.
pub fn point_to_help(failure: Failure, subcommand: &str) -> Failure {
    if !failure.is_usage {
        return failure;
    }
    let reason = netcat::quits_after_eof(&arguments());
    let reason = reason.unwrap_or_else(|| failure.to_string());
    Failure::local(format!("{reason}; see 'netkit {subcommand} -h'"))
}

/// Tells `error` of `netkit` on one line, from its kind and its context: clap may reword its text.
pub fn line(error: &Error, netkit: &clap::Command, subcommand: Option<&str>) -> String {
    let tip = || tip(error, netkit, subcommand).unwrap_or_default();
    let (reason, tip) = match netcat::quits_after_eof(&arguments()) {
        Some(advice) => (advice, String::new()),
        None => (reason(error), tip()),
    };
    let subcommand = subcommand.map(|name| format!(" {name}"));
    let subcommand = subcommand.unwrap_or_default();
    format!("{reason}; {tip}see 'netkit{subcommand} -h'")
}

fn reason(error: &Error) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let prior = text(error, ContextKind::PriorArg).replace(", ", "', '");
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("a value is required for '{argument}' but none was supplied")
        }
        ErrorKind::InvalidValue => {
            let option = argument.split([' ', '[']).next().unwrap_or_default();
            let valid = text(error, ContextKind::ValidValue);
            format!("'{value}' is unknown ({option}); there are {valid}")
        }
        ErrorKind::ValueValidation => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            let option = argument.split([' ', '[']).next().unwrap_or_default();
            // Before the advice. The value may contain a semicolon.
            let quoted = format!("'{value}'");
            let value_ends = cause.find(&quoted).map_or(0, |at| at + quoted.len());
            let (what, advice) = match cause[value_ends..].find("; ") {
                Some(length) => cause.split_at(value_ends + length),
                None => (&cause[..], ""),
            };
            format!("{what} ({option}){advice}")
        }
        ErrorKind::TooManyValues if argument.starts_with('-') => {
            format!("unexpected value '{value}' for '{argument}' found; no more were expected")
        }
        ErrorKind::TooManyValues => {
            format!("too many arguments: '{value}'; write HOST PORT or HOST:PORT")
        }
        ErrorKind::UnknownArgument if !argument.starts_with('-') => {
            format!("too many arguments: '{argument}'")
        }
        ErrorKind::UnknownArgument => match number_after_letter(&argument) {
            Some((word, letter)) => format!("unexpected '{word}'; -{letter} takes no number"),
            None => format!("unexpected argument '{argument}' found"),
        },
        ErrorKind::ArgumentConflict if prior == argument => {
            format!("the argument '{argument}' cannot be used multiple times")
        }
        ErrorKind::ArgumentConflict => {
            format!("the argument '{argument}' cannot be used with '{prior}'")
        }
        ErrorKind::InvalidUtf8 => format!("not UTF-8: {}", not_text()),
        ErrorKind::MissingSubcommand => format!("which subcommand? {SUBCOMMANDS}"),
        ErrorKind::InvalidSubcommand => {
            let subcommand = text(error, ContextKind::InvalidSubcommand);
            let advice = meant_subcommand(&subcommand);
            match advice.or_else(|| suggestion(error, ContextKind::SuggestedSubcommand)) {
                Some(_) => format!("unrecognized subcommand '{subcommand}'"),
                None => format!("unrecognized subcommand '{subcommand}'; {SUBCOMMANDS}"),
            }
        }
        kind => kind.to_string(),
    }
}

/// The arguments that are not UTF-8, quoted. clap does not tell which one it refused.
fn not_text() -> String {
    let arguments = std::env::args_os().skip(1);
    let wrong = arguments.filter(|word| word.to_str().is_none());
    let quoted: Vec<_> = wrong.map(|word| quoted(word.as_encoded_bytes())).collect();
    quoted.join(", ")
}

/// The argument `-v5` and its letter, where clap finds the option `-5` in it.
fn number_after_letter(option: &str) -> Option<(String, char)> {
    let first = option.strip_prefix('-')?.chars().next();
    let digit = first.filter(char::is_ascii_digit)?;
    arguments().into_iter().find_map(|word| {
        let (letters, _) = word.strip_prefix('-')?.split_once(digit)?;
        let letter = letters.chars().last()?;
        let are_letters = letters.bytes().all(|byte| byte.is_ascii_alphabetic());
        are_letters.then_some((word, letter))
    })
}

/// The context of `kind`: several values are separated by `, `.
fn text(error: &Error, kind: ContextKind) -> String {
    error.get(kind).map(ToString::to_string).unwrap_or_default()
}
