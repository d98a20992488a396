//! Datagrams that the kernel drops because the receive buffer of a socket is full.
//!
//! Only a busy server loses any. It looks at the kernel's counters after a long run without a pause,
//! so ordinary answers cost nothing.

use std::time::{Duration, Instant};

use super::socket::{ROOM, ServerSocket};
use crate::net::backlog::Backlog;
use crate::net::options::SocketArgs;
use crate::wait::Deadline;

/// The counters are looked at this often at most: reading them takes some 50 µs.
const PAUSE: Duration = Duration::from_secs(1);

/// The kernel's setting that limits what a program is granted.
const SETTING: &str = if cfg!(target_os = "linux") {
    "net.core.rmem_max"
} else {
    "kern.ipc.maxsockbuf"
};

pub struct Losses {
    /// The user has set the size of the receive buffer.
    by_hand: bool,
    /// How many datagrams the socket of each index has lost.
    lost: Vec<u64>,
    /// When the counters may be looked at again.
    earliest: Deadline,
    /// When they are looked at; never while nothing points at a loss.
    pub due: Deadline,
}

impl Losses {
    pub fn new(options: &SocketArgs) -> Self {
        Self {
            by_hand: options.has_recv_buffer(),
            lost: Vec::new(),
            earliest: Deadline::now(),
            due: Deadline::NEVER,
        }
    }

    /// What the system granted less than was asked for, in words.
    pub fn shortage(&self, sockets: &[ServerSocket]) -> Option<String> {
        let least = sockets.iter().map(|socket| socket.room).min()?;
        (least < ROOM && !self.by_hand).then(|| {
            format!(
                "the system granted a receive buffer of {least} bytes, not of {ROOM} (sysctl {SETTING})"
            )
        })
    }

    /// The server could not receive for a while.
    pub fn was_busy(&mut self) {
        self.due = self.due.min(self.earliest);
    }

    /// How many datagrams the kernel has dropped since the last look, and of which buffer, in words.
    pub fn look(&mut self, sockets: &[ServerSocket]) -> Option<(u64, String)> {
        self.due = Deadline::NEVER;
        self.earliest = Deadline::since(Instant::now(), PAUSE);
        self.lost.resize(sockets.len(), 0);
        let mut news = 0;
        let mut room = 0;
        for (socket, lost) in sockets.iter().zip(&mut self.lost) {
            let now = Backlog::of(socket).map_or(0, |backlog| backlog.dropped);
            if now > *lost {
                news += now - *lost;
                room = socket.room;
                *lost = now;
            }
        }
        (news > 0).then(|| (news, self.buffer(room)))
    }

    fn buffer(&self, room: usize) -> String {
        let why = if self.by_hand {
            " (--recv-buffer)".to_owned()
        } else if room < ROOM {
            format!(" (the system grants no more: sysctl {SETTING})")
        } else {
            " (--recv-buffer SIZE sets another)".to_owned()
        };
        format!("the receive buffer of {room} bytes was full{why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_looked_at_only_after_a_busy_time_and_not_too_often() {
        let mut losses = Losses::new(&SocketArgs::default());
        assert_eq!(losses.due, Deadline::NEVER);
        losses.was_busy();
        assert!(losses.due.has_passed());
        assert_eq!(losses.look(&[]), None);
        assert_eq!(losses.due, Deadline::NEVER);
        losses.was_busy();
        assert_eq!(losses.due.length(), PAUSE);
    }

    #[test]
    fn a_full_buffer_names_what_limits_it() {
        let mut losses = Losses::new(&SocketArgs::default());
        assert_eq!(
            losses.buffer(212_992),
            format!(
                "the receive buffer of 212992 bytes was full (the system grants no more: sysctl {SETTING})"
            )
        );
        assert_eq!(
            losses.buffer(ROOM),
            "the receive buffer of 4194304 bytes was full (--recv-buffer SIZE sets another)"
        );
        losses.by_hand = true;
        assert_eq!(
            losses.buffer(4096),
            "the receive buffer of 4096 bytes was full (--recv-buffer)"
        );
    }
}
