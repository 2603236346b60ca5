//! Bytes that anybody can check: a function of the seed, of what they belong to, and of their place.
//!
//! The server makes bodies of them and the clients' side compares every byte that comes back,
//! without keeping a copy of anything. Words count up in steps of an odd number, so that no two
//! places of one body hold the same word, and a piece that is missing, doubled or of another body
//! shows at its first bytes.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();
/// Steps from word to word: 2^64 divided by the golden ratio, which changes every byte.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The bytes of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    first: u64,
}

impl Pattern {
    /// The bytes of what `kind` and `number` name, in a run with this seed.
    #[must_use]
    pub fn new(seed: u64, kind: u64, number: u64) -> Self {
        Self { first: mixed(mixed(mixed(seed) ^ kind) ^ number) }
    }

    /// Its first bytes.
    #[must_use]
    pub fn bytes(self, n_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n_bytes.next_multiple_of(WORD_BYTES));
        let mut word = self.first;
        while bytes.len() < n_bytes {
            bytes.extend_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(STEP);
        }
        bytes.truncate(n_bytes);
        bytes
    }

    /// Whether these are its bytes from `offset` on.
    #[must_use]
    pub fn is_at(self, offset: usize, bytes: &[u8]) -> bool {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let n_before = (at / WORD_BYTES) as u64;
            let word = self.first.wrapping_add(STEP.wrapping_mul(n_before)).to_le_bytes();
            let expected = &word[at % WORD_BYTES..];
            let n_bytes = expected.len().min(rest.len());
            if rest[..n_bytes] != expected[..n_bytes] {
                return false;
            }
            at += n_bytes;
            rest = &rest[n_bytes..];
        }
        true
    }
}

/// A number far from that of any neighbour.
pub(super) fn mixed(number: u64) -> u64 {
    SplitMix64::seed_from_u64(number).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_a_body_is_found_where_it_stands() {
        let pattern = Pattern::new(1, 2, 3);
        let bytes = pattern.bytes(100);
        for from in 0..bytes.len() {
            for to in from..=bytes.len() {
                assert!(pattern.is_at(from, &bytes[from..to]), "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_wrong_byte_a_shift_and_another_body_are_found() {
        let pattern = Pattern::new(1, 2, 3);
        let bytes = pattern.bytes(64);
        for idx in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[idx] ^= 1;
            assert!(!pattern.is_at(0, &wrong), "byte {idx}");
        }
        assert!(!pattern.is_at(1, &bytes) && !pattern.is_at(8, &bytes));
        for other in [Pattern::new(0, 2, 3), Pattern::new(1, 3, 3), Pattern::new(1, 2, 4)] {
            assert!(!other.is_at(0, &bytes));
        }
    }
}
