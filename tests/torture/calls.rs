//! Which calls a run makes, and how each can fail.

use std::collections::BTreeMap;
use std::path::Path;

/// How often one call of a run fails with one error: at most this many of its calls, evenly spread.
const SAMPLES: usize = 4;

/// The calls that fail, and the errors that their man pages name for a program that does nothing wrong.
///
/// Left out: the memory of the allocator and of the loader (out of memory ends a Rust program), futexes,
/// and close (strace does not run the call that it fails, but Linux closes the descriptor also then).
const ERRORS: &[(&[&str], &[&str])] = &[
    (
        &["read", "readv", "recvfrom", "recvmsg"],
        &["EINTR", "EAGAIN", "EIO", "ECONNRESET", "ENOMEM"],
    ),
    (
        &["write", "writev", "sendto", "sendmsg"],
        &[
            "EINTR",
            "EAGAIN",
            "EIO",
            "EPIPE",
            "ENOSPC",
            "ECONNRESET",
            "ENOBUFS",
        ],
    ),
    (
        &["splice", "sendfile", "copy_file_range"],
        &["EINTR", "EAGAIN", "EIO", "EPIPE", "EINVAL", "ENOMEM"],
    ),
    (&["poll", "ppoll"], &["EINTR", "ENOMEM"]),
    (
        &["connect"],
        &[
            "EINTR",
            "EAGAIN",
            "ECONNREFUSED",
            "ENETUNREACH",
            "EADDRNOTAVAIL",
            "EPERM",
        ],
    ),
    (
        &["accept", "accept4"],
        &[
            "EINTR",
            "EAGAIN",
            "EMFILE",
            "ENFILE",
            "ENOMEM",
            "ECONNABORTED",
            "EPERM",
            "EPROTO",
        ],
    ),
    (
        &["socket", "socketpair"],
        &["EMFILE", "ENFILE", "ENOBUFS", "EAFNOSUPPORT", "EACCES"],
    ),
    (&["bind"], &["EADDRINUSE", "EACCES", "EADDRNOTAVAIL"]),
    (&["listen"], &["EADDRINUSE"]),
    (&["setsockopt"], &["ENOPROTOOPT", "EINVAL", "ENOBUFS"]),
    (&["getsockopt"], &["ENOPROTOOPT", "ENOBUFS"]),
    (&["getsockname", "getpeername"], &["ENOTCONN", "ENOBUFS"]),
    (&["shutdown"], &["ENOTCONN"]),
    (
        &["open", "openat"],
        &["EMFILE", "ENOENT", "EACCES", "EINTR"],
    ),
    (
        &["fstat", "newfstatat", "statx", "lseek"],
        &["EIO", "EOVERFLOW"],
    ),
    (
        &[
            "unlink",
            "unlinkat",
            "chmod",
            "fchmod",
            "fchmodat",
            "ftruncate",
        ],
        &["EACCES", "EPERM", "EROFS"],
    ),
    (&["getrandom"], &["ENOSYS"]),
    (&["fcntl"], &["EMFILE", "EINVAL"]),
    (&["ioctl"], &["EIO", "EINVAL"]),
    (
        &[
            "pipe2",
            "eventfd2",
            "epoll_create1",
            "signalfd4",
            "pidfd_open",
            "timerfd_create",
        ],
        &["EMFILE", "ENFILE", "ENOMEM"],
    ),
    (&["clone", "clone3", "vfork", "fork"], &["EAGAIN", "ENOMEM"]),
    (&["wait4", "waitid"], &["EINTR", "ECHILD"]),
    (
        &["kill", "tgkill", "pidfd_send_signal"],
        &["ESRCH", "EPERM"],
    ),
    (&["sched_setscheduler"], &["EPERM", "EINVAL"]),
    // A sandbox may refuse even to tell the own limits.
    (&["prlimit64"], &["EPERM"]),
    (&["clock_nanosleep", "nanosleep"], &["EINTR"]),
];

/// The `number`th call of `name` fails, in each thread.
pub struct Call {
    name: String,
    error: &'static str,
    number: usize,
}

impl Call {
    /// As strace's `-e` has it.
    pub fn expression(&self) -> String {
        let Self {
            name,
            error,
            number,
        } = self;
        format!("inject={name}:error={error}:when={number}")
    }
}

/// What strace wrote about a run.
pub struct Trace {
    pub lines: usize,
    /// The calls that failed, as strace shows them.
    pub failed: Vec<String>,
    /// How often each call was made: before `main`, and by the end in the thread that made it most often.
    counts: BTreeMap<String, (usize, usize)>,
}

impl Trace {
    pub fn read(log: &Path) -> Self {
        let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
        let main = text.split_whitespace().next().unwrap_or_default();
        // Rust's runtime ends its start with this call.
        let start = text
            .lines()
            .position(|line| line.contains("rt_sigaction(SIGBUS, {"));
        let mut threads = BTreeMap::<(&str, &str), usize>::new();
        let mut counts = BTreeMap::<String, (usize, usize)>::new();
        for (number, line) in text.lines().enumerate() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let Some((name, _)) = call.trim_start().split_once('(') else {
                continue;
            };
            let made = threads.entry((thread, name)).or_default();
            *made += 1;
            let (before, most) = counts.entry(name.to_owned()).or_default();
            if thread == main && start.is_some_and(|start| number <= start) {
                *before += 1;
            }
            *most = (*most).max(*made);
        }
        let failed = text.lines().filter(|line| line.contains("(INJECTED)"));
        Self {
            lines: text.lines().count(),
            failed: failed.map(str::to_owned).collect(),
            counts,
        }
    }

    /// Whether a call that begins like `call` failed.
    pub fn failed(&self, call: &str) -> bool {
        self.failed.iter().any(|line| line.contains(call))
    }

    /// std asks by a pair of sockets whether a program has started. Linux does not fail that. If strace
    /// does, std waits for the program.
    pub fn is_excused(&self) -> bool {
        self.failed(", 8, 0, NULL, NULL) = ")
    }

    /// All that shall fail, each in a run of its own.
    pub fn failures(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for (name, &(before, most)) in &self.counts {
            let errors = ERRORS
                .iter()
                .find(|(names, _)| names.contains(&name.as_str()));
            for error in errors.map_or(&[][..], |(_, errors)| errors) {
                for number in sample(before + 1, most) {
                    calls.push(Call {
                        name: name.clone(),
                        error,
                        number,
                    });
                }
            }
        }
        calls
    }
}

/// At most [`SAMPLES`] numbers from `first` to `last`, both among them.
fn sample(first: usize, last: usize) -> Vec<usize> {
    if first > last {
        return Vec::new();
    }
    let steps = (last - first).min(SAMPLES - 1);
    (0..=steps)
        .map(|step| first + (last - first) * step / steps.max(1))
        .collect()
}
