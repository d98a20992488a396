//! Writes down the bytes of a session: as a hex dump (`-x`), or as they are or as a capture (`--record`).
//!
//! `hex`, `raw` and `capture` make the pieces, `place` has the files. Nothing here blocks unless it says
//! so. A file may take nothing, as a pipe that nobody reads: it holds up only the session that writes to
//! it.

mod args;
mod capture;
mod datagrams;
mod hex;
mod outbox;
mod place;
mod raw;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::sockopt::socket_linger;

use crate::exit::Failure;
use crate::wait::{Deadline, lock};
pub use args::TapArgs;
use capture::Conversation;
pub use capture::{End, Ends};
pub use datagrams::DatagramTap;
pub use outbox::Outbox;
use place::Place;

/// The way of bytes, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Sent,
    Received,
}

impl Direction {
    fn opposite(self) -> Self {
        match self {
            Self::Sent => Self::Received,
            Self::Received => Self::Sent,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Sent => '>',
            Self::Received => '<',
        }
    }
}

/// The files, which all sessions share.
pub struct Taps {
    /// For the hex dump, and whether it has colours.
    dump: Option<(Place, bool)>,
    record: Option<(Place, Form)>,
    /// How many stand-in addresses have been given out.
    stand_ins: AtomicU32,
}

/// How a record has what passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    Capture,
}

impl Taps {
    /// A connection, which the side that sends in the direction `opener` has opened. With a `number`,
    /// every piece of a dump or a raw record carries it; a capture has `name` at its first packet.
    /// `ends`: `None` if it is on a Unix socket.
    pub fn session(
        self: &Arc<Self>,
        number: Option<u64>,
        ends: Option<Ends>,
        opener: Direction,
        name: &str,
    ) -> Tap {
        let mut tap = Tap::new(self.outbox(), number);
        if let Some((_, Form::Capture)) = &self.record {
            let ends = ends.unwrap_or_else(|| self.stand_in(opener));
            let [_, record] = &mut *lock(&tap.outbox.owed);
            let time = now();
            let conversation = Conversation::open(ends, opener, time, name, &mut record.bytes);
            tap.conversation = Some(Arc::new(Mutex::new(conversation)));
        }
        tap
    }

    /// The addresses of a connection on a Unix socket, which are nobody's (RFC 5737): the client's port
    /// is another for each.
    fn stand_in(&self, opener: Direction) -> Ends {
        /// The dynamic ports (RFC 6335).
        const PORTS: std::ops::Range<u32> = 49_152..65_536;
        const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
        const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1);
        let number = self.stand_ins.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let client = (CLIENT, u16::try_from(port).unwrap_or(u16::MAX)).into();
        match opener {
            Direction::Sent => Ends::new(client, SERVER),
            Direction::Received => Ends::new(SERVER, client),
        }
    }

    /// Whether numbers tell the peers in the files apart.
    pub fn has_numbers(&self) -> bool {
        self.dump.is_some() || matches!(self.record, Some((_, Form::Raw)))
    }

    /// For several sessions that wait for the files together.
    pub fn outbox(self: &Arc<Self>) -> Arc<Outbox> {
        Arc::new(Outbox {
            taps: Arc::clone(self),
            owed: Mutex::default(),
        })
    }
}

/// Records one session.
#[derive(Clone)]
pub struct Tap {
    pub outbox: Arc<Outbox>,
    number: Option<u64>,
    offsets: [u64; 2],
    /// The connection in a capture. All clones share it.
    conversation: Option<Arc<Mutex<Conversation>>>,
}

impl Tap {
    /// For datagrams. With a `number`, every piece of a dump or a raw record carries it.
    pub fn new(outbox: Arc<Outbox>, number: Option<u64>) -> Self {
        Self {
            outbox,
            number,
            offsets: [0; 2],
            conversation: None,
        }
    }

    /// Writes down one piece of a connection; whether it has reached the system. If not, it waits in the
    /// outbox.
    pub fn passed(&mut self, direction: Direction, bytes: &[u8]) -> Result<bool, Failure> {
        let conversation = self.conversation.clone();
        self.note(direction, bytes, |time, out| {
            if let Some(conversation) = &conversation {
                lock(conversation).passed(direction, bytes, time, out);
            }
        })
    }

    /// As [`Self::passed`], of a datagram.
    pub fn datagram(
        &mut self,
        ends: Ends,
        direction: Direction,
        bytes: &[u8],
    ) -> Result<bool, Failure> {
        self.note(direction, bytes, |time, out| {
            let packet = capture::datagram(ends, direction, bytes);
            capture::packet(time, direction, &packet, "", out);
        })
    }

    /// `capture` adds the blocks of the piece.
    fn note(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        capture: impl FnOnce(Duration, &mut Vec<u8>),
    ) -> Result<bool, Failure> {
        let time = now();
        let head = self
            .number
            .map(|number| raw::head(number, direction, time, bytes.len()));
        let head = head.unwrap_or_default();
        let offset = &mut self.offsets[direction as usize];
        let taps = &self.outbox.taps;
        let mut owed = lock(&self.outbox.owed);
        let [dump, record] = &mut *owed;
        if let Some((_, has_colours)) = &taps.dump {
            dump.bytes.extend_from_slice(head.as_bytes());
            let lines = hex::dump(direction, time, *offset, bytes, *has_colours);
            dump.bytes.extend_from_slice(lines.as_bytes());
        }
        match &taps.record {
            None => {}
            Some((_, Form::Capture)) => capture(time, &mut record.bytes),
            Some((_, Form::Raw)) => {
                record.bytes.extend_from_slice(head.as_bytes());
                record.bytes.extend_from_slice(bytes);
                if self.number.is_some() {
                    record.bytes.push(b'\n');
                }
            }
        }
        drop(owed);
        *offset += bytes.len() as u64;
        self.outbox.flush()
    }

    /// The side that sends in this direction has ended. That waits in the outbox.
    pub fn ended(&self, direction: Direction, end: End) {
        self.capture(|conversation, out| conversation.ended(direction, end, now(), out));
    }

    /// This side has closed the connection. Blocks as [`Outbox::finish`] does.
    pub fn close(&self, limit: Deadline) -> Result<(), Failure> {
        self.ended(Direction::Sent, End::Fin);
        self.outbox.finish(limit)
    }

    /// A read (`Received`) or a write (`Sent`) of `socket` has failed. If the connection was reset, that
    /// waits in the outbox.
    pub fn failed(&self, direction: Direction, error: &io::Error, socket: BorrowedFd<'_>) {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        // As a stop does it. Otherwise the peer has done it.
        let is_ours = socket_linger(socket).is_ok_and(|linger| linger == Some(Duration::ZERO));
        match (direction, error.kind()) {
            _ if is_ours => self.ended(Direction::Sent, End::Reset),
            (Direction::Received, ConnectionReset) => self.ended(direction, End::Reset),
            (Direction::Sent, ConnectionReset | BrokenPipe) => {
                self.capture(|conversation, out| conversation.broke(now(), out));
            }
            _ => {}
        }
    }

    fn capture(&self, add: impl FnOnce(&mut Conversation, &mut Vec<u8>)) {
        if let Some(conversation) = &self.conversation {
            let [_, record] = &mut *lock(&self.outbox.owed);
            add(&mut lock(conversation), &mut record.bytes);
        }
    }

    /// Counts bytes that are not written down.
    pub fn skipped(&mut self, direction: Direction, bytes: &[u8]) {
        self.offsets[direction as usize] += bytes.len() as u64;
    }
}

/// The time since the epoch.
fn now() -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default()
}

/// How many bytes of datagrams may wait for the files.
pub const MOST_WAITING: usize = 1 << 20;

/// How long a wait for the files may keep a signal from being seen.
const SLICE: Duration = Duration::from_millis(100);
