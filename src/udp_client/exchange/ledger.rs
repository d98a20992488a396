//! Which datagram an answer belongs to, where only its content can tell.

/// What a datagram that has arrived is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer that is waited for.
    Answer,
    /// The answer that is waited for, or that to an earlier datagram: nothing tells.
    Doubtful,
    /// About the earlier datagram with this index: its answer comes late, or comes again.
    Earlier(usize),
    /// Nothing that was asked for.
    Unexpected,
}

/// A datagram that was sent before.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'a> {
    pub payload: &'a [u8],
    /// The answer to it, if there was one.
    pub answer: Option<&'a [u8]>,
    /// Whether an answer may still come: it was not answered as often as it was sent.
    pub owed: bool,
}

/// Judges what arrived on a socket while `awaited` was waited for; `earlier` was sent on the same
/// socket, to which more has come than was asked for if it is `crowded`.
///
/// What holds an earlier payload belongs to that one, if its answer may still come, if it repeats
/// the answer that came, or if it is that payload and nothing else. It does not if it holds the
/// awaited payload and the earlier one is only a part of that.
///
/// What is left answers `awaited` for certain if it holds that, or if the others were answered. It
/// is doubtful if it holds nothing that tells (or what was asked twice) while the answer to an
/// earlier one may still come, or on a crowded socket.
///
/// So an answer that was still to come is never taken for another's. A second answer to an earlier
/// datagram is, if it does not belong to that one as said above; but only once: the answer to
/// `awaited` is then one too many itself, and the socket is crowded.
pub fn judge(
    received: &[u8],
    awaited: Option<&[u8]>,
    earlier: &[Earlier<'_>],
    crowded: bool,
) -> Verdict {
    let is_explained = |payload: &[u8]| {
        awaited.is_some_and(|awaited| contains(received, awaited) && contains(awaited, payload))
    };
    let belongs = |earlier: &Earlier<'_>| {
        (earlier.owed || earlier.answer == Some(received) || earlier.payload == received)
            && repeats(received, earlier.payload)
            && !is_explained(earlier.payload)
    };
    if let Some(index) = earlier.iter().position(belongs) {
        return Verdict::Earlier(index);
    }
    if let Some(awaited) = awaited {
        let owed = || earlier.iter().filter(|earlier| earlier.owed);
        let is_sure =
            repeats(received, awaited) && owed().all(|earlier| earlier.payload != awaited);
        return if is_sure || !crowded && owed().next().is_none() {
            Verdict::Answer
        } else {
            Verdict::Doubtful
        };
    }
    // It says nothing by itself; but if only one answer can still come, it is this.
    let mut owed = (0..earlier.len()).filter(|&index| earlier[index].owed);
    match (owed.next(), owed.next()) {
        (Some(index), None) => Verdict::Earlier(index),
        _ => Verdict::Unexpected,
    }
}

/// Whether an answer says by itself what was asked.
pub fn repeats(answer: &[u8], payload: &[u8]) -> bool {
    !payload.is_empty() && contains(answer, payload)
}

/// The empty payload is part of everything.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// On a socket to which no more has come than was asked for.
    fn judge(received: &[u8], awaited: Option<&[u8]>, earlier: &[Earlier<'_>]) -> Verdict {
        super::judge(received, awaited, earlier, false)
    }

    fn hello(payload: &[u8]) -> Vec<u8> {
        [b"Hello, ", payload, b"!"].concat()
    }

    fn owed(payload: &[u8]) -> Earlier<'_> {
        Earlier {
            payload,
            answer: None,
            owed: true,
        }
    }

    fn answered<'a>(payload: &'a [u8], answer: &'a [u8]) -> Earlier<'a> {
        Earlier {
            payload,
            answer: Some(answer),
            owed: false,
        }
    }

    #[test]
    fn an_answer_to_an_earlier_datagram_is_late() {
        let earlier = [owed(b"Anna"), owed(b"Michael")];
        let verdict = judge(&hello(b"Michael"), Some(b"Tracy"), &earlier);
        assert_eq!(verdict, Verdict::Earlier(1));
    }

    #[test]
    fn an_answer_that_comes_twice_is_no_answer_to_the_next() {
        let earlier = [answered(b"a", b"Hello, a!")];
        let judge = |received: &[u8]| judge(received, Some(b"b"), &earlier);
        assert_eq!(judge(b"Hello, a!"), Verdict::Earlier(0));
        assert_eq!(judge(b"Hello, b!"), Verdict::Answer);
        assert_eq!(judge(b"alpha"), Verdict::Answer);
    }

    #[test]
    fn a_server_may_always_answer_the_same() {
        let earlier = [answered(b"one", b"OK")];
        assert_eq!(judge(b"OK", Some(b"two"), &earlier), Verdict::Answer);
    }

    #[test]
    fn an_earlier_payload_may_be_part_of_the_awaited_one() {
        let judge = |received: &[u8], awaited, earlier| judge(received, Some(awaited), &[earlier]);
        assert_eq!(judge(b"Hello, 10!", b"10", owed(b"1")), Verdict::Answer);
        assert_eq!(judge(b"Hello, 1!", b"10", owed(b"1")), Verdict::Earlier(0));
        assert_eq!(judge(b"Hello, 10!", b"1", owed(b"10")), Verdict::Earlier(0));
    }

    #[test]
    fn an_echo_of_an_earlier_datagram_is_no_answer_to_the_next() {
        let earlier = [answered(b"one", b"banner")];
        assert_eq!(judge(b"one", Some(b"two"), &earlier), Verdict::Earlier(0));
        assert_eq!(judge(b"one", Some(b"one"), &earlier), Verdict::Answer);
        assert_eq!(judge(b"one more", Some(b"two"), &earlier), Verdict::Answer);
    }

    #[test]
    fn what_repeats_nothing_is_doubtful_while_an_earlier_answer_may_still_come() {
        let judge = |received: &[u8], awaited, earlier| judge(received, Some(awaited), &[earlier]);
        assert_eq!(judge(b"12:34", b"time", owed(b"date")), Verdict::Doubtful);
        assert_eq!(judge(b"12:34", b"", owed(b"date")), Verdict::Doubtful);
        assert_eq!(judge(b"", b"time", owed(b"")), Verdict::Doubtful);
        assert_eq!(judge(b"time 12:34", b"time", owed(b"")), Verdict::Answer);
        let date = answered(b"date", b"7.3.");
        assert_eq!(judge(b"12:34", b"time", date), Verdict::Answer);
    }

    #[test]
    fn what_was_asked_twice_tells_nothing() {
        let verdict = judge(b"Hello, a!", Some(b"a"), &[owed(b"a")]);
        assert_eq!(verdict, Verdict::Doubtful);
    }

    #[test]
    fn what_repeats_nothing_is_doubtful_where_more_comes_than_is_asked_for() {
        let judge = |received: &[u8]| {
            super::judge(received, Some(b"time"), &[answered(b"date", b"7.3.")], true)
        };
        assert_eq!(judge(b"12:34"), Verdict::Doubtful);
        assert_eq!(judge(b"time 12:34"), Verdict::Answer);
    }

    #[test]
    fn while_nothing_is_waited_for_nothing_is_an_answer() {
        let judge = |received: &[u8], earlier: &[Earlier<'_>]| judge(received, None, earlier);
        assert_eq!(judge(b"12:34", &[]), Verdict::Unexpected);
        assert_eq!(judge(b"12:34", &[owed(b"time")]), Verdict::Earlier(0));
        let two = [owed(b"time"), owed(b"date")];
        assert_eq!(judge(b"12:34", &two), Verdict::Unexpected);
        assert_eq!(judge(b"date", &two), Verdict::Earlier(1));
        let answered = [answered(b"time", b"12:34")];
        assert_eq!(judge(b"12:34", &answered), Verdict::Unexpected);
    }

    /// Payloads that no part of a greeting can be mistaken for.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(b'1'..=b'3', 1..4)
    }

    proptest! {
        #[test]
        fn where_nothing_else_was_sent_everything_is_the_answer(received: Vec<u8>, awaited: Vec<u8>) {
            prop_assert_eq!(judge(&received, Some(&awaited), &[]), Verdict::Answer);
        }

        #[test]
        fn a_late_or_doubled_answer_is_never_taken_for_anothers(
            awaited in payload(),
            earlier in proptest::collection::vec((payload(), any::<bool>()), 1..5),
            index: prop::sample::Index,
        ) {
            let echo = <[u8]>::to_vec as fn(&[u8]) -> _;
            let (again, _) = index.get(&earlier);
            prop_assume!(*again != awaited);
            for service in [hello, echo] {
                let answers: Vec<Vec<u8>> = earlier.iter().map(|(payload, _)| service(payload)).collect();
                let earlier: Vec<Earlier<'_>> = earlier
                    .iter()
                    .zip(&answers)
                    .map(|((payload, is_owed), answer)| if *is_owed { owed(payload) } else { answered(payload, answer) })
                    .collect();
                let verdict = judge(&service(again), Some(&awaited), &earlier);
                prop_assert!(matches!(verdict, Verdict::Earlier(_)), "{:?}", verdict);
            }
        }

        #[test]
        fn an_answer_that_is_still_to_come_is_never_taken_for_anothers(
            received: Vec<u8>,
            awaited: Vec<u8>,
            earlier: Vec<u8>,
        ) {
            prop_assume!(!repeats(&received, &awaited));
            let verdict = judge(&received, Some(&awaited), &[owed(&earlier)]);
            prop_assert_ne!(verdict, Verdict::Answer);
        }

        #[test]
        fn an_answer_is_taken_whatever_shorter_ones_were_sent_before(
            awaited in payload(),
            earlier in proptest::collection::vec(payload(), 0..5),
        ) {
            let is_other = |earlier: &Vec<u8>| earlier.len() <= awaited.len() && *earlier != awaited;
            prop_assume!(earlier.iter().all(is_other));
            let earlier: Vec<Earlier<'_>> = earlier.iter().map(|payload| owed(payload)).collect();
            prop_assert_eq!(judge(&hello(&awaited), Some(&awaited), &earlier), Verdict::Answer);
        }
    }
}
