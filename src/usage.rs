//! Usage errors on one line: the reason, a tip, and where to read more.

use std::error::Error as _;

use clap::error::{ContextKind, Error, ErrorKind};

use crate::exit::Failure;

/// Refuses an option that does nothing without `other`. `options` are names, each with whether it was
/// given; the error names the first that was.
pub fn needs(other: &str, has_other: bool, options: &[(&str, bool)]) -> Result<(), Failure> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) if !has_other => Err(Failure::local(format!("{option} needs {other}"))),
        _ => Ok(()),
    }
}

/// Tells `error` on one line, from its kind and its context: clap may reword its text.
pub fn line(error: &Error, subcommand: Option<&str>) -> String {
    let (reason, tip) = (reason(error), tip(error, subcommand).unwrap_or_default());
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
        ErrorKind::ArgumentConflict if prior == argument => {
            format!("the argument '{argument}' cannot be used multiple times")
        }
        ErrorKind::ArgumentConflict => {
            format!("the argument '{argument}' cannot be used with '{prior}'")
        }
        ErrorKind::MissingRequiredArgument if argument.starts_with("--port") => {
            "which port? write --port 9999, or --port 0 for a free one".to_owned()
        }
        ErrorKind::MissingSubcommand => {
            let known = text(error, ContextKind::ValidSubcommand);
            format!(
                "'netkit' requires a subcommand but one was not provided [subcommands: {known}]"
            )
        }
        ErrorKind::InvalidSubcommand => {
            let subcommand = text(error, ContextKind::InvalidSubcommand);
            format!("unrecognized subcommand '{subcommand}'")
        }
        kind => kind.to_string(),
    }
}

/// What may have been meant; ends in `; `.
fn tip(error: &Error, subcommand: Option<&str>) -> Option<String> {
    let argument = text(error, ContextKind::InvalidArg);
    let after_dash = argument.strip_prefix('-').unwrap_or_default();
    if after_dash.starts_with(|first: char| first.is_ascii_digit()) {
        return Some(
            match subcommand {
                Some("udp-client") => {
                    "no option takes less than zero, and data that begins with - follows --; "
                }
                _ => "no option takes less than zero; ",
            }
            .to_owned(),
        );
    }
    for (kind, what) in [
        (ContextKind::SuggestedSubcommand, "subcommand"),
        (ContextKind::SuggestedArg, "argument"),
        (ContextKind::SuggestedValue, "value"),
    ] {
        let names = text(error, kind).replace(", ", "', '");
        if names.contains(", ") {
            return Some(format!("tip: some similar {what}s exist: '{names}'; "));
        }
        if !names.is_empty() {
            return Some(format!("tip: a similar {what} exists: '{names}'; "));
        }
    }
    // To a subcommand clap suggests passing the option's name as an address.
    let other = text(error, ContextKind::Suggested);
    (subcommand.is_none() && !other.is_empty()).then(|| format!("tip: {other}; "))
}

/// The context of `kind`: several values are separated by `, `.
fn text(error: &Error, kind: ContextKind) -> String {
    error.get(kind).map(ToString::to_string).unwrap_or_default()
}
