//! Runs a program for a connection, with the connection as its standard input and output.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::Streams;
use super::connection::{Connection, Ended};
use crate::duplex::{Duplex, Reader, Writer, poll};
use crate::exit::{Exit, Failure, cause};
use crate::relay::Rules;
use crate::stream::StreamArgs;

/// What to run.
#[derive(Clone, Debug)]
pub enum Program {
    /// A program and its arguments.
    Direct(Vec<OsString>),
    /// A command line for `/bin/sh -c`.
    Shell(String),
}

impl Program {
    /// Runs the program until its output has ended and it has been reaped. The client's end of input
    /// closes the program's input only. Whatever is left of its process group then is ended.
    pub fn handle(&self, connection: &Connection, streams: &Streams) -> Result<(), Ended> {
        let args = &streams.args;
        let mut running = self.start(connection, args)?;
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
        connection.relay(&self.name(), local, remote, rules)?;
        running.wait(connection)
    }

    fn start(&self, connection: &Connection, args: &StreamArgs) -> Result<Running, Ended> {
        let mut command = match self {
            Self::Direct(words) => {
                let mut command =
                    Command::new(words.first().map_or_else(OsString::new, OsString::clone));
                command.args(words.iter().skip(1));
                command
            }
            Self::Shell(line) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(line);
                command
            }
        };
        let pipe_unless = |closed: bool| {
            if closed {
                Stdio::null()
            } else {
                Stdio::piped()
            }
        };
        command
            .stdin(pipe_unless(args.send_only))
            .stdout(pipe_unless(args.recv_only));
        let stream = connection.stream();
        if let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) {
            command.envs(environment(remote, local));
        }
        // A group of its own can be ended as a whole, and is not hit by the terminal's Ctrl-C.
        match command.process_group(0).spawn() {
            Ok(child) => Ok(Running {
                child,
                reaped: false,
            }),
            Err(error) => {
                let message = format!("could not run {}: {}", self.name(), cause(&error));
                Err(Ended::Near(Failure::new(Exit::Local, message)))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Direct(words) => words
                .first()
                .map_or_else(String::new, |word| word.display().to_string()),
            Self::Shell(line) => format!("'{line}'"),
        }
    }
}

/// What a program learns of its connection. The names with `NCAT_` are those that ncat(1) sets.
fn environment(remote: SocketAddr, local: SocketAddr) -> Vec<(String, String)> {
    let facts = [
        ("REMOTE_ADDR", remote.ip().to_canonical().to_string()),
        ("REMOTE_PORT", remote.port().to_string()),
        ("LOCAL_ADDR", local.ip().to_canonical().to_string()),
        ("LOCAL_PORT", local.port().to_string()),
        ("PROTO", "TCP".to_owned()),
    ];
    let both = |(name, value): &(&str, String)| {
        [
            (format!("NETKIT_{name}"), value.clone()),
            (format!("NCAT_{name}"), value.clone()),
        ]
    };
    facts.iter().flat_map(both).collect()
}

/// A program that runs. Dropping this ends it and its process group: SIGTERM, then SIGKILL.
struct Running {
    child: Child,
    reaped: bool,
}

/// How long a process may take to end by itself, and after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

impl Running {
    /// Waits for the program, as long as its client does.
    fn wait(&mut self, connection: &Connection) -> Result<(), Ended> {
        let limit = connection.next_limit();
        let mut gone_at = None;
        for nap in naps() {
            if self.has_ended().map_err(Ended::Failed)? {
                return Ok(());
            }
            let now = Instant::now();
            if gone_at.is_some_and(|at: Instant| now >= at + GRACE) {
                return Ok(());
            }
            if let Some((at, ended)) = &limit
                && *at <= now
            {
                tracing::debug!("{ended}");
                return Ok(());
            }
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

    fn has_ended(&mut self) -> io::Result<bool> {
        self.reaped = self.reaped || self.child.try_wait()?.is_some();
        Ok(self.reaped)
    }

    /// Whether anything of the process group is left.
    fn is_alive(&mut self, group: Pid) -> bool {
        let _ = self.has_ended();
        test_kill_process_group(group).is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        for signal in [Signal::TERM, Signal::KILL] {
            // No such process: the group has ended, which is what is wanted.
            if kill_process_group(group, signal).is_err() {
                break;
            }
            let end = Instant::now() + GRACE;
            for nap in naps() {
                if !self.is_alive(group) || Instant::now() >= end {
                    break;
                }
                thread::sleep(nap);
            }
        }
        if !self.reaped {
            let _ = self.child.wait();
        }
    }
}

/// Short at first, as most programs end at once; longer later, as waiting should cost nothing.
fn naps() -> impl Iterator<Item = Duration> {
    let mut nap = Duration::from_micros(200);
    std::iter::repeat_with(move || {
        nap = (nap * 2).min(Duration::from_millis(50));
        nap
    })
}
