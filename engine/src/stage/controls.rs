//! The controllers of one stage on one shard, put together; each is pure and stands in `control`.
//!
//! ```text
//!   call ──▶ let in?       breaker, bound in flight, conditioner, rate        ─▶ queue
//!   queue ─▶ may it leave? breaker, the downstream's rate; which end, how many ─▶ batch
//!   batch ─▶ ended         breaker and batch size learn; again within the retry budget
//!   call ──▶ answered      the conditioner learns how long it took
//! ```
//!
//! What is asked about calls stands here, what is asked about batches in `leaving`. Most calls come in
//! by the [`Door`] without asking. A stage without controllers pays one look at a flag for each call.

use std::time::Duration;

use super::StageOptions;
use crate::control::Reading;
use crate::control::admission::{AdmissionRate, Verdict};
use crate::control::batch::BatchSize;
use crate::control::breaker::{Breaker, Gate};
use crate::control::conditioner::{Conditioner, Ended, Preset};
use crate::control::door::{Door, Passes, Terms};
use crate::control::order::StandingDelay;
use crate::control::rate::{Counts, Leased};
use crate::control::retry::{Retry, RetryBudget};
use crate::error::{Shed, ShedReason};
use crate::runtime::Time;
use crate::runtime::priority::Priority;
use crate::runtime::shared::Adjustment;

/// A delay stands once the queue has not been empty for this long: the interval of CoDel.
const STANDING_AFTER: Duration = Duration::from_millis(100);
/// An item that has waited for so many targets of the conditioner is late whatever happens.
const LOST_AFTER_TARGETS: u32 = 2;

/// The controllers of one stage on one shard.
#[derive(Debug)]
pub(super) struct Controls {
    pub(super) breaker: Option<Breaker>,
    in_flight_max: usize,
    admitted: Option<AdmissionRate>,
    pub(super) conditioner: Option<Conditioner>,
    pub(super) order: Option<StandingDelay>,
    pub(super) downstream: Option<(Counts, Leased)>,
    pub(super) batch: BatchSize,
    pub(super) retry: Option<(Retry, RetryBudget)>,
}

/// When a conditioner with this target gives an item up.
fn lost_after(target: Duration) -> Duration {
    target.saturating_mul(LOST_AFTER_TARGETS)
}

impl Controls {
    pub(super) fn new(
        options: &StageOptions,
        degrade_levels: u8,
        downstream: Option<(Counts, Leased)>,
    ) -> Self {
        let conditioning = options.conditioning.as_ref();
        let of_preset = conditioning.filter(|asked| asked.preset == Preset::Codel);
        let newest_first_after =
            options.newest_first_after.or(of_preset.map(|asked| lost_after(asked.target)));
        let burst = |per_s: u64| per_s as f64 * STANDING_AFTER.as_secs_f64();
        Self {
            breaker: options.breaker.as_ref().map(Breaker::new),
            in_flight_max: options.in_flight_max,
            admitted: options
                .admitted_per_s
                .map(|per_s| AdmissionRate::new(per_s as f64, burst(per_s))),
            conditioner: conditioning.map(|asked| Conditioner::new(asked, degrade_levels)),
            order: newest_first_after.map(|after| StandingDelay::new(after, STANDING_AFTER)),
            downstream,
            batch: BatchSize::new(&options.batch, options.items_max),
            retry: options.retry.as_ref().map(|retry| (retry.clone(), RetryBudget::new(retry))),
        }
    }

    /// Whether calls need to be asked about at all.
    pub(super) fn guard_the_way_in(&self) -> bool {
        self.in_flight_max < usize::MAX
            || self.breaker.is_some()
            || self.order.is_some()
            || self.admitted.is_some()
            || self.conditioner.is_some()
    }

    /// The door of a stage that nobody has called yet.
    pub(super) fn door(&self) -> Door {
        let none_yet = Passes::Left(0, Time::ZERO);
        let passes = self.admitted.as_ref().map_or(Passes::Unlimited, |_| none_yet);
        Door::new(self.terms(), passes)
    }

    /// On which terms nobody needs to be asked about or told of.
    pub(super) fn terms(&self) -> Terms {
        let terms = self.conditioner.as_ref().map_or(Terms::OPEN, Conditioner::terms);
        let breaks = self.breaker.as_ref().is_some_and(|breaker| !breaker.is_closed());
        if breaks || self.order.is_some() {
            return terms.asking_each();
        }
        let bound = u32::try_from(self.in_flight_max).unwrap_or(u32::MAX);
        Terms { asked_from: terms.asked_from.min(bound), ..terms }
    }

    /// Lets a call in that finds so many items `queued`, with the level at which it is degraded (0 for
    /// not at all), or refuses it.
    pub(super) fn let_in(
        &mut self,
        now: Time,
        priority: Priority,
        door: &Door,
        queued: impl Fn() -> usize,
    ) -> Result<u8, Shed> {
        let shed = |reason, retry_after| Err(Shed { reason, retry_after });
        if let Some(order) = &mut self.order
            && queued() == 0
        {
            order.emptied(now);
        }
        if let Some(Gate::Shut { until }) =
            self.breaker.as_ref().map(|breaker| breaker.may_send(now))
        {
            // While a probe is out nobody knows how long it takes.
            let wait = if until == Time::NEVER { Duration::ZERO } else { until.since(now) };
            return shed(ShedReason::CircuitOpen, wait);
        }
        let in_flight = door.in_flight();
        if in_flight >= self.in_flight_max {
            return shed(ShedReason::InFlight { in_flight }, Duration::ZERO);
        }
        let conditioner = self.conditioner.as_mut();
        let asked = conditioner.map(|rule| rule.admit(now, priority, door, queued));
        let level = match asked {
            None | Some(Verdict::Accept) => 0,
            Some(Verdict::Degrade(level)) => level,
            Some(Verdict::Reject { retry_after }) => {
                return shed(ShedReason::Conditioner, retry_after);
            }
            Some(Verdict::Preempt { retry_after }) => {
                return shed(ShedReason::Preempted, retry_after);
            }
        };
        // Last, for it counts those that come in.
        let rate = self.admitted.as_mut().map(|rate| rate.admit(now, door));
        if let Some(Verdict::Reject { retry_after }) = rate {
            return shed(ShedReason::Rate, retry_after);
        }
        door.let_in(priority);
        Ok(level)
    }

    /// A call of another shard is taken in, for it has been let in over there; tells the level at
    /// which it is degraded.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        priority: Priority,
        door: &Door,
        queued: usize,
    ) -> u8 {
        if queued == 0 {
            self.emptied(now);
        }
        door.let_in(priority);
        let Some(conditioner) = &mut self.conditioner else { return 0 };
        conditioner.took_in(now, priority, door)
    }

    /// Another shard has as many calls here as it was told it may.
    pub(super) fn pressed(&mut self, now: Time) {
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.pressed(now);
        }
    }

    /// A call that was let in has its reply, or has expired.
    pub(super) fn ended(&mut self, now: Time, ended: Ended, door: &Door) {
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.ended(now, ended, door);
        }
    }

    /// A call that was let in has left without one.
    pub(super) fn withdrawn(&mut self, now: Time, priority: Priority) {
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.withdrawn(now, priority);
        }
    }

    /// How many calls may be in flight, by whatever bounds them.
    pub(super) fn in_flight_max(&self) -> f64 {
        let moved = self.conditioner.as_ref().and_then(Conditioner::in_flight_max);
        moved.unwrap_or(f64::INFINITY).min(self.in_flight_max as f64)
    }

    /// The queue has become empty.
    pub(super) fn emptied(&mut self, now: Time) {
        if let Some(order) = &mut self.order {
            order.emptied(now);
        }
    }

    /// Changes a controller while the stage runs; tells whether there is one of that kind.
    pub(super) fn adjust(&mut self, now: Time, adjustment: Adjustment) -> bool {
        match adjustment {
            Adjustment::Target(target) => {
                self.conditioner.as_mut().map(|conditioner| conditioner.retarget(target)).is_some()
            }
            Adjustment::RatePerS(per_s) => {
                self.downstream.as_mut().map(|(_, leased)| leased.set_per_s(now, per_s)).is_some()
            }
        }
    }

    pub(super) fn readings(&self, out: &mut Vec<Reading>) {
        self.batch.readings(out);
        if let Some(conditioner) = &self.conditioner {
            conditioner.readings(out);
        }
        if let Some(breaker) = &self.breaker {
            breaker.readings(out);
        }
        if let Some((_, leased)) = &self.downstream {
            leased.readings(out);
        }
        if let Some((_, budget)) = &self.retry {
            budget.readings(out);
        }
    }
}
