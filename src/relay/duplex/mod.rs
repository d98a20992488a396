//! One end of a session: a connection, standard input and output, or a program.

mod reader;
mod writer;

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::exit::Failure;
use crate::input;
use crate::tap::{Direction, End, Tap};
use crate::tls::Session;
pub use reader::{HEAD, Reader};
pub use writer::{Encoding, WhenClosed, Writer};

/// A reader, and a writer that can finish.
pub struct Duplex {
    pub reader: Reader,
    pub writer: Writer,
}

impl Duplex {
    /// A connected socket, which becomes non-blocking. It closes when both halves and every other
    /// owner have dropped it.
    pub fn of_socket(socket: Arc<dyn AsFd + Send + Sync>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self::of(Descriptor {
            fd: socket,
            kind: Kind::Socket,
            tls: None,
        }))
    }

    /// A connection that TLS encrypts. Its other owner ends it: [`Session::close`] is not called here.
    pub fn of_session(session: Rc<Session>) -> Self {
        Self::of(Descriptor {
            fd: session.socket(),
            kind: Kind::Socket,
            tls: Some(session),
        })
    }

    fn of(descriptor: Descriptor) -> Self {
        Self {
            reader: Reader::of(descriptor.clone()),
            writer: Writer::of(descriptor),
        }
    }

    /// Has `tap` record what passes.
    pub fn record(&mut self, tap: &Tap) {
        self.reader.tap = Some(tap.clone());
        self.writer.tap = Some(tap.clone());
    }
}

/// An open descriptor and its kind, which decides how bytes are moved.
#[derive(Clone)]
pub struct Descriptor {
    fd: Arc<dyn AsFd + Send + Sync>,
    pub kind: Kind,
    /// What encrypts the bytes of a socket.
    tls: Option<Rc<Session>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pipe,
    /// Non-blocking.
    Socket,
    /// A file or `/dev/null`: it is always ready.
    File,
    Terminal,
    /// An inherited socket.
    Other,
}

impl Descriptor {
    /// A copy of an inherited descriptor. Its flags do not change: other programs may share it.
    pub fn inherited(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Other,
            _ if fd.is_terminal() => Kind::Terminal,
            _ => Kind::File,
        };
        Ok(Self::new(fd.try_clone_to_owned()?, kind))
    }

    fn new(fd: OwnedFd, kind: Kind) -> Self {
        let fd = Arc::new(fd);
        let tls = None;
        Self { fd, kind, tls }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Which part of a direction failed.
#[derive(Debug)]
pub enum Fault {
    Read(io::Error),
    Write(io::Error),
    /// The dump or the record could not be written.
    Tap(Failure),
}

impl Fault {
    /// A fault of the local end. Messages call its halves `input` and `output`.
    pub fn failure(&self, input: &str, output: &str) -> Failure {
        match self {
            Self::Read(error) => input::unreadable(input, error),
            Self::Write(error) => Failure::of_output(output, error),
            Self::Tap(failure) => failure.clone(),
        }
    }
}

/// Whether the reader of a pipe, or the peer of a connection, has gone.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Lets `tap` record what a read or a write of `bytes` has done at `end`. A read of nothing is an end.
fn note(
    tap: &mut Option<Tap>,
    end: Option<&Descriptor>,
    direction: Direction,
    bytes: &[u8],
    result: &io::Result<Option<usize>>,
) -> Result<(), Fault> {
    let (Some(tap), Some(end)) = (tap, end) else {
        return Ok(());
    };
    match result {
        Ok(Some(count @ 1..)) => {
            let passed = tap.passed(direction, &bytes[..*count]);
            passed.map_err(Fault::Tap)?;
        }
        Ok(Some(0)) if direction == Direction::Received => tap.ended(direction, End::Fin),
        Ok(_) => {}
        Err(error) => tap.failed(direction, error, end.as_fd()),
    }
    Ok(())
}
