//! A program that a test runs: its input, what it must print, and how it must end.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Once, OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

use super::capture::Capture;
use super::closing::{self, Closing};
use super::text::{matches, shown};
use super::{DEADLINE, spawn};

/// Programs inherit which signals are ignored: SIGHUP below nohup(1), SIGINT and SIGQUIT in background jobs
/// of a script. A caught signal has its default action in the programs that this process starts
/// (execve(2)). Here it still has no effect.
fn take_back_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // proc(5): bit 0 is signal 1. Elsewhere nobody tells.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP] {
            if mask >> (signal - 1) & 1 == 1 {
                signal_hook::flag::register(signal, Arc::default()).unwrap();
            }
        }
    });
}

/// The path of the program under test: cargo's, or `NETKIT_PROGRAM`, such as that of a package.
pub fn netkit_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var("NETKIT_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_netkit").to_owned())
    })
}

/// The program under test.
pub fn netkit<I>(arguments: I) -> Program
where
    I: IntoIterator<Item: AsRef<OsStr>>,
{
    program(netkit_path(), arguments)
}

/// Any other program. For one that may not be installed see [`super::peer`].
pub fn program<I>(name: impl AsRef<OsStr>, arguments: I) -> Program
where
    I: IntoIterator<Item: AsRef<OsStr>>,
{
    let arguments = arguments.into_iter();
    Program {
        words: std::iter::once(name.as_ref().to_owned())
            .chain(arguments.map(|argument| argument.as_ref().to_owned()))
            .collect(),
        environment: Vec::new(),
        folder: None,
        input: Input::Null,
        output: None,
        error: None,
        limit: DEADLINE,
        expected: Expected {
            stdout: Some(Vec::new()),
            stderr: Some(Vec::new()),
            end: Some(End::Code(0)),
        },
    }
}

/// A program to be run. By default standard input is `/dev/null`, both outputs must stay empty, and
/// the exit code must be 0.
#[must_use]
pub struct Program {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    input: Input,
    output: Option<Stdio>,
    error: Option<Stdio>,
    limit: Duration,
    pub(super) expected: Expected,
}

enum Input {
    Null,
    Open,
    Bytes(Vec<u8>),
    Given(Stdio),
}

impl Input {
    /// What the program reads, and where the test queues more for it. Bytes are there before the program
    /// starts, as far as a pipe holds them.
    fn open(self) -> (Stdio, Option<mpsc::Sender<Vec<u8>>>) {
        let (bytes, stays_open) = match self {
            Self::Null => return (Stdio::null(), None),
            Self::Given(stdio) => return (stdio, None),
            Self::Open => (Vec::new(), true),
            Self::Bytes(bytes) => (bytes, false),
        };
        let (reader, pipe) = std::io::pipe().unwrap();
        let mut pipe = Closing::new(pipe);
        rustix::io::ioctl_fionbio(&*pipe, true).unwrap();
        let mut rest = &bytes[..];
        while let Ok(count @ 1..) = pipe.write(rest) {
            rest = &rest[count..];
        }
        if rest.is_empty() && !stays_open {
            return (reader.into(), None);
        }
        rustix::io::ioctl_fionbio(&*pipe, false).unwrap();
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        if !rest.is_empty() {
            sender.send(rest.to_vec()).unwrap();
        }
        spawn(move || {
            // A program that has closed its input gets no more.
            while let Ok(bytes) = receiver.recv() {
                if pipe.write_all(&bytes).is_err() {
                    break;
                }
            }
        });
        (reader.into(), stays_open.then_some(sender))
    }
}

/// `None` accepts anything.
#[derive(Clone)]
pub(super) struct Expected {
    pub stdout: Option<Vec<u8>>,
    pub stderr: Option<Vec<u8>>,
    pub end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
}

impl Program {
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self
    }

    pub fn args<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let arguments = arguments.into_iter();
        self.words
            .extend(arguments.map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Runs the program from bash: `script` has it and its arguments as `"$0" "$@"`.
    pub fn through(mut self, script: &str) -> Self {
        let shell = ["bash", "-c", script].map(OsString::from);
        self.words.splice(0..0, shell);
        self
    }

    /// Sets resource limits, in the words of the shell's `ulimit`: `-n 16`.
    pub fn ulimit(self, limits: &str) -> Self {
        self.through(&format!("ulimit {limits}; exec \"$0\" \"$@\""))
    }

    /// Starts the program with descriptors that a script has opened for itself.
    pub fn with_more_descriptors(self) -> Self {
        self.through("exec 7</dev/null 9>&2; exec \"$0\" \"$@\"")
    }

    /// Standard input delivers `bytes` and ends.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = Input::Bytes(bytes.as_ref().to_owned());
        self
    }

    /// Standard input stays open until [`Process::close_input`].
    pub fn stdin_open(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    pub fn stdin_from(mut self, stdio: impl Into<Stdio>) -> Self {
        self.input = Input::Given(stdio.into());
        self
    }

    /// Standard output goes there and is not checked.
    pub fn stdout_to(mut self, stdio: impl Into<Stdio>) -> Self {
        self.output = Some(stdio.into());
        self
    }

    /// Standard error goes there and is not checked.
    pub fn stderr_to(mut self, stdio: impl Into<Stdio>) -> Self {
        self.error = Some(stdio.into());
        self
    }

    /// Standard output must be exactly this. Placeholders are those of [`matches`].
    pub fn stdout(mut self, text: impl AsRef<[u8]>) -> Self {
        self.expected.stdout = Some(text.as_ref().to_owned());
        self
    }

    pub fn any_stdout(mut self) -> Self {
        self.expected.stdout = None;
        self
    }

    /// Standard error must be exactly this. Placeholders are those of [`matches`].
    pub fn stderr(mut self, text: impl AsRef<[u8]>) -> Self {
        self.expected.stderr = Some(text.as_ref().to_owned());
        self
    }

    pub fn any_stderr(mut self) -> Self {
        self.expected.stderr = None;
        self
    }

    pub fn code(mut self, code: i32) -> Self {
        self.expected.end = Some(End::Code(code));
        self
    }

    pub fn killed_by(mut self, signal: Signal) -> Self {
        self.expected.end = Some(End::Signal(signal.as_raw()));
        self
    }

    pub fn any_code(mut self) -> Self {
        self.expected.end = None;
        self
    }

    /// For a program of which a wait takes longer than [`DEADLINE`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program to its end, and compares all that was expected.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Starts the program. [`Process::finish`] compares what was expected.
    pub fn start(self) -> Process {
        let started = Instant::now();
        let (stdin, input) = self.input.open();
        take_back_signals();
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .env_remove("NO_COLOR")
            // The system and real peers print English messages.
            .env("LC_ALL", "C.UTF-8")
            .envs(self.environment)
            .current_dir(self.folder.as_deref().unwrap_or(Path::new(".")))
            .stdin(stdin)
            .stdout(self.output.unwrap_or_else(Stdio::piped))
            .stderr(self.error.unwrap_or_else(Stdio::piped))
            // The programs that a shell started are killed with it.
            .process_group(0);
        let mut child = closing::start(&mut command)
            .unwrap_or_else(|error| panic!("{}: {error}", self.words[0].display()));
        // It has the program's ends of pipes.
        drop(command);
        let stdout = child.stdout.take().map_or_else(Capture::empty, Capture::of);
        let stderr = child.stderr.take().map_or_else(Capture::empty, Capture::of);
        let (sender, ended) = mpsc::channel();
        let pid = Pid::from_child(&child);
        spawn(move || {
            // NOWAIT: the child keeps its pid until it is reaped, so it can be killed safely.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) =
                rustix::process::waitid(WaitId::Pid(pid), options)
            {}
            let _ = sender.send(());
        });
        let words: Vec<_> = self.words.iter().map(|word| word.display()).collect();
        Process {
            title: words
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            child,
            input,
            stdout,
            stderr,
            ended,
            started,
            limit: self.limit,
            expected: self.expected,
            status: None,
            seen_stdout: 0,
            seen_stderr: 0,
        }
    }
}

/// A running program. Dropping it kills it.
pub struct Process {
    title: String,
    child: Child,
    input: Option<mpsc::Sender<Vec<u8>>>,
    stdout: Capture,
    stderr: Capture,
    ended: mpsc::Receiver<()>,
    started: Instant,
    limit: Duration,
    pub(super) expected: Expected,
    /// Set once it has been reaped.
    status: Option<ExitStatus>,
    /// How many bytes of each stream `receive` and `expect_line` have consumed.
    seen_stdout: usize,
    seen_stderr: usize,
}

/// All that a program printed, and how long it ran.
#[derive(Debug)]
pub struct Finished {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub status: ExitStatus,
    pub took: Duration,
}

impl Process {
    /// When the wait that begins now has taken too long. How long a test took before it does not matter.
    fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on the program must end by `signal`.
    pub fn expect_end_by(&mut self, signal: Signal) {
        self.expected.end = Some(End::Signal(signal.as_raw()));
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has been stopped by a signal.
    pub fn wait_until_stopped(&self) {
        // EXITED: a program that has ended must not make this wait for ever.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::Pid(Pid::from_child(&self.child)), options).unwrap();
    }

    /// Queues `bytes` for standard input. Does not wait until the program reads them.
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        let input = self.input.as_ref().expect("standard input is open");
        // A program that has ended reads nothing.
        let _ = input.send(bytes.as_ref().to_owned());
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for more standard output, which must be `bytes`.
    #[track_caller]
    pub fn receive(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let from = self.seen_stdout;
        self.stdout.wait(self.deadline(), |state| {
            (state.bytes.len() >= from + bytes.len()).then_some(())
        });
        let stdout = self.stdout.bytes();
        let end = stdout.len().min(from + bytes.len());
        if &stdout[from..end] != bytes {
            self.fail(&format!(
                "standard output should go on with {}, not {}",
                shown(bytes),
                shown(&stdout[from..])
            ));
        }
        self.seen_stdout = end;
    }

    /// Waits until standard output has `count` bytes.
    #[track_caller]
    pub fn wait_for_stdout(&self, count: usize) {
        let come = self.stdout.wait(self.deadline(), |state| {
            (state.bytes.len() >= count).then_some(())
        });
        if come.is_none() {
            self.fail(&format!("standard output should have {count} bytes"));
        }
    }

    /// Waits for the next line of standard output, which must match. Returns it.
    #[track_caller]
    pub fn receive_line(&mut self, pattern: &str) -> String {
        let from = self.seen_stdout;
        let line = self
            .stdout
            .wait(self.deadline(), |state| next_line(&state.bytes, from));
        let Some(line) = line.filter(|line| matches(pattern.as_bytes(), line.as_bytes())) else {
            self.fail(&format!("standard output should go on with {pattern:?}"));
        };
        self.seen_stdout = from + line.len() + 1;
        line
    }

    /// Waits for the next line of standard error, which must match. Returns it.
    #[track_caller]
    pub fn expect_line(&mut self, pattern: &str) -> String {
        let from = self.seen_stderr;
        let line = self
            .stderr
            .wait(self.deadline(), |state| next_line(&state.bytes, from));
        let Some(line) = line.filter(|line| matches(pattern.as_bytes(), line.as_bytes())) else {
            self.fail(&format!("standard error should go on with {pattern:?}"));
        };
        self.seen_stderr = from + line.len() + 1;
        line
    }

    /// Waits until some line of standard error matches. Returns it.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str) -> String {
        self.wait_for_lines(pattern, 1).remove(0)
    }

    /// Waits until `count` lines of standard error match. Returns all that match.
    #[track_caller]
    pub fn wait_for_lines(&self, pattern: &str, count: usize) -> Vec<String> {
        let found = self.stderr.wait(self.deadline(), |state| {
            let text = String::from_utf8_lossy(&state.bytes);
            let found: Vec<String> = text
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'))
                .filter(|line| matches(pattern.as_bytes(), line.as_bytes()))
                .map(str::to_owned)
                .collect();
            (found.len() >= count).then_some(found)
        });
        found.unwrap_or_else(|| {
            self.fail(&format!(
                "standard error should have {count} lines like {pattern:?}"
            ))
        })
    }

    /// Waits for the first line of standard error. `None`: it ended without one.
    pub fn first_line(&self) -> Option<String> {
        let first = self.stderr.wait(self.deadline(), |state| {
            let line = next_line(&state.bytes, 0);
            (line.is_some() || state.ended).then_some(line)
        });
        first.flatten()
    }

    /// All of standard error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// The processor time that the program has used.
    #[cfg(target_os = "linux")]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // proc(5): after the name in parentheses, the 12th and 13th field, in clock ticks.
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The child processes that the program has not reaped.
    #[cfg(target_os = "linux")]
    pub fn children(&self) -> Vec<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread may end meanwhile.
        let lists = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
        let pids = lists.flat_map(|list| {
            let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<i32>>()
        });
        pids.map(|pid| Pid::from_raw(pid).unwrap()).collect()
    }

    /// How many descriptors the program has open.
    #[cfg(target_os = "linux")]
    pub fn descriptors(&self) -> usize {
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        list.unwrap().count()
    }

    /// Waits for the end of the program, for `time` at most. Returns whether it has ended.
    pub fn ends_within(&self, time: Duration) -> bool {
        self.ended.recv_timeout(time) != Err(mpsc::RecvTimeoutError::Timeout)
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the program. Compares its status, and the output that `receive` and
    /// `expect_line` have not consumed, with what was expected.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        if !self.ends_within(self.limit) {
            self.fail("it should have ended by now");
        }
        let finished = self.reap();
        let status = finished.status;
        let end = status
            .code()
            .map(End::Code)
            .or(status.signal().map(End::Signal));
        if self.expected.end.is_some() && self.expected.end != end {
            self.fail(&format!(
                "it should have ended with {:?}",
                self.expected.end
            ));
        }
        if let Some(expected) = &self.expected.stderr
            && !matches(expected, &finished.stderr.as_bytes()[self.seen_stderr..])
        {
            self.fail(&format!("standard error should be {}", shown(expected)));
        }
        if let Some(expected) = &self.expected.stdout
            && !matches(expected, &finished.stdout[self.seen_stdout..])
        {
            self.fail(&format!("standard output should be {}", shown(expected)));
        }
        finished
    }

    /// Waits for the end of the program, for `time` at most. Then it kills the program, and its status is
    /// that of SIGKILL. Compares nothing.
    pub fn finish_within(mut self, time: Duration) -> Finished {
        if !self.ends_within(time) {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        self.reap()
    }

    /// Collects what the program, which has ended or been killed, has printed.
    fn reap(&mut self) -> Finished {
        let took = self.started.elapsed();
        // A background process of the program may hold its streams open.
        for stream in [&self.stdout, &self.stderr] {
            stream.wait(self.deadline(), |_| None::<()>);
        }
        let status = self.child.wait().unwrap();
        self.status = Some(status);
        Finished {
            stdout: self.stdout.bytes(),
            stderr: self.log(),
            status,
            took,
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let stdout = self.stdout.bytes();
        let stderr = self.stderr.bytes();
        let status = match self.status {
            Some(status) => status.to_string(),
            None => "running".to_owned(),
        };
        panic!(
            "{what}\n  program: {}\n  status:  {status}, after {:?}\n  stdout:  {}{}\n  stderr:  {}{}",
            self.title,
            self.started.elapsed(),
            shown(&stdout[self.seen_stdout..]),
            dealt_with(self.seen_stdout),
            shown(&stderr[self.seen_stderr..]),
            dealt_with(self.seen_stderr),
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the program has been reaped already.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn dealt_with(count: usize) -> String {
    if count == 0 {
        return String::new();
    }
    format!(" (after {count} bytes as expected)")
}

/// The first complete line at `from`, without its newline.
fn next_line(bytes: &[u8], from: usize) -> Option<String> {
    let rest = &bytes[from..];
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}
