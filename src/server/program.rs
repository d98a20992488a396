//! A program that a server runs for a peer: how it starts, what it learns, how it is ended.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::exit::{Failure, cause};

/// What to run.
#[derive(Clone, Debug)]
pub enum Program {
    /// A program and its arguments.
    Direct(Vec<OsString>),
    /// A command line for `/bin/sh -c`.
    Shell(String),
}

/// The two ends of a conversation, which a program finds in its environment.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

impl Program {
    /// Refuses what is not there or may not be run, as far as can be said without running it: what a
    /// shell makes of its line is not looked at.
    pub fn check(&self) -> Result<(), Failure> {
        self.find().map_err(|error| {
            let message = format!("could not run {self}: {}", cause(&error));
            Failure::local(message)
        })
    }

    fn find(&self) -> io::Result<()> {
        let Self::Direct(words) = self else {
            return Ok(());
        };
        let can_run = |path: &Path| {
            if path.is_dir() {
                return Err(Errno::ISDIR.into());
            }
            Ok(access(path, Access::EXEC_OK)?)
        };
        let name = words.first().map_or(Path::new(""), Path::new);
        // execvp(3): a name with a slash is not searched for.
        let is_path = name.as_os_str().as_encoded_bytes().contains(&b'/');
        if is_path || name.as_os_str().is_empty() {
            return can_run(name);
        }
        // Without PATH the system has folders of its own.
        let Some(folders) = std::env::var_os("PATH") else {
            return Ok(());
        };
        let mut failed = io::Error::from(Errno::NOENT);
        for folder in std::env::split_paths(&folders) {
            match can_run(&folder.join(name)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// Starts the program; its standard error is ours.
    pub fn start(&self, ends: Option<Ends>, stdin: Stdio, stdout: Stdio) -> io::Result<Running> {
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
        command.stdin(stdin).stdout(stdout);
        command.envs(ends.iter().flat_map(Ends::environment));
        // A group of its own can be ended as a whole, and is not hit by the terminal's Ctrl-C.
        let child = command.process_group(0).spawn()?;
        Ok(Running {
            child,
            reaped: false,
            gone: false,
        })
    }
}

/// The name of a program in messages: a peer has no influence on it.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(words) => match words.first().filter(|word| !word.is_empty()) {
                Some(word) => write!(f, "{}", word.display()),
                None => f.write_str("''"),
            },
            Self::Shell(line) => write!(f, "'{line}'"),
        }
    }
}

impl Ends {
    /// The names with `NCAT_` are those that ncat(1) sets.
    fn environment(&self) -> Vec<(String, String)> {
        let facts = [
            ("REMOTE_ADDR", self.remote.ip().to_canonical().to_string()),
            ("REMOTE_PORT", self.remote.port().to_string()),
            ("LOCAL_ADDR", self.local.ip().to_canonical().to_string()),
            ("LOCAL_PORT", self.local.port().to_string()),
            ("PROTO", self.protocol.to_owned()),
        ];
        let both = |(name, value): &(&str, String)| {
            [
                (format!("NETKIT_{name}"), value.clone()),
                (format!("NCAT_{name}"), value.clone()),
            ]
        };
        facts.iter().flat_map(both).collect()
    }
}

/// A program that runs. Dropping this ends it and its process group: SIGTERM, then SIGKILL. Unless
/// it is `gone`, that blocks until it has ended.
pub struct Running {
    pub child: Child,
    reaped: bool,
    gone: bool,
}

/// How long a process may take to end by itself, and after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(2);

impl Running {
    /// Whether the program itself has ended; if so it has been reaped.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        self.reaped = self.reaped || self.child.try_wait()?.is_some();
        Ok(self.reaped)
    }

    /// Whether nothing of the process group is left.
    pub fn is_gone(&mut self) -> bool {
        // Before it is reaped it would count as one that is left.
        let _ = self.has_ended();
        self.gone = self.gone
            || self
                .group()
                .is_none_or(|group| test_kill_process_group(group).is_err());
        self.gone
    }

    /// Sends a signal to the process group; `false`: nothing of it is left.
    pub fn signal(&self, signal: Signal) -> bool {
        // No such process: the group has ended, which is what is wanted.
        !self.gone
            && self
                .group()
                .is_some_and(|group| kill_process_group(group, signal).is_ok())
    }

    /// What may be left of it has been killed, and is for others to reap.
    pub fn let_go(&mut self) {
        self.gone = true;
    }

    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.signal(signal) {
                break;
            }
            let end = Instant::now() + GRACE;
            for nap in naps() {
                if self.is_gone() || Instant::now() >= end {
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
pub fn naps() -> impl Iterator<Item = Duration> {
    let mut nap = Duration::from_micros(200);
    std::iter::repeat_with(move || {
        nap = (nap * 2).min(Duration::from_millis(50));
        nap
    })
}
