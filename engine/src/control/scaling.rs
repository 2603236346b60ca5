//! How many batches may be in flight: permits that follow the need.
//!
//! Too few permits leave a queue before an idle downstream; too many make the downstream slower for
//! everybody, and cost memory and connections. Two rules move them between bounds, a step per sample.
//!
//! *Queue threshold* is the staged design's: one more when the queue has reached a threshold. There
//! it was looked at every two seconds, and permits added at every fourth look, so that a stage took
//! minutes to its need; here the time between looks is a parameter, 20 ms by default, and each look
//! may add one. *Gradient* compares how long batches run with how long they ran when the permits did
//! not bind (Netflix's Gradient2): a downstream at its end gets slower with each further batch, and
//! one more would help nobody, however long the queue is.
//!
//! Both raise only while something waits and all permits were out: a bound that does not bind tells
//! nothing. Both give back what is not used, quickly where half is idle, and slowly where one of many
//! is: a need that stands between two counts would otherwise move the permits for ever.

mod gradient;

use std::time::Duration;

use super::Reading;
use crate::runtime::Time;
use gradient::Gradient;

/// How long is watched before the permits change.
const SAMPLE: Duration = Duration::from_millis(20);

/// Permits between bounds, and the rule that moves them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaling {
    /// Permits at least. Default 1.
    pub(crate) min: usize,
    /// Permits at most. Default 20, as in the staged design.
    pub(crate) max: usize,
    /// What moves them. Default [`ScalingRule::queue_threshold`].
    pub(crate) rule: ScalingRule,
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
    /// One more per sample when the queue has reached a threshold while all were out.
    QueueThreshold {
        /// Items that wait.
        threshold: usize,
        /// How long is watched before the permits change.
        sample: Duration,
    },
    /// More while batches run as fast as ever, fewer when they get slower. For a downstream that
    /// shares its capacity among the batches in flight.
    Gradient {
        /// How long is watched before the permits change.
        sample: Duration,
    },
}

impl ScalingRule {
    /// How long is watched before the permits change, where they do.
    pub(crate) const fn sample(&self) -> Option<Duration> {
        match self {
            Self::Fixed => None,
            Self::QueueThreshold { sample, .. } | Self::Gradient { sample } => Some(*sample),
        }
    }

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

/// How long at most half of the permits are used before the others are given back; the staged
/// design's threads ended after as long. In samples of the default length it is 50.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// How long one permit is never used before it is given back: at most three changes of direction in
/// a minute follow.
const SPARE_AFTER: Duration = Duration::from_secs(40);

/// The permits of one stage on one shard, as its rule has them now.
#[derive(Debug)]
pub(crate) struct Scaler {
    min: usize,
    max: usize,
    permits: usize,
    rule: Rule,
    sample: Sample,
    /// Since when at most half of the permits were out at any time, and how many at most.
    idle: Spell,
    /// Since when at least one was not out at any time.
    spare: Spell,
}

#[derive(Debug)]
enum Rule {
    Fixed,
    QueueThreshold { threshold: usize, sample: Duration },
    Gradient { gradient: Gradient, sample: Duration },
}

/// What is seen between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    began: Time,
    out_max: usize,
    depth: usize,
}

/// A time in which fewer permits were used than there are.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    began: Time,
    out_max: usize,
}

impl Scaler {
    /// Begins at the least permits; without a rule at the most. Bounds that are no bounds are made
    /// some: at least 1, and the most not below the least.
    pub(crate) fn new(scaling: &Scaling) -> Self {
        let min = scaling.min.max(1);
        let max = scaling.max.max(min);
        let rule = match &scaling.rule {
            ScalingRule::Fixed => Rule::Fixed,
            &ScalingRule::QueueThreshold { threshold, sample } => {
                Rule::QueueThreshold { threshold, sample }
            }
            &ScalingRule::Gradient { sample } => {
                Rule::Gradient { gradient: Gradient::new(min), sample }
            }
        };
        let permits = if let Rule::Fixed = rule { max } else { min };
        let (sample, idle) = (Sample::default(), Spell::default());
        Self { min, max, permits, rule, sample, idle, spare: idle }
    }

    /// Batches that may be in flight now.
    pub(crate) fn permits(&self) -> usize {
        self.permits
    }

    /// A batch of `n_items` has run for `run` until `now`.
    pub(crate) fn on_batch(&mut self, now: Time, n_items: usize, run: Duration) {
        debug_assert!(now >= self.sample.began, "{now:?} before {:?}", self.sample.began);
        if let Rule::Gradient { gradient, .. } = &mut self.rule {
            gradient.on_batch(n_items, run);
        }
    }

    /// Tells what is so now: `depth` items wait, `out` batches are in flight. To be called when a
    /// batch starts or ends, and at [`Self::next_sample`]. Costs next to nothing until the sample
    /// time has passed.
    pub(crate) fn observe(&mut self, now: Time, depth: usize, out: usize) {
        self.sample.out_max = self.sample.out_max.max(out);
        self.sample.depth = depth;
        let Some(next) = self.sample_ends() else { return };
        if now < next {
            return;
        }
        let sample = self.sample;
        // Those that are out now are out in the next sample too.
        self.sample = Sample { began: now, out_max: out, depth };
        self.adjust(&sample);
        self.give_back(now, &sample);
        debug_assert!((self.min..=self.max).contains(&self.permits), "{self:?}");
    }

    /// When to observe again though nothing happens, so that unused permits go away; `None` where
    /// nothing would change.
    pub(crate) fn next_sample(&self) -> Option<Time> {
        self.sample_ends().filter(|_| self.permits > self.min)
    }

    pub(crate) fn readings(&self, out: &mut Vec<Reading>) {
        out.push(Reading::new("permits", self.permits as f64));
        if let Rule::Gradient { gradient, .. } = &self.rule {
            gradient.readings(out);
        }
    }

    fn sample_ends(&self) -> Option<Time> {
        match self.rule {
            Rule::Fixed => None,
            Rule::QueueThreshold { sample, .. } | Rule::Gradient { sample, .. } => {
                Some(self.sample.began.after(sample))
            }
        }
    }

    fn adjust(&mut self, sample: &Sample) {
        let binds = sample.out_max >= self.permits;
        match &mut self.rule {
            Rule::Fixed => {}
            Rule::QueueThreshold { threshold, .. } => {
                if binds && sample.depth >= *threshold {
                    self.permits = (self.permits + 1).min(self.max);
                }
            }
            Rule::Gradient { gradient, .. } => {
                let waits = sample.depth > 0;
                self.permits = match (binds, waits) {
                    (false, _) => gradient.rest(self.permits),
                    (true, false) => gradient.hold(self.permits, self.min),
                    (true, true) => gradient.step(self.permits, self.min, self.max),
                };
            }
        }
    }

    /// Gives back the permits that were not used for long enough.
    fn give_back(&mut self, now: Time, sample: &Sample) {
        let n_used = sample.out_max;
        let (half, all_but_one) = (self.permits / 2, self.permits - 1);
        let idle = self.idle.lasts(now, n_used, half, IDLE_AFTER);
        let spare = self.spare.lasts(now, n_used, all_but_one, SPARE_AFTER);
        let Some(n_used) = idle.or(spare) else { return };
        self.permits = self.permits.min(n_used.max(self.min));
        let fresh = Spell { began: now, out_max: 0 };
        (self.idle, self.spare) = (fresh, fresh);
        if let Rule::Gradient { gradient, .. } = &mut self.rule {
            gradient.rest(self.permits);
        }
    }
}

impl Spell {
    /// Goes on with the spell where at most `few` were used, else begins it anew. The most permits
    /// that were out in it, once it has lasted for `long_enough`.
    fn lasts(
        &mut self,
        now: Time,
        n_used: usize,
        few: usize,
        long_enough: Duration,
    ) -> Option<usize> {
        if n_used > few {
            *self = Self { began: now, out_max: 0 };
            return None;
        }
        self.out_max = self.out_max.max(n_used);
        (now.since(self.began) >= long_enough).then_some(self.out_max)
    }
}
