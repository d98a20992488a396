//! A connection as TCP segments: their numbers follow from what passed.

use std::time::Duration;

use super::super::Direction;
use super::packet::{self, ACK, Ends, FIN, MOST, PSH, RST, SYN, Segment};

/// How a side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sends no more (FIN, or `close_notify` of TLS).
    Fin,
    Reset,
}

/// Which packets a connection has had. What is not known is made up: who acknowledged when.
pub struct Conversation {
    ends: Ends,
    /// The senders, by [`Direction`].
    sides: [Side; 2],
    /// The peer has reset the connection, but what it sent before may still be read.
    was_reset: bool,
    is_over: bool,
}

#[derive(Clone, Copy, Default)]
struct Side {
    /// The sequence number of its next byte.
    next: u32,
    /// How many of its bytes the other side has not acknowledged.
    unacknowledged: usize,
    has_finished: bool,
}

impl Conversation {
    /// Adds the handshake. The side that sends in the direction `opener` has connected. `comment` stands
    /// at its first packet.
    pub fn open(
        ends: Ends,
        opener: Direction,
        time: Duration,
        comment: &str,
        out: &mut Vec<u8>,
    ) -> Self {
        // By the clock (RFC 9293, section 3.4.1): a later connection between the same ports is another.
        let micros = time.as_micros() / 4;
        let first = u32::try_from(micros & u128::from(u32::MAX)).unwrap_or_default();
        let side = Side {
            next: first,
            ..Side::default()
        };
        let mut conversation = Self {
            ends,
            sides: [side; 2],
            was_reset: false,
            is_over: false,
        };
        conversation.send(opener, SYN, &[], time, comment, out);
        conversation.send(opener.opposite(), SYN | ACK, &[], time, "", out);
        conversation.send(opener, ACK, &[], time, "", out);
        conversation
    }

    /// Adds the segments of bytes that passed.
    pub fn passed(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        time: Duration,
        out: &mut Vec<u8>,
    ) {
        /// Far less than the window, and seldom enough.
        const MOST_UNACKNOWLEDGED: usize = 1 << 20;
        let mut pieces = bytes.chunks(MOST.into()).peekable();
        while let Some(piece) = pieces.next() {
            let push = if pieces.peek().is_none() { PSH } else { 0 };
            self.send(direction, ACK | push, piece, time, "", out);
        }
        if self.sides[direction as usize].unacknowledged > MOST_UNACKNOWLEDGED {
            self.send(direction.opposite(), ACK, &[], time, "", out);
        }
    }

    /// Adds the end of one side. What follows the end of both, or a reset, is ignored.
    pub fn ended(&mut self, direction: Direction, end: End, time: Duration, out: &mut Vec<u8>) {
        let have_finished = self.sides.map(|side| side.has_finished);
        match end {
            // The peer had broken it off before this side did.
            _ if self.was_reset && (end == End::Reset || direction == Direction::Received) => {
                self.reset(Direction::Received, time, out);
            }
            End::Reset if have_finished == [true; 2] => {}
            End::Reset => self.reset(direction, time, out),
            End::Fin if have_finished[direction as usize] => {}
            End::Fin => {
                self.send(direction, FIN | ACK, &[], time, "", out);
                let other = direction.opposite();
                if self.sides[other as usize].has_finished {
                    self.send(other, ACK, &[], time, "", out);
                }
            }
        }
    }

    /// A write has met the reset of the peer. It is added once nothing more can be read.
    pub fn broke(&mut self, time: Duration, out: &mut Vec<u8>) {
        self.was_reset = true;
        if self.sides[Direction::Received as usize].has_finished {
            self.reset(Direction::Received, time, out);
        }
    }

    fn reset(&mut self, direction: Direction, time: Duration, out: &mut Vec<u8>) {
        self.send(direction, RST | ACK, &[], time, "", out);
        self.is_over = true;
    }

    /// Adds a segment and counts it.
    fn send(
        &mut self,
        direction: Direction,
        flags: u8,
        payload: &[u8],
        time: Duration,
        comment: &str,
        out: &mut Vec<u8>,
    ) {
        if self.is_over {
            return;
        }
        let other = &mut self.sides[direction.opposite() as usize];
        other.unacknowledged = 0;
        let acknowledged = if flags & ACK == 0 { 0 } else { other.next };
        let side = &mut self.sides[direction as usize];
        let segment = Segment {
            flags,
            sequence: side.next,
            acknowledged,
        };
        // SYN and FIN have a number each.
        let numbers = u32::from(flags & (SYN | FIN) != 0);
        let count = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        side.next = side.next.wrapping_add(count).wrapping_add(numbers);
        side.unacknowledged += payload.len();
        side.has_finished |= flags & FIN != 0;
        let bytes = packet::tcp(self.ends, direction, segment, payload);
        super::packet(time, direction, &bytes, comment, out);
    }
}
