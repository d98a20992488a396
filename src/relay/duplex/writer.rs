//! Where the bytes of a direction go, and what becomes of a connection there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStdin;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketAddrAny, getpeername, shutdown, sockopt};

use super::{Descriptor, Fault, Kind, note};
use crate::escape::TerminalEscape;
use crate::input::Crlf;
use crate::output::{self, write_ready};
use crate::stderr;
use crate::tap::{Direction, End, Tap};
use crate::tls::Session;
use crate::wait::{Deadline, if_ready};

/// The half that bytes go to.
pub struct Writer {
    /// `None`: all bytes are thrown away.
    sink: Option<Descriptor>,
    is_finished: bool,
    pub encoding: Encoding,
    pub when_closed: WhenClosed,
    /// Records what is written.
    pub tap: Option<Tap>,
}

/// What a session does once nobody reads its local output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WhenClosed {
    /// The session fails at once.
    Fails,
    /// The output is thrown away: a program may stop reading and still answer.
    Discards,
    /// The session fails once the other direction has ended.
    FailsAtTheEnd,
}

/// How a writer changes bytes.
pub enum Encoding {
    Plain,
    /// `\n` becomes `\r\n`; an existing `\r\n` stays.
    Crlf(Crlf),
    Terminal(TerminalEscape),
}

impl Writer {
    pub fn of(sink: Descriptor) -> Self {
        let sink = Some(sink);
        Self {
            sink,
            ..Self::discard()
        }
    }

    /// Standard output. On a terminal control characters are escaped, unless `raw`.
    pub fn stdout(raw: bool) -> io::Result<Self> {
        let mut stdout = Self::of(Descriptor::inherited(output::open()?.as_fd())?);
        if output::escapes(raw) {
            stdout.encoding = Encoding::Terminal(TerminalEscape::default());
        }
        Ok(stdout)
    }

    /// The input of a child.
    pub fn child(stdin: ChildStdin) -> Self {
        Self {
            when_closed: WhenClosed::Discards,
            ..Self::of(Descriptor::new(stdin.into(), Kind::Pipe))
        }
    }

    /// Throws everything away.
    pub fn discard() -> Self {
        Self {
            sink: None,
            is_finished: false,
            encoding: Encoding::Plain,
            when_closed: WhenClosed::Fails,
            tap: None,
        }
    }

    /// The descriptor, if bytes may enter it without passing through a buffer.
    pub fn untapped(&self) -> Option<&Descriptor> {
        let is_free = self.tap.is_none() && self.is_plain() && self.tls().is_none();
        self.sink.as_ref().filter(|_| is_free)
    }

    /// What to wait for before writing. `None`: writing never waits.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor, if it is a pipe. Of a pipe poll(2) shows that its reader has gone.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.sink_of(Kind::Pipe).map(AsFd::as_fd)
    }

    /// The reader of the pipe has left. Returns when that ends the session, if nothing comes that it
    /// would have had to read. A reader may know the end of its data and leave before the peer's end
    /// arrives here, as tar(1) does.
    pub fn reader_left(&self) -> Deadline {
        const LAST_BYTES: Duration = Duration::from_millis(500);
        match self.when_closed {
            WhenClosed::Fails => Deadline::after(LAST_BYTES),
            WhenClosed::Discards | WhenClosed::FailsAtTheEnd => Deadline::now(),
        }
    }

    fn sink_of(&self, kind: Kind) -> Option<&Descriptor> {
        self.sink.as_ref().filter(|sink| sink.kind == kind)
    }

    /// Whether the writer changes nothing.
    pub fn is_plain(&self) -> bool {
        matches!(self.encoding, Encoding::Plain)
    }

    /// Returns what has to be written for `input`. An empty `input` is the end: it returns what was
    /// held back.
    pub fn encode(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        match &mut self.encoding {
            Encoding::Plain => output.extend_from_slice(input),
            Encoding::Crlf(crlf) => crlf.push(input, &mut output),
            Encoding::Terminal(escape) if input.is_empty() => escape.finish(&mut output),
            Encoding::Terminal(escape) => escape.push(input, &mut output),
        }
        output
    }

    /// Writes what the descriptor takes without blocking, and records it. `None`: nothing.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        if self.sink_of(Kind::Terminal).is_some() {
            stderr::erase_status();
        }
        let result = match &self.sink {
            None => Ok(bytes.len()),
            Some(Descriptor { tls: Some(tls), .. }) => tls.write(bytes),
            Some(to) if matches!(to.kind, Kind::Socket | Kind::File) => {
                rustix::io::write(to, bytes).map_err(Into::into)
            }
            Some(to) => write_ready(to.as_fd(), bytes),
        };
        let result = if_ready(result);
        let sink = self.sink.as_ref();
        note(&mut self.tap, sink, Direction::Sent, bytes, &result)?;
        let count = result.map_err(Fault::Write)?;
        // The only terminal that is written to is standard output.
        if self.sink_of(Kind::Terminal).is_some() {
            output::shown(&bytes[..count.unwrap_or(0)]);
        }
        Ok(count)
    }

    fn tls(&self) -> Option<&Session> {
        self.sink.as_ref()?.tls.as_deref()
    }

    /// Whether bytes that were put, or a message of TLS, still wait for the system.
    pub fn is_flushing(&self) -> bool {
        self.tls().is_some_and(Session::is_flushing)
    }

    /// Sends what waits for the system. Returns whether it took anything.
    pub fn flush(&self) -> Result<bool, Fault> {
        let flushed = self.tls().map_or(Ok(false), Session::flush);
        flushed.map_err(Fault::Write)
    }

    /// Closes the descriptor. From now on bytes are thrown away.
    pub fn close(&mut self) {
        self.sink = None;
        self.encoding = Encoding::Plain;
    }

    /// No more bytes come. Half-closes a connection: its peer sees the end, and can still send.
    pub fn finish(&mut self) {
        self.is_finished = true;
        self.tell_end(End::Fin);
        // It fails if the connection is over, which a read shows.
        match (self.tls(), self.sink_of(Kind::Socket)) {
            (Some(tls), _) => drop(tls.finish()),
            (None, Some(socket)) => drop(shutdown(socket, Shutdown::Write)),
            (None, None) => self.close(),
        }
    }

    fn tell_end(&self, end: End) {
        if let Some(tap) = &self.tap {
            tap.ended(Direction::Sent, end);
        }
    }

    /// Whether no more bytes come, and the peer sees that.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Makes closing reset a connection (`SO_LINGER` 0): its peer sees no end.
    pub fn reset_on_close(&self) {
        self.tell_end(End::Reset);
        if let Some(socket) = self.sink_of(Kind::Socket) {
            // A connection that is over shows no end either.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }

    /// Lets the kernel ask a peer that has been silent for 5 s whether it is still there
    /// (`SO_KEEPALIVE`). Changes nothing if the kernel does so already. The connection of a peer
    /// that has gone breaks after 3 more such times.
    pub fn probe_peer(&self) {
        const TIME: Duration = Duration::from_secs(5);
        const TRIES: u32 = 3;
        let Some(socket) = self.sink_of(Kind::Socket) else {
            return;
        };
        if let Ok(false) = sockopt::socket_keepalive(socket) {
            // Without them the peer is only missed later. It may be no TCP peer.
            let _ = sockopt::set_tcp_keepidle(socket, TIME);
            let _ = sockopt::set_tcp_keepintvl(socket, TIME);
            let _ = sockopt::set_tcp_keepcnt(socket, TRIES);
            let _ = sockopt::set_socket_keepalive(socket, true);
        }
    }

    /// Once the peer has ended: whether this side has finished, and the peer has not acknowledged that
    /// yet. When it has, the connection has no peer (getpeername(2)).
    pub fn is_closing(&self) -> bool {
        // A Unix socket acknowledges nothing, and keeps the name of its peer.
        let has_peer = |socket| getpeername(socket).is_ok_and(|peer| is_inet(peer.as_ref()));
        let sends_fin = self.is_finished && self.tls().is_none();
        sends_fin && self.sink_of(Kind::Socket).is_some_and(has_peer)
    }

    /// Whether it is a Unix socket, which keeps the name of a peer that has gone.
    pub fn is_unix(&self) -> bool {
        let socket = self.sink_of(Kind::Socket);
        socket.is_some_and(|socket| getpeername(socket).is_ok_and(|peer| !is_inet(peer.as_ref())))
    }

    /// How the connection broke, if it did: its pending error (`SO_ERROR`), which the kernel reports
    /// once. splice(2) swallows that error if it moved bytes before the reset. Then a read shows an
    /// end, and a write fails with EPIPE. But a connection that this side has not finished has a peer
    /// (getpeername(2)), unless it was reset.
    ///
    /// Of TLS that has finished, none: a peer that has told its end may close at once. Our `close_notify`
    /// then makes its system reset the connection, and nothing is lost.
    pub fn take_error(&self) -> Option<io::Error> {
        if self.is_finished && self.tls().is_some() {
            return None;
        }
        let socket = self.sink_of(Kind::Socket)?;
        let peer = getpeername(socket);
        let is_unix = peer.as_ref().is_ok_and(|peer| !is_inet(peer.as_ref()));
        if !self.is_finished && peer.is_ok() && !is_unix {
            return None;
        }
        match sockopt::socket_error(socket) {
            Ok(Err(error)) | Err(error) => Some(error.into()),
            Ok(Ok(())) => (!self.is_finished && !is_unix).then(|| Errno::CONNRESET.into()),
        }
    }
}

fn is_inet(address: Option<&SocketAddrAny>) -> bool {
    let family = address.map(SocketAddrAny::address_family);
    matches!(family, Some(AddressFamily::INET | AddressFamily::INET6))
}
