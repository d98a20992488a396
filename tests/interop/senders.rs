//! Real peers send to our server, which only receives, and pause meanwhile.

use std::process::Stdio;

use crate::harness::{Process, Program, Server, netkit, peer, tcp_server, temporary_folder};

/// Inputs without a byte.
const INPUTS: [&str; 4] = ["null", "closed", "ended pipe", "ended file"];

fn receiver(input: &str) -> Server {
    let server = tcp_server(["--service", "stdio"]).any_stdout();
    let server = match input {
        "null" => server.stdin_from(Stdio::null()),
        "closed" => server.through("exec \"$0\" \"$@\" <&-"),
        "ended pipe" => server.stdin(""),
        _ => {
            let folder = temporary_folder();
            let file = folder.path().join("empty");
            std::fs::write(&file, "").unwrap();
            server.stdin_from(std::fs::File::open(file).unwrap())
        }
    };
    server.listen()
}

/// Sends a row, pauses for longer than any peer waits after an end, and sends another.
fn start(sender: Program) -> Process {
    // telnet leaves at the end of its input, and drops what it has read with that.
    sender
        .through("{ echo row 1; sleep 1.5; echo row 2; sleep 0.2; } | \"$0\" \"$@\"")
        .any_stdout()
        .any_stderr()
        .code(0)
        .start()
}

fn receives_both_rows_from(sender: impl Fn(&Server) -> Option<Program>) {
    let sessions = INPUTS.map(|input| {
        let server = receiver(input);
        let sender = sender(&server).map(start);
        (input, server, sender)
    });
    for (input, server, sender) in sessions {
        if let Some(sender) = sender {
            sender.finish();
            let got = String::from_utf8(server.finish().stdout).unwrap();
            // telnet ends its lines with a carriage return, too.
            assert_eq!(got.replace('\r', ""), "row 1\nrow 2\n", "{input}");
        }
    }
}

/// A sender that gets address and port as its last arguments.
fn of_peer<'a>(name: &'a str, options: &'a [&'a str]) -> impl Fn(&Server) -> Option<Program> {
    move |server| {
        let port = server.port().to_string();
        let arguments = options.iter().copied().chain(["127.0.0.1", &port]);
        peer(name, arguments)
    }
}

#[test]
fn receives_from_netkit() {
    receives_both_rows_from(|server| Some(netkit(["tcp-client", &server.address()])));
}

#[test]
fn receives_from_socat() {
    receives_both_rows_from(|server| {
        let target = format!("TCP:{}", server.address());
        peer("socat", ["-", &target])
    });
}

#[test]
fn receives_from_traditional_nc() {
    receives_both_rows_from(of_peer("nc.traditional", &["-q", "0"]));
}

#[test]
fn receives_from_busybox_nc() {
    receives_both_rows_from(of_peer("busybox", &["nc"]));
}

#[test]
fn receives_from_telnet() {
    receives_both_rows_from(of_peer("telnet", &[]));
}

#[test]
fn receives_from_ncat() {
    receives_both_rows_from(of_peer("ncat", &[]));
}
