//! What a user may have meant who typed what netkit does not know.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::{arguments, curl, netcat, number_after_letter, ping, text};

/// What may have been meant; ends in `; `.
pub fn tip(error: &Error, netkit: &clap::Command, subcommand: Option<&str>) -> Option<String> {
    let argument = text(error, ContextKind::InvalidArg);
    let name = argument.split(' ').next().unwrap_or_default();
    let word = text(error, ContextKind::InvalidSubcommand);
    let advice = advice(error, name, subcommand).map(str::to_owned);
    if let Some(advice) = advice.or_else(|| meant_subcommand(&word)) {
        return Some(format!("{advice}; "));
    }
    if number_after_letter(name).is_some() {
        return None;
    }
    let after_dash = argument.strip_prefix('-').unwrap_or_default();
    if after_dash.starts_with(|first: char| first.is_ascii_digit()) {
        let advice = match subcommand {
            Some("udp-client") => {
                "no option takes less than zero, and data that begins with - follows --; "
            }
            _ => "no option takes less than zero; ",
        };
        return Some(advice.to_owned());
    }
    if let Some((what, name)) = similar(error) {
        let name = match alias_of(&name, netkit, subcommand) {
            Some(main) => format!("'{main}' (or '{name}')"),
            None => format!("'{name}'"),
        };
        return Some(format!("tip: a similar {what} exists: {name}; "));
    }
    // To a subcommand clap suggests passing the option's name as an address.
    if subcommand.is_some() || error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let other = text(error, ContextKind::Suggested);
    if !other.is_empty() {
        return Some(format!("tip: {other}; "));
    }
    let advice = netcat::advice(name, "tcp-client");
    let advice = advice.filter(|advice| advice.starts_with("write 'netkit"));
    let advice = advice.unwrap_or("a subcommand comes first, as in 'netkit tcp-client'");
    Some(format!("{advice}; "))
}

/// What to write in place of `name`, which another program would take, or which is no option.
fn advice(error: &Error, name: &str, subcommand: Option<&str>) -> Option<&'static str> {
    match (error.kind(), subcommand) {
        (ErrorKind::UnknownArgument, Some(subcommand)) if !name.starts_with('-') => {
            let is_server = subcommand.ends_with("server");
            is_server.then_some("write an address and its port as in 127.0.0.1:9999")
        }
        (ErrorKind::UnknownArgument, Some(subcommand)) => {
            let words = arguments();
            let pings = ping::advice(name, subcommand, &words);
            let pages = pings.or_else(|| curl::advice(name, subcommand, &words));
            pages.or_else(|| netcat::advice(name, subcommand))
        }
        (ErrorKind::ValueValidation, _) => {
            netcat::other_meaning(name, &text(error, ContextKind::InvalidValue))
        }
        _ => None,
    }
}

/// What is similar to what was typed: a word for its kind, and its name.
fn similar(error: &Error) -> Option<(&'static str, String)> {
    let kinds = [
        (ContextKind::SuggestedSubcommand, "subcommand"),
        (ContextKind::SuggestedArg, "argument"),
        (ContextKind::SuggestedValue, "value"),
    ];
    let mut kinds = kinds.into_iter();
    kinds.find_map(|(kind, what)| Some((what, suggestion(error, kind)?)))
}

/// What to write where `word` stands in place of a subcommand: one of another program, or an address.
pub fn meant_subcommand(word: &str) -> Option<String> {
    let advice = match word {
        "server" | "listen" | "serve" => {
            "write 'netkit tcp-server PORT' or 'netkit udp-server PORT'"
        }
        "client" | "connect" => {
            "write 'netkit tcp-client HOST:PORT' or 'netkit udp-client HOST:PORT'"
        }
        "nc" | "ncat" | "netcat" => {
            "write 'netkit tcp-client HOST PORT' or 'netkit tcp-server -l PORT'"
        }
        "ping" => {
            "write 'netkit tcp-client --ping HOST:PORT' or 'netkit udp-client --ping HOST:PORT'"
        }
        "curl" | "fetch" | "get" => "write 'netkit tcp-client http://HOST/PATH'",
        "version" => "write 'netkit --version'",
        _ => {
            let words = arguments();
            let next = words.iter().skip_while(|next| *next != word).nth(1);
            let port = next.filter(|next| next.parse::<u16>().is_ok());
            let is_address = word.contains([':', '.']) || port.is_some();
            let port = port.map_or_else(String::new, |port| format!(" {port}"));
            let advice =
                || format!("a subcommand comes first, as in 'netkit tcp-client {word}{port}'");
            return (is_address && !word.is_empty()).then(advice);
        }
    };
    Some(advice.to_owned())
}

/// The most similar name of `kind`: clap puts it last.
pub fn suggestion(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::Strings(names) => names.last().cloned(),
        ContextValue::String(name) => Some(name.clone()),
        _ => None,
    }
}

/// The main name of what `name`, an option of `subcommand` or a subcommand, is an alias of.
fn alias_of(name: &str, netkit: &clap::Command, subcommand: Option<&str>) -> Option<String> {
    let Some(subcommand) = subcommand else {
        let mut all = netkit.get_subcommands();
        let found = all.find(|command| command.get_all_aliases().any(|alias| alias == name));
        return found.map(|command| command.get_name().to_owned());
    };
    let alias = name.strip_prefix("--")?;
    let mut options = netkit.find_subcommand(subcommand)?.get_arguments();
    let option = options.find(|option| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        aliases.contains(&alias)
    });
    Some(format!("--{}", option?.get_long()?))
}
