//! A program that a server runs for a peer: how it starts, what it knows of the peer, how it ends.

mod groups;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use close_fds::CloseFdsBuilder;
use process_wrap::std::{CommandWrap, CommandWrapper as _, ProcessSession};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::exit::{Failure, cause};
use crate::memory::is_ours;
use crate::net::peer::{Endpoint, Peer};
use crate::server::systemd::is_variable;
use crate::units::ip;
use crate::wait::Deadline;
use groups::Groups;

/// A program, and all of it that run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name and its arguments.
    words: Vec<OsString>,
    /// What messages call it.
    name: String,
    groups: Arc<Groups>,
}

/// The two ends of a conversation, which a program finds in its environment.
#[derive(Clone, Debug)]
pub struct Ends {
    /// `TCP`, `UDP` or `UNIX`.
    pub protocol: &'static str,
    pub remote: Peer,
    pub local: Option<Endpoint>,
    /// Whom the certificate of the peer names, if it has presented one.
    pub tls_subject: Option<String>,
}

impl Program {
    /// The program of `--exec` or `--sh-exec`, if one is given. Fails if it does not exist or may not
    /// be run. The line of a shell is not checked. No program inherits descriptors that this process was
    /// started with, but the standard streams.
    pub fn new(exec: Option<&[OsString]>, line: Option<&str>) -> Result<Option<Self>, Failure> {
        let shell = |line: &str| ["/bin/sh", "-c", line].map(OsString::from).to_vec();
        let words = exec.map(<[OsString]>::to_vec).or_else(|| line.map(shell));
        let Some(words) = words else {
            return Ok(None);
        };
        let program = Self {
            name: match line {
                Some(line) => format!("'{line}'"),
                None if first(&words).is_empty() => "''".to_owned(),
                None => first(&words).display().to_string(),
            },
            words,
            groups: Arc::default(),
        };
        // What this process opens itself is closed at execve(2) anyway.
        CloseFdsBuilder::new().cloexecfrom(3);
        program.find().map_err(|error| {
            let advice = program.advice();
            Failure::local(format!(
                "could not run {program}: {}{advice}",
                cause(&error)
            ))
        })?;
        Ok(Some(program))
    }

    /// For a program that was typed with its arguments as one word.
    fn advice(&self) -> String {
        match &self.words[..] {
            [word] if word.as_encoded_bytes().contains(&b' ') => {
                let word = word.display();
                format!(" (-e takes words: write -e {word}, or --sh-exec '{word}')")
            }
            _ => String::new(),
        }
    }

    fn find(&self) -> io::Result<()> {
        let can_run = |path: &Path| {
            if path.is_dir() {
                return Err(Errno::ISDIR.into());
            }
            Ok(access(path, Access::EXEC_OK)?)
        };
        let name = first(&self.words);
        // execvp(3): a name with a slash is a path.
        if name.is_empty() || name.as_encoded_bytes().contains(&b'/') {
            return can_run(name.as_ref());
        }
        // Without PATH execvp(3) has default folders.
        let Some(folders) = env::var_os("PATH") else {
            return Ok(());
        };
        let mut failed = io::Error::from(Errno::NOENT);
        for folder in env::split_paths(&folders) {
            match can_run(&folder.join(name)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// Starts the program in a session of its own, without a terminal. It inherits standard error, and the
    /// environment with other [`Ends`].
    pub fn start(&self, ends: &Ends, stdin: Stdio, stdout: Stdio) -> io::Result<Running> {
        let mut command = Command::new(first(&self.words));
        command.args(self.words.iter().skip(1));
        command.stdin(stdin).stdout(stdout);
        let names = env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| tells_ends(name) || is_variable(name) || is_ours(name)) {
            command.env_remove(name);
        }
        command.envs(ends.environment());
        let child = self.groups.start(|| start_session(command))?;
        Ok(Running {
            child,
            groups: Arc::clone(&self.groups),
            killed: false,
            gone: false,
        })
    }

    /// Kills all that run, with their process groups. None starts afterwards.
    pub fn kill_all(&self) {
        self.groups.kill();
    }
}

/// Whether a program could not start since the system, or this process, was out of descriptors,
/// processes or memory. It may start later.
pub fn is_scarcity(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM)
    )
}

/// Starts a process that leads a session and a process group of its own. The group can be ended as a
/// whole. The terminal's Ctrl-C does not reach it, and a read of the terminal does not stop it (SIGTTIN).
fn start_session(mut command: Command) -> io::Result<Child> {
    let unwrapped = CommandWrap::from(Command::new(""));
    ProcessSession.pre_spawn(&mut command, &unwrapped)?;
    command.spawn()
}

/// Its name in messages. It contains nothing that a peer sent.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name of a program, perhaps empty.
fn first(words: &[OsString]) -> &OsStr {
    words.first().map_or(OsStr::new(""), OsString::as_os_str)
}

/// The beginnings of the variables that tell a program of its peer: our own, and those of ncat(1).
const PREFIXES: [&str; 2] = ["NETKIT_", "NCAT_"];

/// Whether a variable of the server's own environment could be taken for one of [`Ends`].
fn tells_ends(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix.as_bytes()))
}

impl Ends {
    /// Each variable stands twice, once with each prefix. A link-local address has its zone.
    fn environment(&self) -> Vec<(String, String)> {
        let mut facts = vec![("PROTO", self.protocol.to_owned())];
        match &self.remote {
            Peer::Inet(address) => {
                facts.push(("REMOTE_ADDR", shown(address)));
                facts.push(("REMOTE_PORT", address.port().to_string()));
            }
            peer @ Peer::Unix(process) => {
                facts.push(("REMOTE_ADDR", peer.to_string()));
                if let Some(process) = process {
                    facts.push(("REMOTE_PID", process.pid.to_string()));
                    facts.push(("REMOTE_UID", process.uid.to_string()));
                }
            }
        }
        match &self.local {
            Some(Endpoint::Inet(address)) => {
                facts.push(("LOCAL_ADDR", shown(address)));
                facts.push(("LOCAL_PORT", address.port().to_string()));
            }
            Some(Endpoint::Unix(name)) => facts.push(("LOCAL_ADDR", name.to_string())),
            None => {}
        }
        let both = |(name, value): &(&str, String)| {
            PREFIXES.map(|prefix| (format!("{prefix}{name}"), value.clone()))
        };
        let subject = self.tls_subject.clone();
        let subject = subject.map(|subject| ("TLS_SUBJECT", subject));
        facts.iter().chain(&subject).flat_map(both).collect()
    }
}

/// The IP address of one end, with its zone. An IPv4-mapped address counts as IPv4.
fn shown(address: &SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(_) => ip(address),
    }
}

/// A running program and the process group that it leads. The program ends and is reaped first; its
/// group may live longer. Once it is gone, the kernel may give its number to another group.
///
/// Dropping this sends the group SIGTERM, then SIGKILL. It blocks until the group is gone, for
/// [`GRACE`] after each at most.
pub struct Running {
    pub child: Child,
    groups: Arc<Groups>,
    killed: bool,
    gone: bool,
}

/// How long a process may take to end by itself, and after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(2);

impl Running {
    /// Whether the program itself has ended. If so, this has reaped it.
    pub fn has_ended(&mut self) -> bool {
        // An error of wait(2) means that there is no such child.
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether the group is gone. After SIGKILL it counts as gone once the program itself has ended:
    /// init(1) reaps the rest, which may take its time.
    pub fn is_gone(&mut self) -> bool {
        // A program that is not reaped counts as a process of its group.
        if !self.gone
            && self.has_ended()
            && (self.killed || test_kill_process_group(self.group()).is_err())
        {
            self.gone = true;
            self.groups.remove(self.group());
        }
        self.gone
    }

    /// Sends a signal to the group, unless it is gone.
    pub fn signal(&mut self, signal: Signal) {
        self.killed |= signal == Signal::KILL;
        if !self.gone {
            // No such process: the group is gone, as it should be.
            let _ = kill_process_group(self.group(), signal);
        }
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if self.is_gone() {
                return;
            }
            self.signal(signal);
            let end = Deadline::after(GRACE);
            for nap in naps() {
                if self.is_gone() || end.has_passed() {
                    break;
                }
                thread::sleep(nap);
            }
        }
        // A system call that cannot be interrupted may hold up SIGKILL.
        let _ = self.child.wait();
        self.groups.remove(self.group());
    }
}

/// Pauses between two looks: short at first, as most programs end at once, and longer later.
pub fn naps() -> impl Iterator<Item = Duration> {
    let mut nap = Duration::from_micros(200);
    std::iter::repeat_with(move || {
        nap = (nap * 2).min(Duration::from_millis(50));
        nap
    })
}
