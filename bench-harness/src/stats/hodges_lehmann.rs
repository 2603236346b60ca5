//! How far one sample lies from another, with an interval (Hodges and Lehmann).

use super::mann_whitney::{critical_rank, p_two_sided};
use super::median;

/// The relative shift from base to new: 0.05 is five percent more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The estimate.
    pub estimate: f64,
    /// The interval, where the samples are large enough for the confidence asked for.
    pub interval: Option<(f64, f64)>,
}

/// Returns the shift of `new` against `base` and its interval of confidence `1 - alpha`; `None` when a
/// sample is empty or the base is zero.
///
/// Positive samples are compared by ratio, pair by pair. A sample with zeroes or negative numbers has no
/// ratios: its differences are divided by the base's median instead.
pub fn relative_shift(base: &[f64], new: &[f64], alpha: f64) -> Option<Shift> {
    let by_ratio = is_positive(base, new);
    let scale = if by_ratio { 1.0 } else { scale(base)? };
    let mut pairs: Vec<f64> = base
        .iter()
        .flat_map(|old| new.iter().map(move |new| (*old, *new)))
        .map(|(old, new)| if by_ratio { (new / old).ln() } else { (new - old) / scale })
        .collect();
    pairs.sort_by(f64::total_cmp);
    let relative = |shift: f64| if by_ratio { shift.exp_m1() } else { shift };
    let interval = critical_rank(base.len(), new.len(), alpha)
        .map(|rank| (relative(pairs[rank - 1]), relative(pairs[pairs.len() - rank])));
    Some(Shift { estimate: relative(median(&pairs)?), interval })
}

/// Returns the p value of the claim that the shift goes beyond `floor` (0.02 is 2 %), in whichever
/// direction the estimate points; 1 when it does not even point there.
///
/// It is at most `alpha` where the interval of confidence `1 - alpha` lies wholly beyond the floor.
pub fn p_beyond(base: &[f64], new: &[f64], floor: f64) -> f64 {
    let Some(Shift { estimate, .. }) = relative_shift(base, new, 0.0) else {
        return 1.0;
    };
    if estimate.abs() <= floor {
        return 1.0;
    }
    let edge = floor.copysign(estimate);
    let moved: Vec<f64> = if is_positive(base, new) {
        base.iter().map(|value| value * (1.0 + edge)).collect()
    } else {
        let by = edge * scale(base).unwrap_or_default();
        base.iter().map(|value| value + by).collect()
    };
    p_two_sided(&moved, new)
}

fn is_positive(base: &[f64], new: &[f64]) -> bool {
    base.iter().chain(new).all(|value| *value > 0.0)
}

fn scale(base: &[f64]) -> Option<f64> {
    median(base).filter(|middle| *middle != 0.0).map(f64::abs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_ratio_is_found_exactly() {
        let base = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2];
        let new: Vec<f64> = base.iter().map(|value| value * 1.05).collect();
        let shift = relative_shift(&base, &new, 0.05).unwrap();
        assert!((shift.estimate - 0.05).abs() < 1e-9);
        let (low, high) = shift.interval.unwrap();
        assert!(low < 0.05 && 0.05 < high && high - low < 0.03, "{low} {high}");
    }

    #[test]
    fn the_textbook_interval_comes_out() {
        // Hollander and Wolfe, example 4.1 (water through human membranes): shift -0.305 and, with
        // n = 10 and m = 5 at 96 %, the interval -0.76 .. 0.15, as differences.
        let base = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let new = [1.15, 0.88, 0.90, 0.74, 1.21];
        let mut pairs: Vec<f64> =
            base.iter().flat_map(|x| new.iter().map(move |y| y - x)).collect();
        pairs.sort_by(f64::total_cmp);
        assert!((median(&pairs).unwrap() + 0.305).abs() < 1e-9);
        let rank = critical_rank(base.len(), new.len(), 0.04).unwrap();
        assert!((pairs[rank - 1] + 0.76).abs() < 1e-9 && (pairs[50 - rank] - 0.15).abs() < 1e-9);
    }

    #[test]
    fn zeroes_are_compared_by_difference() {
        let shift = relative_shift(&[0.0, 1.0, 1.0, 1.0], &[2.0, 2.0, 2.0, 2.0], 0.05).unwrap();
        assert_eq!(shift.estimate, 1.0);
        assert_eq!(relative_shift(&[0.0; 4], &[1.0; 4], 0.05), None);
        assert_eq!(relative_shift(&[], &[1.0], 0.05), None);
    }

    #[test]
    fn beyond_the_floor_in_p_is_beyond_the_floor_in_the_interval() {
        let base = [100.0, 101.0, 99.0, 100.4, 99.6, 100.2, 99.8, 100.6];
        for step in -20_i32..=20 {
            let factor = 1.0 + f64::from(step) / 200.0;
            let wobble = [1.001, 0.998, 1.003, 0.999, 1.002, 0.997, 1.0005, 1.0];
            let new: Vec<f64> = base.iter().zip(wobble).map(|(x, w)| x * factor * w).collect();
            for alpha in [0.05, 0.01] {
                let (low, high) = relative_shift(&base, &new, alpha).unwrap().interval.unwrap();
                let beyond = low > 0.02 || high < -0.02;
                assert_eq!(p_beyond(&base, &new, 0.02) <= alpha, beyond, "{factor} {alpha}");
            }
        }
    }

    #[test]
    fn too_few_values_give_no_interval() {
        assert_eq!(relative_shift(&[1.0; 3], &[1.0; 3], 0.05).unwrap().interval, None);
    }
}
