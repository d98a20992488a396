//! Runs a program for a connection, with the connection as its standard input and output.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Streams;
use crate::exit::{Failure, cause};
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Reader, Writer};
use crate::relay::options::StreamArgs;
use crate::server::program::{Ends, GRACE, Program, Running, naps};
use crate::tcp_server::connection::{Connection, Ended};
use crate::wait::poll;

/// Runs the program until its output has ended and it has been reaped. The client's end of input
/// closes the program's input only. Whatever is left of its process group then is ended.
#[inline(never)]
pub fn handle(program: &Program, connection: &Connection, streams: &Streams) -> Result<(), Ended> {
    let args = &streams.args;
    let mut running = start(program, connection, args)?;
    let reader = running
        .child
        .stdout
        .take()
        .map_or_else(Reader::nothing, Reader::child);
    let writer = running
        .child
        .stdin
        .take()
        .map_or_else(Writer::discard, Writer::child);
    let local = args.local(Duplex { reader, writer });
    let remote = streams.remote(connection)?;
    // When the output has ended nothing more is expected of the client, unless all of the
    // conversation is the client's.
    let wait_after_eof = (!args.recv_only).then_some(Duration::ZERO);
    let rules = Rules {
        wait_after_eof,
        ..Rules::PATIENT
    };
    connection.relay(&program.to_string(), local, remote, &rules)?;
    wait(&mut running, connection)?;
    match running.child.try_wait() {
        Ok(Some(status)) if !status.success() => {
            Err(Ended::Program(format!("{program} ended with {status}")))
        }
        _ => Ok(()),
    }
}

fn start(program: &Program, connection: &Connection, args: &StreamArgs) -> Result<Running, Ended> {
    let pipe_unless = |closed: bool| {
        if closed {
            Stdio::null()
        } else {
            Stdio::piped()
        }
    };
    let stream = connection.stream();
    let ends = match (stream.peer(), stream.local()) {
        (Ok(remote), Ok(local)) => Some(Ends {
            protocol: "TCP",
            remote,
            local,
        }),
        _ => None,
    };
    program
        .start(
            ends,
            pipe_unless(args.send_only),
            pipe_unless(args.recv_only),
        )
        .map_err(|error| {
            let message = format!("could not run {program}: {}", cause(&error));
            Ended::Near(Failure::local(message))
        })
}

/// Waits for the program, as long as its client does.
fn wait(running: &mut Running, connection: &Connection) -> Result<(), Ended> {
    let limit = connection.limit();
    let mut gone_at = None;
    for nap in naps() {
        if running.has_ended() {
            return Ok(());
        }
        let now = Instant::now();
        if gone_at.is_some_and(|at: Instant| now >= at + GRACE) {
            return Ok(());
        }
        connection.check(limit)?;
        if gone_at.is_some() {
            thread::sleep(nap);
            continue;
        }
        let mut descriptors = [PollFd::new(&**connection.stream(), PollFlags::empty())];
        poll(&mut descriptors, Some(nap)).map_err(Ended::Failed)?;
        if !descriptors[0].revents().is_empty() {
            gone_at = Some(Instant::now());
        }
    }
    Ok(())
}
