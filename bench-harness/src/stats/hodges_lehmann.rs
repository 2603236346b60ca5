//! How far one sample lies from another, with an interval (Hodges and Lehmann).

use super::{mann_whitney, median, signed_rank};

/// Whether the repetitions of the two samples were run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// They were not: every value is compared with every other (Mann-Whitney).
    Unpaired,
    /// Value by value (Wilcoxon's signed ranks).
    Paired,
}

/// The relative shift from base to new: 0.05 is five percent more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The estimate.
    pub estimate: f64,
    /// The interval, where the samples are large enough for the confidence asked for.
    pub interval: Option<(f64, f64)>,
}

/// Two samples, ready to be compared.
///
/// Positive samples are compared by ratio. A sample with zeroes or negative numbers has no ratios: its
/// differences are divided by the base's median instead.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'values> {
    base: &'values [f64],
    new: &'values [f64],
    design: Design,
    /// What a difference is divided by; `None` where ratios are taken.
    scale: Option<f64>,
}

impl<'values> Samples<'values> {
    /// Returns nothing when a sample is empty or the base lies around zero. Samples of unequal length
    /// have no pairs and count as unpaired.
    pub fn new(base: &'values [f64], new: &'values [f64], design: Design) -> Option<Self> {
        if base.is_empty() || new.is_empty() {
            return None;
        }
        let positive = base.iter().chain(new).all(|value| *value > 0.0);
        let scale =
            if positive { None } else { Some(median(base).filter(|middle| *middle != 0.0)?.abs()) };
        let design = if base.len() == new.len() { design } else { Design::Unpaired };
        Some(Self { base, new, design, scale })
    }

    /// Returns the shift and its interval of confidence `1 - alpha`.
    ///
    /// # Panics
    /// Never: no sample is empty.
    pub fn shift(&self, alpha: f64) -> Shift {
        let (n, m) = (self.base.len(), self.new.len());
        let (shifts, rank) = match self.design {
            Design::Unpaired => (self.all_against_all(), mann_whitney::critical_rank(n, m, alpha)),
            Design::Paired => {
                let averages = signed_rank::walsh_averages(&self.pair_by_pair());
                (averages, signed_rank::critical_rank(n, alpha))
            }
        };
        let relative = |shift: f64| if self.scale.is_none() { shift.exp_m1() } else { shift };
        let estimate = median(&shifts).expect("no sample is empty");
        let interval =
            rank.map(|rank| (relative(shifts[rank - 1]), relative(shifts[shifts.len() - rank])));
        Shift { estimate: relative(estimate), interval }
    }

    /// Returns the two-sided p value that nothing is shifted.
    pub fn p_equal(&self) -> f64 {
        self.p_shifted_by(0.0)
    }

    /// Returns the p value of the claim that the shift goes beyond `floor` (0.02 is 2 %), in whichever
    /// direction the estimate points; 1 when it does not even point there.
    ///
    /// It is at most `alpha` where the interval of confidence `1 - alpha` lies wholly beyond the floor.
    pub fn p_beyond(&self, floor: f64) -> f64 {
        let estimate = self.shift(0.0).estimate;
        if estimate.abs() <= floor { 1.0 } else { self.p_shifted_by(floor.copysign(estimate)) }
    }

    /// Tests the claim that the shift is `by`, by shifting the base.
    fn p_shifted_by(&self, by: f64) -> f64 {
        let base: Vec<f64> = self
            .base
            .iter()
            .map(|value| self.scale.map_or(value * (1.0 + by), |scale| value + by * scale))
            .collect();
        match self.design {
            Design::Unpaired => mann_whitney::p_two_sided(&base, self.new),
            Design::Paired => {
                let moved =
                    Samples { base: &base, new: self.new, design: self.design, scale: self.scale };
                signed_rank::p_two_sided(&moved.pair_by_pair())
            }
        }
    }

    fn all_against_all(&self) -> Vec<f64> {
        let pairs = self.base.iter().flat_map(|old| self.new.iter().map(move |new| (*old, *new)));
        let mut shifts: Vec<f64> = pairs.map(|(old, new)| self.difference(old, new)).collect();
        shifts.sort_by(f64::total_cmp);
        shifts
    }

    fn pair_by_pair(&self) -> Vec<f64> {
        self.base.iter().zip(self.new).map(|(old, new)| self.difference(*old, *new)).collect()
    }

    fn difference(&self, old: f64, new: f64) -> f64 {
        self.scale.map_or_else(|| (new / old).ln(), |scale| (new - old) / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(base: &[f64], new: &[f64], design: Design) -> Option<Shift> {
        Some(Samples::new(base, new, design)?.shift(0.05))
    }

    #[test]
    fn a_pure_ratio_is_found_exactly() {
        let base = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2];
        let new: Vec<f64> = base.iter().map(|value| value * 1.05).collect();
        let unpaired = shift(&base, &new, Design::Unpaired).unwrap();
        assert!((unpaired.estimate - 0.05).abs() < 1e-9);
        let (low, high) = unpaired.interval.unwrap();
        assert!(low < 0.05 && 0.05 < high && high - low < 0.03, "{low} {high}");
        // Pair by pair nothing wavers at all.
        let (low, high) = shift(&base, &new, Design::Paired).unwrap().interval.unwrap();
        assert!((low - 0.05).abs() < 1e-9 && (high - 0.05).abs() < 1e-9);
    }

    #[test]
    fn the_textbook_interval_comes_out() {
        // Hollander and Wolfe, example 4.1 (water through human membranes): shift -0.305 and, with
        // n = 10 and m = 5 at 96 %, the interval -0.76 .. 0.15, as differences.
        let base = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let new = [1.15, 0.88, 0.90, 0.74, 1.21];
        let samples =
            Samples { base: &base, new: &new, design: Design::Unpaired, scale: Some(1.0) };
        let shift = samples.shift(0.04);
        let (low, high) = shift.interval.unwrap();
        assert!((shift.estimate + 0.305).abs() < 1e-9);
        assert!((low + 0.76).abs() < 1e-9 && (high - 0.15).abs() < 1e-9);
    }

    #[test]
    fn zeroes_are_compared_by_difference() {
        let found = shift(&[0.0, 1.0, 1.0, 1.0], &[2.0, 2.0, 2.0, 2.0], Design::Unpaired);
        assert_eq!(found.unwrap().estimate, 1.0);
        assert_eq!(shift(&[0.0; 4], &[1.0; 4], Design::Unpaired), None);
        assert_eq!(shift(&[], &[1.0], Design::Unpaired), None);
    }

    #[test]
    fn beyond_the_floor_in_p_is_beyond_the_floor_in_the_interval() {
        let base = [100.0, 101.0, 99.0, 100.4, 99.6, 100.2, 99.8, 100.6];
        let wobble = [1.001, 0.998, 1.003, 0.999, 1.002, 0.997, 1.0005, 1.0];
        for (design, step) in [Design::Unpaired, Design::Paired]
            .into_iter()
            .flat_map(|design| (-20_i32..=20).map(move |step| (design, step)))
        {
            let factor = 1.0 + f64::from(step) / 200.0;
            let new: Vec<f64> = base.iter().zip(wobble).map(|(x, w)| x * factor * w).collect();
            let samples = Samples::new(&base, &new, design).unwrap();
            for alpha in [0.05, 0.01] {
                let (low, high) = samples.shift(alpha).interval.unwrap();
                let beyond = low > 0.02 || high < -0.02;
                let p = samples.p_beyond(0.02);
                assert_eq!(p <= alpha, beyond, "{design:?} {factor} {alpha}: {p} {low} {high}");
            }
        }
    }

    #[test]
    fn too_few_values_give_no_interval() {
        assert_eq!(shift(&[1.0; 3], &[1.0; 3], Design::Unpaired).unwrap().interval, None);
        assert_eq!(shift(&[1.0; 5], &[1.0; 5], Design::Paired).unwrap().interval, None);
    }

    #[test]
    fn unequal_lengths_have_no_pairs() {
        let samples = Samples::new(&[1.0, 2.0], &[1.0], Design::Paired).unwrap();
        assert_eq!(samples.design, Design::Unpaired);
    }
}
