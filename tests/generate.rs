//! `--generate`: the man page and the completions.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::harness::{netkit, peer, program, temporary_folder};

const PAGES: [&str; 4] = ["man", "bash", "zsh", "fish"];
const SUBCOMMANDS: [&str; 4] = ["tcp-client", "tcp-server", "udp-client", "udp-server"];

fn page(name: &str) -> String {
    let page = netkit(["--generate", name]).any_stdout().run().stdout;
    String::from_utf8(page).unwrap()
}

/// The long names of all options, each as `--help` of `subcommand` lists it.
fn options(subcommand: &str) -> Vec<String> {
    let help = netkit([subcommand, "--help"]).any_stdout().run().stdout;
    let help = String::from_utf8(help).unwrap();
    let rows = help.lines().map(str::trim_start);
    let rows = rows.filter(|row| row.starts_with('-'));
    let names = rows.filter_map(|row| {
        row.split([' ', ',', '[', '=', '.'])
            .find(|word| word.starts_with("--"))
    });
    names
        .map(|name| name.trim_start_matches('-').to_owned())
        .collect()
}

/// Writes a page into a new file of `folder`.
fn written(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, page(name)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn every_option_of_every_page_is_in_each() {
    for name in PAGES {
        let page = page(name).replace("\\-", "-");
        for subcommand in SUBCOMMANDS {
            assert!(page.contains(subcommand), "{name}: {subcommand}");
            let options = options(subcommand);
            assert!(options.len() > 30, "{options:?}");
            for option in options {
                // fish writes `-l name`.
                let is_there = page.contains(&format!("--{option}"))
                    || page.contains(&format!("-l {option} "))
                    || page.contains(&format!("-l {option}\n"));
                assert!(is_there, "{name} of {subcommand}: --{option}");
            }
        }
    }
}

#[test]
fn the_man_page_has_its_sections() {
    let page = page("man");
    let sections: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .collect();
    assert_eq!(
        sections,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "TCP-CLIENT",
            "TCP-SERVER",
            "UDP-CLIENT",
            "UDP-SERVER",
            "\"OPTIONS OF NETKIT ALONE\"",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ]
    );
}

#[test]
fn man_and_mandoc_find_no_fault() {
    let folder = temporary_folder();
    let file = written(folder.path(), "man");
    if let Some(mandoc) = peer("mandoc", ["-T", "lint", "-W", "error", &file]) {
        mandoc.stdout("").stderr("").code(0).run();
    }
    if let Some(man) = peer("man", ["--warnings", "-l", &file]) {
        let man = man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let shown = man.stderr("").code(0).run().stdout;
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("-b, --bind ADDRESS\n"), "{shown}");
        assert!(
            shown.lines().all(|line| line.chars().count() <= 80),
            "{shown}"
        );
    }
}

#[test]
fn bash_completes_subcommands_options_values_and_files() {
    let folder = temporary_folder();
    let file = written(folder.path(), "bash");
    // Outside of an interactive shell there is no `compopt`.
    let script = r#"
        compopt() { :; }
        . "$1"
        complete -p netkit > /dev/null || exit 1
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _netkit netkit "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[@]}"
        }
        try netkit udp
        try netkit tcp-server --service c
        try netkit tcp-client --half
        try netkit tcp-client --record "$2/ba"
    "#;
    let folder = folder.path().to_str().unwrap();
    if let Some(bash) = peer("bash", ["-c", script, "bash", &file, folder]) {
        let expected =
            format!("udp-client udp-server\nchargen chat\n--half-close-wait\n{folder}/bash\n");
        bash.stdout(expected).stderr("").code(0).run();
    }
}

/// zsh completes only in an interactive shell, so one runs on a pseudo-terminal (zshmodules(1), zpty).
#[test]
fn zsh_completes_subcommands_options_values_and_files() {
    let folder = temporary_folder();
    std::fs::rename(written(folder.path(), "zsh"), folder.path().join("_netkit")).unwrap();
    let script = r#"
        zmodload zsh/zpty
        zpty -b shell zsh -f
        zpty -w shell "PS1=; fpath=($1 \$fpath); autoload -U compinit; compinit -D -u"
        zpty -w shell 'tell() { zle -I; print -r -- "<$BUFFER>" }; zle -N tell; bindkey "^X" tell'
        zpty -w shell "print re''ady"
        zpty -r -m shell shown '*ready*'
        try() {
            zpty -w -n shell $'\C-u'"$1"$'\t\C-x'
            zpty -r -m shell shown '*<*>*' && print -r -- "<${${shown##*<}%%>*}>"
        }
        try 'netkit tcp-s'
        try 'netkit tcp-server --service ec'
        try 'netkit tcp-client --half'
        try "netkit tcp-client --record $1/_ne"
        zpty -d shell
    "#;
    let folder = folder.path().to_str().unwrap();
    if let Some(zsh) = peer("zsh", ["-fc", script, "zsh", folder]) {
        let expected = format!(
            "<netkit tcp-server >\n<netkit tcp-server --service echo >\n\
             <netkit tcp-client --half-close-wait=>\n<netkit tcp-client --record {folder}/_netkit >\n"
        );
        zsh.stdout(expected).stderr("").code(0).run();
    }
}

#[test]
fn fish_completes_subcommands_options_and_values() {
    let folder = temporary_folder();
    let file = written(folder.path(), "fish");
    let script = "source $argv[1]
        for line in 'netkit udp' 'netkit tcp-server --service c' 'netkit tcp-client --half'
            complete -C $line | string split -f 1 \\t
        end";
    if let Some(fish) = peer("fish", ["--no-config", "-c", script, &file]) {
        let fish = fish.env("HOME", folder.path());
        let expected = "udp-client\nudp-server\nchargen\nchat\n--half-close-wait\n";
        fish.stdout(expected).stderr("").code(0).run();
    }
}

#[test]
fn output_that_fails_is_told_as_elsewhere() {
    for name in PAGES {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        netkit(["--generate", name])
            .stdout_to(full)
            .stderr("netkit: could not write standard output: no space left on device\n")
            .code(2)
            .run();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    netkit(["--generate=man"]).stdout_to(writer).code(141).run();
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let cases = [
        (
            &["--generate", "pdf"][..],
            "'pdf' is unknown (--generate); there are man, bash, zsh, fish; see 'netkit -h'",
        ),
        (
            &["--generate"],
            "a value is required for '--generate <PAGE>' but none was supplied; see 'netkit -h'",
        ),
        (
            &["--generate", "man", "tcp-client"],
            "--generate does nothing with tcp-client",
        ),
    ];
    for (words, message) in cases {
        netkit(words)
            .stderr(format!("netkit: {message}\n"))
            .code(2)
            .run();
    }
    // Nobody needs it every day.
    let help = program(env!("CARGO_BIN_EXE_netkit"), ["-h"])
        .any_stdout()
        .run()
        .stdout;
    assert!(!String::from_utf8(help).unwrap().contains("--generate"));
}
