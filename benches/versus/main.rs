//! `cargo bench`: netkit and the other tools that are installed here, on the same work.
//!
//! `cargo bench -- WORD` runs the rows whose names contain WORD, and `cargo bench -- --list` names
//! them. Each row starts its own programs on loopback, runs them in turn (A B C, B C A), once to warm
//! up and to check that the bytes arrive, then in at least five rounds that count, and stops them.
//!
//! `VERSUS_SERVER=PROGRAM[:PROGRAM]...` adds servers of the `hello` protocol to the rows that measure
//! one; each is started with a port as its only argument.

#![expect(clippy::print_stdout, reason = "it prints a report")]

mod bare;
mod bulk;
mod contest;
mod datagrams;
mod growth;
mod hello;
mod ping;
mod programs;
mod short;

use std::time::Instant;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use contest::Row;

fn main() -> anyhow::Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, port] = &words[..] {
        match argument.as_str() {
            bare::ARGUMENT => return bare::serve(port.parse()?),
            datagrams::BARE => return datagrams::bare(port.parse()?),
            _ => {}
        }
    }
    let list = words.iter().any(|word| word == "--list");
    // Cargo's own, `--bench`.
    words.retain(|word| !word.starts_with('-'));
    raise_descriptor_limit().context("could not raise the limit of descriptors")?;
    programs::install().context("could not copy the program")?;
    programs::watch()?;

    let start = Instant::now();
    for (name, make) in rows() {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        if list {
            println!("{name}");
            continue;
        }
        // One row that fails, as where a peer has other options, leaves the others.
        match make().and_then(|row| row.run(name)) {
            Ok(()) => {}
            Err(error) => println!("{name}: {error:#}\n"),
        }
    }
    if !list {
        println!("{:.0} s in all", start.elapsed().as_secs_f64());
    }
    Ok(())
}

type Make = fn() -> anyhow::Result<Row>;

fn rows() -> Vec<(&'static str, Make)> {
    vec![
        ("file-to-null", bulk::file_to_null),
        ("file-to-file", bulk::file_to_file),
        ("pipe-to-pipe", bulk::pipe_to_pipe),
        ("tcp-to-pipe", bulk::tcp_to_pipe),
        ("forward", bulk::forward),
        ("connections", hello::connections),
        ("requests-1", || Ok(hello::requests(1))),
        ("requests-64", || Ok(hello::requests(64))),
        ("requests-1000", || Ok(hello::requests(1000))),
        ("open-10000", || Ok(hello::open())),
        ("udp-1", || datagrams::answers(1)),
        ("udp-64", || datagrams::answers(64)),
        ("ping", ping::time),
        ("client", short::client),
        ("start-up", || Ok(short::start_up())),
        ("growth-bytes", growth::bytes),
        ("growth-connections", || Ok(growth::connections())),
    ]
}

/// 10,000 connections need 10,000 descriptors, here and in the servers.
fn raise_descriptor_limit() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
}
