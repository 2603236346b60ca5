//! How large a batch may be: a bound that follows the load, or a budget of time.
//!
//! A larger batch spreads the cost of a dispatch over more items, and makes the first of them wait
//! for the last. Two rules choose. *Smallest* looks for the smallest batch at which throughput is
//! still constant (the staged design's rule); *Budget* for the largest one that ends in time.

use std::time::Duration;

use super::{Reading, count_up};
use crate::runtime::Time;

/// The rule for how many items a batch may hold; the stage's `items_max` bounds every rule.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum BatchRule {
    /// As many as the stage allows.
    #[default]
    Fixed,
    /// The smallest batch at which throughput is still constant and the queue does not grow.
    Smallest(SmallestBatch),
    /// The largest batch whose fitted run time fits the budget for 99 of 100 batches.
    Budget {
        /// How long 99 of 100 batches may run.
        p99: Duration,
    },
}

/// The settings of [`BatchRule::Smallest`].
#[derive(Clone, Debug, PartialEq)]
pub struct SmallestBatch {
    /// How long throughput and queue are watched before the size changes. Default 100 ms.
    pub window: Duration,
}

impl Default for SmallestBatch {
    fn default() -> Self {
        Self { window: Duration::from_millis(100) }
    }
}

/// The bound on a stage's batches, as its rule has it now.
#[derive(Debug)]
pub(crate) struct BatchSize {
    items_max: usize,
    target: f64,
}

impl BatchSize {
    pub(crate) fn new(rule: &BatchRule, items_max: usize) -> Self {
        let _ = rule;
        Self { items_max, target: items_max as f64 }
    }

    /// Items that the next batch may hold: at least 1, at most what the stage allows.
    pub(crate) fn items_max(&self) -> usize {
        count_up(self.target, 1, self.items_max)
    }

    /// A batch of `n_items` has run for `run` and left `depth_after` items in the queue.
    pub(crate) fn on_batch(
        &mut self,
        now: Time,
        n_items: usize,
        run: Duration,
        depth_after: usize,
    ) {
        let _ = (now, n_items, run, depth_after);
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("batch_items_max", self.target));
    }
}
