//! What a batch function sees: a cheap handle on the items that left together.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future::or;
use hashbrown::HashMap;

use super::Stage;
use super::dispatch::FlightKey;
use super::index::Place;
use super::slots::{Reply, SlotKey, StageCore};
use super::waiters::Waiters;
use crate::control::breaker::Sending;
use crate::error::CallError;
use crate::runtime::Time;
use crate::runtime::guard::contain;
use crate::runtime::priority::Priority;
use crate::runtime::sleep::sleep;
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
    /// The highest among its items.
    pub(super) priority: Priority,
    /// When its latest attempt began, in the turn's time: what permits learn from.
    pub(super) sent: Cell<Time>,
    /// The same to the nanosecond: what the metrics tell.
    pub(super) sealed_at: Cell<Time>,
    pub(super) unsettled: Cell<usize>,
    pub(super) cut: Cell<Option<Cut>>,
    pub(super) task: RefCell<Option<Waker>>,
    pub(super) timer: Cell<Option<TimerId>>,
    /// What the circuit breaker was told of its latest attempt.
    pub(super) sending: Cell<Sending>,
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

    /// Settles what is left of a part, in the same way for all.
    pub(super) fn settle_rest(&self, part: &Part, error: &CallError<S::Error>) {
        if self.unsettled.get() == 0 {
            return;
        }
        for idx in part.idxs() {
            if self.is_open(idx) {
                self.settle(idx, Err(error.clone()));
            }
        }
    }

    /// The items of a part that are not settled: those that somebody awaits, and the others.
    pub(super) fn open_items(&self, part: &Part) -> (Vec<u32>, Vec<u32>) {
        let narrow = |idx| u32::try_from(idx).expect("a batch holds fewer than 2^32 items");
        let open = part.idxs().filter(|idx| self.is_open(*idx)).map(narrow);
        open.partition(|idx| self.stage.is_awaited(&self.entries[*idx as usize].waiters.borrow()))
    }

    /// What the items of a part weigh.
    pub(super) fn weight_of(&self, part: &Part) -> u64 {
        part.idxs().map(|idx| S::weight(&self.entries[idx].item)).fold(0, u64::saturating_add)
    }

    /// Drops the batch function where it awaits. The engine's stop outweighs an overrun.
    pub(super) fn cut(&self, why: Cut) {
        if self.cut.get() != Some(Cut::Closed) {
            self.cut.set(Some(why));
        }
        let task = self.task.borrow().clone();
        if let Some(waker) = task {
            waker.wake();
        }
    }

    /// Why it is cut, if it is; else whoever polls here is woken once it is.
    pub(super) fn seen_cut(&self, cx: &Context<'_>) -> Option<Cut> {
        if self.task.borrow().is_none() {
            self.task.replace(Some(cx.waker().clone()));
        }
        self.cut.get()
    }

    /// Waits, unless it is cut.
    pub(super) async fn pause(&self, time: Duration) {
        let cut = std::future::poll_fn(|cx| match self.seen_cut(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        });
        or(cut, sleep(time)).await;
    }

    /// An attempt that overran has ended; the next one has its own time.
    pub(super) fn forget_overrun(&self) {
        if self.cut.get() == Some(Cut::Overrun) {
            self.cut.set(None);
        }
    }
}

/// Some items of a batch, in the order in which they left the queue.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The places of the items in the flight; without a list they are those from `begin` to `end`.
    listed: Option<Rc<[u32]>>,
    begin: usize,
    end: usize,
}

impl Part {
    pub(super) fn all(n_items: usize) -> Self {
        Self { listed: None, begin: 0, end: n_items }
    }

    pub(super) fn of(listed: &[u32]) -> Self {
        Self { listed: Some(listed.into()), begin: 0, end: listed.len() }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.begin
    }

    fn idx(&self, place: usize) -> usize {
        self.listed.as_ref().map_or(place, |listed| listed[place] as usize)
    }

    pub(super) fn idxs(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        (self.begin..self.end).map(|place| self.idx(place))
    }

    /// What of it stands from `begin` to `end`, at most to its own end.
    fn slice(&self, begin: usize, end: usize) -> Self {
        Self { listed: self.listed.clone(), begin, end: end.min(self.end) }
    }
}

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

    /// Parts of at most `items_max` items each, for downstreams with a limit of their own.
    ///
    /// # Panics
    ///
    /// If `items_max` is 0.
    pub fn split(&self, items_max: usize) -> impl Iterator<Item = Self> {
        assert!(items_max > 0, "a part holds at least one item");
        let whole = self.clone();
        (self.part.begin..self.part.end).step_by(items_max).map(move |begin| Self {
            flight: Rc::clone(&whole.flight),
            part: whole.part.slice(begin, begin + items_max),
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
