//! Whether answers come in the order of their probes: RFC 4737, sections 3 and 4.2.

use std::collections::VecDeque;

/// How many of the highest numbers are remembered. An extent beyond them is told too small.
const MOST: usize = 1024;

#[derive(Clone, Debug, Default)]
pub struct Order {
    arrivals: u64,
    /// Each number that was higher than all before it, after the position at which it arrived.
    records: VecDeque<(u64, u64)>,
    /// Answers with a number below the highest that arrived before them.
    pub reordered: u64,
    /// The most positions that one of them came too late.
    pub extent: u64,
}

impl Order {
    /// The first answer to probe `number` arrives.
    pub fn arrived(&mut self, number: u64) {
        self.arrivals += 1;
        // The first of the higher numbers was the highest when it arrived.
        let higher = self.records.partition_point(|(_, record)| *record < number);
        if let Some((position, _)) = self.records.get(higher) {
            self.reordered += 1;
            self.extent = self.extent.max(self.arrivals - position);
            return;
        }
        if self.records.len() == MOST {
            self.records.pop_front();
        }
        self.records.push_back((self.arrivals, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(numbers: &[u64]) -> (u64, u64) {
        let mut order = Order::default();
        for number in numbers {
            order.arrived(*number);
        }
        (order.reordered, order.extent)
    }

    #[test]
    fn an_answer_is_reordered_if_a_later_probe_was_answered_before_it() {
        assert_eq!(of(&[1, 2, 3, 4, 5]), (0, 0));
        assert_eq!(of(&[1, 2, 3, 7, 8, 9, 10, 4, 5, 6, 11]), (3, 6));
        assert_eq!(of(&[1, 2, 4, 5, 3]), (1, 2));
    }

    proptest! {
        #[test]
        fn the_numbers_are_those_of_the_definition(
            numbers in Just((1_u64..40).collect::<Vec<_>>()).prop_shuffle(),
            count in 0_usize..40,
        ) {
            let numbers = &numbers[..count.min(numbers.len())];
            let extents = numbers.iter().enumerate().filter_map(|(index, number)| {
                let earliest = numbers[..index].iter().position(|other| other > number)?;
                Some((index - earliest) as u64)
            });
            let extents: Vec<u64> = extents.collect();
            let expected = (extents.len() as u64, extents.iter().max().copied().unwrap_or(0));
            prop_assert_eq!(of(numbers), expected);
        }

        #[test]
        fn what_is_remembered_does_not_grow(numbers in proptest::collection::vec(1_u64..9, 1..9)) {
            let mut order = Order::default();
            let mut highest = 0;
            for number in numbers.iter().cycle().take(5000) {
                highest += number;
                order.arrived(highest);
            }
            prop_assert!(order.records.len() <= MOST);
            prop_assert_eq!(order.reordered, 0);
        }
    }
}
