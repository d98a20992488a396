//! The exit codes of netkit, and the error that carries one.

use std::fmt;
use std::io;

/// Why netkit ended unsuccessfully; the number is what the shell sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The network said no: refused, reset, unreachable, no answer.
    Network = 1,
    /// The command line or this machine said no.
    Local = 2,
    /// The host name could not be resolved.
    Resolve = 3,
    /// A time limit passed.
    Timeout = 4,
    /// The reader of standard output went away (128 + SIGPIPE); never announced by a message.
    OutputClosed = 141,
}

/// The table as `--help` prints it.
pub const TABLE: &str = "\
Exit codes:
    0  done; for pings: every probe was answered; a server was stopped by SIGINT or SIGTERM and all its connections had ended
    1  the network said no: refused, reset, unreachable, no answer, loss above --max-loss
    2  the command line or this machine said no: bad usage, address in use, no permission, file or disk trouble
    3  the host name could not be resolved
    4  a time limit passed
  130, 141, 143  a client ended by SIGINT, by a closed standard output, by SIGTERM";

/// A finished sentence for the user, and the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message }
    }

    /// For what has been said already, each time when it happened; only the exit code is left.
    pub fn announced(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Whether there is nothing to be said.
    pub fn is_silent(&self) -> bool {
        self.message.is_empty() || self.exit == Exit::OutputClosed
    }

    /// What a failed write to `name` means: a reader that left is no fault of anybody.
    pub fn of_output(name: &str, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            _ => Exit::Local,
        };
        Self::new(exit, format!("could not write {name}: {}", cause(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of any error; one that names none is this machine's.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    failure_of(error).map_or(Exit::Local, |failure| failure.exit)
}

/// Whether an error ends the program without a message.
pub fn is_silent(error: &anyhow::Error) -> bool {
    failure_of(error).is_some_and(Failure::is_silent)
}

fn failure_of(error: &anyhow::Error) -> Option<&Failure> {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>())
}

/// Who is to blame for a failed socket call: the network, or this machine.
pub fn blame(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::AddrInUse
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::Unsupported => Exit::Local,
        _ if is_exhaustion(error) => Exit::Local,
        _ => Exit::Network,
    }
}

/// Whether the system has run out of descriptors, buffers or memory: errors that pass by
/// themselves.
pub fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NFILE | Errno::MFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// The system's words for an error, in lower case and without the number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(words, _)| words);
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(text);
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation ("RFC 6724 …") keeps its capitals.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_lower_case_and_has_no_number() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(cause(&refused), "connection refused");
    }

    #[test]
    fn the_exit_code_is_found_under_context() {
        let error = anyhow::Error::new(Failure::new(Exit::Resolve, "inner")).context("outer");
        assert_eq!(exit_of(&error), Exit::Resolve);
        assert_eq!(format!("{error:#}"), "outer: inner");
    }

    #[test]
    fn an_error_without_a_code_is_this_machines() {
        assert_eq!(exit_of(&anyhow::anyhow!("anything")), Exit::Local);
    }
}
