//! Which datagram an arrival belongs to: what was asked, and how many answers are owed.
//!
//! The ledger owns no socket and reads no clock. Mostly the port tells: a datagram is sent from a
//! fresh port while an earlier one is owed an answer. With `--source-port` only the content can tell.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::payloads::Payload;

/// How many earlier datagrams of a port, and how many earlier ports, are remembered.
pub const MEMORY: usize = 16;

/// A local port, and the address that it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub peer: SocketAddr,
    /// Fresh ports are numbered in order.
    pub number: usize,
}

/// What a datagram that has arrived is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// An awaited answer. `rtt` is known if the question was sent once.
    Answer {
        number: u64,
        rtt: Option<Duration>,
    },
    /// The first answer to an earlier datagram.
    Late(Rc<Payload>),
    /// One more answer to an earlier datagram.
    Second(Rc<Payload>),
    /// The answer to this awaited datagram, or to an earlier one: nothing tells.
    Doubtful(Rc<Payload>),
    Unexpected,
}

/// Which port the next datagram is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPolicy {
    /// The same, unless it is owed an answer. Some servers talk only to the first port that they
    /// hear from.
    Keep,
    /// A fresh one. A group is asked, or more has come than was asked for.
    FreshPerDatagram,
}

pub struct Ledger {
    /// What was sent from each port, oldest first. The awaited datagram is the last of its ports.
    ports: Vec<(Port, Vec<Asked>)>,
    /// The number of the datagram whose answer is awaited.
    awaited: Option<u64>,
    /// A doubtful answer to the last datagram has come.
    pub is_in_doubt: bool,
    policy: PortPolicy,
    /// Whether every answer to a datagram is awaited, not only the first.
    gathers: bool,
    /// The datagram whose further answers are awaited.
    gathering: Option<u64>,
    /// The last datagram whose answer may be a surplus one to the datagram before.
    suspect: Option<u64>,
}

impl Ledger {
    /// With `gathers` every answer to a datagram is awaited, until the ledger gives it up.
    pub fn new(policy: PortPolicy, gathers: bool) -> Self {
        Self {
            ports: Vec::new(),
            awaited: None,
            is_in_doubt: false,
            policy,
            gathers,
            gathering: None,
            suspect: None,
        }
    }

    /// `payload` has been sent from `port`. Its answer is awaited from now on.
    pub fn sent(&mut self, port: Port, payload: &Rc<Payload>, at: Instant) {
        self.awaited = Some(payload.number);
        self.gathering = self.awaited.filter(|_| self.gathers);
        self.is_in_doubt = false;
        let first = Asked {
            payload: Rc::clone(payload),
            sent: Some(at),
            owed: 1,
            answer: None,
        };
        let Some(asked) = self.asked(port) else {
            return push(&mut self.ports, (port, vec![first]));
        };
        match asked.last_mut() {
            Some(last) if last.payload.number == payload.number => {
                last.owed += 1;
                last.sent = None;
            }
            _ => push(asked, first),
        }
    }

    /// What was last sent from `port` did not arrive.
    pub fn refused(&mut self, port: Port) {
        if let Some(last) = self.asked(port).and_then(|asked| asked.last_mut()) {
            last.owed = last.owed.saturating_sub(1);
        }
    }

    /// No answer is awaited any more. One that still comes is late.
    pub fn give_up(&mut self) {
        self.awaited = None;
        self.gathering = None;
    }

    pub fn gathers(&self) -> bool {
        self.gathers
    }

    pub fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether an answer may still come.
    pub fn owes(&self) -> bool {
        self.ports.iter().any(|(_, asked)| owes(asked))
    }

    pub fn wants_fresh_port(&mut self, port: Port) -> bool {
        let is_owed = self.asked(port).is_some_and(|asked| owes(asked));
        is_owed || self.policy == PortPolicy::FreshPerDatagram
    }

    /// Whether a surplus answer would show that printed answers belong to other datagrams.
    pub fn may_be_shifted(&self) -> bool {
        self.suspect.is_some()
    }

    /// The datagram up to which printed answers may belong to other datagrams. Told once, after the
    /// arrival that shows it.
    pub fn take_suspect(&mut self) -> Option<u64> {
        let has_surplus = self.policy == PortPolicy::FreshPerDatagram;
        self.suspect.take_if(|_| has_surplus)
    }

    /// Sorts in what arrived at `port`.
    pub fn arrive(&mut self, port: Port, received: &[u8], now: Instant) -> Arrival {
        let (awaited, policy, gathering) = (self.awaited, self.policy, self.gathering);
        let Some(asked) = self.asked(port) else {
            self.policy = PortPolicy::FreshPerDatagram;
            return Arrival::Unexpected;
        };
        let (arrival, index) = judge(asked, received, awaited, policy, now);
        let is_owed = count(asked, index, &arrival, awaited);
        if let Some(further) = gathering.and_then(|number| further(asked, &arrival, number, now)) {
            return further;
        }
        match arrival {
            Arrival::Answer { number, .. } => {
                if index > 0 && !repeats(received, &asked[index].payload.bytes) {
                    self.suspect = Some(number);
                }
                self.awaited = None;
                // Other addresses were asked the same. Their answers are second ones.
                for last in self
                    .ports
                    .iter_mut()
                    .filter_map(|(_, asked)| asked.last_mut())
                {
                    if last.payload.number == number {
                        last.answer.get_or_insert_with(|| received.to_vec());
                    }
                }
            }
            Arrival::Late(_) => asked[index].answer = Some(received.to_vec()),
            Arrival::Doubtful(_) => self.is_in_doubt = true,
            Arrival::Second(_) | Arrival::Unexpected => {}
        }
        if !is_owed {
            self.policy = PortPolicy::FreshPerDatagram;
        }
        arrival
    }

    fn asked(&mut self, port: Port) -> Option<&mut Vec<Asked>> {
        let mut ports = self.ports.iter_mut();
        ports.find(|(of, _)| *of == port).map(|(_, asked)| asked)
    }
}

/// A datagram that was sent from one port.
struct Asked {
    payload: Rc<Payload>,
    /// When, if it was sent once.
    sent: Option<Instant>,
    /// How many answers may still come.
    owed: u32,
    /// The first answer.
    answer: Option<Vec<u8>>,
}

impl Asked {
    /// Whether an answer may still come. Without any, the owed one may have been counted for another
    /// datagram.
    fn is_open(&self) -> bool {
        self.owed > 0 || self.answer.is_none()
    }

    /// Whether `received` belongs to this earlier datagram.
    fn claims(&self, received: &[u8], awaited: Option<&Self>) -> bool {
        let question = &self.payload.bytes;
        let is_part_of = |awaited: &Self| {
            let awaited = &awaited.payload.bytes;
            repeats(received, awaited) && repeats(awaited, question)
        };
        (self.is_open() || self.answer.as_deref() == Some(received) || question == received)
            && repeats(received, question)
            && !awaited.is_some_and(is_part_of)
    }
}

/// What `received` is, and the index in `asked` to count it for. `asked` was sent from the port that
/// it came to.
///
/// An earlier datagram claims what repeats its question in three cases: its answer may still come, it
/// is the same answer again, or it is only the question. It does not claim an answer that repeats the
/// awaited question, if its own is only a part of that.
///
/// The rest is the awaited answer if it repeats the awaited question, or if no earlier answer is
/// owed. It is doubtful while one is, and once the server has sent more than was asked for.
///
/// So no owed answer is taken for another datagram's. A surplus answer can be: if it repeats nothing,
/// and arrives after the next question was sent from the same port.
fn judge(
    asked: &[Asked],
    received: &[u8],
    awaited: Option<u64>,
    policy: PortPolicy,
    now: Instant,
) -> (Arrival, usize) {
    let last = asked.len() - 1;
    let awaited = asked
        .last()
        .filter(|last| Some(last.payload.number) == awaited);
    let earlier = if awaited.is_some() {
        &asked[..last]
    } else {
        asked
    };
    let claimants = earlier.iter().enumerate().rev();
    let claimants = claimants.filter(|(_, asked)| asked.claims(received, awaited));
    // The longest question tells most. Of equal ones the oldest open one is answered.
    let claimant = claimants.max_by_key(|(_, asked)| (asked.payload.bytes.len(), asked.is_open()));
    let mut owed = earlier
        .iter()
        .enumerate()
        .filter(|(_, asked)| asked.owed > 0);
    let only_owed = match (awaited, owed.next(), owed.next()) {
        (None, Some(only), None) => Some(only),
        _ => None,
    };
    if let Some((index, asked)) = claimant.or(only_owed) {
        let payload = Rc::clone(&asked.payload);
        return match asked.answer {
            None => (Arrival::Late(payload), index),
            Some(_) => (Arrival::Second(payload), index),
        };
    }
    let Some(awaited) = awaited else {
        return (Arrival::Unexpected, last);
    };
    let payload = &awaited.payload;
    let is_same = |asked: &Asked| asked.is_open() && asked.payload.bytes == payload.bytes;
    let tells = repeats(received, &payload.bytes) && !earlier.iter().any(is_same);
    let is_alone = policy == PortPolicy::Keep && awaited.owed > 0 && !owes(earlier);
    if tells || is_alone || earlier.is_empty() {
        let (number, sent) = (payload.number, awaited.sent);
        let rtt = sent.map(|sent| now.saturating_duration_since(sent));
        return (Arrival::Answer { number, rtt }, last);
    }
    // Counted for the newest, the awaited one: what else comes is in doubt while an earlier one is
    // owed.
    let newest = asked.iter().rposition(|asked| asked.owed > 0);
    (
        Arrival::Doubtful(Rc::clone(payload)),
        newest.unwrap_or(last),
    )
}

/// `arrival` as one more answer to the last datagram of `asked`, if that is the one with `number`.
fn further(asked: &[Asked], arrival: &Arrival, number: u64, now: Instant) -> Option<Arrival> {
    let last = asked.last().filter(|last| last.payload.number == number)?;
    match arrival {
        Arrival::Answer { .. } | Arrival::Late(_) => return None,
        Arrival::Second(payload) | Arrival::Doubtful(payload) if payload.number != number => {
            return None;
        }
        Arrival::Second(_) | Arrival::Doubtful(_) | Arrival::Unexpected => {}
    }
    let rtt = last.sent.map(|sent| now.saturating_duration_since(sent));
    Some(Arrival::Answer { number, rtt })
}

/// Counts `arrival` for the datagram at `index`; whether an answer was owed. If that datagram is owed
/// none, an earlier arrival was counted for the wrong one: this one counts for the newest that is, and
/// last for the awaited one. A second answer never counts for that: then it was not asked for.
fn count(asked: &mut [Asked], index: usize, arrival: &Arrival, awaited: Option<u64>) -> bool {
    let is_owed = |asked: &Asked| asked.owed > 0;
    let is_earlier = |asked: &Asked| Some(asked.payload.number) != awaited;
    let counted = if is_owed(&asked[index]) {
        Some(index)
    } else {
        let earlier = asked
            .iter()
            .rposition(|asked| is_owed(asked) && is_earlier(asked));
        let is_second = matches!(arrival, Arrival::Second(_));
        earlier.or_else(|| asked.iter().rposition(is_owed).filter(|_| !is_second))
    };
    counted.map(|index| asked[index].owed -= 1).is_some()
}

fn owes(asked: &[Asked]) -> bool {
    asked.iter().any(|asked| asked.owed > 0)
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() > MEMORY {
        list.remove(0);
    }
    list.push(item);
}

/// Whether an answer says by itself what was asked.
fn repeats(answer: &[u8], question: &[u8]) -> bool {
    let mut parts = answer.windows(question.len().max(1));
    parts.any(|part| part == question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn port(number: usize) -> Port {
        let peer = ([127, 0, 0, 1], 9).into();
        Port { peer, number }
    }

    fn question(number: u64, bytes: &[u8]) -> Rc<Payload> {
        Rc::new(Payload {
            number,
            bytes: bytes.to_vec(),
            size: bytes.len() as u64,
        })
    }

    fn hello(payload: &[u8]) -> Vec<u8> {
        [b"Hello, ", payload, b"!"].concat()
    }

    /// A datagram that was sent before, and the answer to it.
    type Earlier<'a> = (&'a [u8], Option<&'a [u8]>);

    fn owed(question: &[u8]) -> Earlier<'_> {
        (question, None)
    }

    fn answered<'a>(question: &'a [u8], answer: &'a [u8]) -> Earlier<'a> {
        (question, Some(answer))
    }

    /// All are sent from one port and numbered from 1, the awaited one last.
    fn ledger(awaited: Option<&[u8]>, earlier: &[Earlier<'_>]) -> Ledger {
        let now = Instant::now();
        let mut ledger = Ledger::new(PortPolicy::Keep, false);
        let mut number = 0;
        for (bytes, answer) in earlier {
            number += 1;
            ledger.sent(port(0), &question(number, bytes), now);
            if answer.is_some() {
                let asked = ledger.asked(port(0)).unwrap().last_mut().unwrap();
                asked.owed = 0;
                asked.answer = answer.map(<[u8]>::to_vec);
            }
        }
        ledger.give_up();
        if let Some(bytes) = awaited {
            ledger.sent(port(0), &question(number + 1, bytes), now);
        }
        ledger
    }

    /// What an arrival is, and the number of the datagram that it belongs to.
    fn kind(arrival: &Arrival) -> (&'static str, u64) {
        match arrival {
            Arrival::Answer { number, .. } => ("answer", *number),
            Arrival::Late(payload) => ("late", payload.number),
            Arrival::Second(payload) => ("second", payload.number),
            Arrival::Doubtful(payload) => ("doubtful", payload.number),
            Arrival::Unexpected => ("unexpected", 0),
        }
    }

    fn arrive(ledger: &mut Ledger, at: usize, received: &[u8]) -> (&'static str, u64) {
        kind(&ledger.arrive(port(at), received, Instant::now()))
    }

    fn judge(
        received: &[u8],
        awaited: Option<&[u8]>,
        earlier: &[Earlier<'_>],
    ) -> (&'static str, u64) {
        arrive(&mut ledger(awaited, earlier), 0, received)
    }

    #[test]
    fn an_answer_to_an_earlier_datagram_is_late() {
        let earlier = [owed(b"Anna"), owed(b"Michael")];
        let verdict = judge(&hello(b"Michael"), Some(b"Tracy"), &earlier);
        assert_eq!(verdict, ("late", 2));
    }

    #[test]
    fn an_answer_that_comes_twice_is_no_answer_to_the_next() {
        let earlier = [answered(b"a", b"Hello, a!")];
        let judge = |received: &[u8]| judge(received, Some(b"b"), &earlier);
        assert_eq!(judge(b"Hello, a!"), ("second", 1));
        assert_eq!(judge(b"Hello, b!"), ("answer", 2));
        assert_eq!(judge(b"alpha"), ("answer", 2));
    }

    #[test]
    fn a_server_may_always_answer_the_same() {
        let earlier = [answered(b"one", b"OK")];
        assert_eq!(judge(b"OK", Some(b"two"), &earlier), ("answer", 2));
    }

    #[test]
    fn an_earlier_question_may_be_part_of_the_awaited_one() {
        let judge = |received: &[u8], awaited, earlier| judge(received, Some(awaited), &[earlier]);
        assert_eq!(judge(b"Hello, 10!", b"10", owed(b"1")), ("answer", 2));
        assert_eq!(judge(b"Hello, 1!", b"10", owed(b"1")), ("late", 1));
        assert_eq!(judge(b"Hello, 10!", b"1", owed(b"10")), ("late", 1));
    }

    #[test]
    fn of_several_repeated_questions_the_longest_is_answered() {
        let earlier = [owed(b"1"), owed(b"121"), owed(b"2")];
        assert_eq!(judge(b"Hello, 121!", Some(b"9"), &earlier), ("late", 2));
    }

    #[test]
    fn an_echo_of_an_earlier_datagram_is_no_answer_to_the_next() {
        let earlier = [answered(b"one", b"banner")];
        assert_eq!(judge(b"one", Some(b"two"), &earlier), ("second", 1));
        assert_eq!(judge(b"one", Some(b"one"), &earlier), ("answer", 2));
        assert_eq!(judge(b"one more", Some(b"two"), &earlier), ("answer", 2));
    }

    #[test]
    fn what_repeats_nothing_is_doubtful_while_an_earlier_answer_is_owed() {
        let judge = |received: &[u8], awaited, earlier| judge(received, Some(awaited), &[earlier]);
        assert_eq!(judge(b"12:34", b"time", owed(b"date")), ("doubtful", 2));
        assert_eq!(judge(b"12:34", b"", owed(b"date")), ("doubtful", 2));
        assert_eq!(judge(b"", b"time", owed(b"")), ("doubtful", 2));
        assert_eq!(judge(b"time 12:34", b"time", owed(b"")), ("answer", 2));
        let date = answered(b"date", b"7.3.");
        assert_eq!(judge(b"12:34", b"time", date), ("answer", 2));
    }

    #[test]
    fn what_was_asked_twice_tells_nothing() {
        let verdict = judge(b"Hello, a!", Some(b"a"), &[owed(b"a")]);
        assert_eq!(verdict, ("doubtful", 2));
    }

    #[test]
    fn what_repeats_nothing_is_doubtful_on_a_shared_port_after_a_surplus_answer() {
        let judge = |received: &[u8]| {
            let mut ledger = ledger(Some(b"time"), &[answered(b"date", b"7.3.")]);
            ledger.policy = PortPolicy::FreshPerDatagram;
            arrive(&mut ledger, 0, received)
        };
        assert_eq!(judge(b"12:34"), ("doubtful", 2));
        assert_eq!(judge(b"time 12:34"), ("answer", 2));
    }

    #[test]
    fn while_nothing_is_awaited_nothing_is_an_answer() {
        let judge = |received: &[u8], earlier: &[Earlier<'_>]| judge(received, None, earlier);
        assert_eq!(judge(b"12:34", &[]), ("unexpected", 0));
        assert_eq!(judge(b"12:34", &[owed(b"time")]), ("late", 1));
        let two = [owed(b"time"), owed(b"date")];
        assert_eq!(judge(b"12:34", &two), ("unexpected", 0));
        assert_eq!(judge(b"date", &two), ("late", 2));
        let answered = [answered(b"time", b"12:34")];
        assert_eq!(judge(b"12:34", &answered), ("unexpected", 0));
    }

    #[test]
    fn doubt_ends_when_every_answer_has_come() {
        let mut ledger = ledger(Some(b"time"), &[owed(b"date")]);
        assert_eq!(arrive(&mut ledger, 0, b"7.3."), ("doubtful", 2));
        assert!(ledger.owes() && ledger.is_in_doubt);
        assert_eq!(arrive(&mut ledger, 0, b"12:34"), ("doubtful", 2));
        assert!(!ledger.owes());
        ledger.sent(port(0), &question(3, b"year"), Instant::now());
        assert!(!ledger.is_in_doubt);
        assert_eq!(arrive(&mut ledger, 0, b"2026"), ("answer", 3));
    }

    #[test]
    fn a_fresh_port_is_wanted_while_the_old_one_is_owed_an_answer() {
        let (one, two) = (question(1, b"one"), question(2, b"two"));
        let now = Instant::now();
        let mut ledger = Ledger::new(PortPolicy::Keep, false);
        ledger.sent(port(1), &one, now);
        assert_eq!(arrive(&mut ledger, 1, b"1"), ("answer", 1));
        assert!(!ledger.wants_fresh_port(port(1)));
        ledger.sent(port(1), &two, now);
        ledger.refused(port(1));
        assert!(!ledger.wants_fresh_port(port(1)));
        // Sent again, and answered once.
        ledger.sent(port(1), &two, now);
        ledger.sent(port(1), &two, now);
        assert_eq!(arrive(&mut ledger, 1, b"2"), ("answer", 2));
        assert!(ledger.wants_fresh_port(port(1)));
        assert_eq!(arrive(&mut ledger, 1, b"two"), ("second", 2));
        assert!(!ledger.wants_fresh_port(port(1)));
        assert_eq!(arrive(&mut ledger, 1, b"two"), ("second", 2));
        assert!(ledger.wants_fresh_port(port(2)));
    }

    #[test]
    fn a_time_is_known_where_the_datagram_was_sent_once() {
        const RTT: Duration = Duration::from_millis(7);
        let now = Instant::now();
        for (attempts, time) in [(1, Some(RTT)), (2, None)] {
            let mut ledger = Ledger::new(PortPolicy::Keep, false);
            for _ in 0..attempts {
                ledger.sent(port(1), &question(1, b"a"), now);
            }
            let arrival = ledger.arrive(port(1), b"b", now + RTT);
            assert_eq!(
                arrival,
                Arrival::Answer {
                    number: 1,
                    rtt: time
                }
            );
        }
    }

    #[test]
    fn an_answer_from_another_address_is_one_more_answer_to_the_same() {
        let other = Port {
            peer: ([127, 0, 0, 2], 9).into(),
            number: 2,
        };
        let mut ledger = Ledger::new(PortPolicy::Keep, false);
        ledger.sent(port(1), &question(1, b"a"), Instant::now());
        ledger.sent(other, &question(1, b"a"), Instant::now());
        assert_eq!(arrive(&mut ledger, 1, b"first"), ("answer", 1));
        let arrival = ledger.arrive(other, b"again", Instant::now());
        assert_eq!(kind(&arrival), ("second", 1));
        assert!(!ledger.owes());
        assert_eq!(ledger.take_suspect(), None);
    }

    #[test]
    fn only_recent_datagrams_are_remembered() {
        let mut ledger = Ledger::new(PortPolicy::Keep, false);
        for number in 1..=100 {
            ledger.sent(port(0), &question(number, b"x"), Instant::now());
        }
        assert_eq!(ledger.asked(port(0)).unwrap().len(), MEMORY + 1);
        for number in 1..=100 {
            let from = usize::try_from(number).unwrap();
            ledger.sent(port(from), &question(100 + number, b"x"), Instant::now());
        }
        assert_eq!(ledger.ports.len(), MEMORY + 1);
        assert_eq!(ledger.ports[0].0, port(100 - MEMORY));
    }

    #[test]
    fn where_all_answers_are_wanted_they_are_answers_until_the_ledger_gives_up() {
        let mut ledger = Ledger::new(PortPolicy::FreshPerDatagram, true);
        ledger.sent(port(1), &question(1, b"a"), Instant::now());
        for answer in [&b"1"[..], b"2", b"1", b"a"] {
            assert_eq!(arrive(&mut ledger, 1, answer), ("answer", 1));
        }
        ledger.give_up();
        assert_eq!(arrive(&mut ledger, 1, b"a"), ("second", 1));
        ledger.sent(port(2), &question(2, b"b"), Instant::now());
        assert_eq!(arrive(&mut ledger, 1, b"3"), ("unexpected", 0));
        assert_eq!(arrive(&mut ledger, 2, b"1"), ("answer", 2));
    }

    #[test]
    fn on_a_shared_port_a_repeated_answer_to_an_earlier_datagram_is_not_gathered() {
        let mut ledger = Ledger::new(PortPolicy::Keep, true);
        ledger.sent(port(0), &question(1, b"one"), Instant::now());
        assert_eq!(arrive(&mut ledger, 0, b"to one"), ("answer", 1));
        ledger.give_up();
        ledger.sent(port(0), &question(2, b"two"), Instant::now());
        assert_eq!(arrive(&mut ledger, 0, b"to two"), ("answer", 2));
        assert_eq!(arrive(&mut ledger, 0, b"to one"), ("second", 1));
        assert_eq!(arrive(&mut ledger, 0, b"to two"), ("answer", 2));
    }

    #[test]
    fn an_owed_answer_that_was_counted_for_another_datagram_is_no_surplus() {
        let mut ledger = Ledger::new(PortPolicy::Keep, false);
        let send = |ledger: &mut Ledger, number, bytes: &[u8], times| {
            ledger.give_up();
            for _ in 0..times {
                ledger.sent(port(0), &question(number, bytes), Instant::now());
            }
        };
        send(&mut ledger, 1, b"1", 1);
        assert_eq!(arrive(&mut ledger, 0, b"a"), ("answer", 1));
        send(&mut ledger, 2, b"1", 1);
        assert_eq!(arrive(&mut ledger, 0, b"aa"), ("answer", 2));
        send(&mut ledger, 3, b"2", 2);
        send(&mut ledger, 4, b"11", 2);
        assert_eq!(arrive(&mut ledger, 0, &hello(b"2")), ("late", 3));
        assert_eq!(arrive(&mut ledger, 0, b"aaaa"), ("doubtful", 4));
        send(&mut ledger, 5, b"3", 1);
        // Counted for the fifth, though the fourth is answered. Then the fifth takes the third's place.
        assert_eq!(arrive(&mut ledger, 0, b"aaaa"), ("doubtful", 5));
        assert_eq!(arrive(&mut ledger, 0, &hello(b"3")), ("answer", 5));
        assert_eq!(arrive(&mut ledger, 0, &hello(b"2")), ("second", 3));
        assert_eq!(ledger.take_suspect(), None);
    }

    /// Questions that no part of a greeting can be mistaken for.
    fn digits(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(b'1'..=b'3', count)
    }

    proptest! {
        #[test]
        fn where_nothing_else_was_sent_everything_is_the_answer(received: Vec<u8>, awaited: Vec<u8>) {
            prop_assert_eq!(judge(&received, Some(&awaited), &[]), ("answer", 1));
        }

        #[test]
        fn a_late_or_doubled_answer_is_never_taken_for_anothers(
            awaited in digits(1..4),
            earlier in proptest::collection::vec((digits(1..4), any::<bool>()), 1..5),
            index: prop::sample::Index,
        ) {
            let echo = <[u8]>::to_vec as fn(&[u8]) -> _;
            let (again, _) = index.get(&earlier);
            prop_assume!(*again != awaited);
            for service in [hello, echo] {
                let answers: Vec<Vec<u8>> = earlier.iter().map(|(question, _)| service(question)).collect();
                let earlier: Vec<Earlier<'_>> = earlier
                    .iter()
                    .zip(&answers)
                    .map(|((question, is_owed), answer)| if *is_owed { owed(question) } else { answered(question, answer) })
                    .collect();
                let (kind, _) = judge(&service(again), Some(&awaited), &earlier);
                prop_assert!(kind == "late" || kind == "second", "{}", kind);
            }
        }

        #[test]
        fn an_answer_that_is_owed_is_never_taken_for_anothers(
            received: Vec<u8>,
            awaited: Vec<u8>,
            earlier: Vec<u8>,
        ) {
            prop_assume!(!repeats(&received, &awaited));
            let (kind, _) = judge(&received, Some(&awaited), &[owed(&earlier)]);
            prop_assert_ne!(kind, "answer");
        }

        #[test]
        fn an_answer_is_taken_whatever_shorter_questions_were_sent_before(
            awaited in digits(1..4),
            earlier in proptest::collection::vec(digits(1..4), 0..5),
        ) {
            let is_other = |earlier: &Vec<u8>| earlier.len() <= awaited.len() && *earlier != awaited;
            prop_assume!(earlier.iter().all(is_other));
            let earlier: Vec<Earlier<'_>> = earlier.iter().map(|question| owed(question)).collect();
            let (kind, _) = judge(&hello(&awaited), Some(&awaited), &earlier);
            prop_assert_eq!(kind, "answer");
        }
    }

    /// A client that follows the ledger, and the answers of its server that are on their way.
    struct World {
        ledger: Ledger,
        has_one_port: bool,
        port: usize,
        questions: Vec<Rc<Payload>>,
        on_their_way: Vec<(usize, u64, Vec<u8>)>,
        /// The datagrams that were answered, and by the answers to which.
        answered: BTreeMap<u64, u64>,
        suspect: Option<u64>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The next datagram, if it is new, and how often the server answers it; whether the answer
        /// repeats it.
        Send {
            question: Option<Vec<u8>>,
            answers: usize,
            repeats: bool,
        },
        Refused,
        Arrives(prop::sample::Index),
        GiveUp,
    }

    impl World {
        fn new(has_one_port: bool) -> Self {
            Self {
                ledger: Ledger::new(PortPolicy::Keep, false),
                has_one_port,
                port: 0,
                questions: Vec::new(),
                on_their_way: Vec::new(),
                answered: BTreeMap::new(),
                suspect: None,
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Send {
                    question: Some(bytes),
                    answers,
                    repeats,
                } => {
                    self.ledger.give_up();
                    if !self.has_one_port && self.ledger.wants_fresh_port(port(self.port)) {
                        self.port += 1;
                    }
                    let number = self.questions.len() as u64 + 1;
                    self.questions.push(question(number, &bytes));
                    self.send(answers, repeats);
                }
                Step::Send {
                    question: None,
                    answers,
                    repeats,
                } => {
                    if self.ledger.is_awaiting() {
                        self.send(answers, repeats);
                    }
                }
                // Nothing that was sent from this port arrives, and so it is not answered.
                Step::Refused => {
                    let of_last = |answer: &&(usize, u64, _)| {
                        (answer.0, answer.1) == (self.port, self.questions.len() as u64)
                    };
                    if self.ledger.is_awaiting()
                        && self.on_their_way.iter().filter(of_last).count() == 0
                    {
                        self.ledger.refused(port(self.port));
                    }
                }
                Step::Arrives(index) => {
                    if !self.on_their_way.is_empty() {
                        let index = index.index(self.on_their_way.len());
                        self.arrive(index);
                    }
                }
                Step::GiveUp => self.ledger.give_up(),
            }
        }

        fn send(&mut self, answers: usize, repeats: bool) {
            let question = self.questions.last().unwrap();
            self.ledger.sent(port(self.port), question, Instant::now());
            for which in 0..answers {
                let answer = if repeats {
                    hello(&question.bytes)
                } else {
                    let letter = b'a' + u8::try_from(which).unwrap();
                    vec![letter; usize::try_from(question.number).unwrap()]
                };
                self.on_their_way.push((self.port, question.number, answer));
            }
        }

        fn arrive(&mut self, index: usize) {
            let (from, to, answer) = self.on_their_way.remove(index);
            let arrival = self.ledger.arrive(port(from), &answer, Instant::now());
            if let Arrival::Answer { number, .. } = arrival {
                assert_eq!(
                    number,
                    self.questions.len() as u64,
                    "only the last is awaited"
                );
                assert_eq!(
                    self.answered.insert(number, to),
                    None,
                    "it is answered once"
                );
                assert!(!self.ledger.is_awaiting());
            }
            self.suspect = self.suspect.max(self.ledger.take_suspect());
        }

        /// How many answers of one port are owed, as the ledger has it.
        fn owed(&mut self, from: usize) -> usize {
            let asked = self.ledger.asked(port(from));
            asked.map_or(0, |asked| {
                asked.iter().map(|asked| asked.owed as usize).sum()
            })
        }

        /// The datagrams that were answered by what answers another question.
        fn wrong(&self) -> Vec<u64> {
            let bytes = |number: u64| &self.questions[usize::try_from(number).unwrap() - 1].bytes;
            let is_wrong = |(number, to): &(&u64, &u64)| bytes(**number) != bytes(**to);
            self.answered
                .iter()
                .filter(is_wrong)
                .map(|(number, _)| *number)
                .collect()
        }
    }

    fn steps(
        answers: std::ops::RangeInclusive<usize>,
        digits: impl Strategy<Value = Vec<u8>>,
    ) -> impl Strategy<Value = Vec<Step>> {
        let sent = (
            proptest::option::weighted(0.8, digits),
            answers,
            any::<bool>(),
        );
        let step = prop_oneof![
            4 => sent.prop_map(|(question, answers, repeats)| Step::Send { question, answers, repeats }),
            4 => any::<prop::sample::Index>().prop_map(Step::Arrives),
            1 => Just(Step::GiveUp),
            1 => Just(Step::Refused),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn where_a_server_answers_at_most_once_no_answer_is_taken_for_anothers(
            has_one_port: bool,
            steps in steps(0..=1, digits(1..4)),
        ) {
            let mut world = World::new(has_one_port);
            for step in steps {
                world.step(step);
                for from in 0..=world.port {
                    let on_their_way = world.on_their_way.iter().filter(|answer| answer.0 == from).count();
                    let is_remembered = from + MEMORY >= world.port && world.questions.len() <= MEMORY;
                    prop_assert!(!is_remembered || world.owed(from) >= on_their_way);
                }
            }
            prop_assert_eq!(world.wrong(), [0; 0]);
            prop_assert_eq!(world.suspect, None);
        }

        #[test]
        fn where_a_server_answers_more_often_what_was_taken_for_anothers_is_said(
            has_one_port: bool,
            steps in steps(1..=3, digits(2..3)),
        ) {
            let mut world = World::new(has_one_port);
            for step in steps {
                world.step(step);
            }
            world.ledger.give_up();
            while !world.on_their_way.is_empty() {
                world.arrive(0);
            }
            if let (Some(wrong), true) = (world.wrong().last(), world.questions.len() <= MEMORY) {
                prop_assert!(world.suspect >= Some(*wrong), "{:?} {:?}", world.suspect, world.answered);
            }
        }
    }
}
