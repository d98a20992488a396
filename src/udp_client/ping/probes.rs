//! Which probe an answer belongs to, and which probes are still awaited.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ping::{Answer, Kind};
use crate::udp_client::token::Tokens;

/// How many probes are remembered. With the default time limit no awaited probe is forgotten while
/// fewer than this are sent in a second.
const MOST: usize = 1 << 17;

/// At the end, late answers are awaited for the time limit again, but no longer than this. If the
/// slowest late answer took longer, so does the wait, up to the second limit.
const LINGER: Duration = Duration::from_secs(2);
const MOST_LINGER: Duration = Duration::from_secs(10);

/// All probes of one run. Reads no clock.
pub struct Probes {
    tokens: Tokens,
    timeout: Duration,
    /// The last that were sent, in order.
    window: VecDeque<Probe>,
    /// The number of probes sent before them.
    forgotten: u64,
    /// Probes 1 to `settled` are no longer awaited.
    settled: u64,
    /// The longest time of a late answer.
    slowest: Duration,
}

struct Probe {
    sent: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The network said that it did not arrive.
    Refused,
    /// Its time limit has passed.
    Lost,
    Answered,
}

impl Probes {
    /// Probes of `size` bytes, at least `token::LEAST`. One is lost `timeout` after it was sent.
    pub fn new(size: usize, timeout: Duration) -> Self {
        Self {
            tokens: Tokens::new(size),
            timeout,
            window: VecDeque::new(),
            forgotten: 0,
            settled: 0,
            slowest: Duration::ZERO,
        }
    }

    /// How many were sent, which is the number of the last.
    pub fn sent(&self) -> u64 {
        self.forgotten + self.window.len() as u64
    }

    /// How many are neither answered, nor refused, nor lost.
    pub fn in_flight(&self) -> u64 {
        let waiting = |probe: &&Probe| probe.state == State::Waiting;
        self.window.iter().filter(waiting).count() as u64
    }

    /// The payload of the next probe.
    pub fn payload(&mut self) -> &[u8] {
        self.tokens.payload(self.sent() + 1)
    }

    /// The next probe was sent at `at`.
    pub fn send(&mut self, at: Instant) {
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

    /// Makes a probe lost whose time limit has passed at `now`. Returns its number; `None`: there is
    /// none any more.
    pub fn expire(&mut self, now: Instant) -> Option<u64> {
        self.next_expiry().filter(|at| *at <= now)?;
        self.settle_first(State::Lost)
    }

    /// When the time limit of the first awaited probe passes. `None`: no probe is awaited.
    pub fn next_expiry(&mut self) -> Option<Instant> {
        let number = self.first_waiting()?;
        Some(self.probe(number)?.sent + self.timeout)
    }

    /// Until when to wait for a late answer to the last lost probe. `None`: none is lost.
    pub fn end_of_linger(&self) -> Option<Instant> {
        let mut last_first = self.window.iter().rev();
        let lost = last_first.find(|probe| probe.state == State::Lost)?;
        let keep = self.slowest.max(self.timeout) + self.timeout.min(LINGER);
        Some(lost.sent + keep.min(self.timeout + MOST_LINGER))
    }

    /// The network said that a probe did not arrive, but not which: take the first awaited one.
    pub fn refuse(&mut self) -> Option<u64> {
        self.settle_first(State::Refused)
    }

    /// The probe sent last did not leave.
    pub fn refuse_last(&mut self) {
        if let Some(last) = self.window.back_mut() {
            last.state = State::Refused;
        }
    }

    /// Whether the probe sent last was neither answered nor refused.
    pub fn awaits_last(&self) -> bool {
        let last = self.window.back();
        last.is_some_and(|probe| matches!(probe.state, State::Waiting | State::Lost))
    }

    /// The answers in `received`, which arrived at `at`: one for each known probe whose token it
    /// contains. Some servers send several back at once. Call [`Self::expire`] for `at` before.
    pub fn answers(&mut self, received: &[u8], at: Instant) -> Vec<Answer> {
        let numbers = self.tokens.numbers(received).into_iter();
        numbers
            .filter_map(|number| self.answer(number, at))
            .collect()
    }

    fn answer(&mut self, number: u64, at: Instant) -> Option<Answer> {
        let timeout = self.timeout;
        let probe = self.probe(number)?;
        let time = at.saturating_duration_since(probe.sent);
        let kind = match probe.state {
            State::Answered => Kind::Duplicate,
            State::Waiting => Kind::Reply,
            State::Refused if time < timeout => Kind::Reply,
            State::Refused | State::Lost => Kind::Late,
        };
        probe.state = State::Answered;
        if kind == Kind::Late {
            self.slowest = self.slowest.max(time);
        }
        Some(Answer { kind, number, time })
    }

    /// Ends the wait for the first awaited probe. Returns its number.
    fn settle_first(&mut self, state: State) -> Option<u64> {
        let number = self.first_waiting()?;
        self.probe(number)?.state = state;
        Some(number)
    }

    fn first_waiting(&mut self) -> Option<u64> {
        while self.probe(self.settled + 1)?.state != State::Waiting {
            self.settled += 1;
        }
        Some(self.settled + 1)
    }

    fn probe(&mut self, number: u64) -> Option<&mut Probe> {
        let index = number.checked_sub(self.forgotten + 1)?;
        self.window.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::udp_client::token::LEAST;

    const TIMEOUT: Duration = Duration::from_millis(10);

    /// A point in time, so many milliseconds after the first.
    fn at(millis: u64) -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(millis)
    }

    fn next(probes: &mut Probes, millis: u64) -> Vec<u8> {
        let payload = probes.payload().to_vec();
        probes.send(at(millis));
        payload
    }

    fn answer(kind: Kind, number: u64, millis: u64) -> Answer {
        let time = Duration::from_millis(millis);
        Answer { kind, number, time }
    }

    #[test]
    fn an_answer_is_a_reply_once_and_then_a_duplicate() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 1);
        let two = next(&mut probes, 2);
        let greeting = [b"Hello, ", two.as_slice(), b"!"].concat();
        let cases = [
            (&greeting, 5, answer(Kind::Reply, 2, 3)),
            (&two, 6, answer(Kind::Duplicate, 2, 4)),
            (&one, 7, answer(Kind::Reply, 1, 6)),
        ];
        for (received, millis, expected) in cases {
            assert_eq!(probes.answers(received, at(millis)), [expected]);
        }
        assert_eq!(probes.next_expiry(), None);
    }

    #[test]
    fn an_answer_after_the_time_limit_is_late_and_only_once() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 1);
        assert_eq!(probes.next_expiry(), Some(at(11)));
        assert_eq!(probes.expire(at(10)), None);
        assert_eq!(probes.expire(at(11)), Some(1));
        assert_eq!(probes.expire(at(11)), None);
        let late = answer(Kind::Late, 1, 20);
        assert_eq!(probes.answers(&one, at(21)), [late]);
        let duplicate = answer(Kind::Duplicate, 1, 20);
        assert_eq!(probes.answers(&one, at(21)), [duplicate]);
    }

    #[test]
    fn late_answers_are_awaited_as_long_again_or_as_long_as_the_slowest_took() {
        let mut probes = Probes::new(56, TIMEOUT);
        let one = next(&mut probes, 1);
        assert_eq!(probes.end_of_linger(), None);
        probes.expire(at(11));
        assert_eq!(probes.end_of_linger(), Some(at(21)));
        probes.answers(&one, at(31));
        assert_eq!(probes.end_of_linger(), None);
        let two = next(&mut probes, 40);
        probes.expire(at(50));
        assert_eq!(probes.end_of_linger(), Some(at(80)));
        probes.answers(&two, at(60_000));
        next(&mut probes, 60_000);
        probes.expire(at(60_010));
        assert_eq!(probes.end_of_linger(), Some(at(70_010)));
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
        assert_eq!(probes.answers(&one, at(9)), [answer(Kind::Reply, 1, 9)]);
    }

    #[test]
    fn one_datagram_may_answer_several() {
        let mut probes = Probes::new(56, TIMEOUT);
        let both = [next(&mut probes, 0), next(&mut probes, 1)].concat();
        let replies = [(1, 3), (2, 2)].map(|(number, time)| answer(Kind::Reply, number, time));
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
        fn any_datagram_is_answered_without_a_panic(received: Vec<u8>, cut: prop::sample::Index) {
            let mut probes = Probes::new(56, TIMEOUT);
            let mut payload = next(&mut probes, 0);
            probes.answers(&received, at(0));
            payload.truncate(cut.index(LEAST));
            payload.extend(received);
            probes.answers(&payload, at(0));
        }

        /// Answers may be lost, late, doubled or out of order.
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
            for (time, index) in events {
                while probes.expire(at(time)).is_some() {
                    lost += 1;
                }
                let Some(index) = index else {
                    payloads.push(next(&mut probes, time));
                    continue;
                };
                let answered = [before.as_bytes(), &payloads[index]].concat();
                let rtt = time - index as u64 * 3;
                let found = probes.answers(&answered, at(time))[0];
                prop_assert_eq!(found, answer(found.kind, index as u64 + 1, rtt));
                match found.kind {
                    Kind::Reply => {
                        prop_assert!(found.time < TIMEOUT);
                        replies += 1;
                    }
                    Kind::Late => {
                        prop_assert!(found.time >= TIMEOUT);
                        late += 1;
                    }
                    Kind::Duplicate => duplicates += 1,
                }
            }
            while probes.expire(at(1_000_000)).is_some() {
                lost += 1;
            }
            let firsts = delays.iter().filter(|(is_answered, ..)| *is_answered);
            let firsts = firsts.map(|(_, first, second)| first.min(&second.unwrap_or(99)).to_owned());
            let in_time = firsts.clone().filter(|first| Duration::from_millis(*first) < TIMEOUT).count();
            prop_assert_eq!(replies, in_time);
            prop_assert_eq!(late, firsts.clone().count() - in_time);
            let twice = delays.iter().filter(|(is_answered, _, second)| *is_answered && second.is_some());
            prop_assert_eq!(duplicates, twice.count());
            prop_assert_eq!(lost, delays.len() - in_time);
        }
    }
}
