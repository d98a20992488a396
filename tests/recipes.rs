//! The recipes of docs/recipes.md, run as they stand there: only names, ports and files are put in.

use std::path::Path;

use rustix::process::Signal;

use crate::harness::{
    Peer, Process, Program, ReservedPort, netkit, netkit_path, peer, program, tcp_server,
    temporary_folder, udp_server,
};

const PAGE: &str = include_str!("../docs/recipes.md");

/// The blocks of a recipe, without their last newline.
fn recipe(title: &str) -> Vec<&'static str> {
    let (_, text) = PAGE.split_once(&format!("\n## {title}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').unwrap().1.trim_end())
        .collect()
}

/// Each pair is what the page says, and what the test puts in its place.
#[track_caller]
fn with(command: &str, pairs: &[(&str, &str)]) -> String {
    pairs
        .iter()
        .fold(command.to_owned(), |command, (old, new)| {
            assert!(command.contains(old), "{old} is not in {command}");
            command.replace(old, new)
        })
}

/// A shell that finds netkit.
fn shell(command: &str) -> Program {
    let folder = Path::new(netkit_path()).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    program("sh", ["-c", command]).env("PATH", path)
}

/// Where a server that a recipe has started listens.
fn address(server: &Process) -> String {
    let line = server.wait_for_line("Listening on {*}:{N}");
    let port = line.rsplit_once(':').unwrap().1.to_owned();
    format!("127.0.0.1:{port}")
}

#[test]
fn a_port_is_waited_for() {
    let port = ReservedPort::tcp();
    let target = format!("127.0.0.1:{}", port.text());
    let command = with(recipe("Wait for a port")[0], &[("HOST:PORT", &target)]);
    let waiting = shell(&command).any_stdout().start();
    let server = netkit(["tcp-server", &target]).any_stderr().listen();
    let finished = waiting.finish();
    let printed = String::from_utf8(finished.stdout).unwrap();
    assert!(printed.ends_with("ms\nready\n"), "{printed}");
    server.stop();
    // And nobody is ready where nobody comes.
    let command = with(&command, &[("--wait 30", "--wait 0.1")]);
    shell(&command).any_stderr().code(4).run();
}

#[test]
fn a_health_check_is_0_with_a_server_and_1_without() {
    let (_, words) = recipe("Health check of a container")[0]
        .split_once("CMD ")
        .unwrap();
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    let server = tcp_server([]).listen();
    let check = |port: &str| {
        let words = words.iter().skip(1);
        netkit(words.map(|word| word.replace("8080", port))).any_stdout()
    };
    check(&server.port().to_string()).run();
    server.stop();
    let port = ReservedPort::tcp();
    check(&port.text()).any_stderr().code(1).run();
}

#[test]
fn ssh_connects_through_netkit() {
    if peer("ssh", []).is_none() {
        return;
    }
    let target = Peer::listen(|mut connection| {
        connection.expect("SSH-2.0-");
        connection.send("SSH-2.0-recipe\r\n");
        connection.drain();
    });
    let place = format!("-v -F none -o BatchMode=yes -p {} 127.0.0.1", target.port());
    let command = with(recipe("ssh through netkit")[0], &[("HOST", &place)]);
    let ssh = shell(&format!("exec {command}")).any_stderr().start();
    // ssh shows what its ProxyCommand has received.
    ssh.wait_for_line("{*}remote software version recipe{*}");
    drop(ssh);
    target.finish();
}

#[test]
fn a_folder_is_sent_with_tar() {
    let folder = temporary_folder();
    for name in ["sent/below", "received"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.path().join("sent/below/file"), &bytes).unwrap();
    let blocks = recipe("Send a folder");
    let receive = with(
        blocks[0],
        &[
            ("9999 ", "0 "),
            ("-b any", "-b 127.0.0.1"),
            ("INTO", "received"),
        ],
    );
    let unpacking = shell(&receive).current_dir(folder.path()).any_stderr();
    let unpacking = unpacking.start();
    let target = address(&unpacking);
    let send = with(blocks[1], &[("FOLDER", "sent"), ("HOST:9999", &target)]);
    shell(&send).current_dir(folder.path()).run();
    unpacking.finish();
    let received = std::fs::read(folder.path().join("received/sent/below/file")).unwrap();
    assert!(received == bytes);
}

#[test]
fn one_looks_into_a_connection() {
    let target = tcp_server([]).listen();
    let command = with(
        recipe("Look into a connection")[0],
        &[("9999", "0"), ("HOST:PORT", &target.address())],
    );
    let between = shell(&format!("exec {command}")).any_stderr().start();
    netkit(["tcp-client", &address(&between)])
        .stdin("Michael\n")
        .stdout("Welcome!Hello, Michael!\n")
        .run();
    between.wait_for_line("< {*} 4d69 6368 6165 6c0a {*}Michael.");
    between.wait_for_line("> {*} 5765 6c63 6f6d 6521{*}Welcome!{*}");
}

#[test]
fn wireshark_opens_what_was_recorded() {
    let folder = temporary_folder();
    let target = tcp_server([]).listen();
    let command = with(
        recipe("Look into a connection")[1],
        &[("9999", "0"), ("HOST:PORT", &target.address())],
    );
    let between = shell(&format!("exec {command}")).current_dir(folder.path());
    let between = between.any_stderr().start();
    netkit(["tcp-client", &address(&between)])
        .stdin("Michael\n")
        .stdout("Welcome!Hello, Michael!\n")
        .run();
    between.signal(Signal::TERM);
    between.finish();
    let file = folder.path().join("FILE.pcapng");
    let Some(tshark) = peer("tshark", ["-q", "-z", "follow,tcp,ascii,0", "-r"]) else {
        return;
    };
    let followed = tshark.arg(&file).code(0).run().stdout;
    let followed = String::from_utf8(followed).unwrap();
    assert!(followed.contains("Hello, Michael!"), "{followed}");
}

#[test]
fn jq_reads_the_times_of_a_ping() {
    if peer("jq", []).is_none() {
        return;
    }
    let server = udp_server([]).listen();
    let command = with(
        recipe("Measure, and compute with jq")[0],
        &[("HOST:PORT", &server.address()), ("-i 0.2", "-i 0.01")],
    );
    let finished = shell(&command).any_stdout().run();
    let printed = String::from_utf8(finished.stdout).unwrap();
    // An answer that is late on a busy machine is no reply.
    assert!((1..=3).contains(&printed.lines().count()), "{printed}");
    for line in printed.lines() {
        assert!(line.parse::<f64>().unwrap() > 0.0, "{line}");
    }
}

#[test]
fn a_loop_over_hosts_asks_each_of_them() {
    let greeting = |text: &'static str| {
        Peer::listen(move |mut connection| {
            connection.send(text);
            connection.shutdown();
            connection.expect_eof();
        })
    };
    let (one, two) = (greeting("first\n"), greeting("second\n"));
    let folder = temporary_folder();
    // Each line is a host and its port: the recipe's port is the same for all.
    let hosts = format!("{}\n{}\n", one.address(), two.address());
    std::fs::write(folder.path().join("hosts"), hosts).unwrap();
    let command = with(
        recipe("Many hosts in a loop")[0],
        &[("\"$host\" 22", "\"$host\""), ("--idle-timeout 1 ", "")],
    );
    shell(&command)
        .current_dir(folder.path())
        .stdout("first\nsecond\n")
        .run();
    one.finish();
    two.finish();
}

#[cfg(feature = "tls")]
mod tls {
    use std::time::{Duration, SystemTime};

    use super::{address, recipe, shell, with};
    use crate::harness::tcp_server;
    use crate::tls::{Files, authority, client, params, server, signed, usual};

    #[test]
    fn a_certificate_is_checked() {
        const DAY: Duration = Duration::from_secs(86_400);
        let files = Files::new();
        let ca = authority(&files, "ca");
        let mut soon = params("soon", &["127.0.0.1"]);
        soon.not_after = (SystemTime::now() + 20 * DAY).into();
        signed(&files, "soon", &soon, &ca);
        let server = server(&files, "soon", &[]);
        let command = with(
            recipe("Check a certificate")[0],
            &[("HOST:443", &server.address())],
        );
        let trusting = |command: &str| shell(command).env("SSL_CERT_FILE", files.path("ca.pem"));
        let finished = trusting(&command).any_stdout().run();
        let printed = String::from_utf8(finished.stdout).unwrap();
        assert!(printed.contains(" open, "), "{printed}");
        assert!(printed.contains("certificate until "), "{printed}");
        let later = with(&command, &[("14d", "30d")]);
        trusting(&later).any_stderr().code(1).run();
        // Nor is one whose signer is not known.
        shell(&command).any_stderr().code(1).run();
    }

    #[test]
    fn stunnel_in_one_line_in_both_directions() {
        let files = usual();
        let plain = tcp_server([]).listen();
        let blocks = recipe("A stunnel in one line");
        let command = with(
            blocks[0],
            &[
                ("443", "0"),
                ("cert.pem", &files.path("own.pem")),
                ("key.pem", &files.path("own.key")),
                ("HOST:80", &plain.address()),
            ],
        );
        let outer = shell(&format!("exec {command}")).any_stderr().start();
        client(&files, &address(&outer))
            .stdin("Michael")
            .stdout("Welcome!Hello, Michael!")
            .run();
        let command = with(blocks[1], &[("8080", "0"), ("HOST:443", &address(&outer))]);
        let inner = shell(&format!("exec {command}"))
            .env("SSL_CERT_FILE", files.path("ca.pem"))
            .any_stderr()
            .start();
        crate::harness::netkit(["tcp-client", &address(&inner)])
            .stdin("Tracy")
            .stdout("Welcome!Hello, Tracy!")
            .run();
    }
}
