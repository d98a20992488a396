//! Runs of lost probes, and the outages among them: pure, from what was sent and what became of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// A point in time, by the clock that measures and by the clock that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub at: Instant,
    pub clock: SystemTime,
}

impl Moment {
    /// `at` is not long ago: the two clocks may drift apart.
    pub fn of(at: Instant) -> Self {
        let clock = SystemTime::now();
        let clock = clock.checked_sub(at.elapsed()).unwrap_or(clock);
        Self { at, clock }
    }
}

/// Two or more probes that were lost in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first of them was sent.
    pub start: Moment,
    /// When the next answered probe was sent. `None`: none was answered yet.
    pub end: Option<Moment>,
    pub first: u64,
    pub last: u64,
    /// When the last of them was sent.
    latest: Moment,
}

impl Outage {
    /// From the first lost send to the next answered send. While it lasts: to the last lost send.
    pub fn time(&self) -> Duration {
        let end = self.end.unwrap_or(self.latest);
        end.at.saturating_duration_since(self.start.at)
    }
}

/// What has just become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The second probe in a row was lost.
    Down(Outage),
    /// An outage has ended.
    Up(Outage),
}

/// How many probes wait for their result. The oldest of more counts as lost.
const MOST: usize = 1 << 17;

/// How many outages are remembered one by one. More are only counted.
const MOST_OUTAGES: usize = 100;

/// The losses of one run. The results of probes may come in any order.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// From the first probe on whose result is not known.
    window: VecDeque<(Moment, Fate)>,
    /// How many probes were sent before them.
    settled: u64,
    /// The probes that were lost in a row until now.
    run: Option<Outage>,
    /// The first of those that have ended.
    ended: Vec<Outage>,
    ended_total: u64,
    ended_time: Duration,
    longest: Option<Outage>,
    /// Runs of one lost probe or more.
    pub bursts: u64,
    /// The probes of the longest of these runs.
    pub longest_burst: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Answered,
    Lost,
}

impl Outages {
    /// The next probe was sent.
    pub fn sent(&mut self, at: Moment) -> Vec<Change> {
        self.window.push_back((at, Fate::Waiting));
        if self.window.len() > MOST {
            return self.lost(self.settled + 1);
        }
        Vec::new()
    }

    /// A probe was answered in time.
    pub fn answered(&mut self, number: u64) -> Vec<Change> {
        // An answer may contradict the network, which said that the probe did not arrive.
        self.learn(number, Fate::Answered, &[Fate::Waiting, Fate::Lost])
    }

    /// A probe was not sent, did not arrive, or was not answered in time.
    pub fn lost(&mut self, number: u64) -> Vec<Change> {
        self.learn(number, Fate::Lost, &[Fate::Waiting])
    }

    /// Forgets the probes that wait for their result, as if they had not been sent.
    pub fn finish(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((sent, fate)) = self.window.pop_front() {
            self.settled += 1;
            changes.extend(self.settle(sent, fate));
        }
        changes
    }

    /// How many outages there were, with that which still lasts.
    pub fn total(&self) -> u64 {
        self.ended_total + u64::from(self.lasting().is_some())
    }

    /// The time of all of them, and whether it is the least, as one still lasts.
    pub fn time(&self) -> (Duration, bool) {
        let lasting = self.lasting();
        let time = lasting.map_or(Duration::ZERO, Outage::time);
        (self.ended_time + time, lasting.is_some())
    }

    /// The one that still lasts.
    pub fn lasting(&self) -> Option<&Outage> {
        self.run.as_ref().filter(|run| run.first < run.last)
    }

    /// The longest; of equals the first.
    pub fn longest(&self) -> Option<&Outage> {
        let all = self.lasting().into_iter().chain(&self.longest);
        all.max_by_key(|outage| outage.time())
    }

    /// The first of all, in order.
    pub fn first_ones(&self) -> impl Iterator<Item = &Outage> {
        self.ended.iter().chain(self.lasting()).take(MOST_OUTAGES)
    }

    fn learn(&mut self, number: u64, fate: Fate, before: &[Fate]) -> Vec<Change> {
        let index = number.checked_sub(self.settled + 1);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let probe = index.and_then(|index| self.window.get_mut(index));
        let Some((_, known)) = probe.filter(|(_, known)| before.contains(known)) else {
            return Vec::new();
        };
        *known = fate;
        let mut changes = Vec::new();
        while let Some(&(sent, fate)) = self.window.front()
            && fate != Fate::Waiting
        {
            self.window.pop_front();
            self.settled += 1;
            changes.extend(self.settle(sent, fate));
        }
        changes
    }

    /// Adds the next probe, number `settled`.
    fn settle(&mut self, sent: Moment, fate: Fate) -> Option<Change> {
        match (fate, &mut self.run) {
            (Fate::Waiting, _) | (Fate::Answered, None) => None,
            (Fate::Answered, Some(_)) => self.end_run(sent),
            (Fate::Lost, None) => {
                self.bursts += 1;
                self.longest_burst = self.longest_burst.max(1);
                self.run = Some(Outage {
                    start: sent,
                    end: None,
                    first: self.settled,
                    last: self.settled,
                    latest: sent,
                });
                None
            }
            (Fate::Lost, Some(run)) => {
                let is_second = run.first == run.last;
                (run.last, run.latest) = (self.settled, sent);
                self.longest_burst = self.longest_burst.max(run.last - run.first + 1);
                is_second.then_some(Change::Down(*run))
            }
        }
    }

    fn end_run(&mut self, answered: Moment) -> Option<Change> {
        let mut outage = self.run.take().filter(|run| run.first < run.last)?;
        outage.end = Some(answered);
        self.ended_total += 1;
        self.ended_time += outage.time();
        if self.ended.len() < MOST_OUTAGES {
            self.ended.push(outage);
        }
        if self
            .longest
            .is_none_or(|longest| longest.time() < outage.time())
        {
            self.longest = Some(outage);
        }
        Some(Change::Up(outage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Probe `number` is sent so many seconds after the start.
    fn moment(number: u64) -> Moment {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let seconds = Duration::from_secs(number);
        Moment {
            at: *START.get_or_init(Instant::now) + seconds,
            clock: SystemTime::UNIX_EPOCH + seconds,
        }
    }

    /// The outages among probes 1, 2 and so on, from the definition.
    fn expected(answered: &[bool]) -> (Vec<Outage>, Vec<u64>) {
        let mut outages = Vec::new();
        let mut runs = Vec::new();
        let mut number = 0;
        for run in answered.chunk_by(|a, b| a == b) {
            let length = run.len() as u64;
            let (first, last) = (number + 1, number + length);
            number = last;
            if run[0] {
                continue;
            }
            runs.push(length);
            if length > 1 {
                let is_over = last < answered.len() as u64;
                outages.push(Outage {
                    start: moment(first),
                    end: is_over.then(|| moment(last + 1)),
                    first,
                    last,
                    latest: moment(last),
                });
            }
        }
        (outages, runs)
    }

    #[test]
    fn one_lost_probe_is_no_outage_and_two_are() {
        let mut outages = Outages::default();
        for number in 1..=5 {
            assert_eq!(outages.sent(moment(number)), []);
        }
        assert_eq!(outages.lost(1), []);
        assert_eq!(outages.answered(2), []);
        assert_eq!((outages.total(), outages.bursts), (0, 1));
        assert_eq!(outages.lost(3), []);
        let [Change::Down(down)] = outages.lost(4)[..] else {
            panic!("it should be down");
        };
        assert_eq!((down.first, down.last, down.end), (3, 4, None));
        let [Change::Up(up)] = outages.answered(5)[..] else {
            panic!("it should be up");
        };
        assert_eq!(
            (up.end, up.time()),
            (Some(moment(5)), Duration::from_secs(2))
        );
        assert_eq!((outages.total(), outages.longest_burst), (1, 2));
    }

    #[test]
    fn a_late_answer_does_not_end_an_outage_and_an_early_one_undoes_a_refusal() {
        let mut outages = Outages::default();
        for number in 1..=3 {
            outages.sent(moment(number));
        }
        // The first still waits. The second is refused and answered all the same.
        outages.lost(2);
        outages.answered(2);
        assert_eq!(outages.lost(1), []);
        assert_eq!(outages.lost(3), []);
        // Probe 3 has been counted.
        assert_eq!(outages.answered(3), []);
        assert_eq!((outages.bursts, outages.longest_burst), (2, 1));
    }

    #[test]
    fn the_oldest_of_too_many_waiting_probes_counts_as_lost() {
        let mut outages = Outages::default();
        let most = MOST as u64;
        for number in 1..=most + 2 {
            outages.sent(moment(number));
        }
        assert_eq!(outages.window.len(), MOST);
        assert_eq!(outages.lasting().map(|outage| outage.last), Some(2));
        assert_eq!(outages.answered(1), []);
    }

    #[test]
    fn the_first_hundred_are_told_and_all_are_counted() {
        let mut outages = Outages::default();
        for number in 1..=450 {
            outages.sent(moment(number));
            if number % 3 == 0 {
                outages.answered(number);
            } else {
                outages.lost(number);
            }
        }
        assert_eq!((outages.total(), outages.first_ones().count()), (150, 100));
        assert_eq!(outages.time(), (Duration::from_secs(300), false));
        assert_eq!(outages.longest().map(|longest| longest.first), Some(1));
    }

    proptest! {
        /// Results come in any order, and some never.
        #[test]
        fn outages_are_those_of_the_definition(
            (fates, order) in proptest::collection::vec(
                prop_oneof![
                    3 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None),
                ],
                0..60,
            )
            .prop_flat_map(|fates| {
                let order: Vec<usize> = (0..fates.len()).collect();
                (Just(fates), Just(order).prop_shuffle())
            }),
        ) {
            let mut outages = Outages::default();
            let mut changes = Vec::new();
            for index in 0..fates.len() {
                changes.extend(outages.sent(moment(index as u64 + 1)));
            }
            for index in order {
                changes.extend(match fates[index] {
                    Some(true) => outages.answered(index as u64 + 1),
                    Some(false) => outages.lost(index as u64 + 1),
                    None => Vec::new(),
                });
            }
            changes.extend(outages.finish());
            if fates.iter().all(Option::is_some) {
                let answered: Vec<bool> = fates.iter().flatten().copied().collect();
                let (expected, runs) = expected(&answered);
                prop_assert_eq!(outages.first_ones().copied().collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(outages.total(), expected.len() as u64);
                prop_assert_eq!(outages.bursts, runs.len() as u64);
                prop_assert_eq!(outages.longest_burst, runs.iter().max().copied().unwrap_or(0));
                let time = expected.iter().map(Outage::time).sum::<Duration>();
                prop_assert_eq!(outages.time().0, time);
                let ups = expected.iter().filter(|outage| outage.end.is_some());
                let told = |change: &&Change| matches!(change, Change::Up(_));
                prop_assert_eq!(changes.iter().filter(told).count(), ups.count());
            }
            // Each outage begins before it ends.
            let told: Vec<bool> = changes.iter().map(|change| matches!(change, Change::Up(_))).collect();
            prop_assert!(told.iter().enumerate().all(|(index, is_up)| *is_up == (index % 2 == 1)));
            prop_assert_eq!(told.len() as u64, outages.total() * 2 - u64::from(outages.lasting().is_some()));
            prop_assert!(outages.window.is_empty());
        }
    }
}
