//! The payload of a probe, which tells its answer from all other datagrams.
//!
//! It starts with a token: the name of this run and a number. An answer holds the token, wherever that
//! stands. A payload is text, so that servers for text pass it on.

use std::hash::{BuildHasher as _, RandomState};

/// The digits of a run's name and of a number. Each has 36^8 (3 million million) values.
const RUN: usize = 8;
const NUMBER: usize = 8;

/// The smallest payload: a token and nothing else.
pub const LEAST: usize = RUN + NUMBER;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The payloads of one run.
pub struct Tokens {
    payload: Vec<u8>,
}

impl Tokens {
    /// Payloads of `size` bytes, at least [`LEAST`].
    pub fn new(size: usize) -> Self {
        // The system seeds it at random.
        let mut payload = digits(RandomState::new().hash_one(std::process::id())).to_vec();
        payload.resize(LEAST, b'0');
        let mut tokens = Self { payload };
        tokens.resize(size);
        tokens
    }

    /// Makes the next payloads `size` bytes long, at least [`LEAST`].
    pub fn resize(&mut self, size: usize) {
        self.payload.truncate(LEAST);
        // No part of these digits looks like a token.
        let digits = DIGITS.iter().cycle();
        self.payload.extend(digits.take(size.saturating_sub(LEAST)));
    }

    pub fn payload(&mut self, number: u64) -> &[u8] {
        self.payload[RUN..LEAST].copy_from_slice(&digits(number));
        &self.payload
    }

    /// The numbers of all tokens in `received`. Some servers send several payloads back at once.
    pub fn numbers(&self, received: &[u8]) -> Vec<u64> {
        let run = &self.payload[..RUN];
        let tokens = received.windows(LEAST);
        tokens
            .filter_map(|token| number(token.strip_prefix(run)?))
            .collect()
    }
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
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 36).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_has_the_size_asked_for_and_is_text() {
        let mut tokens = Tokens::new(56);
        for size in [LEAST, 56, 1000] {
            tokens.resize(size);
            let payload = tokens.payload(1);
            assert_eq!(payload.len(), size);
            assert!(payload.is_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_number_is_read_back(
            numbers in proptest::collection::vec(0_u64..36_u64.pow(8), 0..5),
            before in "\\PC{0,9}",
            size in LEAST..99,
        ) {
            let mut tokens = Tokens::new(size);
            let payloads = numbers.iter().map(|number| tokens.payload(*number).to_vec());
            let payloads = payloads.collect::<Vec<_>>().concat();
            let received = [before.as_bytes(), &payloads].concat();
            prop_assert_eq!(tokens.numbers(&received), numbers);
            prop_assert_eq!(Tokens::new(size).numbers(&received), Vec::<u64>::new());
        }
    }
}
