//! Where the bytes of a direction come from: a descriptor, or memory.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStdout;
use std::sync::Arc;

use super::{Descriptor, Fault, Kind, note};
use crate::input;
use crate::relay::leftover::Leftover;
use crate::relay::pace::Pieces;
use crate::tap::{Direction, Tap};
use crate::wait::{if_ready, lock};

/// How many of the first bytes tell what is sent.
pub const HEAD: usize = 8;

/// The half that bytes come from.
pub struct Reader {
    /// `None`: only `bytes` are delivered.
    source: Option<Descriptor>,
    /// They come first.
    bytes: VecDeque<u8>,
    /// The first bytes, once some have been read. `None`: nobody wants to know them.
    pub head: Option<[u8; HEAD]>,
    /// Another session reads on where this one ends.
    pub leftover: Option<Leftover>,
    /// Whether the writer of this direction finishes at the end of the reader.
    pub finishes: bool,
    /// Whether it is standard input. The session goes on if that cannot be read.
    pub is_input: bool,
    /// Records what is read.
    pub tap: Option<Tap>,
    /// Cuts what is read into pieces.
    pub pieces: Option<Pieces>,
}

impl Reader {
    pub fn of(source: Descriptor) -> Self {
        let source = Some(source);
        Self {
            source,
            ..Self::bytes(Vec::new())
        }
    }

    /// Standard input. Where it was closed, std has opened `/dev/null` in its place.
    pub fn stdin() -> io::Result<Self> {
        let source = Descriptor::inherited(io::stdin().as_fd())?;
        Ok(Self {
            is_input: true,
            ..Self::of(source)
        })
    }

    /// Standard input for one session after another. Each gets what those before it have left.
    pub fn shared_stdin(leftover: &Leftover) -> io::Result<Self> {
        let bytes = std::mem::take(&mut *lock(leftover));
        Ok(Self {
            bytes,
            leftover: Some(Arc::clone(leftover)),
            ..Self::stdin()?
        })
    }

    /// The output of a child.
    pub fn child(stdout: ChildStdout) -> Self {
        Self::of(Descriptor::new(stdout.into(), Kind::Pipe))
    }

    /// These bytes, and then the end.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self {
            source: None,
            bytes: bytes.into(),
            leftover: None,
            head: None,
            finishes: true,
            is_input: false,
            tap: None,
            pieces: None,
        }
    }

    /// Nothing, and an end that the peer does not see.
    pub fn nothing() -> Self {
        Self::bytes(Vec::new()).without_finish()
    }

    /// The writer of this direction stays open at the end of the reader.
    pub fn without_finish(mut self) -> Self {
        self.finishes = false;
        self
    }

    /// The first bytes are read into a buffer of this process, and remembered.
    pub fn with_head(mut self) -> Self {
        self.head = Some([0; HEAD]);
        self
    }

    /// Each read delivers one piece at most.
    pub fn in_pieces(mut self, pieces: Pieces) -> Self {
        self.pieces = Some(pieces);
        self
    }

    /// The descriptor, if bytes may leave it without passing through a buffer.
    pub fn untapped(&self) -> Option<&Descriptor> {
        let is_free = self.tap.is_none() && self.pieces.is_none() && self.bytes.is_empty();
        let source = self.source.as_ref().filter(|_| is_free);
        source.filter(|source| source.tls.is_none())
    }

    pub fn is_terminal(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| source.kind == Kind::Terminal)
    }

    /// What to wait for before reading. `None`: reading never waits.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let is_ready = !self.bytes.is_empty() || self.pieces.as_ref().is_some_and(Pieces::is_ready);
        let source = self.source.as_ref().filter(|_| !is_ready);
        // TLS may have received more than was read.
        let source = source.filter(|source| !source.tls.as_ref().is_some_and(|tls| tls.is_ready()));
        source.map(AsFd::as_fd)
    }

    /// Reads once from the descriptor, for the next pieces.
    pub fn fill(&mut self) -> Result<(), Fault> {
        /// Many lines, and far less than what would delay an answer.
        const MOST: usize = 16 << 10;
        if let (Some(source), Some(pieces)) = (&self.source, &mut self.pieces) {
            let mut buffer = vec![0; MOST];
            let read = read_source(source, &mut buffer, self.is_input);
            if let Some(count) = if_ready(read).map_err(Fault::Read)? {
                pieces.push(&buffer[..count]);
            }
        }
        Ok(())
    }

    /// Reads once. 0 is the end, `None`: there is nothing yet. Does not block once `fd` is readable.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Fault> {
        if let Some(pieces) = &self.pieces
            && !pieces.is_ready()
        {
            self.fill()?;
        }
        let result = match (&mut self.pieces, &self.source) {
            (Some(pieces), _) => Ok(pieces.take(buffer)),
            (None, Some(source)) if self.bytes.is_empty() => {
                if_ready(read_source(source, buffer, self.is_input))
            }
            (None, _) => if_ready(self.bytes.read(buffer)),
        };
        let source = self.source.as_ref();
        note(&mut self.tap, source, Direction::Received, buffer, &result)?;
        let count = result.map_err(Fault::Read)?;
        if let (Some(head @ [0, ..]), Some(count)) = (&mut self.head, count) {
            let count = count.min(HEAD);
            head[..count].copy_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

fn read_source(source: &Descriptor, buffer: &mut [u8], is_input: bool) -> io::Result<usize> {
    if let Some(tls) = &source.tls {
        return tls.read(buffer);
    }
    let result = rustix::io::read(source, buffer).map_err(Into::into);
    if is_input {
        return input::absent_is_end(result);
    }
    result
}
