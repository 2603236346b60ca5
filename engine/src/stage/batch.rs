//! What a batch function sees: a cheap handle on the items that left together.
//!
//! Downstreams answer in different shapes: item by item, with rows by key, or only a few items at a
//! time. The handle offers each of these views of the one [`Flight`], where the state is.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Stage;
use super::flight::Flight;
use super::part::Part;
use crate::error::CallError;
use crate::runtime::Time;

/// The items that were sealed together. A cheap handle: clones and parts share one batch.
pub struct Batch<S: Stage> {
    flight: Rc<Flight<S>>,
    part: Part,
}

impl<S: Stage> Clone for Batch<S> {
    fn clone(&self) -> Self {
        Self { flight: Rc::clone(&self.flight), part: self.part.clone() }
    }
}

impl<S: Stage> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}, {} items)", self.flight.stage.name, self.len())
    }
}

impl<S: Stage> Batch<S> {
    pub(super) fn new(flight: Rc<Flight<S>>, part: Part) -> Self {
        Self { flight, part }
    }

    /// Items in the batch; never 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether the batch holds no items: only an empty part of a split does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.part.len() == 0
    }

    /// The class that all items share.
    #[must_use]
    pub fn class(&self) -> &S::Class {
        &self.flight.class
    }

    /// The latest deadline among the items: after it nobody waits any more.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.flight.deadline
    }

    /// The items, in the order in which they left the queue: within one priority that of their calls,
    /// the other way round while the stage serves the newest first.
    pub fn items(&self) -> impl ExactSizeIterator<Item = BatchItem<'_, S>> {
        self.part.idxs().map(|idx| BatchItem { flight: &self.flight, idx })
    }

    /// The items by key, for downstreams that answer with rows.
    #[must_use]
    pub fn by_key(&self) -> ByKey<S> {
        let mut by_key = ByKey {
            batch: self.clone(),
            places: HashMap::with_capacity_and_hasher(self.len(), self.flight.stage.hasher()),
        };
        for idx in self.part.idxs() {
            let places = by_key.places.entry(self.flight.key_of(idx)).or_insert(Places::NONE);
            places.add(idx);
        }
        by_key
    }

    /// Says that the downstream is not asked this time, since it is known to be down, say. The breaker
    /// then takes this attempt neither for a failure nor for a success.
    pub fn not_sent(&self) {
        self.flight.is_not_sent.set(true);
    }

    /// Parts of at most `items_max` items each, for downstreams with a limit of their own.
    ///
    /// # Panics
    ///
    /// If `items_max` is 0.
    pub fn split(&self, items_max: usize) -> impl Iterator<Item = Self> {
        assert!(items_max > 0, "a part holds at least one item");
        self.part.split(items_max).map(|part| Self::new(Rc::clone(&self.flight), part))
    }
}

/// One item of a batch.
pub struct BatchItem<'a, S: Stage> {
    flight: &'a Rc<Flight<S>>,
    idx: usize,
}

impl<S: Stage> fmt::Debug for BatchItem<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchItem({})", self.idx)
    }
}

impl<'a, S: Stage> BatchItem<'a, S> {
    /// What the call asked.
    #[must_use]
    pub fn item(&self) -> &'a S::Item {
        &self.flight.entries[self.idx].item
    }

    /// Gives the callers their value or error, now. A second settle is counted and ignored.
    pub fn settle(&self, result: Result<S::Value, S::Error>) {
        self.flight.settle(self.idx, result.map_err(|error| CallError::Item(Arc::new(error))));
    }
}

/// Where the items of one key are: almost always one.
#[derive(Debug)]
struct Places {
    first: usize,
    more: Vec<usize>,
}

impl Places {
    const NONE: Self = Self { first: usize::MAX, more: Vec::new() };

    fn add(&mut self, idx: usize) {
        if self.first == usize::MAX {
            self.first = idx;
        } else {
            self.more.push(idx);
        }
    }
}

/// The items of a batch by their keys.
pub struct ByKey<S: Stage> {
    batch: Batch<S>,
    places: HashMap<S::Key, Places, foldhash::fast::FixedState>,
}

impl<S: Stage> fmt::Debug for ByKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByKey({} keys)", self.places.len())
    }
}

impl<S: Stage> ByKey<S> {
    /// The distinct keys, in no order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &S::Key> {
        self.places.keys()
    }

    /// Gives every caller of `key` its value or error, now. A key nobody asked for is counted and
    /// ignored.
    pub fn settle(&self, key: &S::Key, result: Result<S::Value, S::Error>) {
        let flight = &self.batch.flight;
        let Some(places) = self.places.get(key) else {
            flight.stage.metrics.foreign_keys.add(1);
            return;
        };
        let reply = result.map_err(|error| CallError::Item(Arc::new(error)));
        for idx in &places.more {
            flight.settle(*idx, reply.clone());
        }
        flight.settle(places.first, reply);
    }
}
