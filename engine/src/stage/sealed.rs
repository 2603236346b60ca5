//! What is taken from the queue at once: the items that leave as a batch, and those that do not.
//!
//! Taking happens while the queue is borrowed, so nothing of the user's may run then. What it finds
//! is put down here, and settled, dropped or sent once the borrow has ended.

use std::rc::Rc;

use super::Stage;
use super::flight::Entry;
use super::index::Place;
use super::queue::Queued;
use crate::metrics::StageMetrics;
use crate::runtime::Time;
use crate::runtime::priority::Priority;

/// What was taken from the queue.
pub(super) struct Taken<S: Stage> {
    pub(super) sealed: Sealed<S>,
    pub(super) unsent: Vec<(Unsent, Place, Queued<S>)>,
}

/// What leaves in one batch.
pub(super) struct Sealed<S: Stage> {
    pub(super) class: Rc<S::Class>,
    pub(super) entries: Vec<Entry<S>>,
    /// The latest deadline among them.
    pub(super) deadline: Time,
    pub(super) weight: u64,
    /// The highest among them.
    pub(super) priority: Priority,
    /// Where the index still names them.
    pub(super) places: Vec<(u64, Place, usize)>,
    pub(super) keys: Vec<S::Key>,
}

impl<S: Stage> Sealed<S> {
    pub(super) fn new(class: Rc<S::Class>, n_items: usize) -> Self {
        Self {
            class,
            entries: Vec::with_capacity(n_items),
            deadline: Time::ZERO,
            weight: 0,
            priority: Priority::LOWEST,
            places: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn add(&mut self, place: Place, queued: Queued<S>) {
        self.deadline = self.deadline.max(queued.deadline);
        self.weight = self.weight.saturating_add(queued.weight);
        self.priority = self.priority.max(queued.priority);
        if let Some(hash) = queued.hash {
            self.places.push((hash, place, self.entries.len()));
        }
        self.keys.extend(queued.key);
        self.entries.push(Entry {
            item: queued.item,
            waiters: queued.waiters.into(),
            hash: queued.hash,
            settled: false.into(),
        });
    }
}

/// Why an item leaves the queue and is not sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsent {
    /// Nobody waits for it any more.
    Expired,
    /// The conditioner gives it up.
    Dropped,
    /// The downstream fails, and is left alone until then.
    Refused { until: Time },
}

/// Records waits in runs: items admitted at the same reading of the clock have waited alike.
pub(super) struct Waits {
    now: Time,
    since: Time,
    n_items: u64,
}

impl Waits {
    pub(super) const fn new(now: Time) -> Self {
        Self { now, since: now, n_items: 0 }
    }

    pub(super) fn note(&mut self, admitted: Time, metrics: &StageMetrics) {
        if admitted != self.since {
            self.flush(metrics);
            self.since = admitted;
        }
        self.n_items += 1;
    }

    pub(super) fn flush(&mut self, metrics: &StageMetrics) {
        let n_items = std::mem::take(&mut self.n_items);
        if n_items > 0 {
            metrics.wait_ns.record_n(self.now.since(self.since), n_items);
        }
    }
}
