//! The way in: a call joins an equal one or takes a place in the queue.
//!
//! ```text
//!   call ─▶ key ─▶ an equal one queued or in flight? ─▶ shares its item
//!                    └ none ─▶ room? ─▶ slot, queue, index
//!                                └ none: shed
//! ```

use std::hash::BuildHasher;
use std::rc::Rc;

use slotmap::Key;

use super::core::StageCore;
use super::index::Place;
use super::queue::{ItemKey, NewItem, Queue};
use super::slots::{SlotKey, Standing, Waiter};
use super::{Dedup, Stage};
use crate::error::{CallError, Shed, ShedReason};
use crate::runtime::guard::contain;
use crate::runtime::priority::Priority;
use crate::runtime::{ShardId, Time};

/// A call on its way into the stage.
pub(super) struct Admission<S: Stage> {
    pub(super) item: S::Item,
    pub(super) waiter: Waiter,
    pub(super) deadline: Time,
    /// Whether it may share an item with an equal key.
    pub(super) joins: bool,
    pub(super) priority: Priority,
}

/// A call that the controllers have let in. Unless it is kept they are told that it has gone again.
pub(super) struct LetIn<'a, S: Stage> {
    /// Who has been asked; `None` where nobody had to be.
    asked: Option<&'a StageCore<S>>,
    priority: Priority,
    /// By how much it is degraded; 0 for not at all.
    pub(super) level: u8,
}

impl<S: Stage> LetIn<'_, S> {
    /// It has a slot, which tells the controllers what becomes of it.
    pub(super) fn keep(mut self) {
        if let Some(stage) = self.asked.take()
            && self.level > 0
        {
            stage.metrics.degraded.add(1);
        }
    }
}

impl<S: Stage> Drop for LetIn<'_, S> {
    fn drop(&mut self) {
        if let Some(stage) = self.asked {
            stage.withdrawn(self.priority);
        }
    }
}

/// Whether a queue takes one more item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    Left,
    Full { depth: usize },
}

/// The slot of a call that was taken in, or why it was not.
pub(super) type Admitted<S> = Result<SlotKey, CallError<<S as Stage>::Error>>;

impl<S: Stage> StageCore<S> {
    /// Asks the controllers about a call. One that leaves for another shard is let in over there:
    /// what that shard last said of itself has been asked already.
    pub(super) fn let_in(
        &self,
        priority: Priority,
        route: Option<ShardId>,
    ) -> Result<LetIn<'_, S>, Shed> {
        let asked = (self.guarded && route.is_none()).then_some(self);
        let queued = || self.queue.borrow().len();
        let level = match asked {
            Some(_) if !self.door.passes(self.core.now(), priority) => {
                self.consult(|controls, now| controls.let_in(now, priority, &self.door, queued))?
            }
            _ => 0,
        };
        Ok(LetIn { asked, priority, level })
    }

    /// Takes in a call that has been let in by the shard it comes from.
    pub(super) fn take_in(&self, priority: Priority) -> LetIn<'_, S> {
        let asked = self.guarded.then_some(self);
        let level = match asked {
            Some(_) if !self.door.takes_in(priority) => {
                let queued = self.queue.borrow().len();
                self.consult(|controls, now| controls.take_in(now, priority, &self.door, queued))
            }
            _ => 0,
        };
        LetIn { asked, priority, level }
    }

    /// Whether one more item may wait.
    pub(super) fn room(&self) -> Room {
        let depth = self.depth();
        if depth < self.options.queue_max { Room::Left } else { Room::Full { depth } }
    }

    /// Admits a call to this shard's queue, joining an equal key where that is allowed. One that
    /// joins takes no room; whatever else may refuse a call has been asked.
    pub(super) fn enqueue(&self, admission: Admission<S>, room: Room) -> Admitted<S> {
        let Admission { item, waiter, deadline, joins, priority } = admission;
        let key = (self.options.dedup != Dedup::Off).then(|| S::key(&item));
        let hash = key.as_ref().map(|key| self.hasher.hash_one(key));
        if let (true, Some(key), Some(hash)) = (joins, &key, hash)
            && let Some(place) = self.join(key, hash)
        {
            self.metrics.calls.add(1);
            self.metrics.deduplicated.add(1);
            // The item is the caller's spare copy; its drop is user code.
            contain(|| drop(item));
            return Ok(self.attach(place, waiter, deadline, priority));
        }
        if let Room::Full { depth } = room {
            contain(|| drop((item, key)));
            return Err(self.shed(ShedReason::QueueFull { depth }));
        }
        self.metrics.calls.add(1);
        // The weight first: user code that panics must not leave an open lane behind.
        let weight = S::weight(&item);
        let lane = self.lane_of(&item);
        let slot = self.new_slot(waiter, Standing::Here(ItemKey::null()), deadline, priority);
        let new = NewItem {
            item,
            slot,
            deadline,
            weight,
            admitted: self.core.now(),
            pass: self.core.pass(),
            hash,
            key,
            priority,
        };
        let item = self.queue.borrow_mut().push(lane, new);
        if let Some(hash) = hash {
            self.index.borrow_mut().enter(hash, Place::Queued(item));
        }
        self.slots.borrow_mut()[slot].standing = Standing::Here(item);
        Ok(slot)
    }

    /// The refusal for `reason`; what a batch is expected to take is the first hint when to try again.
    pub(super) fn shed(&self, reason: ShedReason) -> CallError<S::Error> {
        let retry_after = self.permits.borrow().expected_run(self.core.now());
        CallError::Shed(Shed { reason, retry_after })
    }

    /// The lane of the item's class, opened if need be.
    fn lane_of(&self, item: &S::Item) -> u32 {
        if Queue::<S>::ONE_CLASS {
            let open = self.queue.borrow().single_lane();
            return open.unwrap_or_else(|| {
                let class = Rc::new(S::class(item));
                self.queue.borrow_mut().open_lane(class, 0, 1)
            });
        }
        let class = S::class(item);
        let hash = self.hasher.hash_one(&class);
        let candidates = self.queue.borrow().classes(hash);
        for (lane, candidate) in candidates {
            if *candidate == class {
                return lane;
            }
        }
        let share = S::share(&class);
        self.queue.borrow_mut().open_lane(Rc::new(class), hash, share)
    }

    /// Finds what a call with this key may join.
    fn join(&self, key: &S::Key, hash: u64) -> Option<Place> {
        let place = self.index.borrow().get(hash)?;
        self.holds_key(place, key).then_some(place)
    }

    /// Compares the key of what stands at `place`, outside of any borrow.
    fn holds_key(&self, place: Place, key: &S::Key) -> bool {
        match place {
            Place::Queued(item) => {
                let taken = self.queue.borrow_mut().get_mut(item).and_then(|at| at.key.take());
                let equal = taken.as_ref().is_some_and(|other| other == key);
                if let Some(queued) = self.queue.borrow_mut().get_mut(item) {
                    queued.key = taken;
                }
                // The comparison is user code: it may have cancelled the very item.
                equal && self.queue.borrow_mut().get_mut(item).is_some()
            }
            Place::InFlight(flight, idx) => {
                let flight = self.flights.borrow().get(flight).cloned();
                flight.is_some_and(|flight| flight.is_open(idx) && flight.key_of(idx) == *key)
            }
        }
    }

    fn attach(&self, place: Place, waiter: Waiter, deadline: Time, priority: Priority) -> SlotKey {
        let standing = match place {
            Place::Queued(item) => Standing::Here(item),
            Place::InFlight(..) => Standing::Here(ItemKey::null()),
        };
        let slot = self.new_slot(waiter, standing, deadline, priority);
        match place {
            Place::Queued(item) => {
                let mut queue = self.queue.borrow_mut();
                let queued = queue.get_mut(item).expect("the index names items that stand");
                queued.waiters.add(slot);
                queued.deadline = queued.deadline.max(deadline);
            }
            Place::InFlight(flight, idx) => {
                self.flights.borrow()[flight].join(idx, slot);
            }
        }
        slot
    }
}
