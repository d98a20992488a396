//! Each help text equals its file in `tests/help`, so that a review sees every change.
//! `NETKIT_WRITE_HELP=1 cargo test help` writes them anew.

use std::fs;
use std::path::Path;

use crate::harness::netkit;

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
