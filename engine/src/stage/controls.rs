//! The controllers of one stage on one shard, put together; each is pure and stands in `control`.
//!
//! ```text
//!   call ──▶ let in?       breaker, bound in flight, rate, conditioner        ─▶ queue
//!   queue ─▶ may it leave? breaker, the downstream's rate; which end, how many ─▶ batch
//!   batch ─▶ ended         breaker and batch size learn; again within the retry budget
//!   call ──▶ answered      the conditioner learns how long it took
//! ```
//!
//! A stage without controllers pays one look at a flag for each call.

use std::time::Duration;

use super::StageOptions;
use super::queue::{ClassView, End};
use crate::control::Reading;
use crate::control::admission::{AdmissionRate, Verdict};
use crate::control::batch::BatchSize;
use crate::control::breaker::{Breaker, Gate, Sending};
use crate::control::conditioner::{Conditioner, Fate, Load};
use crate::control::order::{Order, StandingDelay};
use crate::control::rate::{Counts, Granted, Leased};
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
    breaker: Option<Breaker>,
    /// Calls that were let in and neither answered nor withdrawn.
    in_flight: usize,
    in_flight_max: usize,
    admitted: Option<AdmissionRate>,
    conditioner: Option<Conditioner>,
    order: Option<StandingDelay>,
    downstream: Option<(Counts, Leased)>,
    batch: BatchSize,
    retry: Option<(Retry, RetryBudget)>,
}

/// What may leave in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) items: usize,
    pub(super) weight: u64,
}

/// Whether a batch may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Now, within these bounds.
    Now(Bounds),
    /// Not before.
    At(Time),
    /// Not at all, and what waits is refused: the downstream fails.
    Refused,
}

impl Controls {
    pub(super) fn new(
        options: &StageOptions,
        degrade_levels: u8,
        downstream: Option<(Counts, Leased)>,
    ) -> Self {
        let conditioning = options.conditioning.as_ref();
        let lost_after = conditioning.map(|asked| asked.target * LOST_AFTER_TARGETS);
        let burst = |per_s: u64| per_s as f64 * STANDING_AFTER.as_secs_f64();
        Self {
            breaker: options.breaker.as_ref().map(Breaker::new),
            in_flight: 0,
            in_flight_max: options.in_flight_max,
            admitted: options
                .admitted_per_s
                .map(|per_s| AdmissionRate::new(per_s as f64, burst(per_s))),
            conditioner: conditioning.map(|asked| Conditioner::new(asked, degrade_levels)),
            order: lost_after.map(|lost_after| StandingDelay::new(lost_after, STANDING_AFTER)),
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

    /// Lets a call in that finds `queued` items waiting, with the level at which it is degraded (0 for not at all), or refuses it.
    /// What was let in must be told to [`Self::answered`] or [`Self::withdrawn`].
    pub(super) fn let_in(
        &mut self,
        now: Time,
        priority: Priority,
        queued: usize,
    ) -> Result<u8, Shed> {
        let shed = |reason, retry_after| Err(Shed { reason, retry_after });
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
        let load = Load { in_flight: self.in_flight, queued };
        let asked = self.conditioner.as_mut().map(|rule| rule.admit(now, priority.level(), load));
        let level = match asked {
            None | Some(Verdict::Accept) => 0,
            Some(Verdict::Degrade(level)) => level,
            Some(Verdict::Reject { retry_after }) => {
                return shed(ShedReason::Conditioner, retry_after);
            }
        };
        self.in_flight += 1;
        Ok(level)
    }

    /// A call of another shard was taken in: it has been let in over there.
    pub(super) fn took_in(&mut self, now: Time, priority: Priority) {
        self.in_flight += 1;
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.took_in(now, priority.level());
        }
    }

    /// Another shard has as many calls here as it was told it may.
    pub(super) fn pressed(&mut self, now: Time) {
        if let Some(conditioner) = &mut self.conditioner {
            conditioner.pressed(now);
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

    /// How many calls may be in flight as the conditioner has it; `None` where nothing bounds them.
    pub(super) fn in_flight_max(&self) -> Option<f64> {
        self.conditioner.as_ref()?.in_flight_max()
    }

    /// Items that a batch may hold now.
    pub(super) fn items_max(&self) -> usize {
        self.batch.items_max()
    }

    /// Whether a batch of what waits may leave now.
    pub(super) fn may_leave(&mut self, now: Time, class: &ClassView, weight_max: u64) -> Leave {
        if let Some(Gate::Shut { until }) =
            self.breaker.as_ref().map(|breaker| breaker.may_send(now))
        {
            // The end of a probe lets the turn ask again.
            return if until == Time::NEVER { Leave::At(until) } else { Leave::Refused };
        }
        let mut bounds = Bounds { items: self.items_max(), weight: weight_max };
        let Some((counts, leased)) = &mut self.downstream else { return Leave::Now(bounds) };
        let n_items = class.n_items.min(bounds.items) as u64;
        let want = match counts {
            Counts::Calls => 1,
            Counts::Items => n_items,
            Counts::Weight => class.weight.min(bounds.weight),
        };
        match (leased.available(now, want), counts) {
            (Granted::At(at), _) => return Leave::At(at),
            (Granted::Now(_), Counts::Calls) => {}
            (Granted::Now(granted), Counts::Items) => {
                bounds.items = usize::try_from(granted).unwrap_or(bounds.items);
            }
            (Granted::Now(granted), Counts::Weight) => bounds.weight = granted,
        }
        Leave::Now(bounds)
    }

    /// Which of a class's items is next, when `depth` of them wait.
    pub(super) fn end(&mut self, now: Time, depth: usize, oldest_wait: Duration) -> End {
        match self.order.as_mut().map(|order| order.order(now, depth, oldest_wait)) {
            Some(Order::NewestFirst) => End::Newest,
            Some(Order::OldestFirst) | None => End::Oldest,
        }
    }

    /// Whether an item that comes from the queue is still to be sent.
    pub(super) fn keeps(&mut self, now: Time, waited: Duration, queue_left: usize) -> bool {
        let Some(conditioner) = &mut self.conditioner else { return true };
        conditioner.on_dequeue(now, waited, queue_left) == Fate::Keep
    }

    /// The queue has become empty.
    pub(super) fn emptied(&mut self, now: Time) {
        if let Some(order) = &mut self.order {
            order.emptied(now);
        }
    }

    /// A batch leaves for the first time.
    pub(super) fn sent_first(&mut self, now: Time, n_items: usize, weight: u64) -> Sending {
        if let Some((_, budget)) = &mut self.retry {
            budget.deposit();
        }
        self.sent(now, n_items, weight)
    }

    /// A batch, or a part of one that has failed, leaves.
    pub(super) fn sent(&mut self, now: Time, n_items: usize, weight: u64) -> Sending {
        match &mut self.downstream {
            Some((Counts::Calls, leased)) => leased.spend(1),
            Some((Counts::Items, leased)) => leased.spend(n_items as u64),
            Some((Counts::Weight, leased)) => leased.spend(weight),
            None => {}
        }
        self.breaker.as_mut().map_or(Sending::Ordinary, |breaker| breaker.sent(now))
    }

    /// Tells the breaker how an attempt has ended; `None` where nothing can be said of it.
    pub(super) fn ended(&mut self, now: Time, sending: Sending, succeeded: Option<bool>) {
        let Some(breaker) = &mut self.breaker else { return };
        match succeeded {
            Some(true) => breaker.succeeded(now, sending),
            // One that was given up at a stop must not leave its probe out for ever.
            Some(false) | None => breaker.failed(now, sending),
        }
    }

    /// An attempt of `n_items` has run for `run` and left `depth` in the queue.
    pub(super) fn ran(&mut self, now: Time, n_items: usize, run: Duration, depth: usize) {
        self.batch.on_batch(now, n_items, run, depth);
    }

    /// How failed batches are tried again, where they are.
    pub(super) fn retry(&mut self) -> Option<&mut (Retry, RetryBudget)> {
        self.retry.as_mut()
    }

    /// Whether a further attempt may be made now.
    pub(super) fn may_retry(&self, now: Time) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.may_send(now) == Gate::Send)
    }

    /// Changes a controller while the stage runs; tells whether there is one of that kind.
    pub(super) fn adjust(&mut self, now: Time, adjustment: Adjustment) -> bool {
        match adjustment {
            Adjustment::Target(target) => {
                if let Some(order) = &mut self.order {
                    order.set_target(target * LOST_AFTER_TARGETS);
                }
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
