//! `cargo bench`: netkit and the other tools that are installed, on the same work.
//!
//! benches/README.md says how to run it, what it compares, and what it printed.

#![expect(clippy::print_stdout, reason = "it prints a report")]

mod bare;
mod bulk;
mod contest;
mod datagrams;
mod growth;
mod handshakes;
mod hello;
mod ping;
mod programs;
mod roads;
mod short;
mod tls;

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
    if let [argument, port, certificate, key] = &words[..]
        && argument == handshakes::BARE
    {
        return handshakes::bare(port.parse()?, certificate.as_ref(), key.as_ref());
    }
    let list = words.iter().any(|word| word == "--list");
    // Cargo passes `--bench`.
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
        // A row that fails does not stop the others.
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
        ("forward-unix", roads::forward),
        ("proxy", roads::proxy),
        ("file-to-null-tls", tls::file_to_null),
        ("handshakes", handshakes::a_second),
        ("connections", hello::connections),
        ("requests-1", || hello::requests(1)),
        ("requests-64", || hello::requests(64)),
        ("requests-1000", || hello::requests(1000)),
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

/// Raises the soft limit to the hard limit; the servers inherit it.
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
