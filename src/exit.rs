//! The exit codes of netkit, and [`Failure`], the one error type.

mod words;

use std::fmt;
use std::io;

use rustix::io::Errno;

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
    /// The reader of standard output left (128 + SIGPIPE). No message tells it.
    OutputClosed = 141,
}

/// The table as `--help` prints it.
pub const TABLE: &str = "\
Exit codes:
    0  done; for pings: every probe was answered; for servers: stopped by
       SIGINT or SIGTERM, and all connections had ended
    1  the network said no: refused, reset, unreachable, no answer, a certificate
       not trusted, loss above --max-loss
    2  the command line or this machine said no: bad usage, address in use, no
       permission, file or disk trouble
    3  the host name could not be resolved
    4  a time limit passed
  130, 141, 143
       a client ended by SIGINT, by a closed standard output, by SIGTERM";

/// Why something could not be done: a finished sentence for the user, and the exit code.
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: Exit,
    sentence: String,
    /// The help says what would have been right.
    pub is_usage: bool,
    /// To try again would not help.
    pub is_final: bool,
}

impl Failure {
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self {
            exit,
            sentence: sentence.into(),
            is_usage: false,
            is_final: exit == Exit::Local,
        }
    }

    /// To try again would not help.
    pub fn that_stays(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// To try again may help: what is missing on this machine may come.
    pub fn that_may_pass(mut self) -> Self {
        self.is_final = false;
        self
    }

    /// The command line is wrong: the message ends with where to read more.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self {
            is_usage: true,
            ..Self::local(sentence)
        }
    }

    /// The command line or this machine said no.
    pub fn local(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Local, sentence)
    }

    /// `sentence: the system's words for the error`.
    pub fn of(exit: Exit, sentence: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(exit, format!("{sentence}: {}", cause(error)))
    }

    /// What stands behind `could not …: ` in the sentence.
    pub fn cause(&self) -> &str {
        let parts = self.sentence.split_once(": ");
        parts.map_or(&self.sentence, |(_, cause)| cause)
    }

    /// Only an exit code: the user has been told already.
    pub fn announced(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Whether nothing is left to be told.
    pub fn is_silent(&self) -> bool {
        self.sentence.is_empty() || self.exit == Exit::OutputClosed
    }

    /// A failed write to `name`. A reader that has left is nobody's fault.
    pub fn of_output(name: &str, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            _ => Exit::Local,
        };
        Self::of(exit, format_args!("could not write {name}"), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// An error without a sentence of its own counts as this machine's.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::of(Exit::Local, "could not go on", &error)
    }
}

/// Turns the error of a system call into a [`Failure`].
pub trait OrFail<T> {
    /// `sentence` says what could not be done; the cause is added.
    fn or_fail<S: fmt::Display>(
        self,
        exit: Exit,
        sentence: impl FnOnce() -> S,
    ) -> Result<T, Failure>;
}

impl<T> OrFail<T> for io::Result<T> {
    fn or_fail<S: fmt::Display>(
        self,
        exit: Exit,
        sentence: impl FnOnce() -> S,
    ) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(exit, sentence(), &error))
    }
}

/// The exit code where several things failed: the first of 2, 3, 4, 1 that occurred.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst(Option<Exit>);

impl Worst {
    pub fn add(&mut self, exit: Exit) {
        const ORDER: [Exit; 5] = [
            Exit::OutputClosed,
            Exit::Local,
            Exit::Resolve,
            Exit::Timeout,
            Exit::Network,
        ];
        let both = [self.0, Some(exit)];
        self.0 = ORDER.into_iter().find(|exit| both.contains(&Some(*exit)));
    }

    /// Logs what failed in all `results`. Fails if something did.
    pub fn of(results: impl IntoIterator<Item = Result<(), Failure>>) -> Result<(), Failure> {
        let mut worst = Self::default();
        for failure in results.into_iter().filter_map(Result::err) {
            if !failure.is_silent() {
                tracing::error!("{failure}");
            }
            worst.add(failure.exit);
        }
        worst.result()
    }

    /// An error that carries only the exit code, if something failed.
    pub fn result(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), |exit| Err(Failure::announced(exit)))
    }
}

/// The exit code of a failed socket call: the network's or this machine's.
pub fn blame(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::AddrInUse
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::OutOfMemory
        // The file of a Unix socket.
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::Unsupported => Exit::Local,
        _ => match Errno::from_io_error(error) {
            // The system has run out of descriptors or buffers; a Unix socket is one of datagrams.
            Some(Errno::NFILE | Errno::MFILE | Errno::NOBUFS | Errno::PROTOTYPE) => Exit::Local,
            _ => Exit::Network,
        },
    }
}

/// The system's words for an error, in lower case and without its number: on all systems the same.
pub fn cause(error: &io::Error) -> String {
    if let Some(words) = Errno::from_io_error(error).and_then(words::of) {
        return words.to_owned();
    }
    let text = error.to_string();
    let text = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(words, _)| words);
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .map_or(text, words::of_resolver);
    let mut letters = text.chars();
    match letters.next() {
        // An abbreviation keeps its capitals.
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
        let refused = io::Error::from(Errno::CONNREFUSED);
        assert_eq!(cause(&refused), "connection refused");
        let in_use = io::Error::from(Errno::ADDRINUSE);
        assert_eq!(cause(&in_use), "address already in use");
    }

    #[test]
    fn a_resolver_has_the_same_words_everywhere() {
        for words in ["Name does not resolve", "Name or service not known"] {
            let words = format!("failed to lookup address information: {words}");
            assert_eq!(cause(&io::Error::other(words)), "name or service not known");
        }
    }

    #[test]
    fn an_error_that_nothing_is_known_of_is_this_machines() {
        let failure = Failure::from(io::Error::from(Errno::NOMEM));
        assert_eq!(failure.exit, Exit::Local);
        assert!(failure.to_string().starts_with("could not go on: "));
    }

    #[test]
    fn the_first_of_2_3_4_1_that_occurred_is_the_exit_code() {
        let order = [Exit::Local, Exit::Resolve, Exit::Timeout, Exit::Network];
        for (index, worst) in order.into_iter().enumerate() {
            for less in &order[index..] {
                for pair in [[worst, *less], [*less, worst]] {
                    let mut all = Worst::default();
                    assert!(all.result().is_ok());
                    for exit in pair {
                        all.add(exit);
                    }
                    assert_eq!(all.result().unwrap_err().exit, worst);
                }
            }
        }
    }
}
