//! The signed-rank test of Wilcoxon, for repetitions that were run in pairs.
//!
//! When two builds take turns, the host's drift falls on both sides of a pair and cancels in their
//! difference; a test of the pairs then decides with far fewer repetitions.

use super::mann_whitney::{count_to_f64, floor_to_count};

/// Most pairs for which the signs are counted out; more use the normal approximation.
const EXACT_PAIRS_MAX: usize = 64;

/// Returns the two-sided p value that the differences lie around zero; 1 when none is other than zero.
/// Zeroes are left out, and equal sizes share their ranks.
pub(super) fn p_two_sided(differences: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = differences.iter().copied().filter(|size| *size != 0.0).collect();
    if sizes.is_empty() {
        return 1.0;
    }
    sizes.sort_by(|left, right| left.abs().total_cmp(&right.abs()));
    let ranks = double_midranks(&sizes);
    let observed: usize =
        sizes.iter().zip(&ranks).filter(|(size, _)| **size > 0.0).map(|(_, rank)| rank).sum();
    if sizes.len() <= EXACT_PAIRS_MAX {
        let ways = sums(&ranks);
        let total: f64 = ways.iter().sum();
        let lower: f64 = ways[..=observed].iter().sum();
        let upper: f64 = ways[observed..].iter().sum();
        (2.0 * lower.min(upper) / total).min(1.0)
    } else {
        let squares: f64 = ranks.iter().map(|rank| count_to_f64(*rank).powi(2)).sum();
        let mean = count_to_f64(ranks.iter().sum()) / 2.0;
        // A rank of one is two here, and so is the correction for continuity.
        let distance = ((count_to_f64(observed) - mean).abs() - 1.0).max(0.0);
        (2.0 * super::normal_cdf(-distance / (squares.sqrt() / 2.0))).min(1.0)
    }
}

/// Returns the rank `k`, from 1, so that the `k`-th smallest and largest of the `n (n + 1) / 2` means of
/// two differences bound the shift with confidence of at least `1 - alpha`.
pub(super) fn critical_rank(n: usize, alpha: f64) -> Option<usize> {
    let rank = if n <= EXACT_PAIRS_MAX {
        let ways = sums(&(1..=n).collect::<Vec<_>>());
        let total: f64 = ways.iter().sum();
        let mut below = 0.0;
        let beyond = ways.iter().position(|count| {
            below += count;
            below / total > alpha / 2.0
        });
        beyond.unwrap_or(0)
    } else {
        let n = count_to_f64(n);
        let mean = n * (n + 1.0) / 4.0;
        let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        floor_to_count(mean + super::normal_quantile(alpha / 2.0) * deviation)
    };
    (rank > 0).then_some(rank)
}

/// Returns the means of every two differences, each with itself too, in rising order.
pub(super) fn walsh_averages(differences: &[f64]) -> Vec<f64> {
    let mut averages: Vec<f64> = differences
        .iter()
        .enumerate()
        .flat_map(|(idx, left)| {
            differences[idx..].iter().map(move |right| left / 2.0 + right / 2.0)
        })
        .collect();
    averages.sort_by(f64::total_cmp);
    averages
}

/// Twice the midrank of each size; `sizes` stand in rising order.
fn double_midranks(sizes: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sizes.len());
    while ranks.len() < sizes.len() {
        let first = ranks.len();
        let tied =
            sizes[first..].iter().take_while(|size| size.abs() == sizes[first].abs()).count();
        ranks.extend(std::iter::repeat_n(2 * first + tied + 1, tied));
    }
    ranks
}

/// Counts the choices of ranks by their sum.
fn sums(ranks: &[usize]) -> Vec<f64> {
    let mut ways = vec![0.0; ranks.iter().sum::<usize>() + 1];
    ways[0] = 1.0;
    for rank in ranks {
        for sum in (*rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_agrees_with_the_published_distribution() {
        // All of n differences positive: 2 / 2^n.
        for n in 1..12_i32 {
            let differences: Vec<f64> = (1..=n).map(f64::from).collect();
            assert!((p_two_sided(&differences) - 2.0 / 2_f64.powi(n)).abs() < 1e-12);
        }
        // Wilcoxon's 1945 example, as Hollander and Wolfe 3.1 tell it (Hamilton's scale): T+ = 5 of
        // 9 pairs, one-sided p 0.020.
        let hamilton = [0.952, -0.147, 1.022, 0.430, 0.620, 0.590, 0.490, -0.080, 0.010];
        assert!((p_two_sided(&hamilton) - 2.0 * 0.0195).abs() < 0.0002);
        assert_eq!(p_two_sided(&[0.0, 0.0]), 1.0);
    }

    #[test]
    fn critical_ranks_agree_with_the_published_table() {
        // Critical values of T at two-sided 0.05; the rank is one more.
        for (n, t) in [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (15, 25), (20, 52), (25, 89)] {
            assert_eq!(critical_rank(n, 0.05), Some(t + 1), "n = {n}");
        }
        assert_eq!(critical_rank(5, 0.05), None);
    }

    #[test]
    fn ties_and_large_samples_are_treated_alike() {
        assert!((p_two_sided(&[1.0, 1.0, -1.0, 1.0]) - 2.0 * 5.0 / 16.0).abs() < 1e-12);
        let differences: Vec<f64> = (0..65).map(|i| f64::from((i * 37) % 101) - 40.0).collect();
        let exact = {
            let mut sizes: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
            sizes.truncate(64);
            p_two_sided(&sizes)
        };
        assert!((p_two_sided(&differences) - exact).abs() < 0.05);
    }

    #[test]
    fn walsh_averages_hold_each_difference_and_each_mean() {
        assert_eq!(walsh_averages(&[3.0, 1.0]), [1.0, 2.0, 3.0]);
    }
}
