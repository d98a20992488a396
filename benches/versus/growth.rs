//! Does the cost per byte grow with the bytes, and the cost per request with the connections?

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bulk::{Data, Mover, at_end, join, take_from_pipe};
use crate::contest::{Measure, Round, Row};
use crate::hello::{Load, speakers};

/// The time from start to the first byte, and the time per byte after it.
pub fn bytes() -> anyhow::Result<Row> {
    /// How much, and how many times in one round; the round's value is the mean.
    const SIZES: [(u64, u32); 4] = [(1 << 20, 16), (16 << 20, 4), (256 << 20, 1), (4 << 30, 1)];
    let mut row = Row::new(
        "pipe → TCP → pipe, from the second byte to the last, and before it: start, first byte",
        vec![
            Measure::less("ms before"),
            Measure::less("µs/MiB, of 1"),
            Measure::less("µs/MiB, of 16"),
            Measure::less("µs/MiB, of 256"),
            Measure::less("µs/MiB, of 4096"),
            Measure::less("4096 to 1"),
        ],
    );
    let data = Data::new(256 << 20)?;
    let netkit = Mover::netkit();
    row.add("netkit", move |round| {
        let mut before = Duration::ZERO;
        let mut runs = 0;
        let mut costs = vec![0.0];
        for (size, times) in SIZES {
            let mut after = Duration::ZERO;
            for _ in 0..times {
                let [start, rest] = transfer(&netkit, &data, size, round)?;
                before += start;
                after += rest;
            }
            runs += times;
            let mebibytes = f64::from(u32::try_from(size >> 20)? * times);
            costs.push(after.as_secs_f64() * 1e6 / mebibytes);
        }
        costs[0] = before.as_secs_f64() * 1e3 / f64::from(runs);
        costs.push(costs[4] / costs[1]);
        Ok(costs)
    });
    Ok(row)
}

/// The time until one byte has passed through two new programs, and the time for `size` more.
fn transfer(mover: &Mover, data: &Data, size: u64, round: Round) -> anyhow::Result<[Duration; 2]> {
    let start = Instant::now();
    let (mut server, port) = mover.listen(Stdio::piped())?;
    let mut sender = mover.send(port, Stdio::piped())?;
    let mut input = sender.child.stdin.take().context("no input")?;
    let mut output = server.child.stdout.take().context("no output")?;
    input.write_all(b".")?;
    output.read_exact(&mut [0; 1])?;
    let before = start.elapsed();
    let after = thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let start = Instant::now();
            data.send(size, &input)?;
            Ok(start)
        });
        take_from_pipe(data, size, round, &output)?;
        let end = Instant::now();
        anyhow::Ok(end - join(feeder)?)
    })?;
    drop(input);
    at_end(output)?;
    server.succeed()?;
    sender.succeed()?;
    Ok([before, after])
}

/// The CPU time of a server for one request, at the same fixed rate for all servers.
pub fn connections() -> Row {
    const INTERVAL: Duration = Duration::from_micros(100);
    const REQUESTS: u16 = 2500;
    let mut row = Row::new(
        "CPU time of the server for a request; 10,000 a second on 1 to 1,000 connections",
        vec![
            Measure::less("µs, of 1"),
            Measure::less("µs, of 10"),
            Measure::less("µs, of 100"),
            Measure::less("µs, of 1000"),
            Measure::less("1000 to 1"),
        ],
    );
    for (name, start) in speakers(&mut row) {
        if name == "netkit, logging" {
            // netkit logs no requests: the row would measure `netkit -q` twice.
            continue;
        }
        row.add(name, move |_| {
            let mut costs = Vec::new();
            for connections in [1, 10, 100, 1000] {
                // A new server: the threads of earlier connections would still be ending.
                let server = start()?;
                let mut load = Load::new(&server)?;
                load.open(&server, connections)?;
                // The first request of a connection costs more: it is not measured.
                load.ask_all()?;
                load.run(|| false)?;
                let before = server.program.cpu_time()?;
                load.pace(INTERVAL, usize::from(REQUESTS))?;
                let took = server.program.cpu_time()? - before;
                load.end()?;
                costs.push(took * 1e6 / f64::from(REQUESTS));
            }
            costs.push(costs[3] / costs[0]);
            Ok(costs)
        });
    }
    row
}
