//! Which keys are asked for: the same row on every side of a comparison.
//!
//! A row of keys is drawn from a seed and a stream number by eight bytes of state, so that each of
//! ten thousand requests in flight can carry its own without a cache miss.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use super::data::{FlightId, Tables};

/// An endless row of uniform draws.
#[derive(Debug, Clone)]
pub struct Keys(SplitMix64);

impl Keys {
    /// Makes row number `stream` of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        // Rows of neighbouring numbers are apart, since each starts from a hash of its number.
        let start = SplitMix64::seed_from_u64(stream).next_u64() ^ seed;
        Self(SplitMix64::seed_from_u64(start))
    }

    /// Draws from `0..below`.
    ///
    /// # Panics
    /// When `below` is zero.
    pub fn draw(&mut self, below: u64) -> u64 {
        assert!(below > 0, "nothing to draw from");
        // The high half of the product: no division, and biased by less than one in 2^40 here.
        let product = u128::from(self.0.next_u64()) * u128::from(below);
        u64::try_from(product >> 64).expect("the high half of a product of two 64-bit numbers")
    }

    /// Draws a flight.
    ///
    /// # Panics
    /// When there are no flights.
    pub fn flight(&mut self, tables: &Tables) -> FlightId {
        let n_flights = u64::try_from(tables.flights().len()).expect("a length fits 64 bits");
        let row_idx = usize::try_from(self.draw(n_flights)).expect("an index below a length");
        tables.flights()[row_idx].id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    #[test]
    fn a_row_repeats_and_rows_differ() {
        let row = |seed, stream| {
            let mut keys = Keys::new(seed, stream);
            (0..100).map(|_| keys.draw(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(row(1, 2), row(1, 2));
        assert_ne!(row(1, 2), row(1, 3));
        assert_ne!(row(1, 2), row(2, 2));
        assert_ne!(row(1, 2)[1..], row(1, 3)[..99], "no row is another one shifted");
    }

    #[test]
    fn every_key_is_drawn_about_equally_often() {
        let mut drawn = [0_u32; 10];
        let mut keys = Keys::new(9, 9);
        for _ in 0..100_000 {
            drawn[usize::try_from(keys.draw(10)).unwrap()] += 1;
        }
        assert!(drawn.iter().all(|n| (9_500..=10_500).contains(n)), "{drawn:?}");
        assert_eq!(keys.draw(1), 0);
    }

    #[test]
    fn drawn_flights_exist() {
        let tables = fixture::tables();
        let mut keys = Keys::new(1, 1);
        for _ in 0..1_000 {
            let id = keys.flight(&tables);
            assert!(tables.flight(id).is_some(), "{id}");
        }
    }
}
