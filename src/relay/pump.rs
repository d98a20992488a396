//! One direction of a session: moves bytes from a reader to a writer, and never blocks.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::duplex::{Descriptor, Fault, Kind, Reader, Writer};
use super::splice::{self, BULK, Channel, Step};
use crate::memory;
use crate::tap::Outbox;
use crate::wait::{IN, OUT, PollFlags};

/// So large that a system call costs little per byte.
const BUFFER: usize = 256 << 10;

/// Holds at most one buffer or one pipe of bytes.
pub struct Pump {
    pub reader: Reader,
    pub writer: Writer,
    way: Way,
    buffer: Vec<u8>,
    /// The size of the next buffer. It begins small: most sessions move little.
    size: usize,
    /// The part of `buffer` that is still to be written.
    pending: Range<usize>,
    reader_ended: bool,
    pub written: u64,
    /// What was read lately, as it was read. `None`: nobody wants to know.
    kept: Option<Vec<u8>>,
}

/// How the bytes go. The kinds of the two descriptors decide it, once.
enum Way {
    /// Through a buffer of this process.
    Copy,
    /// `Copy` until a read is large ([`BULK`]), then `Channel`: a session of few bytes needs no pipe.
    CopyUntilBulk,
    /// From one descriptor to the other by one call.
    Splice {
        waits_for_writer: bool,
    },
    Channel(Channel),
}

impl Way {
    /// A tap and an encoding need the bytes in a buffer.
    fn choose(reader: &Reader, writer: &Writer) -> Self {
        let Some((from, to)) = reader.untapped().zip(writer.untapped()) else {
            return Self::Copy;
        };
        match (from.kind, to.kind) {
            (Kind::Pipe | Kind::File, Kind::Socket) | (Kind::Socket, Kind::Pipe) => {
                let waits_for_writer = false;
                Self::Splice { waits_for_writer }
            }
            (Kind::Socket, Kind::Socket | Kind::File) => Self::CopyUntilBulk,
            _ => Self::Copy,
        }
    }
}

impl Pump {
    pub fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            way: Way::choose(&reader, &writer),
            reader,
            writer,
            buffer: Vec::new(),
            size: memory::SMALL,
            pending: 0..0,
            reader_ended: false,
            written: 0,
            kept: None,
        }
    }

    /// Keeps what is read from now on, and what is still to be written. Forgets what it has kept before.
    pub fn keep(&mut self) {
        self.way = Way::Copy;
        self.kept = Some(self.buffer[self.pending.clone()].to_vec());
    }

    /// How much is kept.
    pub fn kept(&self) -> usize {
        self.kept.as_ref().map_or(0, Vec::len)
    }

    /// Takes what was kept out of what counts as written.
    pub fn take_kept(&mut self) -> Vec<u8> {
        let kept = self.kept.take().unwrap_or_default();
        let unwritten = self.pending.len();
        let written = kept.len().saturating_sub(unwritten) as u64;
        self.written = self.written.saturating_sub(written);
        kept
    }

    /// Throws away what has been read and what is to come.
    pub fn discard(&mut self) {
        self.writer.close();
        self.way = Way::Copy;
        self.pending = 0..0;
    }

    /// Whether bytes wait for the writer.
    pub fn is_writing(&self) -> bool {
        if self.outbox().is_some_and(|outbox| outbox.room().is_some()) {
            return true;
        }
        let way_is_writing = match &self.way {
            Way::Copy | Way::CopyUntilBulk => false,
            Way::Splice { waits_for_writer } => *waits_for_writer,
            Way::Channel(channel) => !channel.is_empty(),
        };
        way_is_writing || !self.pending.is_empty() || self.writer.is_flushing()
    }

    /// What to wait for before the next step. `None`: nothing.
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if let Some(room) = self.outbox().and_then(Outbox::room) {
            Some(room)
        } else if self.is_writing() {
            self.writer.fd().map(|fd| (fd, OUT))
        } else {
            self.reader.fd().map(|fd| (fd, IN))
        }
    }

    /// What has passed, and the files of the tap have not taken yet. Both directions share it.
    pub fn outbox(&self) -> Option<&Outbox> {
        let tap = self.reader.tap.as_ref().or(self.writer.tap.as_ref());
        tap.map(|tap| &*tap.outbox)
    }

    /// Moves what can be moved without blocking, but reads no more than `most` bytes. Call it only when
    /// [`Self::waits_for`] is ready.
    pub fn step(&mut self, most: usize) -> Result<Step, Fault> {
        if let Some(outbox) = self.outbox().filter(|outbox| outbox.room().is_some()) {
            let is_all = outbox.flush().map_err(Fault::Tap)?;
            // The reader may have nothing: a read of it could block.
            return Ok(if is_all {
                Step::ReaderNotReady
            } else {
                Step::WriterNotReady
            });
        }
        if !self.pending.is_empty() || self.writer.is_flushing() {
            return self.flush();
        }
        let Some((from, to)) = self.reader.untapped().zip(self.writer.untapped()) else {
            return self.copy(most);
        };
        let step = match &mut self.way {
            Way::Copy | Way::CopyUntilBulk => return self.copy(most),
            Way::Splice { .. } if self.written == 0 && self.reader.head.is_some() => {
                return self.copy(most);
            }
            Way::Splice { waits_for_writer } => {
                let step = splice(waits_for_writer, from, to, most)?;
                if let Step::Moved(count) = step {
                    self.written += count as u64;
                }
                step
            }
            Way::Channel(channel) => {
                self.buffer = Vec::new();
                channel.pass(from, to, most, &mut self.written)?
            }
        };
        match step {
            // splice(2) never passes an urgent byte, though poll(2) calls the socket readable. A read
            // skips that byte.
            Step::ReaderNotReady if from.kind == Kind::Socket => self.copy(most),
            Step::Unsupported => {
                if let Way::Channel(mut channel) = std::mem::replace(&mut self.way, Way::Copy) {
                    self.buffer = channel.take().map_err(Fault::Read)?;
                    self.pending = 0..self.buffer.len();
                }
                self.step(most)
            }
            step => Ok(step),
        }
    }

    /// Reads once, `most` bytes at most, and writes what the writer takes.
    fn copy(&mut self, most: usize) -> Result<Step, Fault> {
        if self.buffer.len() < self.size {
            self.buffer = memory::zeroed(self.size).map_err(Fault::Read)?;
        }
        let most = most.min(self.buffer.len());
        let Some(count) = self.reader.read(&mut self.buffer[..most])? else {
            return Ok(Step::ReaderNotReady);
        };
        if count == self.buffer.len() {
            self.size = (count * memory::GROWTH).min(BUFFER);
        }
        self.reader_ended = count == 0;
        self.pending = 0..count;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.buffer[..count]);
        }
        if !self.writer.is_plain() {
            self.buffer = self.writer.encode(&self.buffer[..count]);
            self.pending = 0..self.buffer.len();
        }
        if count >= BULK
            && matches!(self.way, Way::CopyUntilBulk)
            && let Some(channel) = Channel::open()
        {
            self.way = Way::Channel(channel);
        }
        Ok(match self.flush()? {
            Step::WriterNotReady => Step::Moved(0),
            step => step,
        })
    }

    /// Writes what is pending until the writer takes no more.
    fn flush(&mut self) -> Result<Step, Fault> {
        let before = self.pending.len();
        let mut has_flushed = self.writer.flush()?;
        while !self.pending.is_empty() {
            let Some(count) = self.writer.put(&self.buffer[self.pending.clone()])? else {
                break;
            };
            self.pending.start += count;
            self.written += count as u64;
        }
        let is_flushing = self.writer.is_flushing();
        // Otherwise it was a message of TLS itself.
        has_flushed &= self.written > 0;
        Ok(match before - self.pending.len() {
            _ if self.pending.is_empty() && self.reader_ended && !is_flushing => Step::End,
            0 if !has_flushed && (before > 0 || is_flushing) => Step::WriterNotReady,
            0 if !has_flushed => Step::ReaderNotReady,
            count => Step::Moved(count),
        })
    }
}

/// Makes one call. Before it, `waits_for_writer` is the side that poll(2) found ready. After it, it
/// is the side to wait for.
fn splice(
    waits_for_writer: &mut bool,
    from: &Descriptor,
    to: &Descriptor,
    most: usize,
) -> Result<Step, Fault> {
    let result = if from.kind == Kind::File {
        splice::send_file(from, to, most)
    } else if *waits_for_writer {
        // The writer is ready: a call that moves nothing has found no bytes.
        splice::splice(from, to, most, Step::ReaderNotReady)
    } else {
        splice::splice(from, to, most, Step::WriterNotReady)
    };
    let step = match result {
        Ok(step) => step,
        Err(error) if is_connections(&error) && from.kind != Kind::Socket => {
            return Err(Fault::Write(error));
        }
        // A read will tell what is wrong with the pipe or the file.
        Err(_) if from.kind != Kind::Socket => return Ok(Step::Unsupported),
        // A pipe without a reader is no fault if the connection has ended: a read will tell.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Step::Unsupported),
        Err(error) => return Err(Fault::Read(error)),
    };
    *waits_for_writer = step == Step::WriterNotReady;
    if step == Step::Moved(BULK) {
        for pipe in [from, to].iter().filter(|end| end.kind == Kind::Pipe) {
            splice::enlarge(pipe.as_fd());
        }
    }
    Ok(step)
}

/// Whether only a connection fails like this.
fn is_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read as _, Seek as _, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;
    use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size, socket_error};

    use super::super::duplex::Duplex;
    use super::super::{Broken, Rules, relay};
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum End {
        Pipe,
        Socket,
        File,
        AppendedFile,
        /// `Reader::bytes` or `Writer::discard`.
        Memory,
    }

    const ENDS: [End; 5] = [
        End::Pipe,
        End::Socket,
        End::File,
        End::AppendedFile,
        End::Memory,
    ];

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// An empty file without a name.
    fn file(append: bool) -> File {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("netkit-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.append(append).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    fn of_file(file: &File) -> Descriptor {
        Descriptor::inherited(file.as_fd()).unwrap()
    }

    fn of_socket(socket: TcpStream) -> Duplex {
        Duplex::of_socket(Arc::new(socket)).unwrap()
    }

    fn feed(mut to: impl Write, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            to.write_all(piece).unwrap();
        }
    }

    fn take(mut from: impl io::Read, piece: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match from.read(&mut buffer).unwrap() {
                0 => return bytes,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Has a session carry `bytes`, which come and are taken in pieces. Returns what arrived.
    fn carry(from: End, to: End, bytes: &[u8], coming: usize, taken: usize) -> Vec<u8> {
        thread::scope(|scope| {
            let reader = match from {
                End::Pipe => {
                    let (reader, writer) = io::pipe().unwrap();
                    scope.spawn(move || feed(writer, bytes, coming));
                    Reader::child(OwnedFd::from(reader).into())
                }
                End::Socket => {
                    let (near, far) = connection();
                    scope.spawn(move || feed(far, bytes, coming));
                    of_socket(near).reader
                }
                End::File | End::AppendedFile => {
                    let mut file = file(false);
                    feed(&file, bytes, coming);
                    file.rewind().unwrap();
                    Reader::of(of_file(&file))
                }
                End::Memory => Reader::bytes(bytes.to_vec()),
            };
            let mut file = file(matches!(to, End::AppendedFile));
            let (writer, taking) = match to {
                End::Pipe => {
                    let (reader, writer) = io::pipe().unwrap();
                    let taking = scope.spawn(move || take(reader, taken));
                    (Writer::child(OwnedFd::from(writer).into()), Some(taking))
                }
                End::Socket => {
                    let (near, far) = connection();
                    // Soon full.
                    set_socket_send_buffer_size(&near, 16 << 10).unwrap();
                    let taking = scope.spawn(move || take(far, taken));
                    (of_socket(near).writer, Some(taking))
                }
                End::File | End::AppendedFile => (Writer::of(of_file(&file)), None),
                End::Memory => (Writer::discard(), None),
            };
            let local = Duplex {
                reader,
                writer: Writer::discard(),
            };
            let remote = Duplex {
                reader: Reader::nothing(),
                writer,
            };
            let (traffic, result) = relay(local, remote, &Rules::PATIENT);
            result.unwrap();
            assert_eq!(traffic.sent, bytes.len() as u64);
            if let Some(taking) = taking {
                return taking.join().unwrap();
            }
            if let End::Memory = to {
                return bytes.to_vec();
            }
            file.rewind().unwrap();
            take(file, taken)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn every_way_delivers_every_byte(
            from in prop::sample::select(&ENDS),
            to in prop::sample::select(&ENDS),
            length in prop_oneof![0..10_usize, 0..700_000_usize],
            coming in 1_000..300_000_usize,
            taken in 1_000..100_000_usize,
        ) {
            let bytes: Vec<u8> = (0..251).cycle().take(length).collect();
            prop_assert!(carry(from, to, &bytes, coming, taken) == bytes);
        }
    }

    /// A socket that holds `bytes` and was reset.
    fn reset_after(bytes: &[u8]) -> TcpStream {
        let (near, mut far) = connection();
        far.write_all(bytes).unwrap();
        set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        near
    }

    #[test]
    fn a_reset_is_reported_after_the_bytes_before_it() {
        for is_swallowed in [false, true] {
            for to in [End::Pipe, End::Socket, End::File] {
                let near = reset_after(b"half");
                if is_swallowed {
                    // As splice(2) does.
                    assert!(socket_error(&near).unwrap().is_err());
                }
                let mut file = file(false);
                let (other_near, mut other_far) = connection();
                let (pipe, writer) = io::pipe().unwrap();
                let local = Duplex {
                    reader: Reader::nothing(),
                    writer: match to {
                        End::Pipe => Writer::child(OwnedFd::from(writer).into()),
                        End::Socket => of_socket(other_near).writer,
                        _ => Writer::of(of_file(&file)),
                    },
                };
                let (_, result) = relay(local, of_socket(near), &Rules::PATIENT);
                let Err(Broken::Receive(error) | Broken::Send(error)) = result else {
                    panic!("{to:?}: {result:?}");
                };
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{to:?}");
                let arrived = match to {
                    End::Pipe => take(pipe, 10),
                    End::Socket => {
                        let mut bytes = vec![0; 4];
                        other_far.read_exact(&mut bytes).unwrap();
                        // Its reader must not take them for complete.
                        assert!(other_far.read(&mut [0]).is_err());
                        bytes
                    }
                    _ => {
                        file.rewind().unwrap();
                        take(file, 10)
                    }
                };
                assert_eq!(arrived, b"half", "{to:?}");
            }
        }
    }

    #[test]
    fn a_pump_waits_for_the_side_that_is_not_ready() {
        let (near, mut far) = connection();
        let (reader, mut input) = io::pipe().unwrap();
        let mut thief = reader.try_clone().unwrap();
        let reader = Reader::child(OwnedFd::from(reader).into());
        let mut pump = Pump::new(reader, of_socket(near).writer);
        let mut sent = 0;
        let mut stolen = 0;
        while !pump.is_writing() {
            input.write_all(&[b'x'; 10_000]).unwrap();
            stolen = 10_000;
            while stolen > 0
                && let Step::Moved(count) = pump.step(usize::MAX).unwrap()
            {
                sent += count;
                stolen -= count;
            }
        }
        assert!(stolen > 0);
        assert_eq!(pump.waits_for().unwrap().1, OUT);
        far.read_exact(&mut vec![0; sent]).unwrap();
        thief.read_exact(&mut vec![0; stolen]).unwrap();
        assert_eq!(pump.step(usize::MAX).unwrap(), Step::ReaderNotReady);
        assert_eq!(pump.waits_for().unwrap().1, IN);
        drop(input);
        assert_eq!(pump.step(usize::MAX).unwrap(), Step::End);
    }
}
