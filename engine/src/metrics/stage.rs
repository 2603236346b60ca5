//! What one stage counts on one shard.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Counter;
use crate::control::Reading;
use crate::error::{CallError, ShedReason};
use crate::runtime::{Time, nanos};
use crate::stage::SealReason;

/// The longest time a histogram tells apart: a minute. Longer ones count as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// A histogram of times, made when it is first written: 30 KiB that unused stages do not pay.
#[derive(Debug, Default)]
pub(crate) struct Times(RefCell<Option<Histogram<u64>>>);

impl Times {
    pub(crate) fn record(&self, time: Duration) {
        self.record_n(time, 1);
    }

    /// Records the same time for `n` events.
    pub(crate) fn record_n(&self, time: Duration, n: u64) {
        let mut slot = self.0.borrow_mut();
        let histogram = slot.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("bounds are in order")
        });
        histogram.saturating_record_n(nanos(time).max(1), n);
    }

    fn copy(&self) -> Distribution {
        Distribution(self.0.borrow().clone())
    }
}

/// A distribution of times in nanoseconds, to two significant digits.
#[derive(Clone, Default)]
pub struct Distribution(Option<Histogram<u64>>);

// Not derived: thousands of buckets help nobody who reads a log or a failed assertion.
impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99] = [0.5, 0.99].map(|quantile| self.at(quantile).unwrap_or_default());
        write!(f, "Distribution({} times, p50 {median:?}, p99 {p99:?})", self.count())
    }
}

impl Distribution {
    /// Times recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that a share `quantile` (0 to 1) stays at or below; `None` if none was recorded.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Option<Duration> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(Duration::from_nanos(histogram.value_at_quantile(quantile)))
    }

    /// Adds what another shard recorded.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.0 else { return };
        let Some(ours) = &mut self.0 else {
            self.0 = Some(theirs.clone());
            return;
        };
        // All have the same bounds; an addition can only fail when they differ.
        let added = ours.add(theirs);
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// Takes away what had been recorded at an earlier snapshot.
    pub fn since(&mut self, earlier: &Self) {
        if let (Some(ours), Some(theirs)) = (&mut self.0, &earlier.0) {
            // Fails only when that one was not of an earlier moment.
            let subtracted = ours.subtract(theirs);
            debug_assert!(subtracted.is_ok(), "{subtracted:?}");
        }
    }
}

/// The cells of one stage.
#[derive(Debug, Default)]
pub(crate) struct StageMetrics {
    pub(crate) offered: Counter,
    answered: Counter,
    pub(crate) calls: Counter,
    pub(crate) deduplicated: Counter,
    items: Counter,
    batches: Counter,
    sealed: [Counter; 4],
    expired: Counter,
    shed: Counter,
    refused: Counter,
    failed: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) late: Counter,
    pub(crate) settled_twice: Counter,
    pub(crate) foreign_keys: Counter,
    pub(crate) admitted: Counter,
    pub(crate) settled: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) received: Counter,
    pub(crate) replied: Counter,
    pub(crate) orphaned: Counter,
    pub(crate) sent_away: Counter,
    /// Calls shed, by [`ShedReason::idx`].
    shed_by: [Counter; ShedReason::NAMES.len()],
    pub(crate) degraded: Counter,
    /// Attempts at a batch after its first.
    pub(crate) retries: Counter,
    pub(crate) wait_ns: Times,
    pub(crate) run_ns: Times,
    /// Permits out multiplied by time, for saturation.
    permit_ns: Cell<u64>,
    permit_at: Cell<Time>,
}

impl StageMetrics {
    pub(crate) fn count_seal(&self, reason: SealReason, n_items: usize) {
        self.sealed[reason as usize].add(1);
        self.batches.add(1);
        self.items.add(n_items as u64);
    }

    /// Items that were sent in batches.
    pub(crate) fn items(&self) -> u64 {
        self.items.get()
    }

    pub(crate) fn count_reply<V, E>(&self, reply: &Result<V, CallError<E>>) {
        match reply {
            Ok(_) => self.answered.add(1),
            Err(CallError::Expired(_)) => self.expired.add(1),
            Err(CallError::Shed(shed)) => self.count_shed(shed.reason),
            Err(_) => self.failed.add(1),
        }
    }

    pub(crate) fn count_refusal<E>(&self, error: &CallError<E>) {
        match error {
            CallError::Shed(shed) => self.count_shed(shed.reason),
            CallError::Expired(_) => self.expired.add(1),
            _ => self.refused.add(1),
        }
    }

    fn count_shed(&self, reason: ShedReason) {
        self.shed.add(1);
        self.shed_by[reason.idx()].add(1);
    }

    /// Books the time since the last change at the permits that were out.
    pub(crate) fn book_permits(&self, now: Time, out: usize) {
        let spent = nanos(now.since(self.permit_at.replace(now))) * out as u64;
        self.permit_ns.set(self.permit_ns.get() + spent);
    }

    pub(crate) fn snapshot(
        &self,
        name: &str,
        permits: (usize, usize),
        depth: usize,
    ) -> StageSnapshot {
        let [full, lingered, idle, closing] = self.sealed.each_ref().map(Counter::get);
        StageSnapshot {
            name: name.to_owned(),
            offered: self.offered.get(),
            answered: self.answered.get(),
            calls: self.calls.get(),
            items: self.items.get(),
            batches: self.batches.get(),
            sealed: SealCounts { full, lingered, idle, closing },
            deduplicated: self.deduplicated.get(),
            expired: self.expired.get(),
            shed: self.shed.get(),
            refused: self.refused.get(),
            failed: self.failed.get(),
            abandoned: self.abandoned.get(),
            cancelled: self.cancelled.get(),
            late: self.late.get(),
            settled_twice: self.settled_twice.get(),
            foreign_keys: self.foreign_keys.get(),
            sent_away: self.sent_away.get(),
            shed_by: self.shed_by.each_ref().map(Counter::get),
            degraded: self.degraded.get(),
            retries: self.retries.get(),
            oldest_wait: Duration::ZERO,
            controls: Vec::new(),
            wait: self.wait_ns.copy(),
            run: self.run_ns.copy(),
            depth,
            permits_out: permits.0,
            permits: permits.1,
            permit_ns: self.permit_ns.get(),
        }
    }
}

/// Batches by the reason they sealed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the reasons; see SealReason")]
pub struct SealCounts {
    pub full: u64,
    pub lingered: u64,
    pub idle: u64,
    pub closing: u64,
}

/// What one stage has counted, since the engine started, on one shard or several.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StageSnapshot {
    /// The stage's name.
    pub name: String,
    /// Calls that were made here, whatever became of them.
    pub offered: u64,
    /// Calls that were made here and got a value.
    pub answered: u64,
    /// Calls that were queued here; those sent to other shards are queued there.
    pub calls: u64,
    /// Items that were sent in batches.
    pub items: u64,
    /// Batches.
    pub batches: u64,
    /// Batches by seal reason.
    pub sealed: SealCounts,
    /// Calls that shared another call's item.
    pub deduplicated: u64,
    /// Calls whose deadline passed, queued or in flight or hopeless from the start.
    pub expired: u64,
    /// Calls refused because there was too much to do; also those that were thrown out of the queue
    /// for that reason.
    pub shed: u64,
    /// The same by reason, in the order of [`ShedReason::NAMES`].
    pub shed_by: [u64; ShedReason::NAMES.len()],
    /// Calls taken in with less than they asked.
    pub degraded: u64,
    /// Attempts at a batch after its first.
    pub retries: u64,
    /// Calls refused for another reason: cycle, closed, owner gone.
    pub refused: u64,
    /// Calls that got any other error.
    pub failed: u64,
    /// Batches that were dropped unfinished.
    pub abandoned: u64,
    /// Calls whose caller had gone before they settled.
    pub cancelled: u64,
    /// Outcomes nobody waited for any more.
    pub late: u64,
    /// Settles of an item that was settled already.
    pub settled_twice: u64,
    /// Settles of a key nobody had asked for.
    pub foreign_keys: u64,
    /// Calls sent to the shard that owns their key.
    pub sent_away: u64,
    /// Time in the queue, per item that was sent.
    pub wait: Distribution,
    /// Time in the batch function, per batch.
    pub run: Distribution,
    /// Items that wait now.
    pub depth: usize,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
    /// What the controllers have come to; where several shards are merged, one after the other.
    pub controls: Vec<Reading>,
    /// Batches in flight now.
    pub permits_out: usize,
    /// Batches that may be in flight.
    pub permits: usize,
    /// Permits out multiplied by time, in nanoseconds: divided by `permits` and elapsed time it
    /// is the saturation.
    pub permit_ns: u64,
}

impl StageSnapshot {
    /// Items per batch on average; `None` before the first batch.
    #[must_use]
    pub fn items_per_batch(&self) -> Option<f64> {
        (self.batches > 0).then(|| self.items as f64 / self.batches as f64)
    }

    /// Tells where what was offered and what has become of it differ, while so many calls live: each
    /// call ends once, for one counted reason, and no reason is counted without a call.
    #[must_use]
    pub fn imbalance(&self, live: u64) -> Option<String> {
        let Self { name, offered, answered, expired, shed, refused, failed, cancelled, .. } = self;
        let ended = answered + expired + shed + refused + failed + cancelled;
        let by_reason: u64 = self.shed_by.iter().sum();
        if *offered != ended + live {
            Some(format!("{name}: offered {offered}, {ended} ended and {live} live"))
        } else if *shed != by_reason {
            Some(format!("{name}: shed {shed}, by reason {by_reason}"))
        } else {
            None
        }
    }

    /// Adds what another shard counted for the same stage.
    pub fn merge(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
        self.wait.merge(&other.wait);
        self.run.merge(&other.run);
        self.depth += other.depth;
        self.oldest_wait = self.oldest_wait.max(other.oldest_wait);
        self.controls.extend_from_slice(&other.controls);
        self.permits_out += other.permits_out;
        self.permits += other.permits;
    }

    /// Takes away what had been counted at an earlier snapshot of the same stage.
    pub fn since(&mut self, earlier: &Self) {
        self.combine(earlier, u64::saturating_sub);
        self.wait.since(&earlier.wait);
        self.run.since(&earlier.run);
    }

    fn combine(&mut self, other: &Self, op: fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.offered, other.offered),
            (&mut self.answered, other.answered),
            (&mut self.calls, other.calls),
            (&mut self.items, other.items),
            (&mut self.batches, other.batches),
            (&mut self.sealed.full, other.sealed.full),
            (&mut self.sealed.lingered, other.sealed.lingered),
            (&mut self.sealed.idle, other.sealed.idle),
            (&mut self.sealed.closing, other.sealed.closing),
            (&mut self.deduplicated, other.deduplicated),
            (&mut self.expired, other.expired),
            (&mut self.shed, other.shed),
            (&mut self.refused, other.refused),
            (&mut self.failed, other.failed),
            (&mut self.abandoned, other.abandoned),
            (&mut self.cancelled, other.cancelled),
            (&mut self.late, other.late),
            (&mut self.settled_twice, other.settled_twice),
            (&mut self.foreign_keys, other.foreign_keys),
            (&mut self.sent_away, other.sent_away),
            (&mut self.permit_ns, other.permit_ns),
            (&mut self.degraded, other.degraded),
            (&mut self.retries, other.retries),
        ];
        let by_reason = self.shed_by.iter_mut().zip(other.shed_by);
        for (ours, theirs) in pairs.into_iter().chain(by_reason) {
            *ours = op(*ours, theirs);
        }
    }
}

/// The books of one stage on one shard. They balance at every moment between turns:
/// `admitted = settled + cancelled + live`, `received = replied + orphaned + guests`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "terms of the two equations above, and what must end at zero")]
pub struct StageLedger {
    pub stage: &'static str,
    pub admitted: u64,
    pub settled: u64,
    pub cancelled: u64,
    pub live: u64,
    pub received: u64,
    pub replied: u64,
    pub orphaned: u64,
    pub guests: u64,
    pub permits_out: u64,
    pub flights: u64,
    pub queued: u64,
    pub indexed: u64,
    pub conditioned: u64,
    pub in_flight: u64,
}

impl StageLedger {
    /// Tells which equation does not hold.
    #[must_use]
    pub fn imbalance(&self) -> Option<String> {
        let here = self.settled + self.cancelled + self.live;
        let there = self.replied + self.orphaned + self.guests;
        if self.admitted != here {
            Some(format!("{}: admitted {} but accounted for {here}", self.stage, self.admitted))
        } else if self.received != there {
            Some(format!("{}: received {} but accounted for {there}", self.stage, self.received))
        } else if self.permits_out != self.flights {
            Some(format!("{}: {} permits, {} flights", self.stage, self.permits_out, self.flights))
        } else if self.conditioned != self.in_flight {
            let Self { stage, conditioned, in_flight, .. } = self;
            Some(format!("{stage}: {conditioned} slots for {in_flight} let in"))
        } else {
            None
        }
    }
}
