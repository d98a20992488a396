//! Sends what one connection sends to all others; as a chat, line by line and with names.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::escape::TerminalEscape;
use crate::tcp_server::connection::{Connection, Ended};
use crate::wait::{is_wait, poll};

/// How much may wait for one member.
const BACKLOG: usize = 4 << 20;

/// How long a member may hold up all others, who have taken everything.
const BEHIND: Duration = Duration::from_millis(250);

/// How long a member with a full backlog may read nothing at all.
const STUCK: Duration = Duration::from_secs(1);

/// How soon a sender tries again that waits for room.
const RETRY: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    /// Lines, each with the name of its sender; control characters are escaped.
    Chat,
}

/// The members of one broker or chat. Each has a backlog of its own, which bounds the memory.
pub struct Broker {
    kind: Kind,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    members: BTreeMap<u64, Member>,
}

struct Member {
    backlog: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// Since when it has had no room, and since when it has been the only one to be waited for.
    full_since: Option<Instant>,
    alone_since: Option<Instant>,
    last_taken: Instant,
    /// Makes its thread look at its backlog.
    wake: UnixStream,
}

/// Bytes on their way to the members that had no room for them yet.
struct Unsent {
    bytes: Arc<[u8]>,
    waiting_for: Vec<u64>,
}

/// A member for as long as this lives.
struct Membership<'a> {
    broker: &'a Broker,
    number: u64,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.broker.lock().members.remove(&self.number);
    }
}

impl Broker {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            room: Mutex::default(),
        }
    }

    /// Blocks until the peer has ended its input and been sent what was waiting for it, or until it is
    /// dropped because it does not read.
    #[inline(never)]
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        let (wake_up, wake) = UnixStream::pair().map_err(Ended::Failed)?;
        wake_up.set_nonblocking(true).map_err(Ended::Failed)?;
        wake.set_nonblocking(true).map_err(Ended::Failed)?;
        let stream = &**connection.stream();
        stream.set_nonblocking(true).map_err(Ended::Failed)?;

        let number = connection.number;
        let _membership = self.join(number, wake);
        let mut messages = Messages::new(self.kind, number);
        let mut buffer = vec![0; READ];
        let mut unsent: Option<Unsent> = None;
        let mut sending: (Arc<[u8]>, usize) = (Arc::from([]), 0);
        let mut ended = false;
        let mut limit = connection.limit();
        loop {
            unsent = unsent.and_then(|unsent| self.offer(unsent, Instant::now()));
            if sending.1 == sending.0.len() {
                sending = (self.take(number)?, 0);
            }
            let is_sending = sending.1 < sending.0.len();
            if ended && unsent.is_none() && !is_sending {
                return Ok(());
            }
            // Before anything is moved: a busy member reaches its limits too.
            connection.check(limit)?;
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, !ended && unsent.is_none());
            events.set(PollFlags::OUT, is_sending);
            let mut descriptors = [
                PollFd::new(stream, events),
                PollFd::new(&wake_up, PollFlags::IN),
            ];
            let left = limit.left();
            let retry = unsent.as_ref().map(|_| RETRY);
            poll(&mut descriptors, left.into_iter().chain(retry).min()).map_err(Ended::Failed)?;
            let [ready, wakened] = descriptors.map(|descriptor| descriptor.revents());

            if wakened.contains(PollFlags::HUP) {
                return Err(Ended::Slow(BACKLOG));
            }
            while !wakened.is_empty() && matches!((&wake_up).read(&mut [0; 64]), Ok(64)) {}
            let mut moved = false;
            if is_sending && !ready.is_empty() {
                match stream.send(&sending.0[sending.1..], SendFlags::empty()) {
                    Ok(count) => {
                        connection.count_sent(count as u64);
                        sending.1 += count;
                    }
                    Err(error) if is_wait(&error) => {}
                    Err(error) => return Err(Ended::Failed(error)),
                }
                moved = true;
            }
            if !ended && unsent.is_none() && ready.intersects(!PollFlags::OUT) {
                let message = match stream.receive(&mut buffer, RecvFlags::empty()) {
                    Ok(count) => {
                        connection.count_received(count as u64);
                        ended = count == 0;
                        messages.push(&buffer[..count])?
                    }
                    Err(error) if is_wait(&error) => continue,
                    Err(error) => return Err(Ended::Failed(error)),
                };
                unsent = self.address(message, number);
                moved = true;
            }
            if moved {
                limit = connection.limit();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, number: u64, wake: UnixStream) -> Membership<'_> {
        let member = Member {
            backlog: VecDeque::new(),
            bytes: 0,
            full_since: None,
            alone_since: None,
            last_taken: Instant::now(),
            wake,
        };
        self.lock().members.insert(number, member);
        Membership {
            broker: self,
            number,
        }
    }

    /// A message for all who are members now, but for its sender.
    fn address(&self, message: Vec<u8>, sender: u64) -> Option<Unsent> {
        if message.is_empty() {
            return None;
        }
        let waiting_for = self
            .lock()
            .members
            .keys()
            .copied()
            .filter(|&number| number != sender)
            .collect();
        Some(Unsent {
            bytes: message.into(),
            waiting_for,
        })
    }

    /// Gives `unsent` to those who have room, and drops those who hold up all others. `None`: nobody
    /// is waited for any more.
    fn offer(&self, mut unsent: Unsent, now: Instant) -> Option<Unsent> {
        let mut room = self.lock();
        let waiting = room
            .members
            .values()
            .filter(|member| member.bytes > 0)
            .count();
        let others = room.members.len() > 2;
        unsent.waiting_for.retain(|number| {
            let Some(member) = room.members.get_mut(number) else {
                return false;
            };
            if member.bytes < BACKLOG {
                member.bytes += unsent.bytes.len();
                member.backlog.push_back(Arc::clone(&unsent.bytes));
                if member.backlog.len() == 1 {
                    // A full buffer is readable, which is all that is wanted.
                    let _ = (&member.wake).write(&[0]);
                }
                return false;
            }
            // As long as others are behind as well, it is the machine that is slow.
            let alone_since = match member.alone_since {
                Some(since) if waiting == 1 && others => since,
                _ => now,
            };
            member.alone_since = Some(alone_since);
            let full_since = *member.full_since.get_or_insert(now);
            let holds_up_others = now >= alone_since + BEHIND;
            let is_stuck = now >= member.last_taken.max(full_since) + STUCK;
            if holds_up_others || is_stuck {
                // Its thread is woken up by the end of the other half.
                room.members.remove(number);
                return false;
            }
            true
        });
        (!unsent.waiting_for.is_empty()).then_some(unsent)
    }

    /// What is to be sent to a member next; empty if nothing is.
    fn take(&self, number: u64) -> Result<Arc<[u8]>, Ended> {
        let mut room = self.lock();
        let Some(member) = room.members.get_mut(&number) else {
            return Err(Ended::Slow(BACKLOG));
        };
        let Some(bytes) = member.backlog.pop_front() else {
            return Ok(Arc::from([]));
        };
        member.bytes -= bytes.len();
        member.last_taken = Instant::now();
        if member.bytes < BACKLOG / 2 {
            member.full_since = None;
            member.alone_since = None;
        }
        Ok(bytes)
    }
}

/// The most that is sent to others at a time, and the longest line of a chat.
const READ: usize = 64 << 10;

/// Turns what a member sends into what the others get.
struct Messages {
    kind: Kind,
    number: u64,
    /// The start of a line of a chat.
    partial: Vec<u8>,
}

impl Messages {
    fn new(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            number,
            partial: Vec::new(),
        }
    }

    /// What the others get for one read; an empty one is the end of input.
    fn push(&mut self, read: &[u8]) -> Result<Vec<u8>, Ended> {
        if self.kind == Kind::Bytes {
            return Ok(read.to_vec());
        }
        let mut message = Vec::new();
        self.partial.extend_from_slice(read);
        let input = std::mem::take(&mut self.partial);
        for line in input.split_inclusive(|&byte| byte == b'\n') {
            if line.ends_with(b"\n") || read.is_empty() {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                message.extend_from_slice(format!("<user{}> ", self.number).as_bytes());
                let mut escape = TerminalEscape::default();
                for (index, part) in text.split(|&byte| byte == b'\r').enumerate() {
                    if index > 0 {
                        // It would move the cursor back over the name.
                        message.extend_from_slice(b"\\x0d");
                    }
                    escape.push(part, &mut message);
                    escape.finish(&mut message);
                }
                message.push(b'\n');
            } else {
                self.partial = line.to_vec();
            }
        }
        if self.partial.len() > READ {
            return Err(Ended::TooLong(READ));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: u64 = 0;

    /// A room of the sender and others, whose backlogs are as full as that.
    fn room<const N: usize>(backlogs: [usize; N]) -> (Broker, Vec<UnixStream>) {
        let broker = Broker::new(Kind::Bytes);
        let mut threads = Vec::new();
        for (number, bytes) in (SENDER..).zip([0].into_iter().chain(backlogs)) {
            let (wake_up, wake) = UnixStream::pair().unwrap();
            threads.push(wake_up);
            std::mem::forget(broker.join(number, wake));
            if bytes > 0 {
                let mut room = broker.lock();
                let member = room.members.get_mut(&number).unwrap();
                member.backlog.push_back(vec![0; bytes].into());
                member.bytes = bytes;
            }
        }
        (broker, threads)
    }

    /// A message that somebody has no room for.
    fn offered(broker: &Broker, now: Instant) -> Unsent {
        let unsent = broker.address(b"message".to_vec(), SENDER).unwrap();
        broker.offer(unsent, now).unwrap()
    }

    fn is_member(broker: &Broker, number: u64) -> bool {
        broker.lock().members.contains_key(&number)
    }

    #[test]
    fn who_alone_holds_up_the_rest_is_dropped() {
        let (broker, _threads) = room([BACKLOG, 0]);
        let now = Instant::now();
        let unsent = offered(&broker, now);
        assert_eq!(unsent.waiting_for, [1]);
        assert_eq!(&*broker.take(2).unwrap(), b"message");

        let soon = now + BEHIND.checked_sub(RETRY).unwrap();
        let unsent = broker.offer(unsent, soon).unwrap();
        assert!(is_member(&broker, 1));
        assert!(broker.offer(unsent, now + BEHIND).is_none());
        assert!(!is_member(&broker, 1));
        assert!(is_member(&broker, 2));
        assert!(matches!(broker.take(1), Err(Ended::Slow(BACKLOG))));
    }

    #[test]
    fn nobody_is_dropped_while_others_are_behind_too_and_all_read() {
        let (broker, _threads) = room([BACKLOG, BACKLOG / 4]);
        let now = Instant::now();
        let unsent = offered(&broker, now);
        let late = now + STUCK.checked_sub(RETRY).unwrap();
        let unsent = broker.offer(unsent, late).unwrap();
        assert!(is_member(&broker, 1));

        // It is the only one from here on.
        broker.take(2).unwrap();
        broker.take(2).unwrap();
        let unsent = broker.offer(unsent, late).unwrap();
        assert!(is_member(&broker, 1));
        broker.take(1).unwrap();
        assert!(broker.offer(unsent, late + BEHIND).is_none());
        assert!(is_member(&broker, 1));
        assert_eq!(&*broker.take(1).unwrap(), b"message");
    }

    #[test]
    fn who_reads_nothing_is_dropped_though_others_are_behind_too() {
        let (broker, _threads) = room([BACKLOG, BACKLOG / 4]);
        let now = Instant::now();
        let unsent = offered(&broker, now);
        assert!(broker.offer(unsent, now + STUCK).is_none());
        assert!(!is_member(&broker, 1));
        assert!(is_member(&broker, 2));
    }

    #[test]
    fn a_chat_sends_lines_with_names_and_without_control() {
        let mut messages = Messages::new(Kind::Chat, 3);
        let mut push = |read: &[u8]| String::from_utf8(messages.push(read).unwrap()).unwrap();
        assert_eq!(push(b"hel"), "");
        assert_eq!(push(b"lo\nyou\r\nthe"), "<user3> hello\n<user3> you\n");
        assert_eq!(push(b"re\x1b[2J\rx\n"), "<user3> there\\x1b[2J\\x0dx\n");
        assert_eq!(push(b"last"), "");
        assert_eq!(push(b""), "<user3> last\n");
        assert_eq!(push(b""), "");
    }

    #[test]
    fn a_line_of_a_chat_is_bounded() {
        let mut messages = Messages::new(Kind::Chat, 1);
        assert!(messages.push(&vec![b'a'; READ]).is_ok());
        assert!(matches!(messages.push(b"a"), Err(Ended::TooLong(READ))));
    }

    #[test]
    fn a_broker_passes_bytes_as_they_are() {
        let mut messages = Messages::new(Kind::Bytes, 1);
        assert_eq!(messages.push(b"\0\xff\n").unwrap(), b"\0\xff\n");
    }
}
