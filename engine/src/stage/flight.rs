//! One batch in flight: its items, who awaits them, and what ends its run.
//!
//! The batch function, the timer of its run and the stage all hold the same flight, so its state is
//! in cells. An item settles once, whoever comes first; what comes after is counted and ignored.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future::or;
use slotmap::new_key_type;

use super::Stage;
use super::core::StageCore;
use super::index::Place;
use super::part::Part;
use super::slots::{Reply, SlotKey};
use super::waiters::Waiters;
use crate::control::breaker::Sending;
use crate::error::CallError;
use crate::runtime::Time;
use crate::runtime::guard::contain;
use crate::runtime::priority::Priority;
use crate::runtime::sleep::sleep;
use crate::runtime::wheel::TimerId;

new_key_type! { pub(super) struct FlightKey; }

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
    /// Whether its latest attempt has said that the downstream was not asked.
    pub(super) is_not_sent: Cell<bool>,
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
