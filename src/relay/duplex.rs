//! One end of a session: a reader, and a writer that can finish. A terminal, a pipe, a file and a
//! socket all fit.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use super::splice::{Channel, MUCH, enlarge, send_file, splice};
use crate::escape::TerminalEscape;
use crate::output::write_ready;
use crate::tap::{Direction, Tap};
use crate::wait::is_wait;

/// Where bytes of one end come from, and where bytes for it go.
pub struct Duplex {
    pub reader: Reader,
    pub writer: Writer,
}

impl Duplex {
    /// A connected socket. It becomes non-blocking; it is closed when both halves, and everybody else
    /// who shares it, have dropped it.
    pub fn of_socket(socket: Arc<dyn AsFd + Send + Sync>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = Descriptor {
            fd: socket,
            kind: Kind::Socket,
        };
        let reader = Reader::new(Source::Descriptor(socket.clone()));
        let writer = Writer::new(Sink::Descriptor(socket), Finish::Shutdown);
        Ok(Self { reader, writer })
    }
}

/// An open descriptor and what it is, which decides how bytes are best moved.
#[derive(Clone)]
struct Descriptor {
    fd: Arc<dyn AsFd + Send + Sync>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    /// A socket of our own, which is non-blocking.
    Socket,
    /// Never makes a writer wait: a file, `/dev/null`.
    File,
    /// A terminal, an inherited socket.
    Other,
}

impl Descriptor {
    /// A copy of an inherited descriptor. Its flags are left alone: it may be shared with other
    /// programs.
    fn inherited(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Other,
            _ if fd.is_terminal() => Kind::Other,
            _ => Kind::File,
        };
        Ok(Self {
            fd: Arc::new(fd.try_clone_to_owned()?),
            kind,
        })
    }
}

/// When a reader can be read.
pub enum Readiness<'a> {
    Now,
    Poll(BorrowedFd<'a>),
}

/// The half that bytes come from.
pub struct Reader {
    source: Source,
    /// Delivered in place of the source, if that ends without a byte; gone once it has delivered
    /// one.
    if_empty: Option<Vec<u8>>,
    /// Whether the writer that this reader feeds is finished at its end.
    pub finishes: bool,
    tap: Option<Tap>,
}

enum Source {
    Descriptor(Descriptor),
    Bytes(io::Cursor<Vec<u8>>),
}

impl Reader {
    fn new(source: Source) -> Self {
        Self {
            source,
            if_empty: None,
            finishes: true,
            tap: None,
        }
    }

    /// Standard input. One that was closed before netkit started has ended (std opens `/dev/null`
    /// in its place).
    pub fn stdin() -> io::Result<Self> {
        Ok(Self::new(Source::Descriptor(Descriptor::inherited(
            io::stdin().as_fd(),
        )?)))
    }

    /// What a child prints.
    pub fn child(stdout: ChildStdout) -> Self {
        let fd = Arc::new(OwnedFd::from(stdout));
        Self::new(Source::Descriptor(Descriptor {
            fd,
            kind: Kind::Pipe,
        }))
    }

    /// These bytes, and then the end.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::new(Source::Bytes(io::Cursor::new(bytes)))
    }

    /// Nothing, and no end that the peer could see.
    pub fn nothing() -> Self {
        Self::bytes(Vec::new()).without_finish()
    }

    /// If the source ends without a byte, `bytes` are delivered instead, and the writer is not
    /// finished after them.
    pub fn or_if_empty(mut self, bytes: Vec<u8>) -> Self {
        self.if_empty = Some(bytes);
        self
    }

    /// `tap` sees what is read, as far as `note` is told of it.
    pub fn with_tap(mut self, tap: Option<Tap>) -> Self {
        self.tap = tap;
        self
    }

    pub fn note(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.tap {
            Some(tap) => tap.passed(Direction::Received, bytes).map_err(Fault::Tap),
            None => Ok(()),
        }
    }

    /// The writer is not finished at the end.
    pub fn without_finish(mut self) -> Self {
        self.finishes = false;
        self
    }

    pub fn readiness(&self) -> Readiness<'_> {
        match &self.source {
            Source::Descriptor(descriptor) => Readiness::Poll(descriptor.fd.as_fd()),
            Source::Bytes(_) => Readiness::Now,
        }
    }

    /// How much to read at once, so that a system call costs little per byte. A buffer of this size
    /// becomes resident only as far as it is filled.
    pub fn most_at_once(&self) -> usize {
        match &self.source {
            Source::Descriptor(Descriptor {
                kind: Kind::File, ..
            }) => 1 << 20,
            Source::Descriptor(_) | Source::Bytes(_) => 256 << 10,
        }
    }

    /// Whether an ordinary read goes on where `splice_to` stops, and does not block.
    pub fn reads_past_urgent_data(&self) -> bool {
        matches!(
            &self.source,
            Source::Descriptor(Descriptor {
                kind: Kind::Socket,
                ..
            })
        )
    }

    /// Reads what there is; 0 is the end. Does not block once `readiness` has come true.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.source {
            Source::Descriptor(descriptor) => rustix::io::read(&descriptor.fd, &mut *buffer)?,
            Source::Bytes(bytes) => io::Read::read(bytes, buffer)?,
        };
        match self.if_empty.take() {
            Some(bytes) if count == 0 => {
                self.source = Source::Bytes(io::Cursor::new(bytes));
                self.finishes = false;
                self.read(buffer)
            }
            _ => Ok(count),
        }
    }

    /// The two descriptors, if bytes may pass from this reader to `writer` unseen.
    fn unseen<'a>(&'a self, writer: &'a Writer) -> Option<(&'a Descriptor, &'a Descriptor)> {
        let (Source::Descriptor(from), Sink::Descriptor(to)) = (&self.source, &writer.sink) else {
            return None;
        };
        let seen = !writer.is_plain() || self.tap.is_some() || writer.tap.is_some();
        (!seen).then_some((from, to))
    }

    /// Moves what there is to `writer` without copying it through this process; `None` where that
    /// is not possible. `WouldBlock` says that either the reader has nothing or the writer takes
    /// nothing.
    pub fn splice_to(&mut self, writer: &Writer) -> Option<Result<usize, Fault>> {
        let (from, to) = self.unseen(writer)?;
        let (result, pipe) = match (from.kind, to.kind) {
            (Kind::Pipe, Kind::Socket) => (splice(from.fd.as_fd(), to.fd.as_fd()), Some(from)),
            (Kind::Socket, Kind::Pipe) => (splice(from.fd.as_fd(), to.fd.as_fd()), Some(to)),
            (Kind::File, Kind::Socket) => (send_file(from.fd.as_fd(), to.fd.as_fd()), None),
            _ => return None,
        };
        match result {
            // Not to be had for these two: the bytes go the ordinary way.
            Err(error) if is_refusal(&error) => None,
            // Between a pipe and a socket every error is the socket's, save that the pipe has no
            // reader any more.
            Err(error) if from.kind == Kind::Pipe || is_gone(&error) && to.kind != Kind::Pipe => {
                Some(Err(Fault::Write(error)))
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Some(Err(Fault::Write(error)))
            }
            Err(error) => Some(Err(Fault::Read(error))),
            // The end is left to `read`, which knows what is delivered instead.
            Ok(0) => None,
            Ok(count) => {
                if let Some(pipe) = pipe.filter(|_| count == MUCH) {
                    enlarge(pipe.fd.as_fd());
                }
                self.if_empty = None;
                Some(Ok(count))
            }
        }
    }

    /// Something that bytes pass through from a socket to `writer` without a copy; `None` where that
    /// is not possible now.
    pub fn channel_to(&self, writer: &Writer) -> Option<Channel> {
        let (from, to) = self.unseen(writer)?;
        let both = matches!(
            (from.kind, to.kind),
            (Kind::Socket, Kind::Socket | Kind::File)
        );
        if both { Channel::open() } else { None }
    }

    /// Moves what there is into `channel`, which is empty; 0 is the end.
    pub fn fill(&self, channel: &mut Channel) -> Result<usize, Fault> {
        match &self.source {
            Source::Descriptor(from) => channel.fill(from.fd.as_fd()).map_err(Fault::Read),
            Source::Bytes(_) => Ok(0),
        }
    }
}

/// Whether a system call is not to be had for such descriptors.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// The half that bytes go to.
pub struct Writer {
    sink: Sink,
    encoding: Encoding,
    finish: Finish,
    when_closed: WhenClosed,
    tap: Option<Tap>,
}

enum Sink {
    Descriptor(Descriptor),
    Discard,
}

/// What it means for a session that local output is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WhenClosed {
    /// The session is over: nobody reads what it is for.
    Fails,
    /// Nothing: a program may stop reading and still answer. What comes is thrown away.
    Discards,
    /// The other direction still goes on to its end, and then it is an error.
    FailsAtTheEnd,
}

/// What becomes of bytes on their way into a writer.
#[derive(Default)]
pub enum Encoding {
    #[default]
    Plain,
    /// `\n` becomes `\r\n`; an existing `\r\n` is left alone. Remembers whether the last byte was
    /// `\r`.
    Crlf {
        after_return: bool,
    },
    Terminal(TerminalEscape),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    /// TCP's half-close: the peer sees the end, and can go on sending.
    Shutdown,
    Close,
    Nothing,
}

impl Writer {
    fn new(sink: Sink, finish: Finish) -> Self {
        Self {
            sink,
            encoding: Encoding::Plain,
            finish,
            when_closed: WhenClosed::Fails,
            tap: None,
        }
    }

    pub fn stdout() -> io::Result<Self> {
        let stdout = Descriptor::inherited(io::stdout().as_fd())?;
        Ok(Self::new(Sink::Descriptor(stdout), Finish::Nothing))
    }

    /// What a child reads; it may stop reading before the end.
    pub fn child(stdin: ChildStdin) -> Self {
        let fd = Arc::new(OwnedFd::from(stdin));
        let sink = Sink::Descriptor(Descriptor {
            fd,
            kind: Kind::Pipe,
        });
        Self::new(sink, Finish::Close).when_closed(WhenClosed::Discards)
    }

    /// Takes everything and keeps nothing.
    pub fn discard() -> Self {
        Self::new(Sink::Discard, Finish::Nothing)
    }

    /// What it means that whoever reads from it has gone away.
    pub fn when_closed(mut self, when_closed: WhenClosed) -> Self {
        self.when_closed = when_closed;
        self
    }

    /// After `error`: what that means, once what it asks of the writer has been done.
    pub fn closed_by(&mut self, error: &io::Error) -> WhenClosed {
        let closed = is_gone(error);
        let meaning = if closed {
            self.when_closed
        } else {
            WhenClosed::Fails
        };
        if meaning == WhenClosed::Discards {
            self.sink = Sink::Discard;
            self.encoding = Encoding::Plain;
        }
        meaning
    }

    /// `tap` sees what is written, as far as `note` is told of it.
    pub fn with_tap(mut self, tap: Option<Tap>) -> Self {
        self.tap = tap;
        self
    }

    pub fn note(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.tap {
            Some(tap) => tap.passed(Direction::Sent, bytes).map_err(Fault::Tap),
            None => Ok(()),
        }
    }

    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What to wait on before writing; `None` where writing never waits.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Descriptor(descriptor) => Some(descriptor.fd.as_fd()),
            Sink::Discard => None,
        }
    }

    /// Turns bytes from a reader into what `write` takes.
    pub fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match &mut self.encoding {
            Encoding::Plain => output.extend_from_slice(input),
            Encoding::Crlf { after_return } => {
                for line in input.split_inclusive(|&byte| byte == b'\n') {
                    match line {
                        [rest @ .., b'\n'] => {
                            let returned = rest.last().map_or(*after_return, |&byte| byte == b'\r');
                            output.extend_from_slice(rest);
                            output.extend_from_slice(if returned { b"\n" } else { b"\r\n" });
                        }
                        rest => output.extend_from_slice(rest),
                    }
                    *after_return = line.last() == Some(&b'\r');
                }
            }
            Encoding::Terminal(escape) => escape.push(input, output),
        }
    }

    /// Whether bytes from a reader can be written as they are.
    pub fn is_plain(&self) -> bool {
        matches!(self.encoding, Encoding::Plain)
    }

    /// What `encode` still holds at the end of its input.
    pub fn encode_end(&mut self, output: &mut Vec<u8>) {
        if let Encoding::Terminal(escape) = &mut self.encoding {
            escape.finish(output);
        }
    }

    /// Writes as much of `bytes` as goes without waiting; `WouldBlock` when nothing does.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Sink::Descriptor(Descriptor { fd, kind }) = &self.sink else {
            return Ok(bytes.len());
        };
        match kind {
            Kind::Socket | Kind::File => Ok(rustix::io::write(fd, bytes)?),
            Kind::Pipe | Kind::Other => write_ready(fd.as_fd(), bytes),
        }
    }

    /// Writes what goes without waiting of what is in `channel`; `None` where nothing can be moved
    /// out of it in this way.
    pub fn drain(&self, channel: &mut Channel) -> Option<io::Result<usize>> {
        let Sink::Descriptor(to) = &self.sink else {
            return None;
        };
        match channel.drain(to.fd.as_fd()) {
            Err(error) if is_refusal(&error) => None,
            result => Some(result),
        }
    }

    /// No more bytes will be written. What the peer sends can still be read.
    pub fn finish(&mut self) {
        match (self.finish, &self.sink) {
            (Finish::Shutdown, Sink::Descriptor(descriptor)) => {
                // A connection that is already gone says so to whoever reads from it.
                let _ = rustix::net::shutdown(&descriptor.fd, rustix::net::Shutdown::Write);
            }
            (Finish::Close, _) => self.sink = Sink::Discard,
            (Finish::Nothing | Finish::Shutdown, _) => {}
        }
    }

    /// After both ends have finished: waits until the peer has acknowledged everything or broken the
    /// connection off, for `most` at most, and returns the error if there is one.
    pub fn wait_until_taken(&self, most: Duration) -> Option<io::Error> {
        let fd = self.socket()?;
        let end = Instant::now() + most;
        let mut nap = Duration::from_micros(100);
        // poll(2) cannot tell: it shows the end of both directions from now on. But a connection that
        // is over has no peer any more (getpeername(2)).
        while rustix::net::getpeername(fd).is_ok() && Instant::now() < end {
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(10));
        }
        self.take_error()
    }

    /// The error that is pending on a connection: how the peer went away, if it did not close
    /// cleanly.
    pub fn take_error(&self) -> Option<io::Error> {
        let fd = self.socket()?;
        match rustix::net::sockopt::socket_error(fd) {
            Ok(Err(errno)) | Err(errno) => Some(errno.into()),
            Ok(Ok(())) => None,
        }
    }

    /// How the peer went away, if it broke the connection off; for a connection that neither side
    /// has finished, or only the peer. Reading may have shown an end: splice(2) keeps the reset to
    /// itself if it moved something before it, and it is told only once.
    pub fn broken_off(&self) -> Option<io::Error> {
        let fd = self.socket().filter(|_| self.finish == Finish::Shutdown)?;
        // As in `wait_until_taken`: after the peer's end alone it would still be there.
        rustix::net::getpeername(fd).err()?;
        let error = self.take_error();
        Some(error.unwrap_or_else(|| rustix::io::Errno::CONNRESET.into()))
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Descriptor(Descriptor {
                fd,
                kind: Kind::Socket,
            }) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// The descriptor, if it is a pipe: poll(2) shows of a pipe that its reader has gone away.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Descriptor(Descriptor {
                fd,
                kind: Kind::Pipe,
            }) => Some(fd.as_fd()),
            _ => None,
        }
    }
}

/// Which part of a direction failed.
#[derive(Debug)]
pub enum Fault {
    Read(io::Error),
    Write(io::Error),
    /// What watches the session could not write it down.
    Tap(io::Error),
}

impl Fault {
    /// Nothing is wrong: it has to be tried again when poll(2) says so.
    pub fn is_wait(&self) -> bool {
        let (Self::Read(error) | Self::Write(error)) = self else {
            return false;
        };
        is_wait(error)
    }
}
