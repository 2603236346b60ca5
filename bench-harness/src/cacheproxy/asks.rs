//! What the clients ask next: a kind by its share, and keys by their popularity.
//!
//! The row of asks follows from the seed alone. In an open loop the n-th request is therefore always
//! the same; in a closed one the clients draw from the same row in the order in which they come.

use forebay_workloads::cacheproxy::load::{Load, Mix, Popularity};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

use super::contents::KeyIdx;

/// The stream of the seed that asks are drawn from: arrivals take the first ones.
const STREAM: u64 = 1 << 32;

/// Draws what is asked next.
#[derive(Debug)]
pub(super) struct Asks {
    rng: ChaCha8Rng,
    mix: Mix,
    n_keys: u32,
    law: Law,
}

/// How keys are drawn.
#[derive(Debug)]
enum Law {
    Uniform,
    Zipf(Zipf<f64>),
    /// This share of gets, in percent, is of the first key.
    Hot(u32),
}

/// One request, before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Get(KeyIdx),
    /// No key stands in it twice.
    MultiGet(Vec<KeyIdx>),
    Set(KeyIdx),
    Delete(KeyIdx),
}

impl Asks {
    pub(super) fn new(load: &Load, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let law = match load.popularity {
            Popularity::Uniform => Law::Uniform,
            Popularity::ZipfPercent(percent) => {
                let law = Zipf::new(f64::from(load.keys), f64::from(percent) / 100.0);
                Law::Zipf(law.expect("the file's check bounds keys and their law"))
            }
            Popularity::HotPercent(percent) => Law::Hot(percent),
        };
        Self { rng, mix: load.mix, n_keys: load.keys, law }
    }

    pub(super) fn draw(&mut self) -> Ask {
        let mut left = self.percent();
        let mut falls_on = |share: u32| match left.checked_sub(share) {
            None => true,
            Some(beyond) => {
                left = beyond;
                false
            }
        };
        let Mix { get_percent, multi_get_percent, set_percent, .. } = self.mix;
        if falls_on(get_percent) {
            Ask::Get(self.read_key())
        } else if falls_on(multi_get_percent) {
            Ask::MultiGet(self.read_keys())
        } else if falls_on(set_percent) {
            Ask::Set(self.written_key())
        } else {
            Ask::Delete(self.written_key())
        }
    }

    fn percent(&mut self) -> u32 {
        self.below(100)
    }

    /// A number below another; that the last ones are rarer by a part in 2^32 does not show.
    fn below(&mut self, bound: u32) -> u32 {
        let random = self.rng.next_u64() % u64::from(bound);
        u32::try_from(random).expect("it is below a number of 32 bits")
    }

    fn read_key(&mut self) -> KeyIdx {
        if let Law::Hot(percent) = self.law
            && self.percent() < percent
        {
            return KeyIdx(0);
        }
        self.written_key()
    }

    fn written_key(&mut self) -> KeyIdx {
        let Law::Zipf(law) = &self.law else { return KeyIdx(self.below(self.n_keys)) };
        let rank = law.sample(&mut self.rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is a whole number from 1 to the number of keys"
        )]
        let rank = rank as u32;
        KeyIdx(rank - 1)
    }

    fn read_keys(&mut self) -> Vec<KeyIdx> {
        let n_keys = self.mix.multi_get_keys as usize;
        let mut keys = Vec::with_capacity(n_keys);
        for _ in 0..n_keys {
            let mut key = self.read_key();
            // The file's check leaves a key over.
            while keys.contains(&key) {
                key = KeyIdx((key.0 + 1) % self.n_keys);
            }
            keys.push(key);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(more: &str, n: usize) -> Vec<Ask> {
        let text = format!(r#"{{"connections": 1, "keys": 10, {more}}}"#);
        let load: Load = serde_json::from_str(&text).unwrap();
        let mut asks = Asks::new(&load, 3);
        (0..n).map(|_| asks.draw()).collect()
    }

    fn n(asks: &[Ask], is: impl Fn(&Ask) -> bool) -> usize {
        asks.iter().filter(|ask| is(ask)).count()
    }

    #[test]
    fn kinds_come_by_their_shares_and_every_key_is_asked() {
        let mix = r#""mix": {"get_percent": 50, "multi_get_percent": 20, "multi_get_keys": 10,
            "set_percent": 20, "delete_percent": 10}"#;
        let asks = drawn(mix, 10_000);
        for (share, found) in [
            (50, n(&asks, |ask| matches!(ask, Ask::Get(_)))),
            (20, n(&asks, |ask| matches!(ask, Ask::MultiGet(_)))),
            (20, n(&asks, |ask| matches!(ask, Ask::Set(_)))),
            (10, n(&asks, |ask| matches!(ask, Ask::Delete(_)))),
        ] {
            assert!(found.abs_diff(share * 100) < 200, "{found} of 10,000 for {share} %");
        }
        for key in (0..10).map(KeyIdx) {
            assert!(asks.contains(&Ask::Get(key)) && asks.contains(&Ask::Set(key)));
        }
        for ask in &asks {
            let Ask::MultiGet(keys) = ask else { continue };
            let mut keys = keys.clone();
            keys.sort_unstable();
            assert!(keys.into_iter().eq((0..10).map(KeyIdx)), "{ask:?}");
        }
    }

    #[test]
    fn a_hot_key_is_read_more_often_and_not_written_more_often() {
        let asks = drawn(r#""popularity": {"hot_percent": 90}"#, 10_000);
        let hot = n(&asks, |ask| *ask == Ask::Get(KeyIdx(0)));
        assert!(hot.abs_diff(9_000 * 91 / 100) < 200, "{hot}");
        let written = n(&asks, |ask| *ask == Ask::Set(KeyIdx(0)));
        assert!(written.abs_diff(100) < 50, "{written}");
    }

    #[test]
    fn by_the_law_of_zipf_the_second_key_is_asked_half_as_often() {
        let asks = drawn(r#""popularity": {"zipf_percent": 100}"#, 20_000);
        let of = |key: u32| n(&asks, |ask| *ask == Ask::Get(KeyIdx(key)));
        assert!((of(0) / 2).abs_diff(of(1)) < 300, "{} and {}", of(0), of(1));
        assert!(of(9) > 0);
    }
}
