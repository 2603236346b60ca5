//! Weighted turns between lanes: who has had least for its weight is next.
//!
//! Stride scheduling (Waldspurger and Weihl, 1995): each lane has a pass, which a turn moves on by
//! the turn's cost over the lane's weight, and the lane with the least pass is next. So every lane
//! that waits has its turn after a bounded number of others, however small its weight, and over
//! time each has its share exactly. A lane that comes back from a pause begins where the others are:
//! what it did not ask for is not kept for it.

/// The turns of some lanes.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// The pass of each lane, by its index. As long as the highest lane asked for, so as many as the
    /// queue has lanes.
    passes: Vec<f64>,
    /// The pass of the last lane that had a turn: the least of those that waited then.
    now: f64,
}

impl Shares {
    /// Tells which of the lanes that wait is next, with its weight, and counts nothing.
    pub(crate) fn peek(&self, waiting: impl Iterator<Item = (usize, u32)>) -> Option<(usize, u32)> {
        let pass = |lane: usize| self.passes.get(lane).map_or(self.now, |pass| pass.max(self.now));
        waiting
            .map(|(lane, weight)| (pass(lane), lane, weight))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, lane, weight)| (lane, weight))
    }

    /// Where a lane stands: who has the least is next.
    pub(crate) fn pass(&self, lane: usize) -> f64 {
        self.passes.get(lane).copied().unwrap_or(0.0).max(self.now)
    }

    /// The lane's index is somebody else's from now on.
    pub(crate) fn forget(&mut self, lane: usize) {
        if let Some(pass) = self.passes.get_mut(lane) {
            *pass = 0.0;
        }
    }

    /// Counts a turn of `cost` (items, bytes; the same for all) to a lane that [`Self::peek`] told.
    /// A weight of 0 counts as 1.
    pub(crate) fn charge(&mut self, lane: usize, weight: u32, cost: usize) {
        if self.passes.len() <= lane {
            self.passes.resize(lane + 1, 0.0);
        }
        self.now = self.passes[lane].max(self.now);
        self.passes[lane] = self.now + cost as f64 / f64::from(weight.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(shares: &mut Shares, waiting: &[(usize, u32)], n_turns: usize) -> Vec<usize> {
        let mut counts = vec![0; waiting.len()];
        for _ in 0..n_turns {
            let (lane, weight) = shares.peek(waiting.iter().copied()).unwrap();
            shares.charge(lane, weight, 1);
            counts[waiting.iter().position(|(other, _)| *other == lane).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn turns_follow_the_weights() {
        let check = |waiting: &[(usize, u32)], n_turns, wanted: &[usize]| {
            assert_eq!(turns(&mut Shares::default(), waiting, n_turns), wanted, "{waiting:?}");
        };
        check(&[(0, 1)], 5, &[5]);
        check(&[(0, 1), (1, 1)], 10, &[5, 5]);
        check(&[(7, 3), (2, 1)], 400, &[300, 100]);
        check(&[(0, 0), (1, 1)], 10, &[5, 5]);
    }

    #[test]
    fn a_starving_lane_has_its_turn_among_heavy_ones() {
        let waiting = [(0, 1_000), (1, 1_000), (2, 1)];
        assert_eq!(turns(&mut Shares::default(), &waiting, 4_002), [2_000, 2_000, 2]);
    }

    #[test]
    fn a_pause_saves_no_turns() {
        let mut shares = Shares::default();
        turns(&mut shares, &[(0, 1)], 1_000);
        assert_eq!(turns(&mut shares, &[(0, 1), (1, 1)], 10), [5, 5]);
    }

    #[test]
    fn a_turn_counts_by_its_cost() {
        let mut shares = Shares::default();
        let waiting = [(0, 1), (1, 1)];
        shares.charge(0, 1, 9);
        assert_eq!(turns(&mut shares, &waiting, 9), [0, 9]);
    }

    #[test]
    fn nobody_is_next_where_nobody_waits() {
        assert_eq!(Shares::default().peek(std::iter::empty()), None);
    }
}
