//! When the next piece of input is sent: `--lockstep` and `--line-delay`.

use std::collections::VecDeque;
use std::time::Duration;

use super::Session;
use crate::wait::Deadline;

/// What has to happen between two pieces of input.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Nothing.
    None,
    /// The remote answers the last piece and is then silent for this long. At first it may greet.
    Lockstep(Duration),
    /// This much time passes after the last piece, also before the end of input.
    Delay(Duration),
}

/// Cuts input into pieces: lines, or the texts that were given.
#[derive(Default)]
pub struct Pieces {
    /// Whole pieces.
    whole: VecDeque<Vec<u8>>,
    /// The beginning of a line.
    begun: Vec<u8>,
    has_ended: bool,
    /// A piece need not end in a newline.
    are_texts: bool,
    /// The last piece was a whole one, or none was taken.
    is_between: bool,
}

impl Pieces {
    /// These pieces, and then the end. An empty one is left out.
    pub fn of(mut texts: Vec<Vec<u8>>) -> Self {
        texts.retain(|text| !text.is_empty());
        Self {
            whole: texts.into(),
            has_ended: true,
            are_texts: true,
            is_between: true,
            ..Self::default()
        }
    }

    /// The lines of what [`Self::push`] adds.
    pub fn lines() -> Self {
        Self {
            is_between: true,
            ..Self::default()
        }
    }

    /// Adds what was read. Nothing is the end: a last line needs no newline.
    pub fn push(&mut self, bytes: &[u8]) {
        /// A longer line is taken in parts. That bounds the memory.
        const LONGEST: usize = 64 << 10;
        if bytes.is_empty() {
            self.has_ended = true;
        }
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() >= LONGEST {
                self.whole.push_back(std::mem::take(&mut self.begun));
            }
        }
        if self.has_ended && !self.begun.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.begun));
        }
    }

    /// Whether [`Self::take`] has something: a piece or the end.
    pub fn is_ready(&self) -> bool {
        self.has_ended || !self.whole.is_empty()
    }

    /// Moves at most one piece into `buffer`. 0 is the end, `None`: no piece is whole yet.
    pub fn take(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let Some(mut piece) = self.whole.pop_front() else {
            return self.has_ended.then_some(0);
        };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        let rest = piece.split_off(count);
        // What follows a part of a long line is not held up.
        self.is_between = rest.is_empty() && (self.are_texts || piece.ends_with(b"\n"));
        if !rest.is_empty() {
            self.whole.push_front(rest);
        }
        Some(count)
    }
}

impl Session<'_> {
    /// Until when the next piece of input has to wait.
    pub(super) fn held_until(&self) -> Deadline {
        let (outgoing, incoming) = (&self.outgoing, &self.incoming);
        let pieces = outgoing.pump.reader.pieces.as_ref();
        let Some(pieces) = pieces.filter(|pieces| pieces.is_between) else {
            return Deadline::now();
        };
        if outgoing.has_ended() || outgoing.pump.is_writing() {
            return Deadline::now();
        }
        match self.rules.pace {
            Pace::Delay(time) if outgoing.first_move.is_some() => {
                Deadline::since(outgoing.last_move, time)
            }
            // Nothing more is answered, or nothing is left to be.
            Pace::Lockstep(_)
                if incoming.has_ended() || pieces.has_ended && pieces.whole.is_empty() =>
            {
                Deadline::now()
            }
            Pace::Lockstep(_)
                if outgoing.first_move.is_some() && incoming.last_move <= outgoing.last_move =>
            {
                Deadline::NEVER
            }
            Pace::Lockstep(silence) => Deadline::since(incoming.last_move, silence),
            Pace::None | Pace::Delay(_) => Deadline::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All pieces that can be taken now.
    fn taken(pieces: &mut Pieces, room: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; room];
        while let Some(count @ 1..) = pieces.take(&mut buffer) {
            all.push(buffer[..count].to_vec());
        }
        all
    }

    #[test]
    fn a_line_is_taken_once_it_is_whole() {
        let mut pieces = Pieces::lines();
        pieces.push(b"a\nb");
        assert_eq!(taken(&mut pieces, 10), [b"a\n"]);
        assert!(!pieces.is_ready());
        pieces.push(b"c\n\nd");
        assert_eq!(taken(&mut pieces, 10), [&b"bc\n"[..], b"\n"]);
        pieces.push(b"");
        assert_eq!(taken(&mut pieces, 10), [b"d"]);
        assert_eq!(pieces.take(&mut [0; 10]), Some(0));
    }

    #[test]
    fn a_piece_that_is_taken_in_parts_is_not_between() {
        let mut pieces = Pieces::of(vec![b"Michael".to_vec(), b"exit".to_vec()]);
        let mut buffer = [0; 4];
        assert_eq!(pieces.take(&mut buffer), Some(4));
        assert!(!pieces.is_between);
        assert_eq!(pieces.take(&mut buffer), Some(3));
        assert!(pieces.is_between);
        assert_eq!(taken(&mut pieces, 10), [b"exit"]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_however_input_is_cut(reads in proptest::collection::vec("[a\n]{1,5}", 0..20), room in 1_usize..8) {
            let mut pieces = Pieces::lines();
            let mut all = Vec::new();
            for read in &reads {
                pieces.push(read.as_bytes());
                all.extend(taken(&mut pieces, room).concat());
            }
            pieces.push(b"");
            all.extend(taken(&mut pieces, room).concat());
            prop_assert_eq!(all, reads.concat().into_bytes());
        }
    }
}
