//! The largest batch that ends in time: a line fitted to the run times, and how far they exceed it.
//!
//! A batch of `n` items is taken to run for `a + b n` (`control/fit.rs`). Above that line stands the
//! spread: the ratio of run time to line that 99 of 100 batches do not exceed, found by moving an
//! estimate up by 99 steps whenever a batch is above it, and down by one whenever not. It assumes no
//! distribution, so a downstream with a heavy tail gets smaller batches, as it should.

use std::time::Duration;

use crate::control::Reading;
use crate::control::fit::{Fit, KEPT};

/// By how much the spread moves: down by this much of itself, up by 99 times as much.
const SPREAD_STEP: f64 = 0.002;

/// Batches that are in time for each one that is not.
const IN_TIME_PER_LATE: f64 = 99.0;

/// The line is not trusted beyond so many times the largest batch seen lately.
const REACH: f64 = 2.0;

#[derive(Debug)]
pub(super) struct Budget {
    p99_s: f64,
    fit: Fit,
    spread: f64,
    /// The largest batch seen, forgotten as the fit forgets.
    largest: f64,
}

impl Budget {
    pub(super) fn new(p99: Duration) -> Self {
        Self { p99_s: p99.as_secs_f64(), fit: Fit::default(), spread: 1.0, largest: 1.0 }
    }

    /// Items of the largest batch that fits the budget; below 1 where not even one does.
    pub(super) fn target(&self) -> f64 {
        let (fixed_s, item_s) = self.fit.line();
        let reach = self.largest * REACH;
        if item_s <= 0.0 {
            return reach;
        }
        ((self.p99_s / self.spread - fixed_s) / item_s).min(reach)
    }

    pub(super) fn on_batch(&mut self, n_items: usize, run: Duration) {
        let (n_items, run_s) = (n_items as f64, run.as_secs_f64());
        let (fixed_s, item_s) = self.fit.line();
        let expected_s = fixed_s + item_s * n_items;
        if expected_s > 0.0 {
            let is_above = run_s > expected_s * self.spread;
            let steps = if is_above { IN_TIME_PER_LATE } else { -1.0 };
            self.spread = (self.spread * (1.0 + steps * SPREAD_STEP)).max(1.0);
        }
        self.fit.add(n_items, run_s);
        self.largest = (self.largest * KEPT).max(n_items).max(1.0);
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        let (fixed_s, item_s) = self.fit.line();
        out.push(Reading::new("batch_fixed_s", fixed_s));
        out.push(Reading::new("batch_item_s", item_s));
        out.push(Reading::new("batch_spread", self.spread));
    }
}
