//! What the controllers say of batches: whether one may leave, with how much, and what they learn of
//! its end.
//!
//! The other half of [`Controls`] is about calls. A batch is asked about when it is formed, not when
//! its calls come, for only then is it known how much leaves and what the downstream bears.

use std::time::Duration;

use super::controls::Controls;
use super::lanes::{ClassView, End};
use crate::control::breaker::{Gate, Sending};
use crate::control::conditioner::{Conditioner, Fate};
use crate::control::order::Order;
use crate::control::rate::{Counts, Granted};
use crate::control::retry::{Retry, RetryBudget};
use crate::runtime::Time;

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
    /// Not at all, and what waits is refused: the downstream fails, and is left alone until then.
    Refused { until: Time },
}

impl Controls {
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
            return if until == Time::NEVER { Leave::At(until) } else { Leave::Refused { until } };
        }
        let mut bounds = Bounds { items: self.items_max(), weight: weight_max };
        let n_items = class.n_items.min(bounds.items);
        let granted = self.available(now, n_items, class.weight.min(bounds.weight));
        match (granted, self.downstream.as_ref().map(|(counts, _)| *counts)) {
            (Granted::At(at), _) => return Leave::At(at),
            (Granted::Now(granted), Some(Counts::Items)) => {
                bounds.items = usize::try_from(granted).unwrap_or(bounds.items);
            }
            (Granted::Now(granted), Some(Counts::Weight)) => bounds.weight = granted,
            (Granted::Now(_), Some(Counts::Calls) | None) => {}
        }
        Leave::Now(bounds)
    }

    /// How much of a batch the downstream's rate allows now, in its own unit.
    pub(super) fn available(&mut self, now: Time, n_items: usize, weight: u64) -> Granted {
        match &mut self.downstream {
            Some((counts, leased)) => leased.available(now, counts.of(n_items, weight)),
            None => Granted::Now(u64::MAX),
        }
    }

    /// Which of a class's items is next, when `depth` of them wait.
    pub(super) fn end(&mut self, now: Time, depth: usize, oldest_wait: Duration) -> End {
        match self.order.as_mut().map(|order| order.order(now, depth, oldest_wait)) {
            Some(Order::NewestFirst) => End::Newest,
            Some(Order::OldestFirst) | None => End::Oldest,
        }
    }

    /// Whether [`Self::keeps`] is to be asked at all.
    pub(super) fn drops_from_the_queue(&self) -> bool {
        self.conditioner.as_ref().is_some_and(Conditioner::drops_from_the_queue)
    }

    /// Whether an item that comes from the queue is still to be sent.
    pub(super) fn keeps(&mut self, now: Time, waited: Duration, queue_left: usize) -> bool {
        let Some(conditioner) = &mut self.conditioner else { return true };
        conditioner.on_dequeue(now, waited, queue_left) == Fate::Keep
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
        if let Some((counts, leased)) = &mut self.downstream {
            leased.spend(now, counts.of(n_items, weight));
        }
        self.breaker.as_mut().map_or(Sending::Ordinary, |breaker| breaker.sent(now))
    }

    /// Tells the breaker how an attempt has ended; `None` where nothing can be said of it.
    pub(super) fn attempted(&mut self, now: Time, sending: Sending, succeeded: Option<bool>) {
        let Some(breaker) = &mut self.breaker else { return };
        match succeeded {
            Some(true) => breaker.succeeded(now, sending),
            Some(false) => breaker.failed(now, sending),
            None => breaker.learned_nothing(now, sending),
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
}
