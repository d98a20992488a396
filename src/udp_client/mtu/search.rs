//! Which packet size to try next: pure, from what became of those that were tried.

/// Sizes that many paths have: the least that IPv4 and IPv6 hosts must take, `PPPoE`, Ethernet, jumbo
/// frames.
const LADDER: [usize; 5] = [576, 1280, 1492, 1500, 9000];

/// How often a size is tried before it counts as too large: a packet may be lost for other reasons.
pub const TRIES: u32 = 3;

/// Sizes are those of packets, with their headers.
pub struct Search {
    least: usize,
    /// The largest that was answered.
    answered: Option<usize>,
    /// The smallest that was not.
    failed: usize,
    /// The smallest that the interface did not take.
    refused: usize,
    /// The size that was tried last, and how often.
    tried: (usize, u32),
    /// What a router has told.
    hint: Option<usize>,
}

impl Search {
    /// Between these sizes.
    pub fn new(least: usize, most: usize) -> Self {
        Self {
            least,
            answered: None,
            failed: most + 1,
            refused: most + 1,
            tried: (0, 0),
            hint: None,
        }
    }

    /// The size to try next. `None`: all is known.
    pub fn next(&self) -> Option<usize> {
        let Some(answered) = self.answered else {
            return (self.failed > self.least).then_some(self.least);
        };
        let between = |size: &usize| (answered + 1..self.failed).contains(size);
        // That a router has told a size does not show that no larger one passes.
        let above_hint = self.hint.filter(|hint| *hint == answered);
        let hints = self.hint.into_iter().chain(above_hint.map(|hint| hint + 1));
        let known = hints.chain(LADDER);
        let middle = answered.midpoint(self.failed);
        known.into_iter().chain([middle]).find(between)
    }

    /// A packet of this size was answered.
    pub fn answered(&mut self, size: usize) {
        if self.answered.is_some_and(|answered| answered >= size) {
            return;
        }
        self.answered = Some(size);
        if size >= self.failed {
            // The answer came after its time limit.
            self.failed = self.refused;
        }
    }

    /// A packet of this size was not answered.
    pub fn unanswered(&mut self, size: usize) {
        let (last, tries) = self.tried;
        let tries = if size == last { tries + 1 } else { 1 };
        self.tried = (size, tries);
        if tries == TRIES {
            self.fail(size);
        }
    }

    /// The interface took no packet of this size.
    pub fn refused(&mut self, size: usize) {
        self.refused = self.refused.min(size);
        self.fail(size);
    }

    /// A router has told that packets of `size` pass. It may be wrong.
    pub fn told(&mut self, size: usize) {
        if self.hint != Some(size) && self.answered <= Some(size) && size < self.failed {
            self.hint = Some(size);
        }
    }

    /// The largest size that was answered.
    pub fn found(&self) -> Option<usize> {
        self.answered
    }

    /// The largest size that the interface may take.
    pub fn limit(&self) -> usize {
        self.refused - 1
    }

    fn fail(&mut self, size: usize) {
        self.failed = self.failed.min(size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A path that carries `mtu` behind an interface that takes `interface`. A router tells `told`.
    /// `lost` are the tries that get lost for other reasons, never all of one size.
    fn find(mtu: usize, interface: usize, told: Option<usize>, lost: &[bool]) -> (Search, usize) {
        let mut search = Search::new(44, 65_535);
        let mut losses = lost.iter().cycle();
        let (mut sent, mut tries) = (0, 0);
        let mut before = 0;
        while let Some(size) = search.next() {
            tries = if size == before { tries + 1 } else { 1 };
            before = size;
            if size > interface {
                search.refused(size);
                continue;
            }
            sent += 1;
            let is_lost = *losses.next().unwrap_or(&false) && tries < TRIES;
            if size <= mtu && !is_lost {
                search.answered(size);
            } else {
                if size > mtu
                    && let Some(told) = told
                {
                    search.told(told);
                }
                search.unanswered(size);
            }
        }
        (search, sent)
    }

    #[test]
    fn common_paths_take_few_packets() {
        for (mtu, interface, hint, most) in [
            (1500, 1500, None, 5),
            (1500, 9000, None, 44),
            (9000, 9000, None, 6),
            (1492, 1500, Some(1492), 8),
            (1420, 1500, Some(1420), 14),
            (1420, 1500, None, 24),
        ] {
            let (search, sent) = find(mtu, interface, hint, &[]);
            assert_eq!(search.found(), Some(mtu));
            assert!(sent <= most, "{mtu} of {interface}: {sent}");
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_answers() {
        let (search, sent) = find(0, 1500, None, &[]);
        assert_eq!((search.found(), sent), (None, 3));
    }

    #[test]
    fn an_answer_after_its_time_limit_counts() {
        let mut search = Search::new(44, 2000);
        search.answered(44);
        (0..TRIES).for_each(|_| search.unanswered(576));
        assert_eq!(search.next(), Some(310));
        search.answered(576);
        assert_eq!((search.found(), search.next()), (Some(576), Some(1280)));
    }

    proptest! {
        #[test]
        fn the_size_is_found_whatever_routers_tell_and_although_packets_are_lost(
            mtu in 44_usize..=65_535,
            interface in 44_usize..=65_536,
            hint in proptest::option::of(0_usize..70_000),
            lost in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let (search, sent) = find(mtu, interface, hint, &lost);
            prop_assert_eq!(search.found(), Some(mtu.min(interface)));
            prop_assert!(search.limit() >= interface.min(65_535));
            prop_assert!(sent <= 100, "{}", sent);
        }

        #[test]
        fn it_ends_whatever_comes(events in proptest::collection::vec((0_u8..4, 44_usize..70_000), 0..200)) {
            let mut search = Search::new(44, 65_535);
            for (event, size) in events {
                match event {
                    0 => search.answered(size.min(65_535)),
                    1 => search.refused(size),
                    2 => search.told(size),
                    _ => search.unanswered(size),
                }
            }
            let mut left = 0;
            while let Some(size) = search.next() {
                search.unanswered(size);
                left += 1;
                prop_assert!(left < 100);
            }
        }
    }
}
