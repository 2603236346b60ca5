//! What a batch function sees: a cheap handle on the items that left together.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use hashbrown::HashMap;

use super::Stage;
use super::dispatch::FlightKey;
use super::index::Place;
use super::queue::Waiters;
use super::slots::{Reply, SlotKey, StageCore};
use crate::error::CallError;
use crate::runtime::Time;
use crate::runtime::guard::contain;
use crate::runtime::wheel::TimerId;

/// Why a batch's run was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It ran longer than `run_max`.
    Overrun,
    /// The engine stops.
    Closed,
}

/// One item in flight.
pub(super) struct Entry<S: Stage> {
    pub(super) item: S::Item,
    pub(super) waiters: RefCell<Waiters>,
    pub(super) hash: Option<u64>,
    pub(super) settled: Cell<bool>,
}

/// One batch in flight.
pub(super) struct Flight<S: Stage> {
    pub(super) stage: Rc<StageCore<S>>,
    pub(super) key: FlightKey,
    pub(super) entries: Vec<Entry<S>>,
    pub(super) class: Rc<S::Class>,
    pub(super) deadline: Time,
    /// When it was sealed, in the turn's time: what permits learn from.
    pub(super) sent: Time,
    /// When it was sealed, to the nanosecond: what the metrics tell.
    pub(super) sealed_at: Time,
    pub(super) unsettled: Cell<usize>,
    pub(super) cut: Cell<Option<Cut>>,
    pub(super) task: RefCell<Option<Waker>>,
    pub(super) timer: Cell<Option<TimerId>>,
}

impl<S: Stage> Flight<S> {
    pub(super) fn is_open(&self, idx: usize) -> bool {
        !self.entries[idx].settled.get()
    }

    pub(super) fn key_of(&self, idx: usize) -> S::Key {
        S::key(&self.entries[idx].item)
    }

    /// One more awaits an item in flight.
    pub(super) fn join(&self, idx: usize, slot: SlotKey) {
        debug_assert!(self.is_open(idx), "joined before it settles");
        self.entries[idx].waiters.borrow_mut().add(slot);
    }

    /// Settles one item for everybody who awaits it; a second time is counted and ignored.
    pub(super) fn settle(&self, idx: usize, reply: Reply<S>) {
        let entry = &self.entries[idx];
        if entry.settled.replace(true) {
            self.stage.metrics.settled_twice.add(1);
            return;
        }
        self.unsettled.set(self.unsettled.get() - 1);
        self.stage.forget(entry.hash, Place::InFlight(self.key, idx));
        let Waiters { first, more } = entry.waiters.take();
        for slot in more {
            // Cloning is user code: if it panics this waiter is told so, and the others go on.
            let mut copy = Err(CallError::Panicked);
            contain(|| copy = reply.clone());
            self.stage.settle(slot, copy);
        }
        match first {
            Some(slot) => self.stage.settle(slot, reply),
            None => self.stage.metrics.late.add(1),
        }
    }

    /// Settles what is left, in the same way for all.
    pub(super) fn settle_rest(&self, error: &CallError<S::Error>) {
        for idx in 0..self.entries.len() {
            if self.is_open(idx) {
                self.settle(idx, Err(error.clone()));
            }
        }
    }

    /// Drops the batch function where it awaits.
    pub(super) fn cut(&self, why: Cut) {
        self.cut.set(Some(self.cut.get().unwrap_or(why)));
        let task = self.task.borrow().clone();
        if let Some(waker) = task {
            waker.wake();
        }
    }
}

/// The items that were sealed together. A cheap handle: clones and parts share one batch.
pub struct Batch<S: Stage> {
    flight: Rc<Flight<S>>,
    begin: usize,
    end: usize,
}

impl<S: Stage> Clone for Batch<S> {
    fn clone(&self) -> Self {
        Self { flight: Rc::clone(&self.flight), ..*self }
    }
}

impl<S: Stage> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}, {} items)", self.flight.stage.name, self.len())
    }
}

impl<S: Stage> Batch<S> {
    pub(super) fn new(flight: Rc<Flight<S>>) -> Self {
        let end = flight.entries.len();
        Self { flight, begin: 0, end }
    }

    /// Items in the batch; never 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.begin
    }

    /// Whether the batch holds no items: only an empty part of a split does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
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

    /// The items, in the order in which they were admitted.
    pub fn items(&self) -> impl ExactSizeIterator<Item = BatchItem<'_, S>> {
        (self.begin..self.end).map(|idx| BatchItem { flight: &self.flight, idx })
    }

    /// The items by key, for downstreams that answer with rows.
    #[must_use]
    pub fn by_key(&self) -> ByKey<S> {
        let mut by_key = ByKey {
            batch: self.clone(),
            places: HashMap::with_capacity_and_hasher(self.len(), self.flight.stage.hasher()),
        };
        for idx in self.begin..self.end {
            let places = by_key.places.entry(self.flight.key_of(idx)).or_insert(Places::NONE);
            places.add(idx);
        }
        by_key
    }

    /// Parts of at most `items_max` items each, for downstreams with a limit of their own.
    ///
    /// # Panics
    ///
    /// If `items_max` is 0.
    pub fn split(&self, items_max: usize) -> impl Iterator<Item = Self> {
        assert!(items_max > 0, "a part holds at least one item");
        let (flight, end) = (Rc::clone(&self.flight), self.end);
        (self.begin..end).step_by(items_max).map(move |begin| Self {
            flight: Rc::clone(&flight),
            begin,
            end: (begin + items_max).min(end),
        })
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
