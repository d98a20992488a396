//! What the README and the pages of docs/ show is what the commands print.

use crate::harness::{Server, netkit_path, program, tcp_server, temporary_folder, udp_server};

const README: &str = include_str!("../README.md");
const FROM_OTHER_TOOLS: &str = include_str!("../docs/from-other-tools.md");
const RECIPES: &str = include_str!("../docs/recipes.md");
const PICTURE: &str = include_str!("../docs/picture.svg");

/// The pages whose blocks are run, and whose tables have commands.
const PAGES: [&str; 3] = [README, FROM_OTHER_TOOLS, RECIPES];

/// A command of a console block, and what it prints.
struct Shown {
    command: String,
    output: String,
}

fn blocks() -> Vec<Vec<Shown>> {
    let blocks = PAGES.map(|page| page.split("```console\n").skip(1));
    let blocks = blocks.into_iter().flatten();
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let commands = block
                .strip_prefix("$ ")
                .expect("a block begins with a command");
            let commands = commands.split("\n$ ").map(|shown| {
                let (command, output) = shown.split_once('\n').unwrap_or((shown, ""));
                let output = output.trim_end().to_owned();
                Shown {
                    command: command.to_owned(),
                    output,
                }
            });
            commands.collect()
        })
        .collect()
}

/// Replaces times, and ports that the system chose, by `#`.
fn without_numbers_of_the_day(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let line = line
            .split("127.0.0.1:")
            .enumerate()
            .map(|(index, part)| match index {
                0 => part.to_owned(),
                _ => format!(
                    "127.0.0.1:#{}",
                    part.trim_start_matches(|c: char| c.is_ascii_digit())
                ),
            });
        let line: String = line.collect();
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let words = line.split_inclusive([' ', '=', '/']).map(|word| {
            let digits = word.trim_end_matches([' ', '=', '/']);
            let digits = digits.strip_suffix("ms").unwrap_or(digits);
            if line.contains("ms") && digits.chars().all(is_number) && !digits.is_empty() {
                word.replacen(digits, "#", 1)
            } else {
                word.to_owned()
            }
        });
        // A ping adds it where an answer came later than the next probe went out.
        let line = words.collect::<String>().replace(", pipe #", "");
        lines.push(without_numbers_after(
            &line,
            &[
                " ttl=",
                "\"port\":",
                "\"rtt_ms\":",
                "\"ttl\":",
                "\"unix_s\":",
            ],
        ));
    }
    lines.join("\n")
}

fn without_numbers_after(line: &str, marks: &[&str]) -> String {
    let mut line = line.to_owned();
    for mark in marks {
        if let Some((head, tail)) = line.split_once(mark) {
            let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            line = format!("{head}{mark}#{tail}");
        }
    }
    line
}

/// Starts the server of a block with the arguments of the README, but on a free port.
fn start(command: &str) -> Option<Server> {
    let arguments = command.strip_prefix("netkit ")?;
    let (subcommand, arguments) = arguments
        .split_once(" --port 9999")
        .unwrap_or((arguments, ""));
    let arguments = arguments.split_whitespace();
    match subcommand {
        "tcp-server" => Some(tcp_server(arguments).listen()),
        "udp-server" => Some(udp_server(arguments).listen()),
        _ => None,
    }
}

#[test]
fn every_console_block_shows_what_is_printed() {
    let binary = std::path::Path::new(netkit_path());
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut server: Option<(Server, String)> = None;
    let mut clients = 0;
    for shown in blocks().into_iter().flatten() {
        if let Some(started) = start(&shown.command) {
            if let Some((server, log)) = server.take() {
                check_log(server, &log);
            }
            server = Some((started, shown.output));
            clients = 0;
            continue;
        }
        let (server, log) = server.as_ref().expect("a server is started first");
        let command = shown.command.replace("9999", &server.port().to_string());
        let finished = program("sh", ["-c", &format!("{{ {command}\n}} 2>&1")])
            .env("PATH", &path)
            .any_stdout()
            .run();
        let printed = String::from_utf8(finished.stdout).unwrap();
        let printed = printed.replace(&format!(":{}", server.port()), ":9999");
        assert_eq!(
            without_numbers_of_the_day(&printed),
            without_numbers_of_the_day(&shown.output),
            "$ {}",
            shown.command
        );
        if log.contains("Accept") && printed.contains("Hello, Michael!") {
            clients += 1;
            server.wait_for_lines("Connection from {*} closed.", clients);
        }
    }
    let (server, log) = server.expect("a server is started");
    check_log(server, &log);
}

/// The log of a server must begin with what the README shows.
fn check_log(server: Server, shown: &str) {
    let last = shown.lines().last().unwrap_or_default();
    if last.ends_with("closed.") {
        server.wait_for_line("Connection from {*} closed.");
    }
    let log = without_numbers_of_the_day(&server.stop().stderr);
    let shown = without_numbers_of_the_day(shown);
    assert!(
        log.starts_with(&shown),
        "the log is\n{log}\n\nthe README shows\n{shown}"
    );
}

#[test]
fn the_readme_is_read_in_six_minutes() {
    let words = README.split_whitespace().count();
    assert!(words < 1300, "{words} words");
}

/// The targets of all links and pictures of a page that lie in this tree.
fn links(page: &str) -> Vec<String> {
    let links = page.split("](").skip(1);
    let links = links.map(|rest| rest.split(')').next().unwrap().to_owned());
    links.filter(|link| !link.contains("://")).collect()
}

/// The names by which a page's headings are linked.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
            title.chars().filter(kept).collect::<String>()
        })
        .map(|title| title.replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "benches/README.md"].map(|name| root.join(name)));
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                let target = std::fs::read_to_string(target).unwrap();
                let known = anchors(&target).iter().any(|known| known == anchor);
                assert!(known, "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_help() {
    let help = crate::harness::netkit(["--help"]).any_stdout().run();
    let help = String::from_utf8(help.stdout).unwrap();
    // The help wraps its rows.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = README
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let mut codes = 0;
    for (code, when) in rows.filter(|(code, _)| code.starts_with(|c: char| c.is_ascii_digit())) {
        let when = when.trim_end_matches([' ', '|']);
        let row = format!(" {code} {when}");
        assert!(help.contains(&row), "{row}\n{help}");
        codes += 1;
    }
    assert_eq!(codes, 6);
}

/// The commands of the right column of the recipes and of what other tools do.
fn commands_of_tables() -> Vec<String> {
    let lines = PAGES.into_iter().flat_map(str::lines);
    let rows = lines.filter(|line| line.starts_with("| "));
    // A bar inside of a command is escaped.
    let rows = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | "));
    rows.flat_map(|(_, right)| right.split('`').skip(1).step_by(2))
        .filter(|command| command.contains("netkit "))
        // A netkit without TLS refuses them.
        .filter(|command| {
            cfg!(feature = "tls") || !command.contains("tls") && !command.contains("https")
        })
        .map(|command| command.replace("\\|", "|"))
        .collect()
}

/// The commands that the picture shows, each in one piece after its prompt. Tests have no terminal for
/// `--live`.
fn commands_of_the_picture() -> Vec<String> {
    let shown = PICTURE.split(">$</text>").skip(1);
    let shown = shown.map(|rest| rest.split(['>', '<']).nth(2).unwrap());
    shown
        .map(|command| command.replace("9999", "1").replace("--live ", ""))
        .collect()
}

#[test]
fn the_picture_is_small_and_shows_an_outage() {
    assert!(PICTURE.len() < 30 << 10);
    assert!(PICTURE.contains("1 outage, "));
    assert_eq!(commands_of_the_picture().len(), 4);
}

#[test]
fn every_command_of_the_tables_and_the_picture_is_understood() {
    // Without descriptors netkit ends as soon as it has understood its command line.
    let netkit = format!(
        "netkit() {{ (ulimit -n 4; exec '{}' \"$@\"); }}",
        netkit_path()
    );
    let folder = temporary_folder();
    std::fs::write(folder.path().join("file"), "data").unwrap();
    let mut commands = commands_of_tables();
    assert!(commands.len() > 50, "{commands:#?}");
    commands.extend(commands_of_the_picture());
    for command in commands {
        let typed = command.replace("HOST", "127.0.0.1").replace("PORT", "1");
        let typed = typed.replace("www.sina.com.cn", "127.0.0.1");
        let finished = program("sh", ["-c", &format!("{netkit}\n{typed}")])
            .current_dir(folder.path())
            .any_stderr()
            .any_code()
            .run();
        let is_understood = !finished.stderr.contains("; see 'netkit");
        assert!(is_understood, "$ {command}\n{}", finished.stderr);
        assert!(
            finished.stderr.starts_with("netkit: could not "),
            "$ {command}\n{}",
            finished.stderr
        );
    }
}
