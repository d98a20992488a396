//! The probes of a ping: what they look like, and what an answer says about which of them.
//!
//! A payload starts with a token: what only this run has, and the number of the probe. An answer
//! belongs to the probe whose token it holds, wherever in it that stands. All of it is text, so
//! that it passes servers that take their datagrams for text. Only so many probes are remembered.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::Duration;

/// The smallest payload: a token and nothing else.
pub const LEAST: usize = RUN + NUMBER;

/// How many characters tell this run from others, and how many make a number: with these, three
/// million million of each.
const RUN: usize = 8;
const NUMBER: usize = 8;

/// How many probes are remembered. At the default time limit they are over sooner than forgotten as
/// long as fewer than this are sent in a second.
const MOST: usize = 1 << 17;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// All probes of one run. Times are since its start.
pub struct Probes {
    run: [u8; RUN],
    payload: Vec<u8>,
    timeout: Duration,
    /// Those sent last, in order.
    window: VecDeque<Probe>,
    /// How many were sent before them.
    forgotten: u64,
    /// How many are not waited for any more, from the first on, without one in between that is.
    settled: u64,
}

struct Probe {
    sent: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The network said that it did not arrive.
    Refused,
    /// Its time is up, or it was forgotten.
    Lost,
    Answered,
}

/// What a datagram that has arrived is to one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The first answer to a probe, in time.
    Reply { number: u64, time: Duration },
    /// The first answer to a probe that is lost.
    Late { number: u64, time: Duration },
    /// Another answer to a probe.
    Duplicate { number: u64, time: Duration },
}

impl Probes {
    /// Probes of `size` bytes, at least `LEAST`, that may take `timeout` to be answered.
    pub fn new(size: usize, timeout: Duration) -> Self {
        // Seeded by the system at random.
        let run = digits(RandomState::new().hash_one(std::process::id()));
        let mut payload = run.to_vec();
        payload.resize(LEAST, b'0');
        // No part of it can be taken for a token: that starts anew in it nowhere.
        payload.extend(DIGITS.iter().cycle().take(size.saturating_sub(LEAST)));
        Self {
            run,
            payload,
            timeout,
            window: VecDeque::new(),
            forgotten: 0,
            settled: 0,
        }
    }

    /// How many were sent, and so the number of the last.
    pub fn sent(&self) -> u64 {
        self.forgotten + self.window.len() as u64
    }

    /// What the next probe carries.
    pub fn payload(&mut self) -> &[u8] {
        let number = digits(self.sent() + 1);
        self.payload[RUN..LEAST].copy_from_slice(&number);
        &self.payload
    }

    /// Notes that the next probe was sent at `at`.
    pub fn send(&mut self, at: Duration) {
        if self.window.len() >= MOST {
            self.window.pop_front();
            self.forgotten += 1;
            self.settled = self.settled.max(self.forgotten);
        }
        self.window.push_back(Probe {
            sent: at,
            state: State::Waiting,
        });
    }

    /// The next probe whose time is up at `now`; it is lost from then on.
    pub fn expire(&mut self, now: Duration) -> Option<u64> {
        self.next_expiry().filter(|at| *at < now)?;
        let number = self.first_waiting()?;
        self.set(number, State::Lost);
        Some(number)
    }

    /// When the time of the first probe that is waited for is up; `None`: none is.
    pub fn next_expiry(&mut self) -> Option<Duration> {
        let number = self.first_waiting()?;
        let probe = self.get(number)?;
        Some(probe.sent + self.timeout)
    }

    /// The network said that a probe did not arrive, but not which. It is taken for the first that
    /// is waited for.
    pub fn refuse(&mut self) -> Option<u64> {
        let number = self.first_waiting()?;
        self.set(number, State::Refused);
        Some(number)
    }

    /// The probe sent last will not be answered.
    pub fn refuse_last(&mut self) {
        self.set(self.sent(), State::Refused);
    }

    /// Whether the probe sent last has not been answered, nor refused.
    pub fn awaits_last(&self) -> bool {
        let last = self.window.back();
        last.is_some_and(|probe| matches!(probe.state, State::Waiting | State::Lost))
    }

    /// When the last of those was sent, after `since`, that an answer may still come to, though too
    /// late.
    pub fn last_lost(&self, since: Duration) -> Option<Duration> {
        let probes = self.window.iter().rev();
        let mut probes = probes.take_while(|probe| probe.sent > since);
        let lost = probes.find(|probe| probe.state == State::Lost);
        lost.map(|probe| probe.sent)
    }

    /// What `received` is, which arrived at `at`: an answer to each probe whose token it holds, for
    /// some servers send back several at once; nothing, if to none that is known. Probes whose time
    /// was up have to have expired.
    pub fn answers(&mut self, received: &[u8], at: Duration) -> Vec<Meaning> {
        let numbers = self.numbers_in(received).into_iter();
        numbers
            .filter_map(|number| self.answer(number, at))
            .collect()
    }

    fn answer(&mut self, number: u64, at: Duration) -> Option<Meaning> {
        let probe = self.get(number)?;
        let time = at.saturating_sub(probe.sent);
        let meaning = match probe.state {
            State::Answered => Meaning::Duplicate { number, time },
            State::Refused if time > self.timeout => Meaning::Late { number, time },
            State::Waiting | State::Refused => Meaning::Reply { number, time },
            State::Lost => Meaning::Late { number, time },
        };
        self.set(number, State::Answered);
        Some(meaning)
    }

    fn first_waiting(&mut self) -> Option<u64> {
        while let Some(probe) = self.get(self.settled + 1) {
            if probe.state == State::Waiting {
                return Some(self.settled + 1);
            }
            self.settled += 1;
        }
        None
    }

    /// The numbers in all tokens of this run in `bytes`.
    fn numbers_in(&self, bytes: &[u8]) -> Vec<u64> {
        let tokens = bytes.windows(LEAST);
        tokens
            .filter_map(|window| window.strip_prefix(&self.run))
            .filter_map(number)
            .collect()
    }

    fn index(&self, number: u64) -> Option<usize> {
        let index = number.checked_sub(self.forgotten + 1)?;
        usize::try_from(index).ok()
    }

    fn get(&self, number: u64) -> Option<&Probe> {
        self.window.get(self.index(number)?)
    }

    fn set(&mut self, number: u64, state: State) {
        let index = self.index(number);
        if let Some(probe) = index.and_then(|index| self.window.get_mut(index)) {
            probe.state = state;
        }
    }
}

/// How large a payload may be as far as this is concerned.
pub fn sizes() -> Range<usize> {
    LEAST..crate::net::datagram::LARGEST + 1
}

/// The last digits of `number`.
fn digits(mut number: u64) -> [u8; NUMBER] {
    let mut digits = [b'0'; NUMBER];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 36) as usize];
        number /= 36;
    }
    digits
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = DIGITS.iter().position(|known| known == digit)?;
        Some(number * 36 + value as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn next(probes: &mut Probes, millis: u64) -> Vec<u8> {
        let payload = probes.payload().to_vec();
        probes.send(at(millis));
        payload
    }

    #[test]
    fn a_payload_has_the_size_asked_for_and_is_text() {
        for size in [LEAST, 56, 1000] {
            let mut probes = Probes::new(size, TIMEOUT);
            let payload = probes.payload();
            assert_eq!(payload.len(), size);
            assert!(payload.is_ascii());
        }
    }

    #[test]
    fn an_answer_is_a_reply_once_and_then_a_duplicate() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 1);
        let two = next(&mut probes, 2);
        let greeting = [b"Hello, ", two.as_slice(), b"!"].concat();
        let time = at(3);
        let number = 2;
        assert_eq!(
            probes.answers(&greeting, at(5)),
            [Meaning::Reply { number, time }]
        );
        let time = at(4);
        assert_eq!(
            probes.answers(&two, at(6)),
            [Meaning::Duplicate { number, time }]
        );
        let (number, time) = (1, at(6));
        assert_eq!(
            probes.answers(&one, at(7)),
            [Meaning::Reply { number, time }]
        );
        assert_eq!(probes.next_expiry(), None);
    }

    #[test]
    fn an_answer_after_the_time_limit_is_late_and_only_once() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 1);
        assert_eq!(probes.next_expiry(), Some(at(11)));
        assert_eq!(probes.expire(at(11)), None);
        assert_eq!(probes.expire(at(12)), Some(1));
        assert_eq!(probes.expire(at(12)), None);
        assert_eq!(probes.last_lost(at(0)), Some(at(1)));
        let (number, time) = (1, at(20));
        assert_eq!(
            probes.answers(&one, at(21)),
            [Meaning::Late { number, time }]
        );
        assert_eq!(probes.last_lost(at(0)), None);
        assert_eq!(
            probes.answers(&one, at(21)),
            [Meaning::Duplicate { number, time }]
        );
    }

    #[test]
    fn a_refused_probe_is_not_lost_and_may_be_answered_in_spite_of_it() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 0);
        next(&mut probes, 1);
        assert!(probes.awaits_last());
        assert_eq!(probes.refuse(), Some(1));
        assert_eq!(probes.refuse(), Some(2));
        assert_eq!(probes.refuse(), None);
        assert!(!probes.awaits_last());
        assert_eq!(probes.expire(at(99)), None);
        let meaning = probes.answers(&one, at(9));
        assert!(matches!(meaning[..], [Meaning::Reply { number: 1, .. }]));
    }

    #[test]
    fn one_datagram_may_answer_several() {
        let mut probes = Probes::new(56, TIMEOUT);
        let both = [next(&mut probes, 0), next(&mut probes, 1)].concat();
        let replies =
            [(1, at(3)), (2, at(2))].map(|(number, time)| Meaning::Reply { number, time });
        assert_eq!(probes.answers(&both, at(3)), replies);
    }

    #[test]
    fn what_was_not_sent_is_not_expected() {
        let mut probes = Probes::new(LEAST, TIMEOUT);
        let unsent = probes.payload().to_vec();
        assert_eq!(probes.answers(&unsent, at(0)), []);
        let payload = next(&mut probes, 0);
        for other in [b"".as_slice(), b"OK", &payload[..LEAST - 1], &payload[1..]] {
            assert_eq!(probes.answers(other, at(0)), []);
        }
        let other_run = next(&mut Probes::new(56, TIMEOUT), 0);
        assert_eq!(probes.answers(&other_run, at(0)), []);
    }

    #[test]
    fn what_is_remembered_does_not_grow() {
        let mut probes = Probes::new(56, TIMEOUT);
        let first = next(&mut probes, 0);
        for _ in 0..MOST {
            next(&mut probes, 0);
        }
        assert_eq!(probes.window.len(), MOST);
        assert_eq!(probes.sent(), MOST as u64 + 1);
        assert_eq!(probes.answers(&first, at(0)), []);
        assert_eq!(probes.expire(at(99)), Some(2));
    }

    proptest! {
        #[test]
        fn a_number_is_read_back(expected in 0_u64..36_u64.pow(8)) {
            prop_assert_eq!(number(&digits(expected)), Some(expected));
        }

        #[test]
        fn any_datagram_is_answered_without_a_panic(received: Vec<u8>, cut: prop::sample::Index) {
            let mut probes = Probes::new(56, TIMEOUT);
            let mut payload = next(&mut probes, 0);
            probes.answers(&received, at(0));
            payload.truncate(cut.index(LEAST));
            payload.extend(received);
            probes.answers(&payload, at(0));
        }

        /// Whatever is lost, late, doubled or out of order, the sums are right, and each answer is
        /// taken for its own probe.
        #[test]
        fn each_answer_belongs_to_its_probe(
            // When each probe is answered after it was sent; twice, if at all.
            delays in proptest::collection::vec(
                (any::<bool>(), 0_u64..30, proptest::option::of(0_u64..30)), 1..60,
            ),
            before in "\\PC{0,9}",
        ) {
            let mut probes = Probes::new(56, TIMEOUT);
            // An answer arrives after a probe that is sent in the same moment.
            let mut events: Vec<(u64, Option<usize>)> = Vec::new();
            for (index, (is_answered, first, second)) in delays.iter().enumerate() {
                let sent = index as u64 * 3;
                events.push((sent, None));
                if *is_answered {
                    events.push((sent + first, Some(index)));
                    events.extend(second.map(|second| (sent + second, Some(index))));
                }
            }
            events.sort_unstable();
            let mut payloads = Vec::new();
            let (mut replies, mut late, mut duplicates, mut lost) = (0, 0, 0, 0);
            for (time, answered) in events {
                while probes.expire(at(time)).is_some() {
                    lost += 1;
                }
                let Some(index) = answered else {
                    payloads.push(next(&mut probes, time));
                    continue;
                };
                let answer = [before.as_bytes(), &payloads[index]].concat();
                let rtt = at(time - index as u64 * 3);
                match probes.answers(&answer, at(time))[0] {
                    Meaning::Reply { number, time } => {
                        prop_assert_eq!((number, time), (index as u64 + 1, rtt));
                        prop_assert!(rtt <= TIMEOUT);
                        replies += 1;
                    }
                    Meaning::Late { number, time } => {
                        prop_assert_eq!((number, time), (index as u64 + 1, rtt));
                        prop_assert!(rtt > TIMEOUT);
                        late += 1;
                    }
                    Meaning::Duplicate { number, .. } => {
                        prop_assert_eq!(number, index as u64 + 1);
                        duplicates += 1;
                    }
                }
            }
            while probes.expire(Duration::MAX).is_some() {
                lost += 1;
            }
            let firsts = delays.iter().filter(|(is_answered, ..)| *is_answered);
            let firsts = firsts.map(|(_, first, second)| first.min(&second.unwrap_or(99)).to_owned());
            let in_time = firsts.clone().filter(|first| at(*first) <= TIMEOUT).count();
            prop_assert_eq!(replies, in_time);
            prop_assert_eq!(late, firsts.clone().count() - in_time);
            let twice = delays.iter().filter(|(is_answered, _, second)| *is_answered && second.is_some());
            prop_assert_eq!(duplicates, twice.count());
            prop_assert_eq!(lost, delays.len() - in_time);
        }
    }
}
