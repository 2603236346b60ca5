//! A downstream that only takes time: a pure model of how long a batch lasts and what fails in it.
//!
//! It owns no clock and never sleeps; whoever asks waits the drawn delay in its own way, so that
//! shards, peers and simulations share one model. The values themselves come from the tables.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1, StandardNormal, Uniform};

use super::config::{Latency, Simulated};

/// The 99th percentile of the standard normal distribution.
const Z_P99: f64 = 2.326_347_874_040_841;
/// No drawn latency exceeds its mean, or its 99th percentile, by more than this factor: one sample
/// in a million must not outlast a phase.
const TAIL_MAX: f64 = 20.0;
const MILLION: u32 = 1_000_000;

/// Draws the fate of one batch after another; the same seed and stream, the same fates.
#[derive(Debug)]
pub struct Model {
    config: Simulated,
    rng: ChaCha8Rng,
}

/// The fate of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// How long the batch takes.
    pub delay: Duration,
    /// Indices of the items that fail, ascending.
    pub failed: Vec<usize>,
}

impl Model {
    /// Makes a model. Each shard and stage has its own `stream` of the workload's seed.
    #[must_use]
    pub fn new(config: &Simulated, seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { config: config.clone(), rng }
    }

    /// Draws how a batch of `n_items` fares.
    pub fn draw(&mut self, n_items: usize) -> Fate {
        let drawn_us = self.latency_us();
        let n = u32::try_from(n_items).unwrap_or(u32::MAX);
        let items = Duration::from_nanos(self.config.per_item_ns).saturating_mul(n);
        let batch = Duration::from_micros(self.config.per_batch_us);
        let delay = Duration::from_nanos(nanos(drawn_us)).saturating_add(batch + items);
        Fate { delay, failed: self.failed_items(n_items) }
    }

    fn latency_us(&mut self) -> f64 {
        match self.config.latency {
            Latency::Fixed { latency_us } => micros(latency_us),
            Latency::Uniform { min_us, max_us } => {
                let range = Uniform::new_inclusive(micros(min_us), micros(max_us));
                // Bounds in the wrong order are refused by `Config::check`.
                range.map_or(micros(max_us), |range| range.sample(&mut self.rng))
            }
            Latency::Exponential { mean_us } => {
                let drawn: f64 = Exp1.sample(&mut self.rng);
                micros(mean_us) * drawn.min(TAIL_MAX)
            }
            Latency::LogNormal { p50_us, p99_us } => {
                let z: f64 = StandardNormal.sample(&mut self.rng);
                let (p50_us, p99_us) = (micros(p50_us), micros(p99_us));
                let sigma = (p99_us / p50_us).ln() / Z_P99;
                (p50_us * (sigma * z).exp()).min(TAIL_MAX * p99_us)
            }
        }
    }

    fn failed_items(&mut self, n_items: usize) -> Vec<usize> {
        let share = self.config.failures_per_million;
        if share == 0 {
            return Vec::new();
        }
        let one_in_a_million = Uniform::new(0, MILLION).expect("the range is not empty");
        (0..n_items).filter(|_| one_in_a_million.sample(&mut self.rng) < share).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a checked latency is far below 2^53")]
fn micros(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "latencies are not negative, and the cast saturates"
)]
fn nanos(micros: f64) -> u64 {
    (micros * 1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(latency: Latency) -> Simulated {
        Simulated { latency, per_batch_us: 0, per_item_ns: 0, failures_per_million: 0 }
    }

    /// Draws 20,000 latencies and returns them ascending, in microseconds.
    fn drawn_us(latency: Latency) -> Vec<u128> {
        let mut model = Model::new(&simulated(latency), 7, 0);
        let mut all: Vec<_> = (0..20_000).map(|_| model.draw(1).delay.as_micros()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn adds_the_cost_of_the_batch_and_of_each_item() {
        let mut config = simulated(Latency::Fixed { latency_us: 100 });
        config.per_batch_us = 20;
        config.per_item_ns = 500;
        let fate = Model::new(&config, 1, 0).draw(128);
        assert_eq!(fate, Fate { delay: Duration::from_micros(184), failed: Vec::new() });
    }

    #[test]
    fn the_same_seed_and_stream_draw_the_same_fates() {
        let mut config = simulated(Latency::Exponential { mean_us: 100 });
        config.failures_per_million = 100_000;
        let fates = |seed, stream| {
            let mut model = Model::new(&config, seed, stream);
            (0..50).map(|_| model.draw(20)).collect::<Vec<_>>()
        };
        assert_eq!(fates(1, 2), fates(1, 2));
        assert_ne!(fates(1, 2), fates(1, 3));
        assert_ne!(fates(1, 2), fates(2, 2));
    }

    #[test]
    fn distributions_have_the_quantiles_they_are_told() {
        let uniform = drawn_us(Latency::Uniform { min_us: 50, max_us: 150 });
        assert!((50..=52).contains(&uniform[0]), "{}", uniform[0]);
        assert!((148..=150).contains(&uniform[19_999]), "{}", uniform[19_999]);
        let exponential = drawn_us(Latency::Exponential { mean_us: 1_000 });
        let median = exponential[10_000];
        assert!((660..=730).contains(&median), "ln 2 of the mean, not {median}");
        let log_normal = drawn_us(Latency::LogNormal { p50_us: 500, p99_us: 4_000 });
        let (median, p99) = (log_normal[10_000], log_normal[19_800]);
        assert!((480..=520).contains(&median), "{median}");
        assert!((3_500..=4_500).contains(&p99), "{p99}");
    }

    #[test]
    fn fails_the_share_of_items_it_is_told() {
        let mut config = simulated(Latency::Fixed { latency_us: 0 });
        config.failures_per_million = 10_000;
        let failed = Model::new(&config, 3, 0).draw(100_000).failed;
        assert!((850..=1_150).contains(&failed.len()), "{}", failed.len());
        assert!(failed.is_sorted());
        config.failures_per_million = MILLION;
        assert_eq!(Model::new(&config, 3, 0).draw(9).failed.len(), 9);
    }
}
