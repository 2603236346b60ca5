//! Whether clients that ask alike get alike.

use crate::dump::to_f64;

/// Jain's index over what each client got: 1 when all got the same, 1/n when one got everything.
/// `(Σx)² / (n Σx²)`, from Jain, Chiu and Hawe (DEC-TR-301, 1984). `None` when nobody got anything.
pub(super) fn jain(shares: impl Iterator<Item = u64>) -> Option<f64> {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares.map(to_f64) {
        n += 1.0;
        sum += share;
        squares += share * share;
    }
    (squares > 0.0).then(|| sum * sum / (n * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_fair_and_one_that_has_all_is_not() {
        let index = |shares: &[u64]| jain(shares.iter().copied());
        assert_eq!(index(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(index(&[20, 0, 0, 0]), Some(0.25));
        // The textbook's example: half of the clients have everything.
        assert_eq!(index(&[3, 3, 0, 0]), Some(0.5));
        assert_eq!(index(&[0, 0]), None);
        assert_eq!(index(&[]), None);
    }
}
