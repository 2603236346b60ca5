//! The presets that bound a rate: a bucket of tokens for each class, moved in rounds by how long the
//! calls of the class take.
//!
//! As published, a round ends after 100 replies or a second; its 90th percentile is smoothed and
//! compared with the target, and the law says what the rate becomes. Unlike what was published, the
//! bucket is real-valued, so that rates above 1,000 a second are admitted.
//!
//! Where the stage can degrade, a call that finds no token may take one of a second bucket with the
//! same rate, and is degraded: the emptier that bucket, the higher the level. With neither, it is
//! refused. So up to twice the rate is let in, half of it degraded, before anybody is refused.

use std::time::Duration;

use super::law::{Action, Law, PidState};
use super::{Ended, Verdict, count_up};
use crate::control::Reading;
use crate::control::admission::Bucket;
use crate::control::percentile::Round;
use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// The weight of the old value in the smoothed percentile, as published.
const SMOOTHING: f64 = 0.7;

/// How many targets a call has taken at least that has expired.
const EXPIRED_TARGETS: u32 = 2;

#[derive(Debug)]
pub(super) struct Rated {
    law: Law,
    target: Duration,
    levels: u8,
    /// A class is made when it first asks.
    classes: [Option<Box<Class>>; Priority::COUNT],
}

/// One class and its rate.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) per_s: f64,
    /// May not raise its rate in its next round.
    pub(super) preempted: bool,
    /// Rounds over the target in which nobody below was left to cut.
    pub(super) rounds_alone: u32,
    pub(super) pid: PidState,
    bucket: Bucket,
    spare: Bucket,
    round: Round,
    p90_s: f64,
}

impl Rated {
    pub(super) fn new(law: Law, target: Duration, levels: u8) -> Self {
        Self { law, target, levels, classes: [const { None }; Priority::COUNT] }
    }

    pub(super) fn admit(&mut self, now: Time, class: usize) -> Verdict {
        let class = self.law.class_of(class);
        let (law, levels) = (self.law, self.levels);
        let class = self.classes[class].get_or_insert_with(|| Box::new(Class::new(law, levels)));
        let Err(retry_after) = class.bucket.take(now) else { return Verdict::Accept };
        if levels == 0 || class.spare.take(now).is_err() {
            return Verdict::Reject { retry_after };
        }
        let step = (1.0 - class.spare.fullness()) * f64::from(levels);
        let level = count_up(step, 1, usize::from(levels));
        Verdict::Degrade(u8::try_from(level).unwrap_or(levels))
    }

    /// One has its reply, or has expired: then it counts as late, however short its deadline was.
    pub(super) fn ended(&mut self, now: Time, ended: Ended) {
        let mut took = now.since(ended.admitted);
        if ended.expired {
            took = took.max(self.target.saturating_mul(EXPIRED_TARGETS));
        }
        self.learn(now, ended.priority.idx(), took);
    }

    fn learn(&mut self, now: Time, class: usize, sojourn: Duration) {
        let idx = self.law.class_of(class);
        let (below, rest) = self.classes.split_at_mut(idx);
        // One that was let in has asked before.
        let Some(class) = rest[0].as_deref_mut() else { return };
        let Some(p90) = class.round.record(now, sojourn) else { return };
        class.p90_s = SMOOTHING * class.p90_s + (1.0 - SMOOTHING) * p90.as_secs_f64();
        let target_s = self.target.as_secs_f64();
        let below = below.iter_mut().flatten().map(Box::as_mut);
        let error = (class.p90_s - target_s) / target_s;
        match self.law.decide(now, error, class) {
            Action::Set(per_s) => class.set_per_s(now, per_s),
            Action::CutBelow => self.law.cut_below(now, class, below),
            Action::Keep => {}
        }
    }

    pub(super) fn retarget(&mut self, target: Duration) {
        self.target = target;
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        let sum = |value: fn(&Class) -> f64| self.classes.iter().flatten().map(|c| value(c)).sum();
        out.push(Reading::new("target_s", self.target.as_secs_f64()));
        out.push(Reading::new("admit_per_s", sum(|class| class.per_s)));
        let worst = self.classes.iter().flatten().map(|class| class.p90_s).fold(0.0, f64::max);
        out.push(Reading::new("p90_s", worst));
    }
}

impl Class {
    fn new(law: Law, levels: u8) -> Self {
        let (per_s, depth) = law.start();
        Self {
            per_s,
            preempted: false,
            rounds_alone: 0,
            pid: PidState::default(),
            bucket: Bucket::new(per_s, depth),
            spare: Bucket::new(per_s, depth.max(f64::from(levels))),
            round: Round::new(),
            p90_s: 0.0,
        }
    }

    /// Changes the rate, within the published bounds.
    pub(super) fn set_per_s(&mut self, now: Time, per_s: f64) {
        self.per_s = per_s.clamp(super::law::PER_S_MIN, super::law::PER_S_MAX);
        self.bucket.set_per_s(now, self.per_s);
        self.spare.set_per_s(now, self.per_s);
    }
}
