//! Holm's correction: many metrics are looked at, so each must clear a higher bar.

use super::mann_whitney::count_to_f64;

/// Returns for each p value the level at which it is to be judged, so that the chance of any false alarm
/// among them all stays below `alpha`.
///
/// The smallest is judged at `alpha / m`, the next at `alpha / (m - 1)`, and so on up to the first that
/// fails; that one's level holds for all that follow.
pub fn levels(p_values: &[f64], alpha: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|left, right| p_values[*left].total_cmp(&p_values[*right]));
    let mut levels = vec![alpha; p_values.len()];
    let mut remaining = p_values.len();
    let mut failed = false;
    for idx in order {
        let level = alpha / count_to_f64(remaining);
        levels[idx] = level;
        failed |= p_values[idx] > level;
        if !failed {
            remaining -= 1;
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(p_values: &[f64], expected: &[f64]) {
        for (level, expected) in levels(p_values, 0.05).iter().zip(expected) {
            assert!((level - expected).abs() < 1e-12, "{p_values:?}");
        }
    }

    #[test]
    fn levels_step_down_until_the_first_failure() {
        check(&[0.03], &[0.05]);
        check(&[0.01, 0.04, 0.03, 0.005], &[0.05 / 3.0, 0.025, 0.025, 0.0125]);
        check(&[0.9, 0.001], &[0.05, 0.025]);
        check(&[0.9, 0.8], &[0.025, 0.025]);
    }
}
