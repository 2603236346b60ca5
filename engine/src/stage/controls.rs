//! The controllers of one stage on one shard, put together; each is pure and stands in `control`.
//!
//! ```text
//!   call ──▶ let in?       breaker, bound in flight, rate, conditioner        ─▶ queue
//!   queue ─▶ may it leave? breaker, the downstream's rate; which end, how many ─▶ batch
//!   batch ─▶ ended         breaker and batch size learn; again within the retry budget
//!   call ──▶ answered      the conditioner learns how long it took
//! ```
//!
//! What is asked about calls stands here, what is asked about batches in `leaving`. A stage without
//! controllers pays one look at a flag for each call.

use std::time::Duration;

use super::StageOptions;
use crate::control::Reading;
use crate::control::admission::{AdmissionRate, Verdict};
use crate::control::batch::BatchSize;
use crate::control::breaker::{Breaker, Gate};
use crate::control::conditioner::{Conditioner, Preset};
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
    /// Calls that were let in and neither answered nor withdrawn.
    in_flight: usize,
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
            in_flight: 0,
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
            || self.admitted.is_some()
            || self.conditioner.is_some()
    }

    /// Lets a call in that finds so many items `queued`, with the level at which it is degraded (0 for
    /// not at all), or refuses it. What was let in must be told to [`Self::answered`] or [`Self::withdrawn`].
    pub(super) fn let_in(
        &mut self,
        now: Time,
        priority: Priority,
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
        if self.in_flight >= self.in_flight_max {
            let in_flight = self.in_flight;
            return shed(ShedReason::InFlight { in_flight }, Duration::ZERO);
        }
        if let Some(Verdict::Reject { retry_after, .. }) =
            self.admitted.as_mut().map(|rate| rate.admit(now))
        {
            return shed(ShedReason::Rate, retry_after);
        }
        let conditioner = self.conditioner.as_mut();
        let asked =
            conditioner.map(|rule| rule.admit(now, priority.level(), self.in_flight, queued));
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
        self.in_flight += 1;
        Ok(level)
    }

    /// A call of another shard was taken in, for it has been let in over there; tells the level at
    /// which it is degraded.
    pub(super) fn took_in(&mut self, now: Time, priority: Priority, queued: usize) -> u8 {
        if queued == 0 {
            self.emptied(now);
        }
        self.in_flight += 1;
        let Some(conditioner) = &mut self.conditioner else { return 0 };
        conditioner.took_in(now, priority.level())
    }

    /// Another shard has as many calls here as it was told it may.
    pub(super) fn pressed(&mut self, now: Time) {
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.pressed(now);
        }
    }

    /// A call that was let in at `admitted` has expired.
    pub(super) fn expired(&mut self, now: Time, priority: Priority, admitted: Time) {
        self.end_one();
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.expired(now, priority.level(), admitted);
        }
    }

    /// A call that was let in at `admitted` has its reply.
    pub(super) fn answered(&mut self, now: Time, priority: Priority, admitted: Time) {
        self.end_one();
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.answered(now, priority.level(), admitted);
        }
    }

    /// A call that was let in has left without one.
    pub(super) fn withdrawn(&mut self, priority: Priority) {
        self.end_one();
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.withdrawn(priority.level());
        }
    }

    fn end_one(&mut self) {
        debug_assert!(self.in_flight > 0, "what was let in ends once");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many calls may be in flight, by whatever bounds them.
    pub(super) fn in_flight_max(&self) -> f64 {
        let moved = self.conditioner.as_ref().and_then(Conditioner::in_flight_max);
        moved.unwrap_or(f64::INFINITY).min(self.in_flight_max as f64)
    }

    /// Calls that were let in and have not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
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
