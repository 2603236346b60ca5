//! Lengths of keys and values, as a law by which they are drawn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A law of lengths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sizes {
    /// All alike.
    Fixed(u32),
    /// All from the least to the most are equally likely.
    Uniform {
        /// The shortest.
        least: u32,
        /// The longest.
        most: u32,
    },
    /// Each of a list, as often as its weight says.
    Weighted(Vec<Weighted>),
}

/// One length of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The length.
    pub bytes: u32,
    /// How often it comes, against the sum of all weights.
    pub weight: u32,
}

impl Sizes {
    /// The shortest length.
    #[must_use]
    pub fn least(&self) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { least, .. } => *least,
            Self::Weighted(list) => list.iter().map(|one| one.bytes).min().unwrap_or(0),
        }
    }

    /// The longest length.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { most, .. } => *most,
            Self::Weighted(list) => list.iter().map(|one| one.bytes).max().unwrap_or(0),
        }
    }

    /// The length that a random number draws, the same for the same number.
    ///
    /// # Panics
    /// When the weights add up to nothing, which [`Load::check`](super::Load::check) refuses.
    #[must_use]
    pub fn at(&self, random: u64) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { least, most } => {
                let n_lengths = u64::from(most - least) + 1;
                least + u32::try_from(random % n_lengths).expect("below a number of 32 bits")
            }
            Self::Weighted(list) => {
                let sum: u64 = list.iter().map(|one| u64::from(one.weight)).sum();
                let mut left = random % sum;
                for one in list {
                    match left.checked_sub(one.weight.into()) {
                        None => return one.bytes,
                        Some(beyond) => left = beyond,
                    }
                }
                unreachable!("what is left is below the sum of all weights")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_a_law_is_drawn_and_no_other() {
        let drawn = |sizes: &Sizes| -> Vec<u32> { (0..8).map(|random| sizes.at(random)).collect() };
        assert_eq!(drawn(&Sizes::Fixed(7)), [7; 8]);
        let uniform = Sizes::Uniform { least: 3, most: 5 };
        assert_eq!(drawn(&uniform), [3, 4, 5, 3, 4, 5, 3, 4]);
        let one = |bytes, weight| Weighted { bytes, weight };
        let weighted = Sizes::Weighted(vec![one(9, 3), one(1, 0), one(20, 1)]);
        assert_eq!(drawn(&weighted), [9, 9, 9, 20, 9, 9, 9, 20]);
        assert_eq!((weighted.least(), weighted.most()), (1, 20));
        assert_eq!((uniform.least(), uniform.most()), (3, 5));
    }
}
