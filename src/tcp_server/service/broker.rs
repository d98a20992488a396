//! Sends what one connection sends to all others; as a chat, line by line and with names.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::escape::Harmless;
use crate::tcp_server::connection::{Connection, Ended};
use crate::wait::{Deadline, IN, OUT, PollFlags, Set, Waker, lock};

/// How many bytes may wait for one member. That bounds the memory.
const BACKLOG: usize = 4 << 20;

/// How long one member may hold up all others, if they have taken everything.
const BEHIND: Duration = Duration::from_millis(250);

/// How long a member may take nothing of a full backlog.
const STUCK: Duration = Duration::from_secs(1);

/// How long a sender that waits for room pauses before it tries again.
const RETRY: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    /// Lines, each with the name of its sender; control characters are escaped.
    Chat,
}

/// The members of one broker or chat, each with a backlog, by the numbers of their connections.
///
/// A full backlog alone drops nobody: in a burst that would drop good readers. The sender waits for
/// room instead. A member is dropped once it alone has held up all others for [`BEHIND`], or has
/// taken nothing for [`STUCK`]. While several members are behind, the machine is slow and not one of
/// them.
pub struct Broker {
    kind: Kind,
    members: Mutex<BTreeMap<u64, Backlog>>,
}

/// What waits for one member.
struct Backlog {
    messages: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// [`BEHIND`] after the backlog was full and all others began to wait for it.
    behind: Deadline,
    /// [`STUCK`] after the backlog was full, or after the member then last took something.
    stuck: Deadline,
    /// Wakes the member's thread when there is a first message, and when the member is dropped.
    waker: Arc<Waker>,
}

/// A message, and the members that have no room for it yet.
struct Delivery {
    bytes: Arc<[u8]>,
    waiting_for: Vec<u64>,
}

impl Broker {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            members: Mutex::default(),
        }
    }

    /// Blocks until the peer has ended its input and was sent its backlog. Fails if it is dropped.
    // Stack budget: see pool.
    #[inline(never)]
    pub fn handle(&self, connection: &Connection) -> Result<(), Ended> {
        let waker = Arc::new(Waker::new().map_err(Ended::Failed)?);
        self.join(connection.number, Arc::clone(&waker));
        let mut member = Member {
            broker: self,
            connection,
            waker,
            messages: Messages::new(self.kind, connection.number),
            incoming: None,
            outgoing: Arc::default(),
            sent: 0,
            has_ended: false,
        };
        member.run()
    }

    fn join(&self, number: u64, waker: Arc<Waker>) {
        let backlog = Backlog {
            messages: VecDeque::new(),
            bytes: 0,
            behind: Deadline::NEVER,
            stuck: Deadline::NEVER,
            waker,
        };
        lock(&self.members).insert(number, backlog);
    }

    /// A message for all present members but its sender.
    fn message(&self, bytes: Vec<u8>, sender: u64) -> Delivery {
        let members = lock(&self.members);
        let others = members.keys().filter(|&&number| number != sender);
        Delivery {
            bytes: bytes.into(),
            waiting_for: others.copied().collect(),
        }
    }

    /// Gives a message to the members that have room, and drops members by the rules. Returns what
    /// still waits for room.
    fn deliver(&self, mut delivery: Delivery, now: Instant) -> Option<Delivery> {
        let mut members = lock(&self.members);
        let behind = members.values().filter(|backlog| backlog.bytes > 0).count();
        let is_alone = behind == 1 && members.len() > 2;
        delivery.waiting_for.retain(|number| {
            let Some(backlog) = members.get_mut(number) else {
                return false;
            };
            if backlog.bytes < BACKLOG {
                backlog.push(&delivery.bytes);
                return false;
            }
            let waits = backlog.may_hold_up(is_alone, now);
            if !waits {
                backlog.waker.wake();
                members.remove(number);
            }
            waits
        });
        (!delivery.waiting_for.is_empty()).then_some(delivery)
    }

    /// The next message for a member; empty if there is none.
    fn take(&self, number: u64) -> Result<Arc<[u8]>, Ended> {
        let mut members = lock(&self.members);
        let backlog = members.get_mut(&number);
        Ok(backlog.ok_or(Ended::Slow(BACKLOG))?.pop())
    }

    /// Whether a member has not been dropped.
    fn has(&self, number: u64) -> bool {
        lock(&self.members).contains_key(&number)
    }
}

impl Backlog {
    fn push(&mut self, bytes: &Arc<[u8]>) {
        self.bytes += bytes.len();
        self.messages.push_back(Arc::clone(bytes));
        if self.messages.len() == 1 {
            self.waker.wake();
        }
    }

    fn pop(&mut self) -> Arc<[u8]> {
        let Some(bytes) = self.messages.pop_front() else {
            return Arc::default();
        };
        self.bytes -= bytes.len();
        if self.bytes < BACKLOG / 2 {
            self.behind = Deadline::NEVER;
            self.stuck = Deadline::NEVER;
        } else if self.stuck != Deadline::NEVER {
            self.stuck = Deadline::after(STUCK);
        }
        bytes
    }

    /// Whether a sender may go on waiting for room here. `is_alone`: all others have taken everything.
    fn may_hold_up(&mut self, is_alone: bool, now: Instant) -> bool {
        if !is_alone || self.behind == Deadline::NEVER {
            self.behind = Deadline::since(now, BEHIND);
        }
        if self.stuck == Deadline::NEVER {
            self.stuck = Deadline::since(now, STUCK);
        }
        !self.behind.min(self.stuck).has_passed_at(now)
    }
}

/// A member as its own thread sees it.
struct Member<'a> {
    broker: &'a Broker,
    connection: &'a Connection,
    waker: Arc<Waker>,
    messages: Messages,
    /// What the peer sent, while others have no room for it. Meanwhile nothing more is read.
    incoming: Option<Delivery>,
    /// What goes to the peer, and how much of it was sent.
    outgoing: Arc<[u8]>,
    sent: usize,
    /// The peer has ended its input.
    has_ended: bool,
}

impl Member<'_> {
    fn run(&mut self) -> Result<(), Ended> {
        let connection = self.connection;
        let mut buffer = vec![0; READ];
        let mut limit = connection.limit();
        loop {
            if let Some(delivery) = self.incoming.take() {
                self.incoming = self.broker.deliver(delivery, Instant::now());
            }
            if self.sent == self.outgoing.len() {
                self.outgoing = self.broker.take(connection.number)?;
                self.sent = 0;
            }
            let wants = self.wants();
            if self.has_ended && self.incoming.is_none() && wants.is_empty() {
                return Ok(());
            }
            // Before anything moves: a busy member reaches its limits too.
            connection.check(limit)?;
            let retry = Deadline::within(self.incoming.as_ref().map(|_| RETRY));
            let mut set = Set::new();
            let peer = connection.add_to(&mut set, wants);
            let woken = set.add(self.waker.as_fd(), IN);
            let ready = set.wait(limit.min(retry)).map_err(Ended::Failed)?;
            if ready[woken] {
                self.waker.clear();
                if !self.broker.has(connection.number) {
                    return Err(Ended::Slow(BACKLOG));
                }
            }
            let events = ready.events(peer);
            if wants.contains(OUT) && events.intersects(!IN) && self.send()? {
                limit = connection.limit();
            }
            if wants.contains(IN) && events.intersects(!OUT) && self.receive(&mut buffer)? {
                limit = connection.limit();
            }
        }
    }

    fn wants(&self) -> PollFlags {
        let mut wants = PollFlags::empty();
        wants.set(IN, !self.has_ended && self.incoming.is_none());
        wants.set(OUT, self.sent < self.outgoing.len());
        wants
    }

    /// Whether anything was sent.
    fn send(&mut self) -> Result<bool, Ended> {
        let sent = self.connection.try_write(&self.outgoing[self.sent..])?;
        self.sent += sent.unwrap_or(0);
        Ok(sent.is_some())
    }

    /// Whether anything was received, or the end.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, Ended> {
        let Some(count) = self.connection.try_read(buffer)? else {
            return Ok(false);
        };
        self.has_ended = count == 0;
        let message = self.messages.push(&buffer[..count])?;
        if !message.is_empty() {
            self.incoming = Some(self.broker.message(message, self.connection.number));
        }
        Ok(true)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        lock(&self.broker.members).remove(&self.connection.number);
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

    /// What the others get for one read. An empty read is the end of input.
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
                let mut escape = Harmless::default();
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

    /// The sender and others, whose backlogs are that full.
    fn room<const N: usize>(backlogs: [usize; N]) -> Broker {
        let broker = Broker::new(Kind::Bytes);
        for (number, bytes) in (SENDER..).zip([0].into_iter().chain(backlogs)) {
            broker.join(number, Arc::new(Waker::new().unwrap()));
            if bytes > 0 {
                let bytes = vec![0; bytes].into();
                lock(&broker.members).get_mut(&number).unwrap().push(&bytes);
            }
        }
        broker
    }

    /// A message that somebody has no room for.
    fn delivered(broker: &Broker, now: Instant) -> Delivery {
        let message = broker.message(b"message".to_vec(), SENDER);
        broker.deliver(message, now).unwrap()
    }

    #[test]
    fn a_member_that_alone_holds_up_the_others_is_dropped_and_woken() {
        let broker = room([BACKLOG, 0]);
        let waker = Arc::clone(&lock(&broker.members)[&1].waker);
        waker.clear();
        let now = Instant::now();
        let delivery = delivered(&broker, now);
        assert_eq!(delivery.waiting_for, [1]);
        assert_eq!(&*broker.take(2).unwrap(), b"message");

        let soon = now + BEHIND.checked_sub(RETRY).unwrap();
        let delivery = broker.deliver(delivery, soon).unwrap();
        assert!(broker.has(1));
        assert!(!waker.clear());
        assert!(broker.deliver(delivery, now + BEHIND).is_none());
        assert!(!broker.has(1));
        assert!(waker.clear());
        assert!(broker.has(2));
        assert!(matches!(broker.take(1), Err(Ended::Slow(BACKLOG))));
    }

    #[test]
    fn nobody_is_dropped_while_others_are_behind_too_and_all_read() {
        let broker = room([BACKLOG, BACKLOG / 4]);
        let now = Instant::now();
        let delivery = delivered(&broker, now);
        let late = now + STUCK.checked_sub(RETRY).unwrap();
        let delivery = broker.deliver(delivery, late).unwrap();
        assert!(broker.has(1));

        // It is the only one from here on.
        broker.take(2).unwrap();
        broker.take(2).unwrap();
        let delivery = broker.deliver(delivery, late).unwrap();
        assert!(broker.has(1));
        broker.take(1).unwrap();
        assert!(broker.deliver(delivery, late + BEHIND).is_none());
        assert!(broker.has(1));
        assert_eq!(&*broker.take(1).unwrap(), b"message");
    }

    #[test]
    fn a_member_that_reads_nothing_is_dropped_though_others_are_behind_too() {
        let broker = room([BACKLOG, BACKLOG / 4]);
        let now = Instant::now();
        let delivery = delivered(&broker, now);
        assert!(broker.deliver(delivery, now + STUCK).is_none());
        assert!(!broker.has(1));
        assert!(broker.has(2));
    }

    #[test]
    fn a_full_member_that_goes_on_reading_is_not_stuck() {
        let broker = room([BACKLOG, BACKLOG / 4]);
        let piece = vec![0; BACKLOG / 4].into();
        lock(&broker.members).get_mut(&1).unwrap().push(&piece);
        let before = Instant::now();
        let delivery = delivered(&broker, before.checked_sub(STUCK / 2).unwrap());
        lock(&broker.members)
            .get_mut(&1)
            .unwrap()
            .messages
            .rotate_left(1);
        broker.take(1).unwrap();
        let delivery = broker.deliver(delivery, before + STUCK / 2).unwrap();
        assert_eq!(delivery.waiting_for, [1]);
        assert!(broker.has(1));
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
