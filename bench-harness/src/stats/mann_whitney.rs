//! The Mann-Whitney test of two unpaired samples.
//!
//! Up to [`EXACT_TOTAL_MAX`] values the permutation distribution is counted out, ties included (as half
//! ranks); beyond that the normal approximation with correction for ties and continuity is used.

/// Largest `n + m` for which the distribution is counted out; 64 values cost a few million additions.
const EXACT_TOTAL_MAX: usize = 64;

/// Returns the two-sided p value that both samples come from one distribution; 1 when a sample is empty.
pub(super) fn p_two_sided(base: &[f64], new: &[f64]) -> f64 {
    if base.is_empty() || new.is_empty() {
        return 1.0;
    }
    let (double_ranks, tie_sizes) = double_ranks(base, new);
    if tie_sizes.len() == 1 {
        return 1.0;
    }
    let observed: usize = double_ranks[..base.len()].iter().sum();
    if double_ranks.len() > EXACT_TOTAL_MAX {
        approximate(base.len(), new.len(), observed, &tie_sizes)
    } else if tie_sizes.len() == double_ranks.len() {
        exact_without_ties(base.len(), new.len(), observed)
    } else {
        exact(&double_ranks, base.len(), observed)
    }
}

/// The usual case, some hundred times cheaper than counting with ties.
fn exact_without_ties(n: usize, m: usize, double_rank_sum: usize) -> f64 {
    let u = double_rank_sum / 2 - n * (n + 1) / 2;
    let ways = u_distribution(n, m);
    let total: f64 = ways.iter().sum();
    let tail: f64 = ways[..=u.min(n * m - u)].iter().sum();
    (2.0 * tail / total).min(1.0)
}

/// Returns the rank `k`, from 1, so that the `k`-th smallest and `k`-th largest of the `n m` pairwise
/// differences bound the shift with confidence of at least `1 - alpha`; `None` when the samples are too
/// small for that confidence.
pub(super) fn critical_rank(n: usize, m: usize, alpha: f64) -> Option<usize> {
    if n == 0 || m == 0 {
        return None;
    }
    let rank = if n + m <= EXACT_TOTAL_MAX {
        exact_rank(n, m, alpha)
    } else {
        let (n, m) = (count_to_f64(n), count_to_f64(m));
        let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
        let edge = n * m / 2.0 + super::normal_quantile(alpha / 2.0) * deviation;
        floor_to_count(edge)
    };
    (rank > 0).then_some(rank)
}

/// Twice the midrank of each value, base first, and the sizes of the groups of ties.
fn double_ranks(base: &[f64], new: &[f64]) -> (Vec<usize>, Vec<usize>) {
    let all: Vec<f64> = base.iter().chain(new).copied().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|left, right| all[*left].total_cmp(&all[*right]));
    let mut ranks = vec![0; all.len()];
    let mut tie_sizes = Vec::new();
    let mut first = 0;
    while first < order.len() {
        let tied = order[first..].iter().take_while(|idx| all[**idx] == all[order[first]]).count();
        // Ranks first+1 ..= first+tied have the mean first + (tied + 1) / 2.
        for idx in &order[first..first + tied] {
            ranks[*idx] = 2 * first + tied + 1;
        }
        tie_sizes.push(tied);
        first += tied;
    }
    (ranks, tie_sizes)
}

/// Counts, of all choices of `n` of the ranks, the share whose sum lies as far out as the observed one.
fn exact(double_ranks: &[usize], n: usize, observed: usize) -> f64 {
    let sum_max: usize = double_ranks.iter().sum();
    // ways[chosen][sum]: choices of `chosen` ranks with that sum.
    let mut ways = vec![vec![0.0_f64; sum_max + 1]; n + 1];
    ways[0][0] = 1.0;
    for rank in double_ranks {
        for chosen in (1..=n).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for sum in *rank..=sum_max {
                more[0][sum] += fewer[chosen - 1][sum - rank];
            }
        }
    }
    let total: f64 = ways[n].iter().sum();
    let lower: f64 = ways[n][..=observed].iter().sum();
    let upper: f64 = ways[n][observed..].iter().sum();
    (2.0 * lower.min(upper) / total).min(1.0)
}

fn approximate(n: usize, m: usize, double_rank_sum: usize, tie_sizes: &[usize]) -> f64 {
    let (n, m) = (count_to_f64(n), count_to_f64(m));
    let total = n + m;
    let u = count_to_f64(double_rank_sum) / 2.0 - n * (n + 1.0) / 2.0;
    let ties: f64 = tie_sizes.iter().map(|size| count_to_f64(*size)).map(|t| t * t * t - t).sum();
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    (2.0 * super::normal_cdf(-distance / variance.sqrt())).min(1.0)
}

/// Returns the largest `k` with `P(U <= k - 1) <= alpha / 2`, without ties; 0 when there is none.
fn exact_rank(n: usize, m: usize, alpha: f64) -> usize {
    let ways = u_distribution(n, m);
    let total: f64 = ways.iter().sum();
    let mut below = 0.0;
    for (u, count) in ways.iter().enumerate() {
        below += count;
        if below / total > alpha / 2.0 {
            return u;
        }
    }
    ways.len()
}

/// Counts the orders of `n` and `m` values by their U statistic, by whose value is the largest.
fn u_distribution(n: usize, m: usize) -> Vec<f64> {
    // by_n[i][u] for the current number of the other sort, grown one at a time.
    let mut by_n = vec![vec![1.0_f64]; n + 1];
    for others in 1..=m {
        for i in 1..=n {
            let mut ways = vec![0.0; i * others + 1];
            // The largest is one of the others: it beats nobody of ours.
            for (u, count) in by_n[i].iter().enumerate() {
                ways[u] += count;
            }
            // The largest is ours: it beats all the others.
            for (u, count) in by_n[i - 1].iter().enumerate() {
                ways[u + others] += count;
            }
            by_n[i] = ways;
        }
    }
    by_n.swap_remove(n)
}

#[allow(clippy::cast_precision_loss, reason = "counts of repetitions are small")]
pub(crate) fn count_to_f64(count: usize) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped at zero, and far below 2^52 for any number of repetitions"
)]
pub(super) fn floor_to_count(number: f64) -> usize {
    number.max(0.0).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::stats_tests::Alternative;
    use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};

    fn oracle(base: &[f64], new: &[f64], method: MannWhitneyUMethod) -> f64 {
        mannwhitneyu(base, new, method, Alternative::TwoSided).unwrap().1
    }

    #[test]
    fn small_samples_give_the_exact_p_of_the_oracle() {
        let base = [19.0, 22.0, 16.0, 29.0, 24.0, 17.5];
        for shift in 0..12 {
            let new: Vec<f64> =
                [20.1, 11.1, 17.1, 12.1].iter().map(|x| x + f64::from(shift)).collect();
            let p = p_two_sided(&base, &new);
            let expected = oracle(&base, &new, MannWhitneyUMethod::Exact);
            assert!((p - expected).abs() < 1e-9, "shift {shift}: {p} {expected}");
        }
    }

    #[test]
    fn large_samples_give_the_oracles_approximation_with_ties() {
        let base: Vec<f64> = (0..40).map(|i| f64::from(i % 17)).collect();
        let new: Vec<f64> = (0..45).map(|i| f64::from(i % 13) + 3.0).collect();
        let expected = oracle(&base, &new, MannWhitneyUMethod::AsymptoticInclContinuityCorrection);
        assert!((p_two_sided(&base, &new) - expected).abs() < 1e-6);
    }

    #[test]
    fn both_ways_of_counting_agree_without_ties() {
        for n in 1..9 {
            let total = n + 6;
            let doubled: Vec<usize> =
                (1..=total).map(|rank| 2 * ((rank * 5) % (total + 1))).collect();
            let mut ranks = doubled.clone();
            ranks.sort_unstable();
            ranks.dedup();
            if ranks.len() < total || ranks[0] == 0 {
                continue;
            }
            let observed = doubled[..n].iter().sum();
            let (slow, fast) = (exact(&doubled, n, observed), exact_without_ties(n, 6, observed));
            assert!((slow - fast).abs() < 1e-12, "n = {n}: {slow} {fast}");
        }
    }

    #[test]
    fn ties_are_counted_out_exactly() {
        // {1, 1} of {1, 1, 2, 2}: one choice of six is as low, one as high.
        assert!((p_two_sided(&[1.0, 1.0], &[2.0, 2.0]) - 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(p_two_sided(&[5.0; 4], &[5.0; 4]), 1.0);
    }

    #[test]
    fn critical_ranks_agree_with_the_published_table() {
        // Critical U at two-sided 0.05 (Mann and Whitney's table); the rank is one more.
        for (n, m, u) in
            [(4, 4, 0), (5, 5, 2), (6, 6, 5), (8, 8, 13), (10, 10, 23), (20, 20, 127), (5, 10, 8)]
        {
            assert_eq!(critical_rank(n, m, 0.05), Some(u + 1), "n = {n}, m = {m}");
        }
        assert_eq!(critical_rank(3, 3, 0.05), None);
        assert_eq!(critical_rank(4, 4, 0.01), None);
    }

    #[test]
    fn the_approximate_rank_continues_the_exact_one() {
        let exact = exact_rank(40, 40, 0.05);
        let approximate = critical_rank(40, 40, 0.05).unwrap();
        assert!(exact.abs_diff(approximate) <= 2, "{exact} {approximate}");
    }
}
