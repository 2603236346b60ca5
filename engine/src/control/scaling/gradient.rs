//! Permits by how long batches run: short against long.
//!
//! After Netflix's Gradient2. *Short* is the mean run time of a sample; *long* is what batches of that
//! size took when the permits did not bind, or were at their least (a fitted line: larger batches run
//! longer, and that is no slowness). Their ratio says how much of the run time is waiting inside the
//! downstream, and the bound follows it down; the square root of the bound is added to see whether
//! more is possible. Both are smoothed. Unlike Gradient2 the long time never learns from a time of
//! full load: it would take the slowness that the bound itself has made for the downstream's nature,
//! and the bound would creep up for ever.

use std::time::Duration;

use crate::control::fit::Fit;
use crate::control::{Reading, count_up};

/// Run times may be so much longer than at rest before the bound follows.
const TOLERANCE: f64 = 1.1;

/// The most that one sample may cut.
const GRADIENT_MIN: f64 = 0.5;

/// The weight of a new bound; Gradient2's.
const SMOOTHING: f64 = 0.2;

/// The integer follows the bound when they are so far apart, so that it does not tremble.
const DEAD_BAND: f64 = 1.0;

#[derive(Debug)]
pub(super) struct Gradient {
    limit: f64,
    /// What samples at rest took.
    long: Fit,
    short: Sample,
}

/// Sums over the batches of a sample.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    n_batches: f64,
    n_items: f64,
    run_s: f64,
}

impl Gradient {
    pub(super) fn new(permits: usize) -> Self {
        Self { limit: permits as f64, long: Fit::default(), short: Sample::default() }
    }

    pub(super) fn on_batch(&mut self, n_items: usize, run: Duration) {
        self.short.n_batches += 1.0;
        self.short.n_items += n_items as f64;
        self.short.run_s += run.as_secs_f64();
    }

    /// A sample in which the permits did not bind: learns, and changes nothing.
    pub(super) fn rest(&mut self, permits: usize) -> usize {
        if let Some((n_items, run_s)) = self.end_sample() {
            self.long.add(n_items, run_s);
        }
        self.limit = permits as f64;
        permits
    }

    /// A sample in which all permits were out and nothing waited: more are not needed.
    pub(super) fn hold(&mut self, permits: usize, min: usize) -> usize {
        self.step(permits, min, permits)
    }

    /// A sample in which all permits were out and something waited.
    pub(super) fn step(&mut self, permits: usize, min: usize, max: usize) -> usize {
        let Some((n_items, run_s)) = self.end_sample() else { return permits };
        let is_at_rest = permits <= min;
        if is_at_rest || self.at_rest_s(n_items).is_none_or(|long_s| run_s < long_s) {
            self.long.add(n_items, run_s);
        }
        let gradient = self.at_rest_s(n_items).map_or(1.0, |long_s| TOLERANCE * long_s / run_s);
        let wanted = self.limit * gradient.clamp(GRADIENT_MIN, 1.0) + self.limit.sqrt();
        let limit = self.limit + SMOOTHING * (wanted - self.limit);
        self.limit = limit.clamp(min as f64, max as f64);
        if (self.limit - permits as f64).abs() < DEAD_BAND {
            return permits;
        }
        count_up(self.limit.floor(), min, max)
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("permits_limit", self.limit));
        let (fixed_s, item_s) = self.long.line();
        out.push(Reading::new("run_at_rest_fixed_s", fixed_s));
        out.push(Reading::new("run_at_rest_item_s", item_s));
    }

    /// Ends the sample: the mean size and run time of its batches, if there were any.
    fn end_sample(&mut self) -> Option<(f64, f64)> {
        let Sample { n_batches, n_items, run_s } = std::mem::take(&mut self.short);
        (n_batches > 0.0 && run_s > 0.0).then(|| (n_items / n_batches, run_s / n_batches))
    }

    /// What a batch of so many items takes at rest; none before any has.
    fn at_rest_s(&self, n_items: f64) -> Option<f64> {
        let (fixed_s, item_s) = self.long.line();
        Some(fixed_s + item_s * n_items).filter(|long_s| *long_s > 0.0)
    }
}
