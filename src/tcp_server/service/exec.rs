//! Runs a program for a connection, with the connection as its standard input and output.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;

use crate::exit::{Exit, Failure, cause};
use crate::relay::Rules;
use crate::relay::duplex::{Duplex, Reader, Writer};
use crate::relay::options::StreamArgs;
use crate::server::program::{GRACE, Program, Running, is_scarcity, naps};
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::tcp_server::turns::Turn;
use crate::wait::{Deadline, pause};

/// Blocks until the program's output has ended and it has been reaped, then ends its process group.
/// The client's end of input closes only the program's input.
// Stack budget: see pool.
#[inline(never)]
pub fn handle(
    program: &Program,
    connection: &Connection,
    args: &StreamArgs,
    turn: Option<Turn>,
) -> Result<(), Ended> {
    let mut running = start(program, connection, args, turn.as_ref())?;
    drop(turn);
    let child = &mut running.child;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // Whether the client sees an end depends on how the program ends.
    let reader = stdout.map_or_else(Reader::nothing, Reader::child);
    let local = args.local(Duplex {
        reader: reader.without_finish(),
        writer: stdin.map_or_else(Writer::discard, Writer::child),
    });
    let remote = args.remote(connection.duplex()?);
    // The end of the output ends the session. With --recv-only there is no output.
    let wait_after_eof = (!args.recv_only).then_some(Duration::ZERO);
    let rules = Rules {
        wait_after_eof,
        ..args.passing()
    };
    let name = program.to_string();
    connection.relay(local, remote, rules, |fault| fault.failure(&name, &name))?;
    wait(&mut running, connection)?;
    match running.child.try_wait() {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => {
            let sentence = format!("{program} ended with {status}");
            Err(match status.signal() {
                Some(_) => Ended::Killed(sentence),
                None => Ended::Program(sentence),
            })
        }
        _ => Ok(()),
    }
}

/// Starts the program. Blocks while the system is out of descriptors, processes or memory. It keeps the
/// `turn` meanwhile, so that no more connections are accepted.
fn start(
    program: &Program,
    connection: &Connection,
    args: &StreamArgs,
    turn: Option<&Turn>,
) -> Result<Running, Ended> {
    let open = |null| if null { Stdio::null() } else { Stdio::piped() };
    // A program is told the right peer, or not started.
    let ends = connection.ends().map_err(Ended::Failed)?;
    let limit = connection.limit();
    for nap in naps() {
        if turn.is_none_or(Turn::has_come) {
            let (stdin, stdout) = (open(args.send_only), open(args.recv_only));
            let error = match program.start(&ends, stdin, stdout) {
                Ok(running) => return Ok(running),
                Err(error) => error,
            };
            let what = format!("could not run {program}");
            if !is_scarcity(&error) {
                return Err(Ended::Local(Failure::of(Exit::Local, what, &error)));
            }
            if turn.is_some_and(Turn::has_to_wait) {
                let cause = cause(&error);
                tracing::error!("{what}: {cause}; new connections have to wait");
            }
        }
        connection.check(limit)?;
        if connection.is_gone_by(Deadline::after(nap))? {
            break;
        }
    }
    Err(Ended::Failed(Errno::CONNRESET.into()))
}

/// Blocks until the program has ended, or the client has been gone for [`GRACE`]. A program that goes
/// on without output does not keep the end of that from the client.
fn wait(running: &mut Running, connection: &Connection) -> Result<(), Ended> {
    const ENDING: Duration = Duration::from_millis(100);
    let limit = connection.limit();
    let finish_at = Deadline::after(ENDING);
    let mut gone = Deadline::NEVER;
    for nap in naps().map(Deadline::after) {
        if running.has_ended() || gone.has_passed() {
            break;
        }
        connection.check(limit)?;
        if finish_at.has_passed() {
            // It fails if the client has gone.
            let _ = connection.finish();
        }
        if gone != Deadline::NEVER {
            pause(nap).map_err(Ended::Failed)?;
        } else if connection.is_gone_by(nap)? {
            gone = Deadline::after(GRACE);
        }
    }
    Ok(())
}
