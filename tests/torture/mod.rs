//! Each system call of a run fails once, with each error that it can plausibly have.
//!
//! strace(1) injects the errors. The run must not hang, spin or panic. It must not exit with 0, or end a
//! connection in order, while bytes are missing. An exit code other than 0 comes with one message. The
//! models are the torture tests of curl and the I/O error tests of `SQLite`.
//!
//! `cargo test -- --ignored torture` runs them: about 5 minutes on 2 cores. A name of a run after
//! `torture::` runs only that one.

mod calls;
mod clients;
mod servers;

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calls::Trace;
use rustix::process::Signal;

use crate::harness::{Finished, Folder, Program, netkit_path, peer, temporary_folder};

/// How long a run may take. One that an error slows down takes some seconds.
const LIMIT: Duration = Duration::from_secs(15);

/// How often a run is repeated before its fault counts: a busy machine can make one hang.
const TRIES: usize = 3;

/// What a run did, as its user and its peers see it.
struct Outcome {
    finished: Finished,
    /// What the peers received; compared with that of the clean run.
    received: Vec<u8>,
    /// A peer saw a reset, or no answer. The server may exit with 0 all the same.
    broken: bool,
    /// Nobody was served after the failure.
    dead: bool,
}

/// Starts netkit below strace.
struct Strace {
    folder: Folder,
    /// What strace injects, in its words.
    inject: Option<String>,
}

impl Strace {
    fn new(inject: Option<String>) -> Self {
        let folder = temporary_folder();
        Self { folder, inject }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("strace")
    }

    /// `program`, with its system calls traced. Threads are followed, other programs are not.
    /// strace is a grandchild (-D): signals and the status are those of netkit.
    fn netkit(&self, arguments: &[&str]) -> Program {
        let log = self.log();
        let mut words = vec![
            "-D",
            "-f",
            "-qq",
            "-b",
            "execve",
            "-o",
            log.to_str().unwrap(),
        ];
        if let Some(inject) = &self.inject {
            words.extend(["-e", inject]);
        }
        words.push(netkit_path());
        words.extend(arguments);
        peer("strace", words).expect("strace was there before")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn trace(&self) -> Trace {
        Trace::read(&self.log())
    }
}

/// Does `run` once as it is, and then once for each call and error. Fails with all faults that it found.
#[track_caller]
fn torture(run: impl Fn(&Strace) -> Outcome) {
    if !can_trace() {
        return;
    }
    let (clean, trace) = clean(&run);
    // More is a spin.
    let most = trace.lines * 3 + 3000;
    let mut faults = String::new();
    let calls = trace.failures();
    assert!(calls.len() > 50, "strace saw only {} calls", calls.len());
    for call in calls {
        let expression = call.expression();
        let attempt = || {
            let strace = Strace::new(Some(expression.clone()));
            let outcome = run(&strace);
            let trace = strace.trace();
            let fault = fault(&clean, &outcome, most, &trace)?;
            Some((fault, trace.failed.join("\n    ")))
        };
        let attempts: Vec<_> = (0..TRIES).map_while(|_| attempt()).collect();
        if attempts.len() == TRIES {
            let (fault, failed) = &attempts[0];
            let _ = writeln!(faults, "{expression}: {fault}\n    {failed}");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// A run in which no call fails.
#[track_caller]
fn clean(run: impl Fn(&Strace) -> Outcome) -> (Outcome, Trace) {
    let mut attempts = 0..TRIES;
    loop {
        let strace = Strace::new(None);
        let clean = run(&strace);
        let is_well = clean.finished.status.success() && !clean.broken && !clean.dead;
        if is_well {
            return (clean, strace.trace());
        }
        assert!(attempts.next().is_some(), "{:?}", clean.finished);
    }
}

/// Whether strace is there and may trace. Says so where not.
fn can_trace() -> bool {
    let Some(strace) = peer("strace", ["-qq", "-o", "/dev/null", "true"]) else {
        return false;
    };
    let can = strace.run().status.success();
    if !can {
        eprintln!("skipped: this system does not let strace trace");
    }
    can
}

/// What is wrong with a run in which one call failed.
fn fault(clean: &Outcome, outcome: &Outcome, most: usize, trace: &Trace) -> Option<String> {
    let Finished {
        stdout,
        stderr,
        status,
        ..
    } = &outcome.finished;
    let ended_by = |signal: Signal| status.signal() == Some(signal.as_raw());
    if trace.is_excused() {
        return None;
    }
    if ended_by(Signal::KILL) {
        return Some(format!("it hung: {stderr}"));
    }
    // The second SIGTERM ends a server at once.
    let asked = ended_by(Signal::TERM);
    if stderr.contains("panicked") || stderr.contains("internal error") || status.core_dumped() {
        return Some(format!("it died: {status}: {stderr}"));
    }
    if trace.lines > most {
        return Some(format!("it made {} system calls", trace.lines));
    }
    if status.success() {
        return if outcome.dead {
            Some(format!("nobody was served afterwards: {stderr}"))
        } else if clean.finished.stdout != *stdout {
            Some(format!("exit 0, and standard output differs: {stderr}"))
        } else if !outcome.broken && clean.received != outcome.received {
            Some(format!(
                "exit 0, and what the peer received differs: {stderr}"
            ))
        } else {
            None
        };
    }
    // Standard output's reader has gone: a quiet end.
    let quiet = ended_by(Signal::PIPE) || status.code() == Some(141);
    let is_new =
        |line: &str| !clean.finished.stderr.contains(line) && !line.contains(" late answer ");
    let told = stderr.lines().filter(|line| is_new(line)).count();
    let has_told = told > 0 || outcome.tells_on_stdout();
    // What a server logs may be told in several lines.
    if told > 1 && clean.finished.stderr.is_empty() {
        return Some(format!("{status} with {told} messages: {stderr}"));
    }
    if asked || quiet || has_told || trace.failed("write(2,") {
        return None;
    }
    Some(format!("{status} without a message: {stderr}"))
}

impl Outcome {
    /// A ping tells what failed where it tells the answers.
    fn tells_on_stdout(&self) -> bool {
        self.finished
            .stdout
            .windows(19)
            .any(|part| part == b"packets transmitted")
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::fs::File {
    std::fs::write(path, bytes).unwrap();
    std::fs::File::open(path).unwrap()
}
