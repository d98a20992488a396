//! Each help text equals its file in `tests/help`, so that a review sees every change.
//! `NETKIT_WRITE_HELP=1 cargo test help` writes them anew.

use std::fs;
use std::path::Path;

use crate::harness::{Terminal, netkit};

#[test]
fn every_help_text_equals_its_reviewed_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for subcommand in ["", "tcp-client", "tcp-server", "udp-client", "udp-server"] {
        for option in ["-h", "--help"] {
            let words = [subcommand, option]
                .into_iter()
                .filter(|word| !word.is_empty());
            let help = netkit(words).any_stdout().run().stdout;
            let help = String::from_utf8(help).unwrap();
            let name = if subcommand.is_empty() {
                "netkit"
            } else {
                subcommand
            };
            let file = folder.join(format!("{name}{option}.txt"));
            if std::env::var_os("NETKIT_WRITE_HELP").is_some() {
                fs::write(&file, &help).unwrap();
            }
            let reviewed = fs::read_to_string(&file).unwrap_or_default();
            assert!(
                help == reviewed,
                "{} is not what is printed:\n{help}",
                file.display()
            );
        }
    }
}

const SUBCOMMANDS: [&str; 4] = ["tcp-client", "tcp-server", "udp-client", "udp-server"];

/// The lines of a page on a terminal of 80 columns.
fn page(words: &[&str]) -> Vec<String> {
    let terminal = Terminal::open().with_columns(80);
    netkit(words).stdout_to(terminal.device()).run();
    let page = String::from_utf8(terminal.rest()).unwrap();
    page.lines().map(str::to_owned).collect()
}

/// The headings of a page.
fn groups(page: &[String]) -> Vec<&str> {
    let is_heading = |line: &&str| {
        line.ends_with(':') && !line.starts_with([' ', 'U', 'E', 'A'])
            || matches!(*line, "Address:" | "Ending and time limits:")
    };
    page.iter().map(String::as_str).filter(is_heading).collect()
}

#[test]
fn the_short_help_fits_on_a_screen() {
    let page = |words: &[&str]| page(words);
    assert!(page(&["-h"]).len() <= 24);
    for subcommand in SUBCOMMANDS {
        let page = page(&[subcommand, "-h"]);
        let options = page
            .iter()
            .filter(|line| line.trim_start().starts_with('-'));
        assert!(page.len() <= 46, "{page:#?}");
        assert!(options.count() <= 18, "{page:#?}");
        assert!(groups(&page).len() <= 6, "{page:#?}");
        let examples = page.iter().skip_while(|line| *line != "Examples:");
        assert_eq!(examples.count(), 3, "{page:#?}");
    }
}

#[test]
fn no_line_of_a_help_text_is_wider_than_the_terminal() {
    for subcommand in SUBCOMMANDS {
        for option in ["-h", "--help"] {
            for line in page(&[subcommand, option]) {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}

#[test]
fn the_texts_of_the_short_help_are_short() {
    for subcommand in SUBCOMMANDS {
        let help = netkit([subcommand, "-h"]).any_stdout().run().stdout;
        let help = String::from_utf8(help).unwrap();
        for line in help
            .lines()
            .filter(|line| line.trim_start().starts_with('-'))
        {
            let text = line.trim_start().split_once("  ").unwrap().1.trim_start();
            let text = text.split(" [").next().unwrap();
            assert!(text.len() <= 46, "{text}");
        }
    }
}

#[test]
fn the_groups_stand_in_one_order() {
    const ORDER: [&str; 9] = [
        "Address:",
        "What to send:",
        "Service:",
        "Ending and time limits:",
        "Watching:",
        "Ping and check:",
        "Limits:",
        "Socket:",
        "TLS and proxy:",
    ];
    for subcommand in SUBCOMMANDS {
        for option in ["-h", "--help"] {
            let page = page(&[subcommand, option]);
            let groups = groups(&page);
            let (last, groups) = groups.split_last().unwrap();
            assert_eq!(*last, "Messages:");
            let order = ORDER.into_iter().filter(|group| groups.contains(group));
            assert_eq!(groups, order.collect::<Vec<_>>(), "{subcommand} {option}");
        }
    }
}

#[test]
fn netkit_alone_prints_the_short_help_and_fails() {
    let help = netkit(["-h"]).any_stdout().run().stdout;
    netkit([] as [&str; 0]).stderr(help).code(2).run();
}

#[test]
fn a_subcommand_alone_prints_usage_and_examples_and_fails() {
    for (typed, name) in [
        ("tcp-client", "tcp-client"),
        ("tcp", "tcp-client"),
        ("tcp-server", "tcp-server"),
        ("udp-client", "udp-client"),
        ("udp-server", "udp-server"),
    ] {
        let text = netkit([typed]).any_stderr().code(2).run().stderr;
        assert!(
            text.starts_with(&format!("Usage: netkit {name} [OPTIONS] ")),
            "{text}"
        );
        assert!(text.contains("\n\nExamples:\n  netkit "), "{text}");
        let end = format!("\n\n`netkit {name} -h` explains the options.\n");
        assert!(text.ends_with(&end), "{text}");
    }
}

#[test]
fn help_is_a_subcommand_too() {
    for name in ["", "tcp-client", "tcp-server", "udp-client", "udp-server"] {
        let words = |first: &'static str, last: &'static str| {
            let words = [first, name, last].into_iter();
            netkit(words.filter(|word| !word.is_empty()))
                .any_stdout()
                .run()
                .stdout
        };
        assert_eq!(words("help", ""), words("", "--help"), "{name}");
    }
    netkit(["help", "nonsense"])
        .stderr(
            "netkit: unrecognized subcommand 'nonsense'; there are tcp-client, tcp-server, \
             udp-client and udp-server; see 'netkit -h'\n",
        )
        .code(2)
        .run();
}

#[test]
fn every_subcommand_tells_the_version() {
    let version = netkit(["--version"]).any_stdout().run().stdout;
    for subcommand in SUBCOMMANDS {
        for option in ["--version", "-V"] {
            netkit([subcommand, option]).stdout(&version).run();
        }
    }
}
