//! The way of datagrams to a target and of their answers back: one socket for what is asked now,
//! and those of earlier datagrams whose answers may still come.
//!
//! A socket is connected to one address, and is replaced by a fresh one once a datagram on it went
//! unanswered or was sent twice. So the port that an answer comes to tells what it answers, and no
//! late one is taken for the next one's. Where the source port is given there are no fresh ones: an
//! answer whose content does not tell either is called doubtful, and is printed nowhere.
//!
//! While everything is answered the port stays the same: some servers talk only to the first they
//! hear from. Once more has come than was asked for, every datagram has a socket of its own; what
//! sends several for one mostly shows it while the answer to the first datagram settles. What is
//! left is one that shows it later, with answers that do not repeat what was asked: the first that
//! is too much may be taken for the next one's, and so on. That is said, also by the exit code, once
//! one comes while nothing is waited for, at the latest when the answer to the last has settled.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ledger::{Earlier, Verdict, judge, repeats};
use super::payloads::Payload;
use crate::escape::quoted;
use crate::exit::{Exit, Failure, blame, cause};
use crate::json;
use crate::net::address::HostPort;
use crate::net::datagram::{BUFFER, LARGEST, largest};
use crate::output;
use crate::signal::Interrupt;
use crate::udp_client::socket::{Link, send_when_room};
use crate::udp_client::target::Route;
use crate::wait::{Deadline, GONE, IN, Key, Set, is_wait};

/// How many earlier datagrams are remembered whose answers may still come. With a time limit of a
/// second each, an answer that is later than this is not even late.
const MOST_EARLIER: usize = 16;

/// How long after the first answer the next datagram is held back, so that another answer to the
/// first comes before it. What a server sends in one go is hardly ever further apart.
const SETTLING: Duration = Duration::from_millis(50);

/// How long to wait for the system to have room for a datagram.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// A socket connected to one address.
struct Flow {
    link: Link,
    /// What was sent, the last at the end. More than one may be unanswered only where the source
    /// port is given, and so no fresh socket can be had.
    asked: VecDeque<Asked>,
    /// More has come than was asked for.
    crowded: bool,
}

/// A datagram that was sent.
struct Asked {
    payload: Rc<Payload>,
    /// When, if it was sent only once.
    sent: Option<Instant>,
    /// How many answers may still come.
    owed: u32,
    /// The first answer.
    answer: Option<Vec<u8>>,
    /// There is only a doubtful answer.
    doubtful: bool,
}

/// What something that arrived is to the one who waits.
enum Arrival {
    Answer,
    /// Perhaps the answer; reported.
    Doubtful,
    /// The answer to an earlier datagram, which may have been answered before; reported.
    Owed,
    /// More than was asked for; reported.
    Extra,
}

/// What has arrived unasked and has not been told yet.
struct Notices {
    list: Vec<Notice>,
    /// Whether it is told by events too.
    json: bool,
    /// An answer that was printed may have been another's.
    suspicious: bool,
}

/// A datagram that is not the answer that is waited for.
struct Notice {
    kind: Unasked,
    address: SocketAddr,
    /// What it answers.
    payload: Option<Rc<Payload>>,
    /// The last datagram whose answer may have been taken from the one before, as this shows.
    suspect: Option<u64>,
    received: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Unasked {
    Late,
    Second,
    Doubtful,
    Unexpected,
}

impl Notice {
    fn tell(&self, json: bool) -> Result<(), Failure> {
        let address = self.address;
        let text = quoted(&self.received);
        let (name, kind) = match self.kind {
            Unasked::Late => ("late", "late answer"),
            Unasked::Second => ("duplicate", "second answer"),
            Unasked::Doubtful => ("doubtful", "doubtful answer"),
            Unasked::Unexpected => ("unexpected", "unexpected datagram"),
        };
        let number = self.payload.as_ref().map(|payload| payload.number);
        if let Some(payload) = &self.payload {
            tracing::warn!(%address, number, "{kind} from {address} to {payload}: {text}");
        } else {
            tracing::warn!(%address, "{kind} from {address}: {text}");
        }
        if let Some(suspect) = self.suspect {
            tracing::error!(
                %address,
                "{address} sends more than it is asked for: answers up to datagram {suspect} may \
                 belong to the one before"
            );
        }
        if !json {
            return Ok(());
        }
        let event = json::Event::new(name).with("number", number);
        let event = match self.suspect {
            None => event,
            Some(suspect) => event.with("suspect", suspect),
        };
        event
            .with("address", address.to_string())
            .with("bytes", self.received.len())
            .with_data(&self.received)
            .print()
    }
}

impl Flow {
    /// Sorts `received` in, and notes of all but the answer to `awaited` what it is.
    fn arrive(
        &mut self,
        received: &[u8],
        source: SocketAddr,
        awaited: Option<&Payload>,
        notices: &mut Notices,
    ) -> Arrival {
        let last = self.asked.len().saturating_sub(1);
        let awaits_last = awaited.is_some_and(|awaited| self.is_last(awaited));
        let others = self.asked.len() - usize::from(awaits_last);
        let earlier: Vec<Earlier<'_>> = self
            .asked
            .iter()
            .take(others)
            .map(|asked| Earlier {
                payload: &asked.payload.bytes,
                answer: asked.answer.as_deref(),
                owed: asked.owed > 0,
            })
            .collect();
        let awaited = awaited
            .filter(|_| awaits_last)
            .map(|awaited| &*awaited.bytes);
        let (kind, payload, arrival) = match judge(received, awaited, &earlier, self.crowded) {
            Verdict::Answer => {
                self.asked[last].take(received);
                return Arrival::Answer;
            }
            Verdict::Doubtful => {
                // It counts for one of them; for which does not matter.
                let mut asked = self.asked.iter_mut().rev();
                if let Some(asked) = asked.find(|asked| asked.owed > 0) {
                    asked.owed -= 1;
                }
                self.asked[last].doubtful = true;
                let payload = Rc::clone(&self.asked[last].payload);
                (Unasked::Doubtful, Some(payload), Arrival::Doubtful)
            }
            Verdict::Earlier(index) => {
                let asked = &mut self.asked[index];
                let kind = match asked.answer {
                    None => Unasked::Late,
                    Some(_) => Unasked::Second,
                };
                let arrival = if asked.take(received) {
                    Arrival::Owed
                } else {
                    Arrival::Extra
                };
                (kind, Some(Rc::clone(&asked.payload)), arrival)
            }
            Verdict::Unexpected => (Unasked::Unexpected, None, Arrival::Extra),
        };
        let is_extra = matches!(arrival, Arrival::Extra);
        notices.list.push(Notice {
            kind,
            address: source,
            payload,
            suspect: is_extra.then(|| self.suspect()).flatten(),
            received: received.to_vec(),
        });
        self.crowded |= is_extra;
        arrival
    }

    /// The last datagram whose answer may be another's, if this is the first that shows that there
    /// are more than were asked for.
    fn suspect(&self) -> Option<u64> {
        let is_opaque = |asked: &&Asked| {
            let answer = asked.answer.as_ref();
            answer.is_some_and(|answer| !repeats(answer, &asked.payload.bytes))
        };
        // To the first nothing else could come.
        let mut others = self.asked.iter().skip(1).filter(|_| !self.crowded);
        others.rfind(is_opaque).map(|asked| asked.payload.number)
    }

    /// Drops what is queued: datagrams that nobody waits for, and errors that earlier ones met.
    /// Whether there was more than was asked for.
    fn drain(&mut self, buffer: &mut [u8], notices: &mut Notices) -> bool {
        /// Somebody may send faster than this reads.
        const MOST: usize = 4096;
        let mut extra = false;
        for _ in 0..MOST {
            match self.link.receive(buffer) {
                Ok((count, source)) => {
                    let arrival = self.arrive(&buffer[..count], source, None, notices);
                    extra |= matches!(arrival, Arrival::Extra);
                }
                Err(error) if is_wait(&error) => break,
                Err(error) => tracing::debug!(address = %self.link.address, "{}", cause(&error)),
            }
        }
        extra
    }

    fn is_last(&self, payload: &Payload) -> bool {
        self.asked
            .back()
            .is_some_and(|asked| asked.payload.number == payload.number)
    }

    /// Whether answers may still come.
    fn is_owed(&self) -> bool {
        self.asked.iter().any(|asked| asked.owed > 0)
    }

    /// What was sent last will not be answered.
    fn refuse(&mut self) {
        if let Some(asked) = self.asked.back_mut() {
            asked.owed = asked.owed.saturating_sub(1);
        }
    }

    /// How long the answer that came `now` took, where it is known to which attempt it is one.
    fn rtt(&self, now: Instant) -> Option<Duration> {
        let sent = self.asked.back()?.sent?;
        Some(now.saturating_duration_since(sent))
    }

    fn sent(&mut self, payload: &Rc<Payload>, at: Instant) {
        if self.is_last(payload) {
            if let Some(asked) = self.asked.back_mut() {
                asked.sent = None;
                asked.doubtful = false;
            }
        } else {
            self.asked.push_back(Asked {
                payload: Rc::clone(payload),
                sent: Some(at),
                owed: 0,
                answer: None,
                doubtful: false,
            });
            if self.asked.len() > MOST_EARLIER {
                self.asked.pop_front();
            }
        }
        if let Some(asked) = self.asked.back_mut() {
            asked.owed += 1;
        }
    }
}

impl Asked {
    /// Notes an answer; whether it was still to come.
    fn take(&mut self, received: &[u8]) -> bool {
        if self.answer.is_none() {
            self.answer = Some(received.to_vec());
        }
        let owed = self.owed > 0;
        self.owed = self.owed.saturating_sub(1);
        owed
    }
}

/// Why a datagram was not answered from one address.
#[derive(Debug)]
pub enum Cause {
    TooLarge {
        size: u64,
        largest: usize,
    },
    Refused(io::Error),
    Silent(Duration),
    /// Something came, but it cannot be told whether it is the answer to an earlier datagram.
    Doubtful,
}

impl Cause {
    pub fn exit(&self) -> Exit {
        match self {
            Self::TooLarge { .. } => Exit::Local,
            Self::Refused(error) => blame(error),
            Self::Silent(_) | Self::Doubtful => Exit::Network,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size, largest } => {
                let family = if *largest == LARGEST { "IPv6" } else { "IPv4" };
                write!(
                    f,
                    "it has {size} bytes, and a datagram over {family} carries {largest} at most"
                )
            }
            Self::Refused(error) => f.write_str(&cause(error)),
            Self::Silent(time) => write!(f, "nothing came within {time:?}"),
            Self::Doubtful => f.write_str("what came may be the answer to an earlier one"),
        }
    }
}

/// Which datagram an error is about, where no answers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    This,
    /// This one has not been sent: an earlier one did not arrive, and the call had to say so.
    Earlier,
    /// This one has been sent.
    Either,
}

/// What ended a wait.
pub enum Event {
    /// The answer, as `Flows::answer` shows it.
    Answer,
    /// Something came that may be the answer, and nothing that surely is.
    Doubtful,
    /// The network said that what was sent last on the current socket did not arrive.
    Refused(io::Error),
    /// Standard input is ready.
    Input,
    Time,
}

/// All sockets towards one target.
pub struct Flows<'a> {
    route: Route<'a>,
    /// Which of the route's addresses is asked now.
    at: usize,
    /// Something has answered, and no other address is tried any more.
    settled: bool,
    /// Until when nothing is sent, so that more answers to the first datagram show.
    settling: Option<Instant>,
    /// Something sends more than it is asked for.
    talkative: bool,
    /// A datagram was sent from another port than the first.
    moved: bool,
    current: Option<Flow>,
    /// Sockets that answers may still come to, oldest first.
    retired: VecDeque<Flow>,
    /// What was sent before to other addresses, where the source port is given: it is all that is
    /// left of their sockets.
    former: Vec<(SocketAddr, VecDeque<Asked>)>,
    stdout: output::Reader,
    /// Where an end by Ctrl-C has to be reported.
    interrupt: Option<Interrupt>,
    buffer: Vec<u8>,
    received: usize,
    /// Where that is from.
    from: SocketAddr,
    rtt: Option<Duration>,
    notices: Notices,
}

impl<'a> Flows<'a> {
    /// Opens no socket yet. With `json` SIGINT no longer ends the process by itself.
    pub fn new(route: Route<'a>, json: bool) -> Result<Self, Failure> {
        Ok(Self {
            route,
            at: 0,
            settled: false,
            settling: None,
            talkative: false,
            moved: false,
            current: None,
            retired: VecDeque::new(),
            former: Vec::new(),
            stdout: output::Reader::new()?,
            interrupt: json.then(Interrupt::install).transpose()?,
            buffer: vec![0; BUFFER],
            received: 0,
            from: (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            rtt: None,
            notices: Notices {
                list: Vec::new(),
                json,
                suspicious: false,
            },
        })
    }

    /// What the last `Event::Answer` was about.
    pub fn answer(&self) -> &[u8] {
        &self.buffer[..self.received]
    }

    /// Who sent it.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// How long that took, where it is known to which attempt it is the answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether an answer that was taken may have been another's; said when it turned out.
    pub fn is_suspicious(&self) -> bool {
        self.notices.suspicious
    }

    /// Whether all that is sent comes from one port, which the user has named.
    pub fn is_of_one_port(&self) -> bool {
        self.route.has_source_port()
    }

    /// Whether the source port is another than that of the first datagram.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// The address that is asked now.
    pub fn address(&self) -> SocketAddr {
        self.route.addresses[self.at]
    }

    /// How many addresses one datagram may have to be sent to.
    pub fn candidates(&self) -> usize {
        if self.settled {
            1
        } else {
            self.route.addresses.len()
        }
    }

    pub fn name(&self, address: SocketAddr) -> String {
        self.route.name(address)
    }

    pub fn target(&self) -> &HostPort {
        self.route.target
    }

    /// Sends to the current address. The outer error is this machine's, and will not pass.
    pub fn send(&mut self, payload: &Rc<Payload>) -> Result<Result<(), Cause>, Failure> {
        if let Some(cause) = self.too_large(payload) {
            return Ok(Err(cause));
        }
        let again = self
            .current
            .as_ref()
            .is_some_and(|flow| flow.is_last(payload));
        if !again {
            self.settle()?;
            // What has arrived already cannot be the answer to what has not been sent.
            if let Some(flow) = &mut self.current {
                self.talkative |= flow.drain(&mut self.buffer, &mut self.notices);
            }
            self.tell()?;
            self.make_way();
        }
        if let Err(cause) = self.open()? {
            return Ok(Err(cause));
        }
        let Some(flow) = &mut self.current else {
            return Ok(Ok(()));
        };
        // What an earlier datagram met is reported by the next call, which then sends nothing
        // (udp(7)). There may be a few of them.
        let mut pending = MOST_EARLIER;
        loop {
            match send_when_room(&flow.link, SEND_PATIENCE, &payload.bytes) {
                Ok(at) => {
                    flow.sent(payload, at);
                    return Ok(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && pending > 0 => {
                    flow.refuse();
                    pending -= 1;
                }
                Err(error) => return Ok(Err(Cause::Refused(error))),
            }
        }
    }

    /// As `send`, where no answer is expected: what arrives is of no interest.
    pub fn send_only(
        &mut self,
        payload: &Rc<Payload>,
    ) -> Result<Result<(), (Whose, Cause)>, Failure> {
        if let Some(cause) = self.too_large(payload) {
            return Ok(Err((Whose::This, cause)));
        }
        if let Err(cause) = self.open()? {
            return Ok(Err((Whose::This, cause)));
        }
        let Some(flow) = &mut self.current else {
            return Ok(Ok(()));
        };
        let first = flow.asked.is_empty();
        match send_when_room(&flow.link, SEND_PATIENCE, &payload.bytes) {
            Ok(at) => flow.sent(payload, at),
            Err(error) => {
                let earlier = !first && error.kind() == io::ErrorKind::ConnectionRefused;
                let whose = if earlier { Whose::Earlier } else { Whose::This };
                return Ok(Err((whose, Cause::Refused(error))));
            }
        }
        // On this machine it is known by now whether somebody listens.
        Ok(match flow.link.take_error()? {
            None => Ok(()),
            Some(error) if first => Err((Whose::This, Cause::Refused(error))),
            Some(error) => Err((Whose::Either, Cause::Refused(error))),
        })
    }

    /// Waits while more may come than the first answer.
    fn settle(&mut self) -> Result<(), Failure> {
        let until = self.settling.take();
        while until.is_some() && !self.talkative {
            if let Some(Event::Time) = self.turn(None, until, None)? {
                break;
            }
        }
        Ok(())
    }

    /// After the last datagram: waits while it may show that an answer was another's.
    pub fn settle_at_end(&mut self) -> Result<(), Failure> {
        if self.current.as_ref().and_then(Flow::suspect).is_some() {
            self.settling = Some(Instant::now() + SETTLING);
            self.settle()?;
        }
        Ok(())
    }

    fn too_large(&self, payload: &Payload) -> Option<Cause> {
        let largest = largest(&self.address());
        let size = payload.size;
        (size > largest as u64).then_some(Cause::TooLarge { size, largest })
    }

    /// Makes sure of a current socket.
    fn open(&mut self) -> Result<Result<(), Cause>, Failure> {
        if self.current.is_some() {
            return Ok(Ok(()));
        }
        let address = self.address();
        match self.route.open(address) {
            Ok(link) => {
                let mut former = self.former.extract_if(.., |(former, _)| *former == address);
                let asked = former.next().map(|(_, asked)| asked).unwrap_or_default();
                self.current = Some(Flow {
                    link,
                    asked,
                    crowded: false,
                });
                Ok(Ok(()))
            }
            Err(error) if blame(&error) == Exit::Network => Ok(Err(Cause::Refused(error))),
            Err(error) => Err(self.route.failure(Exit::Local, address, &error)),
        }
    }

    /// Goes on to the next address, as long as none has answered. Later datagrams use a socket of
    /// their own.
    pub fn advance(&mut self) {
        if !self.settled && self.route.addresses.len() > 1 {
            self.retire();
            self.at = (self.at + 1) % self.route.addresses.len();
        }
    }

    /// Whether everything that passed could be written down.
    pub fn check(&self) -> Result<(), Failure> {
        self.route.watch.check()
    }

    /// Forgets the current socket: what it may still tell is of no interest.
    pub fn forget(&mut self) {
        self.current = None;
    }

    /// Waits for the answer to `awaited`, which was sent last, until `until` or without a limit;
    /// also for standard input, if it is `input`. Reports what arrives and is no answer to
    /// `awaited`. A reader of standard output that has left is an error, and so is SIGINT where an
    /// end by that is reported.
    pub fn wait(
        &mut self,
        awaited: Option<&Payload>,
        until: Option<Instant>,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.turn(awaited, until, input)? {
                return Ok(event);
            }
        }
    }

    /// Waits until `until` for late answers, as long as some may come.
    pub fn linger(&mut self, until: Instant) -> Result<(), Failure> {
        while self.retired.iter().chain(&self.current).any(Flow::is_owed) {
            if let Some(Event::Time) = self.turn(None, Some(until), None)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits once, and takes one datagram from each socket that has one.
    fn turn(
        &mut self,
        awaited: Option<&Payload>,
        until: Option<Instant>,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Event>, Failure> {
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let ready = self.poll(timeout, input)?;
        if self.is_interrupted() {
            return Err(Failure::announced(Exit::Network));
        }
        if ready.output_closed {
            let error = io::Error::from(io::ErrorKind::BrokenPipe);
            return Err(Failure::of_output(output::NAME, &error));
        }
        let mut event = None;
        for index in ready.retired.into_iter().rev() {
            if event.is_none() && self.receive_retired(index, awaited) {
                event = Some(Event::Answer);
            }
        }
        if ready.current && event.is_none() {
            event = self.receive_current(awaited);
        }
        self.tell()?;
        Ok(event.or(match timeout {
            _ if ready.input => Some(Event::Input),
            // Only after a look at the queue: this process may have been stopped for a while.
            Some(Duration::ZERO) if awaited.is_some() && self.is_doubtful() => {
                Some(Event::Doubtful)
            }
            Some(Duration::ZERO) => Some(Event::Time),
            _ => None,
        }))
    }

    /// Whether SIGINT has arrived, where that is to be reported: every wait fails from then on.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::has_come)
    }

    /// Whether what was sent last has only a doubtful answer.
    fn is_doubtful(&self) -> bool {
        let last = self.current.as_ref().and_then(|flow| flow.asked.back());
        last.is_some_and(|last| last.doubtful)
    }

    fn tell(&mut self) -> Result<(), Failure> {
        self.route.watch.check()?;
        for notice in self.notices.list.drain(..) {
            self.notices.suspicious |= notice.suspect.is_some();
            notice.tell(self.notices.json)?;
        }
        Ok(())
    }

    fn poll(
        &self,
        timeout: Option<Duration>,
        input: Option<BorrowedFd<'_>>,
    ) -> Result<Ready, Failure> {
        let mut set = Set::new();
        let retired: Vec<Key> = (self.retired.iter())
            .map(|flow| set.add(flow.link.as_fd(), IN))
            .collect();
        let current = set.add(self.current.as_ref().map(|flow| flow.link.as_fd()), IN);
        let input = set.add(input, IN);
        let output = set.add(self.stdout.fd(), GONE);
        set.add(self.interrupt.as_ref().map(Interrupt::as_fd), IN);
        let ready = set.wait(timeout.map_or(Deadline::NEVER, Deadline::after))?;
        let indices = 0..retired.len();
        Ok(Ready {
            retired: indices.filter(|&index| ready[retired[index]]).collect(),
            current: ready[current],
            input: ready[input],
            output_closed: ready[output],
        })
    }

    fn receive_current(&mut self, awaited: Option<&Payload>) -> Option<Event> {
        let flow = self.current.as_mut()?;
        match flow.link.receive(&mut self.buffer) {
            Ok((count, source)) => {
                self.received = count;
                self.from = source;
                let now = Instant::now();
                match flow.arrive(&self.buffer[..count], source, awaited, &mut self.notices) {
                    Arrival::Answer => {
                        self.rtt = flow.rtt(now);
                        self.settle_here(now);
                        return Some(Event::Answer);
                    }
                    Arrival::Doubtful => {
                        // While more is to come, that may be the answer for certain.
                        return (!flow.is_owed()).then_some(Event::Doubtful);
                    }
                    Arrival::Owed => {}
                    Arrival::Extra => self.talkative = true,
                }
                None
            }
            Err(error) if is_wait(&error) => None,
            Err(error) => {
                flow.refuse();
                Some(Event::Refused(error)).filter(|_| awaited.is_some())
            }
        }
    }

    /// Whether the answer to `awaited` came to a retired socket: it was asked at several addresses.
    fn receive_retired(&mut self, index: usize, awaited: Option<&Payload>) -> bool {
        let flow = &mut self.retired[index];
        match flow.link.receive(&mut self.buffer) {
            Ok((count, source)) => {
                self.received = count;
                self.from = source;
                let now = Instant::now();
                let arrival =
                    flow.arrive(&self.buffer[..count], source, awaited, &mut self.notices);
                let answered = matches!(arrival, Arrival::Answer);
                if answered {
                    self.rtt = flow.rtt(now);
                    self.settle_on(index);
                    self.settle_here(now);
                }
                answered
            }
            Err(error) => {
                if !is_wait(&error) {
                    self.retired.remove(index);
                }
                false
            }
        }
    }

    /// Goes back to a retired socket, whose address has turned out to be the one that answers.
    fn settle_on(&mut self, index: usize) {
        let answering = self.retired.remove(index);
        self.retire();
        if let Some(flow) = &answering {
            let is_it = |address: &SocketAddr| *address == flow.link.address;
            self.at = self
                .route
                .addresses
                .iter()
                .position(is_it)
                .unwrap_or(self.at);
        }
        self.current = answering;
    }

    /// What was sent last on the current socket has its answer.
    fn settle_here(&mut self, now: Instant) {
        if !self.settled {
            self.settling = Some(now + SETTLING);
        }
        self.settled = true;
        // What the other addresses send now is one answer more to the same datagram.
        let last = self.current.as_ref().and_then(|flow| flow.asked.back());
        let Some(payload) = last.map(|last| Rc::clone(&last.payload)) else {
            return;
        };
        for flow in self
            .retired
            .iter_mut()
            .filter(|flow| flow.is_last(&payload))
        {
            if let Some(asked) = flow.asked.back_mut() {
                let answer = &self.buffer[..self.received];
                asked.answer.get_or_insert_with(|| answer.to_vec());
            }
        }
    }

    /// Puts the current socket aside, if more may come to it than answers to the next datagram.
    fn make_way(&mut self) {
        let is_owed = self.current.as_ref().is_some_and(Flow::is_owed);
        // A given port can be bound only once: there the content has to tell.
        if (is_owed || self.talkative) && !self.route.has_source_port() {
            self.retire();
            self.moved = true;
        }
    }

    fn retire(&mut self) {
        let Some(flow) = self.current.take() else {
            return;
        };
        if self.route.has_source_port() {
            self.former.push((flow.link.address, flow.asked));
            return;
        }
        if !flow.is_owed() && !self.talkative {
            return;
        }
        self.retired.push_back(flow);
        if self.retired.len() > MOST_EARLIER {
            self.retired.pop_front();
        }
    }
}

/// What poll(2) found ready.
struct Ready {
    retired: Vec<usize>,
    current: bool,
    input: bool,
    output_closed: bool,
}
