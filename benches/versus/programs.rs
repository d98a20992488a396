//! The programs that are measured: finds them, starts them, and kills those that take too long.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a program may run after `grant_time`: many times what one run takes.
const MOST: Duration = Duration::from_secs(60);

/// The process id of each running program, when the watch kills it, and its pidfd.
static RUNNING: Mutex<Vec<(u32, Instant, OwnedFd)>> = Mutex::new(Vec::new());

/// A child; it is killed when this is dropped.
pub struct Program {
    pub child: Child,
    watched: OwnedFd,
}

/// A copy of this build's netkit, as an installed one is. The linker writes its file in pieces,
/// which the page cache keeps apart: that file takes longer to start.
pub fn netkit() -> Command {
    Command::new(installed())
}

fn installed() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_netkit")).with_file_name("netkit-installed")
}

/// Makes the copy; called before anything is measured.
pub fn install() -> anyhow::Result<()> {
    let program = env!("CARGO_BIN_EXE_netkit");
    let path = installed();
    // A program that still runs cannot be overwritten.
    let _ = fs::remove_file(&path);
    // In one write; `fs::copy` may share the pieces.
    fs::write(&path, fs::read(program)?)?;
    fs::set_permissions(&path, fs::metadata(program)?.permissions())?;
    Ok(())
}

/// Finds an installed program on `PATH`. `nc` must be OpenBSD's.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())?;
    if name == "nc" {
        let help = Command::new(&file).arg("-h").output().ok()?;
        let help = [help.stdout, help.stderr].concat();
        return String::from_utf8_lossy(&help)
            .contains("OpenBSD")
            .then_some(file);
    }
    if name == "python3" {
        // The file may be a script that starts the interpreter.
        let asked = Command::new(&file)
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .ok()?;
        return Some(String::from_utf8(asked.stdout).ok()?.trim().into());
    }
    Some(file)
}

/// Kills programs whose time has passed, so that the bench never hangs.
pub fn watch() -> anyhow::Result<()> {
    thread::Builder::new().spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(200));
            let now = Instant::now();
            running().retain(|(id, end, pidfd)| {
                if *end <= now {
                    println!("  killed process {id}, which ran for {MOST:?}");
                    // It may have ended meanwhile.
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
                *end > now
            });
        }
    })?;
    Ok(())
}

/// Gives every running program its whole time again. Called before each run: a server lives as long
/// as its row, and a row may take longer than `MOST`.
pub fn grant_time() {
    for (_, end, _) in running().iter_mut() {
        *end = Instant::now() + MOST;
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<(u32, Instant, OwnedFd)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    /// Starts a program with the standard streams that `command` has.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("could not start {}", command.get_program().display()))?;
        let pid = Pid::from_child(&child);
        let watched = pidfd_open(pid, PidfdFlags::empty())?;
        running().push((child.id(), Instant::now() + MOST, watched.try_clone()?));
        Ok(Self { child, watched })
    }

    /// Starts a server and waits until it listens on `port`.
    pub fn serve(command: &mut Command, port: u16, table: Table) -> anyhow::Result<Self> {
        let program = Self::start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        program.wait_for(port, table)?;
        Ok(program)
    }

    /// Waits until a socket listens on `port`. It does not connect: the server would serve that
    /// client.
    pub fn wait_for(&self, port: u16, table: Table) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while !table.has(port) {
            if Instant::now() > end || self.has_ended(Duration::from_millis(1))? {
                bail!("it does not listen on port {port}");
            }
        }
        Ok(())
    }

    pub fn has_ended(&self, within: Duration) -> anyhow::Result<bool> {
        let mut ended = [PollFd::new(&self.watched, PollFlags::IN)];
        Ok(poll(&mut ended, Some(&Timespec::try_from(within)?))? > 0)
    }

    /// Waits for its end; the watch bounds the wait.
    pub fn finish(mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// `finish`, for a program that must have succeeded.
    pub fn succeed(self) -> anyhow::Result<()> {
        let status = self.finish()?;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no VmRSS")?.parse()?)
    }

    /// CPU time of its live threads, in seconds; ended threads do not count.
    pub fn cpu_time(&self) -> anyhow::Result<f64> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let times = fs::read_to_string(thread?.path().join("schedstat"))?;
            let running = times.split_whitespace().next().context("no schedstat")?;
            nanoseconds += running.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
    }

    /// CPU time of its threads and of children that it has waited for, ended ones too: in seconds, by
    /// steps of 10 ms (`/proc/PID/stat`).
    pub fn cpu_time_of_all(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name before the parenthesis may contain blanks.
        let (_, fields) = status.rsplit_once(')').context("no stat")?;
        let times = fields.split_whitespace().skip(11).take(4);
        let ticks = times.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(f64::from(ticks) / 100.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let id = self.child.id();
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().retain(|(running, ..)| *running != id);
    }
}

/// The kernel's tables of sockets in /proc/net.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Tcp,
    Udp,
}

impl Table {
    fn has(self, port: u16) -> bool {
        let (files, state) = match self {
            Self::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
            Self::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
        };
        let port = format!(":{port:04X}");
        files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .any(|table| {
                table.lines().any(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    words.next().is_some_and(|local| local.ends_with(&port))
                        && words.nth(1) == Some(state)
                })
            })
    }
}

/// A port that was free a moment ago.
pub fn free_port(table: Table) -> anyhow::Result<u16> {
    Ok(match table {
        Table::Tcp => std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?,
        Table::Udp => std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?,
    }
    .port())
}
