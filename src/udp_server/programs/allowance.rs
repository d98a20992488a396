//! How much a program may send to its peer. The address of a peer can be forged: a datagram must not
//! make the server send many times as much to somebody else.

/// How many times its size a datagram earns (the idea of RFC 9000, section 8).
const FACTOR: usize = 3;

/// What a small datagram earns, in bytes: one datagram that fits into a packet of most networks.
const LEAST: usize = 1400;

/// What a smaller answer counts as, in bytes: its headers (IPv4 and UDP) are as large.
const HEADERS: usize = 28;

/// The account of one peer. It starts without anything.
#[derive(Debug, Default)]
pub struct Allowance {
    /// The bytes that may be sent before the peer is heard again.
    left: usize,
    /// How many datagrams of the peer have come.
    heard: u64,
}

impl Allowance {
    /// A datagram of `size` bytes has come. It earns the same whatever was left: a forger may send many.
    /// A peer that is `trusted` has no limit.
    pub fn hear(&mut self, size: usize, trusted: bool) {
        self.heard += 1;
        self.left = if trusted {
            usize::MAX
        } else {
            LEAST.max(size.saturating_mul(FACTOR))
        };
    }

    /// The most bytes that the next answer may have. 0: none may be sent.
    pub fn left(&self) -> usize {
        self.left
    }

    /// An answer of `size` bytes is sent.
    pub fn spend(&mut self, size: usize) {
        if self.left != usize::MAX {
            self.left = self.left.saturating_sub(size.max(HEADERS));
        }
    }

    /// Whether the peer has sent a second datagram. One that was forged once has not.
    pub fn goes_on(&self) -> bool {
        self.heard > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends answers of `sizes` as a program prints them. Returns how many bytes went, and in how many
    /// answers.
    fn sent(allowance: &mut Allowance, sizes: &[usize]) -> (usize, usize) {
        let (mut bytes, mut answers) = (0, 0);
        for size in sizes {
            let size = (*size).min(allowance.left());
            if size > 0 {
                allowance.spend(size);
                bytes += size;
                answers += 1;
            }
        }
        (bytes, answers)
    }

    fn heard(sizes: &[usize]) -> Allowance {
        let mut allowance = Allowance::default();
        for size in sizes {
            allowance.hear(*size, false);
        }
        allowance
    }

    #[test]
    fn a_datagram_earns_three_times_its_size_or_one_of_1400_bytes() {
        let earned = [0, 1, 466, 467, 1400, 65_507].map(|size| heard(&[size]).left());
        assert_eq!(earned, [1400, 1400, 1400, 1401, 4200, 196_521]);
    }

    #[test]
    fn nothing_is_earned_before_the_first_datagram() {
        assert_eq!(sent(&mut Allowance::default(), &[1, 1]), (0, 0));
    }

    #[test]
    fn a_second_datagram_earns_no_more_than_the_first() {
        assert_eq!(heard(&[1, 1, 1]).left(), 1400);
        assert_eq!(heard(&[1000, 1]).left(), 1400);
        let mut allowance = heard(&[1]);
        allowance.spend(1400);
        assert_eq!(allowance.left(), 0);
        allowance.hear(1, false);
        assert_eq!(allowance.left(), 1400);
    }

    #[test]
    fn small_answers_count_as_much_as_their_headers() {
        assert_eq!(sent(&mut heard(&[1]), &[1; 2000]), (50, 50));
        assert_eq!(sent(&mut heard(&[1]), &[28; 2000]), (1400, 50));
    }

    #[test]
    fn a_trusted_peer_has_no_limit_as_long_as_it_is_trusted() {
        let mut allowance = Allowance::default();
        allowance.hear(0, true);
        for _ in 0..100 {
            allowance.spend(usize::MAX / 2);
        }
        assert_eq!(allowance.left(), usize::MAX);
        allowance.hear(0, false);
        assert_eq!(allowance.left(), 1400);
    }

    #[test]
    fn a_peer_goes_on_from_its_second_datagram() {
        assert!(!heard(&[1]).goes_on());
        assert!(heard(&[1, 0]).goes_on());
    }

    proptest! {
        #[test]
        fn what_is_sent_is_never_more_than_all_datagrams_earned(
            turns in proptest::collection::vec(
                (0_usize..70_000, proptest::collection::vec(1_usize..70_000, 0..40)),
                1..20,
            ),
        ) {
            let mut allowance = Allowance::default();
            for (size, answers) in turns {
                let earned = LEAST.max(FACTOR * size);
                allowance.hear(size, false);
                prop_assert_eq!(allowance.left(), earned);
                let asked: usize = answers.iter().sum();
                let (bytes, count) = sent(&mut allowance, &answers);
                prop_assert!(bytes <= earned && count <= earned.div_ceil(HEADERS));
                // Answers above the headers' size use all that was earned.
                if answers.iter().all(|size| *size >= HEADERS) {
                    prop_assert_eq!(bytes, asked.min(earned));
                }
            }
        }
    }
}
