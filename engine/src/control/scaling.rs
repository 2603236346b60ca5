//! How many batches may be in flight: permits that follow the need.
//!
//! Too few permits leave a queue before an idle downstream; too many make the downstream slower for
//! everybody, and cost memory and connections.

use std::time::Duration;

use super::Reading;
use crate::runtime::Time;

/// How long is watched before the permits change.
const SAMPLE: Duration = Duration::from_millis(20);

/// Permits between bounds, and the rule that moves them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Permits at least. Default 1.
    pub min: usize,
    /// Permits at most. Default 20, as in the staged design.
    pub max: usize,
    /// What moves them. Default [`ScalingRule::queue_threshold`].
    pub rule: ScalingRule,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { min: 1, max: 20, rule: ScalingRule::queue_threshold(1) }
    }
}

/// What moves the permits of a stage.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScalingRule {
    /// Nothing: as many as `max`.
    Fixed,
    /// One more when the queue has reached a threshold while all were out; fewer when they are not
    /// used.
    QueueThreshold {
        /// Items that wait.
        threshold: usize,
        /// How long is watched before the permits change.
        sample: Duration,
    },
    /// More while batches run as fast as ever, fewer when they get slower.
    Gradient {
        /// How long is watched before the permits change.
        sample: Duration,
    },
}

impl ScalingRule {
    /// [`ScalingRule::QueueThreshold`] at the default sample time of 20 ms.
    #[must_use]
    pub const fn queue_threshold(threshold: usize) -> Self {
        Self::QueueThreshold { threshold, sample: SAMPLE }
    }

    /// [`ScalingRule::Gradient`] at the default sample time of 20 ms.
    #[must_use]
    pub const fn gradient() -> Self {
        Self::Gradient { sample: SAMPLE }
    }
}

/// The permits of one stage on one shard, as its rule has them now.
#[derive(Debug)]
pub(crate) struct Scaler {
    permits: usize,
}

impl Scaler {
    pub(crate) fn new(scaling: &Scaling) -> Self {
        Self { permits: scaling.max }
    }

    /// Batches that may be in flight now.
    pub(crate) fn permits(&self) -> usize {
        self.permits
    }

    /// A batch has run.
    pub(crate) fn on_batch(&mut self, now: Time, n_items: usize, run: Duration) {
        let _ = (now, n_items, run);
    }

    /// Tells what is so now: `depth` items wait, `out` batches are in flight. To be called when a
    /// batch starts or ends, and at [`Self::next_sample`].
    pub(crate) fn observe(&mut self, now: Time, depth: usize, out: usize) {
        let _ = (now, depth, out);
    }

    /// When to observe again though nothing happens, so that unused permits go away; `None` where
    /// nothing would change.
    pub(crate) fn next_sample(&self) -> Option<Time> {
        None
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("permits", self.permits as f64));
    }
}
