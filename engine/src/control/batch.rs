//! How large a batch may be: a bound that follows the load, or a budget of time.
//!
//! A larger batch spreads the cost of a dispatch over more items, and makes the first of them wait
//! for the last. Two rules choose. *Smallest* looks for the smallest batch at which throughput is
//! still constant (the staged design's rule); *Budget* for the largest one that ends in time.

mod smallest;
mod budget;

use std::time::Duration;

use super::{Reading, count_up};
use crate::runtime::Time;
use budget::Budget;
use smallest::Smallest;

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
    /// How long throughput and queue are watched before the size changes, and at least eight
    /// batches. Default 100 ms, as the staged design's server had it.
    pub window: Duration,
    /// Windows in a row without a backlog before a smaller batch is tried. Default 5, as published.
    /// It doubles with each try that failed, until the load changes.
    pub patience: u32,
}

impl Default for SmallestBatch {
    fn default() -> Self {
        Self { window: Duration::from_millis(100), patience: 5 }
    }
}

/// The bound on a stage's batches, as its rule has it now.
#[derive(Debug)]
pub(crate) struct BatchSize {
    items_max: usize,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Fixed,
    Smallest(Smallest),
    Budget(Budget),
}

impl BatchSize {
    /// A bound of at most `items_max`, which the stage's options allow.
    pub(crate) fn new(rule: &BatchRule, items_max: usize) -> Self {
        let rule = match rule {
            BatchRule::Fixed => Rule::Fixed,
            BatchRule::Smallest(options) => Rule::Smallest(Smallest::new(options, items_max)),
            BatchRule::Budget { p99 } => Rule::Budget(Budget::new(*p99)),
        };
        Self { items_max, rule }
    }

    /// Items that the next batch may hold: at least 1, at most what the stage allows.
    pub(crate) fn items_max(&self) -> usize {
        match &self.rule {
            Rule::Fixed => self.items_max,
            Rule::Smallest(rule) => count_up(rule.target(), 1, self.items_max),
            // Down, since more would not fit.
            Rule::Budget(rule) => count_up(rule.target().floor(), 1, self.items_max),
        }
    }

    /// A batch of `n_items` has run for `run`, and `depth_after` items wait now.
    pub(crate) fn on_batch(
        &mut self,
        now: Time,
        n_items: usize,
        run: Duration,
        depth_after: usize,
    ) {
        match &mut self.rule {
            Rule::Fixed => {}
            Rule::Smallest(rule) => rule.on_batch(now, n_items, run, depth_after),
            Rule::Budget(rule) => rule.on_batch(n_items, run),
        }
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("batch_items_max", self.items_max() as f64));
        match &self.rule {
            Rule::Fixed => {}
            Rule::Smallest(rule) => rule.readings(out),
            Rule::Budget(rule) => rule.readings(out),
        }
    }
}
