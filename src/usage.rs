//! Usage errors on one line: the reason, a tip, and where to read more.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::exit::Failure;

/// Each of `options`, and whether it was given, does nothing without `other`. Refuses the first that
/// was given where that was not.
pub fn needs(other: &str, is_given: bool, options: &[(&str, bool)]) -> Result<(), Failure> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) if !is_given => Err(Failure::local(format!("{option} needs {other}"))),
        _ => Ok(()),
    }
}

/// `error` in a line, made from what clap knows of it and not from clap's text.
pub fn line(error: &Error, subcommand: Option<&str>) -> String {
    let mut line = reason(error);
    if let Some(tip) = tip(error, subcommand) {
        line = format!("{line}; {tip}");
    }
    let subcommand = subcommand.map(|name| format!(" {name}"));
    line = format!("{line}; see 'netkit{} -h'", subcommand.unwrap_or_default());
    // An argument may contain newlines.
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reason(error: &Error) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("a value is required for '{argument}' but none was supplied")
        }
        ErrorKind::InvalidValue => {
            let name = argument.trim_start_matches('-').split(' ').next();
            let name = name.unwrap_or_default().replace('-', " ");
            let valid = text(error, ContextKind::ValidValue);
            format!("no {name} '{value}'; there are {valid}")
        }
        ErrorKind::ValueValidation => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            format!("invalid value '{value}' for '{argument}': {cause}")
        }
        ErrorKind::TooManyValues if argument.starts_with('-') => {
            format!("unexpected value '{value}' for '{argument}' found; no more were expected")
        }
        ErrorKind::TooManyValues => {
            format!("too many arguments: '{value}'; write HOST PORT or HOST:PORT")
        }
        ErrorKind::UnknownArgument => format!("unexpected argument '{argument}' found"),
        ErrorKind::ArgumentConflict => match text(error, ContextKind::PriorArg) {
            prior if prior == argument => {
                format!("the argument '{argument}' cannot be used multiple times")
            }
            prior => {
                let prior = prior.replace(", ", "', '");
                format!("the argument '{argument}' cannot be used with '{prior}'")
            }
        },
        // clap requires no other argument than the port of a server.
        ErrorKind::MissingRequiredArgument => {
            "which port? write --port 9999, or --port 0 for a free one".to_owned()
        }
        ErrorKind::MissingSubcommand => {
            let valid = text(error, ContextKind::ValidSubcommand);
            format!(
                "'netkit' requires a subcommand but one was not provided [subcommands: {valid}]"
            )
        }
        ErrorKind::InvalidSubcommand => {
            let subcommand = text(error, ContextKind::InvalidSubcommand);
            format!("unrecognized subcommand '{subcommand}'")
        }
        kind => kind.to_string(),
    }
}

fn tip(error: &Error, subcommand: Option<&str>) -> Option<String> {
    let argument = text(error, ContextKind::InvalidArg);
    let after_dash = argument.strip_prefix('-').unwrap_or_default();
    if after_dash.starts_with(|first: char| first.is_ascii_digit()) {
        let data = match subcommand {
            Some("udp-client") => ", and data that begins with - follows --",
            _ => "",
        };
        return Some(format!("no option takes less than zero{data}"));
    }
    for (kind, what) in [
        (ContextKind::SuggestedSubcommand, "subcommand"),
        (ContextKind::SuggestedArg, "argument"),
        (ContextKind::SuggestedValue, "value"),
    ] {
        match error.get(kind) {
            Some(ContextValue::Strings(names)) if names.len() > 1 => {
                let names = names.join("', '");
                return Some(format!("tip: some similar {what}s exist: '{names}'"));
            }
            Some(name) if !name.to_string().is_empty() => {
                return Some(format!("tip: a similar {what} exists: '{name}'"));
            }
            _ => {}
        }
    }
    // For a subcommand it is how to pass the option's name as an address.
    let other = text(error, ContextKind::Suggested);
    (subcommand.is_none() && !other.is_empty()).then(|| format!("tip: {other}"))
}

/// What clap knows of `kind`: several values are separated by commas.
fn text(error: &Error, kind: ContextKind) -> String {
    error.get(kind).map(ToString::to_string).unwrap_or_default()
}
