//! The policy of one stage: what a user or a workload file may choose.

use std::time::Duration;

use super::Window;
use crate::control::batch::BatchRule;
use crate::control::breaker::BreakerOptions;
use crate::control::conditioner::{Conditioning, Preset};
use crate::control::rate::RateLimit;
use crate::control::retry::Retry;
use crate::control::scaling::{Scaling, ScalingRule};
use crate::runtime::ShardId;
use crate::runtime::priority::Priority;

/// What a stage's calls are: what the engine may do with equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Changes something: equal keys are never merged.
    Write,
    /// Only reads: equal keys that are queued may share one item.
    Read,
    /// Only reads, and every write to the same keys calls [`StageRef::touch`](super::StageRef::touch):
    /// equal keys may also join what is in flight.
    TouchedRead,
}

/// Which equal keys share one item. A shared item keeps the place in the queue and the priority of
/// the call that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dedup {
    /// None: every call is an item.
    Off,
    /// Those that are queued. Needs [`Kind::Read`].
    Queued,
    /// Those that are queued or in flight. Needs [`Kind::TouchedRead`].
    InFlight,
}

/// Which shard queues a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The shard that makes it.
    Local,
    /// The shard that owns its key: one flight per key in the whole engine.
    Owner,
    /// One shard for all.
    Gather(ShardId),
}

/// The policy of one stage. Every field may be changed before the engine starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageOptions {
    /// Items in a batch at most. Default 128: where the cost per item of a SQL read is flat.
    pub items_max: usize,
    /// Weight of a batch at most, where the stage weighs its items; an item heavier than this
    /// goes alone. Default: no bound.
    pub weight_max: u64,
    /// When a batch seals. Default [`Window::Idle`].
    pub window: Window,
    /// Batches in flight at most, per shard. Default 1: right for one serial connection.
    pub permits: usize,
    /// How much of what is queued is served of each priority, relative to the others, where there
    /// is more than a batch takes: index 0 is the lowest. Default: one more for each level.
    pub weights: [u32; Priority::COUNT],
    /// Permits that are never given up, per shard, where `permits_rule` moves their number. Default 1.
    pub permits_min: usize,
    /// How the number of permits follows saturation, between `permits_min` and `permits`. Default
    /// [`ScalingRule::Fixed`]: all of `permits`, always.
    pub permits_rule: ScalingRule,
    /// How the size of a batch is chosen, up to `items_max`. Default [`BatchRule::Fixed`].
    pub batch: BatchRule,
    /// How often the downstream is called, all shards together. Default: no bound.
    pub rate: Option<RateLimit>,
    /// Calls taken in and not yet answered, per shard; a further one is shed. Default: no bound but
    /// the queue's.
    pub in_flight_max: usize,
    /// Calls taken in per second, per shard, of which a tenth may come at once; a further one is
    /// shed. Default: no bound.
    pub admitted_per_s: Option<u64>,
    /// Under a standing delay the newest go first: once the queue has not been empty for 100 ms and its
    /// oldest item has waited for this long. Right where a reply later than that is of no use; those
    /// passed over wait until the delay ends, or their deadlines come. Default: never, but with
    /// [`Preset::Codel`] after twice its target.
    pub newest_first_after: Option<Duration>,
    /// What keeps replies in time under overload. Default: nothing does.
    pub conditioning: Option<Conditioning>,
    /// How a batch that fails as a whole is tried again, where the stage is `IDEMPOTENT`. Default:
    /// it is not.
    pub retry: Option<Retry>,
    /// When a downstream that fails is left alone. Default: never.
    pub breaker: Option<BreakerOptions>,
    /// Items that may wait, per shard; a further call is `Shed`, unless it shares one of them.
    /// Default 65,536.
    pub queue_max: usize,
    /// Which shard queues a call. Default [`Placement::Local`].
    pub placement: Placement,
    /// Which equal keys share one item. Default [`Dedup::Off`].
    pub dedup: Dedup,
    /// How long a batch function may run before it is dropped. Default 5 s.
    pub run_max: Duration,
    /// The deadline of a call that has none. Default 30 s.
    pub call_max: Duration,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            items_max: 128,
            weight_max: u64::MAX,
            window: Window::Idle,
            permits: 1,
            weights: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            permits_min: 1,
            permits_rule: ScalingRule::Fixed,
            batch: BatchRule::Fixed,
            rate: None,
            in_flight_max: usize::MAX,
            admitted_per_s: None,
            newest_first_after: None,
            conditioning: None,
            retry: None,
            breaker: None,
            queue_max: 65_536,
            placement: Placement::Local,
            dedup: Dedup::Off,
            run_max: Duration::from_secs(5),
            call_max: Duration::from_secs(30),
        }
    }
}

/// What a stage is by its declaration, whatever its options say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) kind: Kind,
    /// Its calls may be queued on another shard.
    pub(crate) shareable: bool,
    /// Its batches may be tried again.
    pub(crate) idempotent: bool,
}

impl StageOptions {
    /// Tells what is wrong with the controllers.
    fn control_problem(&self, stage: Nature) -> Option<String> {
        let retry = self.retry.as_ref();
        let conditioning = self.conditioning.as_ref();
        let breaker = self.breaker.as_ref();
        let is_moved = self.permits_rule != ScalingRule::Fixed;
        let wrong = [
            (
                is_moved && !(1..=self.permits).contains(&self.permits_min),
                "permits_min is not from 1 to permits",
            ),
            (
                self.rate.as_ref().is_some_and(|rate| rate.per_s == 0 || rate.lease.is_zero()),
                "a rate of 0, or a lease of no time, lets nothing through; leave the rate out to stop nothing",
            ),
            (self.in_flight_max == 0, "in_flight_max is 0; at least 1 is needed"),
            (self.admitted_per_s == Some(0), "admitted_per_s is 0; at least 1 is needed"),
            (
                conditioning.is_some_and(|asked| asked.target.is_zero()),
                "the conditioner's target is 0: nothing can be answered in no time",
            ),
            (
                conditioning.is_some_and(|asked| !(0.0..=1.0).contains(&asked.degrade_from)),
                "degrade_from is a part of the limit, from 0 to 1",
            ),
            (
                self.placement != Placement::Local
                    && conditioning.is_some_and(|asked| asked.preset != Preset::InFlight),
                "only the preset InFlight can tell other shards how much it takes; choose it, or placement Local",
            ),
            (
                self.placement != Placement::Local && self.admitted_per_s.is_some(),
                "admitted_per_s counts the calls of one shard's queue; choose placement Local for it",
            ),
            (
                self.permits_rule.sample().is_some_and(|sample| sample.is_zero()),
                "the rule for permits samples in no time; 20 ms is the default",
            ),
            (
                retry.is_some() && !stage.idempotent,
                "retry needs a stage that is declared IDEMPOTENT",
            ),
            (
                retry.is_some_and(|retry| retry.attempts_max == 0),
                "attempts_max is 0; 1 splits a failed batch at once, more try it whole again first",
            ),
            (
                breaker.is_some_and(|breaker| {
                    !(1..=100).contains(&breaker.failures_percent) || breaker.window.is_zero()
                }),
                "a breaker needs failures_percent from 1 to 100, and a window",
            ),
        ];
        wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map(|(_, what)| what.to_owned())
    }

    /// How the number of permits is found.
    pub(super) fn scaling(&self) -> Scaling {
        Scaling { min: self.permits_min, max: self.permits, rule: self.permits_rule.clone() }
    }

    /// Tells what is wrong with this policy for such a stage, in one line with the remedy.
    pub(crate) fn problem(&self, stage: Nature, n_shards: usize) -> Option<String> {
        let wrong = self.control_problem(stage);
        if wrong.is_some() {
            return wrong;
        }
        let Nature { kind, shareable, .. } = stage;
        if self.weights.contains(&0) {
            return Some("a weight is 0; each priority needs at least 1".to_owned());
        }
        let zero = [
            ("items_max", self.items_max),
            ("permits", self.permits),
            ("queue_max", self.queue_max),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, value)| *value == 0) {
            return Some(format!("{name} is 0; at least 1 is needed"));
        }
        if self.weight_max == 0 || self.run_max.is_zero() || self.call_max.is_zero() {
            return Some("weight_max, run_max and call_max must not be zero".to_owned());
        }
        let allowed = match kind {
            Kind::Write => Dedup::Off,
            Kind::Read => Dedup::Queued,
            Kind::TouchedRead => Dedup::InFlight,
        };
        if self.dedup > allowed {
            return Some(format!(
                "dedup {:?} is not allowed for a stage of kind {kind:?}; at most {allowed:?}",
                self.dedup
            ));
        }
        if self.placement != Placement::Local && !shareable {
            return Some("placement other than Local needs a stage declared as shared".to_owned());
        }
        match self.placement {
            Placement::Gather(shard) if shard.index() >= n_shards => {
                Some(format!("gathers on shard {shard}, but there are {n_shards} shards"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong once `change` was made to what a shared, idempotent write may have.
    fn check(change: impl FnOnce(&mut StageOptions), wanted: Option<&str>) {
        let nature = Nature { kind: Kind::Write, shareable: true, idempotent: true };
        let mut options = StageOptions::default();
        change(&mut options);
        let problem = options.problem(nature, 2);
        match (&problem, wanted) {
            (None, None) => {}
            (Some(problem), Some(wanted)) if problem.contains(wanted) => {}
            _ => panic!("wanted {wanted:?}, got {problem:?}"),
        }
    }

    fn conditioned(change: impl FnOnce(&mut Conditioning)) -> Option<Conditioning> {
        let mut conditioning = Conditioning::default();
        change(&mut conditioning);
        Some(conditioning)
    }

    #[test]
    fn the_defaults_of_every_controller_are_accepted() {
        check(|_| {}, None);
        check(|options| options.conditioning = conditioned(|_| {}), None);
        check(|options| options.rate = Some(RateLimit::per_s(1)), None);
        check(|options| options.retry = Some(Retry::default()), None);
        check(|options| options.breaker = Some(BreakerOptions::default()), None);
        check(|options| options.permits_rule = ScalingRule::gradient(), None);
    }

    #[test]
    fn a_controller_that_could_let_nothing_through_is_refused() {
        check(|options| options.weights[3] = 0, Some("weight is 0"));
        check(|options| options.in_flight_max = 0, Some("in_flight_max"));
        check(|options| options.admitted_per_s = Some(0), Some("admitted_per_s is 0"));
        check(|options| options.rate = Some(RateLimit::per_s(0)), Some("a rate of 0"));
        let no_time = |asked: &mut Conditioning| asked.target = Duration::ZERO;
        check(|options| options.conditioning = conditioned(no_time), Some("target is 0"));
        let beyond = |asked: &mut Conditioning| asked.degrade_from = f64::NAN;
        check(|options| options.conditioning = conditioned(beyond), Some("degrade_from"));
        let retry = Retry { attempts_max: 0, ..Retry::default() };
        check(|options| options.retry = Some(retry), Some("attempts_max"));
        let never = BreakerOptions { failures_percent: 101, ..BreakerOptions::default() };
        check(|options| options.breaker = Some(never), Some("failures_percent"));
        let sample = Duration::ZERO;
        let spins = ScalingRule::Gradient { sample };
        check(|options| options.permits_rule = spins, Some("samples in no time"));
        let moved = |options: &mut StageOptions| {
            (options.permits_rule, options.permits_min) = (ScalingRule::gradient(), 2);
        };
        check(moved, Some("permits_min"));
    }

    #[test]
    fn what_only_one_shard_can_keep_needs_its_own_queue() {
        let owned = |change: fn(&mut StageOptions)| {
            move |options: &mut StageOptions| {
                options.placement = Placement::Owner;
                change(options);
            }
        };
        check(owned(|options| options.conditioning = conditioned(|_| {})), None);
        let rated = owned(|options| {
            options.conditioning = conditioned(|asked| asked.preset = Preset::Pid);
        });
        check(rated, Some("InFlight"));
        check(owned(|options| options.admitted_per_s = Some(1)), Some("placement Local"));
    }

    #[test]
    fn a_stage_that_is_not_idempotent_is_not_tried_again() {
        let nature = Nature { kind: Kind::Write, shareable: false, idempotent: false };
        let options = StageOptions { retry: Some(Retry::default()), ..StageOptions::default() };
        assert!(options.problem(nature, 1).unwrap().contains("IDEMPOTENT"));
    }
}
