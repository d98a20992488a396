//! Sends what one connection sends to all others; as a chat, line by line and with names.

mod console;
mod messages;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::Screen;
use messages::{Messages, READ};

use crate::memory;
use crate::tcp_server::connection::Connection;
use crate::tcp_server::ended::Ended;
use crate::wait::{Deadline, IN, OUT, PollFlags, Set, Waker, lock};

/// How much memory the messages that wait for one member may take.
const BACKLOG: usize = 4 << 20;

/// What a message takes besides its bytes: two allocations, and a place in a queue that has doubled.
const OVERHEAD: usize = 128;

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
    /// The first member has joined.
    joined: Condvar,
    /// Where the server's user reads a chat.
    screen: Option<Screen>,
}

type Message = Arc<Vec<u8>>;

/// What waits for one member.
struct Backlog {
    messages: VecDeque<Message>,
    /// The memory of the messages: their bytes, and [`OVERHEAD`] for each.
    size: usize,
    /// [`BEHIND`] after the backlog was full and all others began to wait for it.
    behind: Deadline,
    /// [`STUCK`] after the backlog was full, or after the member then last took something.
    stuck: Deadline,
    /// Wakes the member's thread when there is a first message, and when the member is dropped.
    waker: Arc<Waker>,
}

/// The number of the server's own user as a sender. Connections begin with 1.
const SERVER: u64 = 0;

/// A message, and the members that have no room for it yet.
struct Delivery {
    message: Message,
    sender: u64,
    waiting_for: Vec<u64>,
}

impl Broker {
    /// A broker whose members get the server's standard input too.
    pub fn start(kind: Kind) -> io::Result<Arc<Self>> {
        let broker = Arc::new(Self::new(kind, Screen::open(kind)?));
        console::start(Arc::clone(&broker))?;
        Ok(broker)
    }

    fn new(kind: Kind, screen: Option<Screen>) -> Self {
        Self {
            kind,
            members: Mutex::default(),
            joined: Condvar::new(),
            screen,
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
            messages: Messages::new(self.kind, format!("user{}", connection.number)),
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
            size: 0,
            behind: Deadline::NEVER,
            stuck: Deadline::NEVER,
            waker,
        };
        lock(&self.members).insert(number, backlog);
        self.joined.notify_one();
    }

    /// Blocks until there is a member.
    fn wait_for_a_member(&self) {
        let members = lock(&self.members);
        let members = self
            .joined
            .wait_while(members, |members| members.is_empty());
        drop(members.unwrap_or_else(PoisonError::into_inner));
    }

    /// A message for all present members but its sender.
    fn message(&self, bytes: Vec<u8>, sender: u64) -> Delivery {
        let message = Arc::new(bytes);
        if let Some(screen) = &self.screen
            && sender != SERVER
        {
            screen.show(&message);
        }
        let members = lock(&self.members);
        let others = members.keys().filter(|&&number| number != sender);
        Delivery {
            message,
            sender,
            waiting_for: others.copied().collect(),
        }
    }

    /// Gives a message to the members that have room, and drops members by the rules. Returns what
    /// still waits for room.
    fn deliver(&self, mut delivery: Delivery, now: Instant) -> Option<Delivery> {
        let mut members = lock(&self.members);
        let behind = members.values().filter(|backlog| backlog.size > 0).count();
        let others = members.len() - usize::from(members.contains_key(&delivery.sender));
        let is_alone = behind == 1 && others > 1;
        delivery.waiting_for.retain(|number| {
            let Some(backlog) = members.get_mut(number) else {
                return false;
            };
            if backlog.push(&delivery.message) {
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
    fn take(&self, number: u64) -> Result<Message, Ended> {
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
    /// Adds a message, if there is room; whether there was.
    fn push(&mut self, message: &Message) -> bool {
        let size = self.size + size_of(message);
        if size > BACKLOG {
            return false;
        }
        if self.messages.len() == self.messages.capacity() {
            let messages = &mut self.messages;
            let reserved = memory::take(0, || messages.try_reserve(1).map_err(io::Error::from));
            if reserved.is_err() {
                return false;
            }
        }
        self.size = size;
        self.messages.push_back(Arc::clone(message));
        if self.messages.len() == 1 {
            self.waker.wake();
        }
        true
    }

    /// The next message; empty if there is none.
    fn pop(&mut self) -> Message {
        /// Few messages wait for a member that reads. Memory for more is given back.
        const FEW: usize = 64;
        let Some(message) = self.messages.pop_front() else {
            self.messages.shrink_to(FEW);
            return Message::default();
        };
        self.size -= size_of(&message);
        if self.size < BACKLOG / 2 {
            self.behind = Deadline::NEVER;
            self.stuck = Deadline::NEVER;
        } else if self.stuck != Deadline::NEVER {
            self.stuck = Deadline::after(STUCK);
        }
        message
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

fn size_of(message: &Message) -> usize {
    message.len() + OVERHEAD
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
    outgoing: Message,
    sent: usize,
    /// The peer has ended its input.
    has_ended: bool,
}

impl Member<'_> {
    fn run(&mut self) -> Result<(), Ended> {
        let connection = self.connection;
        let mut buffer = memory::zeroed(READ).map_err(Ended::Failed)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: u64 = 0;

    /// The sender and others, whose backlogs are that full.
    fn room<const N: usize>(backlogs: [usize; N]) -> Broker {
        let broker = Broker::new(Kind::Bytes, None);
        for (number, bytes) in (SENDER..).zip([0].into_iter().chain(backlogs)) {
            broker.join(number, Arc::new(Waker::new().unwrap()));
            if bytes > 0 {
                let message = Message::new(vec![0; bytes - OVERHEAD]);
                let mut members = lock(&broker.members);
                assert!(members.get_mut(&number).unwrap().push(&message));
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
        assert_eq!(**broker.take(2).unwrap(), *b"message");

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
        assert_eq!(**broker.take(1).unwrap(), *b"message");
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
        let piece = Message::new(vec![0]);
        let broker = room([BACKLOG - size_of(&piece), BACKLOG / 4]);
        assert!(lock(&broker.members).get_mut(&1).unwrap().push(&piece));
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
    fn a_backlog_counts_the_memory_of_small_messages() {
        let broker = room([0]);
        let mut members = lock(&broker.members);
        let backlog = members.get_mut(&1).unwrap();
        let byte = Message::new(vec![0]);
        let mut count = 0;
        while backlog.push(&byte) {
            count += 1;
        }
        assert_eq!(count, BACKLOG / (OVERHEAD + 1));
        let place = size_of_val(&byte);
        assert!(backlog.messages.capacity() * place < BACKLOG / 4);
        while !backlog.pop().is_empty() {}
        assert_eq!(backlog.size, 0);
        assert!(backlog.messages.capacity() <= 64);
    }
}
