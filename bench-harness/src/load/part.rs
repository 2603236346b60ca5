//! The rule by which a total is split over shards.
//!
//! A workload file states totals (requests per second, requests in flight, number of requests).
//! Every generating shard or thread takes one [`Part`]; the parts add up to the total exactly,
//! whatever the number of shards.

/// One generator's part of the whole: number `index` of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: u32,
    of: u32,
}

impl Part {
    /// The whole, for a single generator.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Makes part `index` of `of`; `None` unless `index < of`.
    #[must_use]
    pub const fn new(index: u32, of: u32) -> Option<Self> {
        if index < of { Some(Self { index, of }) } else { None }
    }

    /// Which part this is, from 0.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    #[must_use]
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Returns this part's share of `total`: the first `total % of` parts take one more.
    ///
    /// Used for requests in flight and for the number of requests. It agrees with "arrival `i`
    /// belongs to part `i % of`", the rule of constant arrivals.
    #[must_use]
    pub fn share(self, total: u64) -> u64 {
        let of = u64::from(self.of);
        total / of + u64::from(u64::from(self.index) < total % of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_total_and_differ_by_at_most_one() {
        for of in 1..9 {
            for total in 0..50 {
                let shares: Vec<u64> =
                    (0..of).map(|index| Part::new(index, of).unwrap().share(total)).collect();
                assert_eq!(shares.iter().sum::<u64>(), total);
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn a_part_beyond_the_last_does_not_exist() {
        assert_eq!(Part::new(2, 2), None);
        assert_eq!(Part::new(0, 0), None);
    }
}
