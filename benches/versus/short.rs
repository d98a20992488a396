//! Programs that run for a millisecond: a short session, and `--version`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::contest::{Measure, Row};
use crate::programs::{Program, find, netkit};

/// A run takes 1 ms, or 10 ms when the machine is busy: only the median of many is stable.
const ROUNDS: usize = 80;

const IN_MILLISECONDS: Measure = Measure::less("ms");

/// Sends a line and prints the answer.
pub fn client() -> anyhow::Result<Row> {
    let mut row = Row::new(
        "a whole client: started, a line from a pipe sent, an answer printed, ended",
        vec![IN_MILLISECONDS],
    );
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port().to_string();
    std::thread::Builder::new().spawn(move || {
        for stream in listener.incoming() {
            // A client that leaves early fails where its answer is read.
            let _ = stream.and_then(|mut stream| {
                let mut line = Vec::new();
                stream.read_to_end(&mut line)?;
                stream.write_all(&line)
            });
        }
    })?;
    let mut clients = vec![("netkit", netkit(), &["tcp-client"][..])];
    for (name, options) in [("nc", &["-N"][..]), ("ncat", &[]), ("socat", &["-"])] {
        match find(name) {
            Some(file) => clients.push((name, Command::new(file), options)),
            None => row.is_missing(name),
        }
    }
    for (name, mut command, options) in clients {
        command.args(options);
        if name == "socat" {
            command.arg(format!("TCP:127.0.0.1:{port}"));
        } else {
            command.args(["127.0.0.1", &port]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        row.add(name, move |_| {
            let start = Instant::now();
            let mut program = Program::start(&mut command)?;
            let mut input = program.child.stdin.take().context("no input")?;
            input.write_all(b"a line of input\n")?;
            drop(input);
            let mut output = program.child.stdout.take().context("no output")?;
            let mut answer = Vec::new();
            output.read_to_end(&mut answer)?;
            ensure!(answer == b"a line of input\n", "a wrong answer");
            program.succeed()?;
            Ok(vec![start.elapsed().as_secs_f64() * 1e3])
        });
    }
    Ok(row.with_rounds(ROUNDS))
}

pub fn start_up() -> Row {
    let mut row = Row::new(
        "start, say what there is to say, end",
        vec![IN_MILLISECONDS],
    );
    let mut programs = vec![("netkit --version", netkit(), "--version")];
    for (name, program, option) in [
        ("nc -h", "nc", "-h"),
        ("ncat --version", "ncat", "--version"),
        ("socat -V", "socat", "-V"),
    ] {
        match find(program) {
            Some(file) => programs.push((name, Command::new(file), option)),
            None => row.is_missing(program),
        }
    }
    for (name, mut command, option) in programs {
        command.arg(option);
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        row.add(name, move |_| {
            let start = Instant::now();
            // `nc -h` ends with 1.
            Program::start(&mut command)?.finish()?;
            Ok(vec![start.elapsed().as_secs_f64() * 1e3])
        });
    }
    row.with_rounds(ROUNDS)
}
