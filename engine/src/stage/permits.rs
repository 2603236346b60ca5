//! How many batches are in flight: pure counting, and the rule for opening one more.
//!
//! The first permit opens whenever the window seals. A further one opens only when it earns its
//! batch: the queue has reached half of the last batch, or its oldest item has waited as long as a
//! permit takes to come back on average. Natural batching without this opens every permit with a
//! small batch each: a peer that does makes 50 keys a batch where 113 were possible.

use std::time::Duration;

use crate::control::Reading;
use crate::control::scaling::{Scaler, Scaling};
use crate::runtime::Time;

/// A mean older than this many of itself is no evidence about the downstream any more.
const STALE_AFTER: u32 = 20;
const STALE_MIN: Duration = Duration::from_millis(20);

/// The permits of one stage on one shard.
#[derive(Debug)]
pub(crate) struct Permits {
    scaler: Scaler,
    out: usize,
    last_batch: usize,
    run: RunMean,
}

impl Permits {
    pub(crate) fn new(scaling: &Scaling) -> Self {
        Self { scaler: Scaler::new(scaling), out: 0, last_batch: 0, run: RunMean::default() }
    }

    /// Whether a batch may be formed now from a queue of `depth` items.
    pub(crate) fn may_open(&self, depth: usize, oldest_wait: Duration, full: bool) -> bool {
        let max = self.max();
        if self.out == 0 || self.out >= max || full {
            return self.out < max;
        }
        depth * 2 >= self.last_batch || oldest_wait >= self.fair_wait()
    }

    /// When the wait of the oldest item alone earns a further permit; `None` while none is free.
    pub(crate) fn opens_at(&self, oldest_admitted: Time) -> Option<Time> {
        (self.out < self.max()).then(|| oldest_admitted.after(self.fair_wait()))
    }

    /// How long a permit takes to come back on average, with all of them out.
    fn fair_wait(&self) -> Duration {
        self.run.mean / u32::try_from(self.max()).unwrap_or(u32::MAX)
    }

    pub(crate) fn open(&mut self, n_items: usize) {
        debug_assert!(self.out < self.max(), "{} permits out of {}", self.out, self.max());
        self.out += 1;
        self.last_batch = n_items;
    }

    pub(crate) fn give_back(&mut self) {
        debug_assert!(self.out > 0, "a permit comes back once");
        self.out -= 1;
    }

    /// An attempt at a batch of `n_items` has taken `run`.
    pub(crate) fn ran(&mut self, now: Time, n_items: usize, run: Duration) {
        self.scaler.on_batch(now, n_items, run);
        self.run.record(now, run);
    }

    /// Lets the rule for their number see a queue of `depth` items.
    pub(crate) fn observe(&mut self, now: Time, depth: usize) {
        self.scaler.observe(now, depth, self.out);
    }

    /// When the rule wants to see again, even if nothing happens.
    pub(crate) fn next_sample(&self) -> Time {
        self.scaler.next_sample().unwrap_or(Time::NEVER)
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        self.scaler.readings(out);
    }

    pub(crate) fn out(&self) -> usize {
        self.out
    }

    pub(crate) fn max(&self) -> usize {
        self.scaler.permits()
    }

    /// What a batch is expected to take; zero when nothing recent is known, so that a downstream
    /// that has recovered is tried again.
    pub(crate) fn expected_run(&self, now: Time) -> Duration {
        if now > self.run.stale_at { Duration::ZERO } else { self.run.mean }
    }
}

/// An exponentially weighted mean of run times; each new one counts for an eighth, as in the
/// round-trip estimate of RFC 6298.
#[derive(Debug, Default)]
struct RunMean {
    mean: Duration,
    /// From here on it is no evidence any more.
    stale_at: Time,
}

impl RunMean {
    fn record(&mut self, now: Time, run: Duration) {
        self.mean = if self.mean.is_zero() { run } else { self.mean - self.mean / 8 + run / 8 };
        self.stale_at = now.after((self.mean * STALE_AFTER).max(STALE_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::scaling::ScalingRule;

    const MS: Duration = Duration::from_millis(1);

    fn busy(max: usize, batches: &[usize]) -> Permits {
        let mut permits = Permits::new(&Scaling { min: 1, max, rule: ScalingRule::Fixed });
        permits.open(1);
        permits.ran(Time::from_nanos(1_000_000), 1, MS * 4);
        permits.give_back();
        for n_items in batches {
            permits.open(*n_items);
        }
        permits
    }

    #[test]
    fn the_first_permit_opens_for_a_single_item() {
        assert!(busy(4, &[]).may_open(1, Duration::ZERO, false));
    }

    #[test]
    fn a_further_permit_opens_for_half_a_batch_or_a_fair_wait_or_a_full_one() {
        let permits = busy(4, &[100]);
        assert!(!permits.may_open(49, Duration::ZERO, false));
        assert!(permits.may_open(50, Duration::ZERO, false));
        assert!(permits.may_open(1, MS, false), "4 ms over 4 permits");
        assert!(permits.may_open(1, Duration::ZERO, true));
    }

    #[test]
    fn none_opens_when_all_are_out() {
        assert!(!busy(2, &[1, 1]).may_open(1_000, MS * 1_000, true));
    }

    #[test]
    fn the_expected_run_is_forgotten_so_that_a_downstream_is_tried_again() {
        let permits = busy(1, &[]);
        let last = Time::from_nanos(1_000_000);
        assert_eq!(permits.expected_run(last.after(MS)), MS * 4);
        assert_eq!(permits.expected_run(last.after(MS * 81)), Duration::ZERO);
    }
}
