//! The median and its interval from order statistics.

/// Fewest values for which a 95 % interval of the median exists: the range of 5 covers only 93.75 %.
pub(crate) const CI95_VALUES_MIN: usize = 6;

/// Returns the median, or `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    // Halved first, so that two huge values do not overflow.
    Some(sorted[middle - 1] / 2.0 + upper / 2.0)
}

/// Returns the narrowest symmetric pair of order statistics that covers the median with at least 95 %,
/// or `None` of fewer than six values.
pub fn median_ci95(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < CI95_VALUES_MIN {
        return None;
    }
    let sorted = sorted(values);
    let rank = rank_ci95(sorted.len());
    Some((sorted[rank], sorted[sorted.len() - 1 - rank]))
}

/// Returns the largest rank `r`, from 0, with `2 P(Binomial(n, 1/2) <= r) <= 0.05`.
fn rank_ci95(n: usize) -> usize {
    let n_float = super::mann_whitney::count_to_f64(n);
    let mut log_probability = -n_float * std::f64::consts::LN_2;
    let mut below = log_probability.exp();
    let mut rank = 0;
    loop {
        let next = super::mann_whitney::count_to_f64(rank + 1);
        log_probability += ((n_float - next + 1.0) / next).ln();
        below += log_probability.exp();
        if 2.0 * below > 0.05 {
            return rank;
        }
        rank += 1;
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn the_interval_needs_six_values() {
        assert_eq!(median_ci95(&[1.0, 2.0, 3.0, 4.0, 5.0]), None);
        assert_eq!(median_ci95(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Some((1.0, 6.0)));
    }

    #[test]
    fn ranks_agree_with_the_published_table_of_the_sign_test() {
        // Lower ranks (from 1) of the 95 % interval: Hollander and Wolfe, table for the sign test.
        for (n, rank) in
            [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (25, 8), (30, 10)]
        {
            assert_eq!(rank_ci95(n) + 1, rank, "n = {n}");
        }
    }
}
