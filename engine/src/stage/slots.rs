//! One stage on one shard: its state, and the life of a reply slot.
//!
//! ```text
//!   admit ─▶ Queued ──seal──▶ Sent ──settle──▶ Settled ─▶ taken by its caller: free
//!              │                │ deadline: settled Expired(Unknown) at its time
//!              │ deadline       └ caller gone: freed; the late outcome finds nobody
//!              └─ caller gone: item unlinked, freed
//! ```
//!
//! Slots are named by generational keys, so that whoever comes late (a batch that settles, a reply
//! from another shard, a timer) finds nothing instead of somebody else.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use slotmap::{Key, SlotMap, new_key_type};

use super::batch::Flight;
use super::controls::Controls;
use super::dispatch::FlightKey;
use super::index::{Index, Place};
use super::permits::Permits;
use super::queue::{ItemKey, Last, Queue};
use super::remote::{Crossing, Ship};
use super::waiters::Waiters;
use super::{Stage, StageOptions};
use crate::control::rate::Leased;
use crate::error::{CallError, Outcome};
use crate::limits::{NEAR, SWEEP_EVERY};
use crate::metrics::StageMetrics;
use crate::runtime::core::{Core, Due};
use crate::runtime::guard::contain;
use crate::runtime::half::Plant;
use crate::runtime::priority::Priority;
use crate::runtime::shared::tokens::Tokens;
use crate::runtime::wheel::TimerId;
use crate::runtime::{ShardId, Time};

new_key_type! { pub(crate) struct SlotKey; }

/// What a call comes to.
pub(super) type Reply<S> = Result<<S as Stage>::Value, CallError<<S as Stage>::Error>>;

/// Who awaits a slot.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A call future on this shard.
    Local(Option<Waker>),
    /// The slot `token` on the shard `origin`.
    Remote { origin: ShardId, token: u64 },
}

/// Where the item of a slot is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// In this shard's queue while the key is valid, in a batch once it is not.
    Here(ItemKey),
    /// Waiting to leave for its owner.
    Outgoing(ShardId),
    /// With its owner.
    Away(ShardId),
}

pub(super) struct Slot<S: Stage> {
    pub(super) waiter: Waiter,
    pub(super) standing: Standing,
    deadline: Time,
    admitted: Time,
    priority: Priority,
    /// Whether the conditioner awaits what becomes of it.
    conditioned: bool,
    pub(super) timer: Option<TimerId>,
    pub(super) reply: Option<Reply<S>>,
}

/// One stage on one shard.
pub(crate) struct StageCore<S: Stage> {
    pub(super) core: Rc<Core>,
    pub(super) name: &'static str,
    pub(super) rank: u16,
    /// Names of all stages, for the error that tells of a cycle.
    pub(super) names: Rc<[&'static str]>,
    pub(super) instance: Rc<S>,
    pub(super) options: StageOptions,
    pub(super) slots: RefCell<SlotMap<SlotKey, Slot<S>>>,
    pub(super) queue: RefCell<Queue<S>>,
    pub(super) index: RefCell<Index>,
    pub(super) flights: RefCell<SlotMap<FlightKey, Rc<Flight<S>>>>,
    pub(super) permits: RefCell<Permits>,
    pub(super) controls: RefCell<Controls>,
    /// Whether calls are asked about before they are let in.
    pub(super) guarded: bool,
    pub(super) crossing: Crossing<S>,
    pub(super) metrics: StageMetrics,
    pub(super) closed: Cell<bool>,
    /// Calls of this turn whose deadlines come before the next sweep but one.
    near: RefCell<Vec<SlotKey>>,
    /// When to look next for deadlines that have come near; never while none is far.
    sweep_at: Cell<Time>,
    pub(super) hasher: foldhash::fast::FixedState,
}

impl<S: Stage> std::fmt::Debug for StageCore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({}, {} queued)", self.name, self.queue.borrow().len())
    }
}

impl<S: Stage> StageCore<S> {
    pub(crate) fn new(
        core: Rc<Core>,
        rank: u16,
        names: Rc<[&'static str]>,
        instance: S,
        options: StageOptions,
        ship: Option<Ship<S>>,
        tokens: Option<Tokens>,
    ) -> Rc<Self> {
        let (n_shards, seed) = (core.n_shards(), core.hash_seed());
        let counts = options.rate.as_ref().map(|rate| rate.counts);
        let downstream = counts.zip(tokens.map(Leased::new));
        let controls = Controls::new(&options, S::DEGRADE_LEVELS, downstream);
        Rc::new(Self {
            core,
            name: names[usize::from(rank)],
            rank,
            names,
            instance: Rc::new(instance),
            permits: RefCell::new(Permits::new(&options.scaling())),
            guarded: controls.guard_the_way_in(),
            controls: RefCell::new(controls),
            slots: RefCell::new(SlotMap::with_key()),
            queue: RefCell::new(Queue::new(options.weights)),
            options,
            index: RefCell::default(),
            flights: RefCell::new(SlotMap::with_key()),
            crossing: Crossing::new(n_shards, ship),
            metrics: StageMetrics::default(),
            closed: Cell::new(false),
            near: RefCell::default(),
            sweep_at: Cell::new(Time::NEVER),
            hasher: foldhash::fast::FixedState::with_seed(seed),
        })
    }

    pub(super) fn new_slot(
        &self,
        waiter: Waiter,
        standing: Standing,
        deadline: Time,
        priority: Priority,
    ) -> SlotKey {
        match waiter {
            Waiter::Local(_) => self.metrics.admitted.add(1),
            Waiter::Remote { .. } => self.metrics.received.add(1),
        }
        // Bounded by the live calls here, by credits for other shards' calls.
        let now = self.core.now();
        // What waits to leave is the owner's to condition.
        let is_here = matches!(standing, Standing::Here(_));
        let (admitted, conditioned) = (now, self.guarded && is_here);
        let slot = Slot {
            waiter,
            standing,
            deadline,
            admitted,
            priority,
            conditioned,
            timer: None,
            reply: None,
        };
        let key = self.slots.borrow_mut().insert(slot);
        if deadline <= now.after(NEAR) {
            // Bounded by the calls of one turn.
            self.near.borrow_mut().push(key);
        } else if self.sweep_at.get() == Time::NEVER {
            self.sweep_at.set(now.after(SWEEP_EVERY));
        }
        key
    }

    /// Arms the deadlines that come before long of calls that still wait; tells when it wants to
    /// look again.
    pub(super) fn arm_waiting(&self) -> Time {
        let mut slots = self.slots.borrow_mut();
        let arm = |(key, slot): (SlotKey, &mut Slot<S>)| {
            if slot.reply.is_none() && slot.timer.is_none() {
                let due = Due::Call { rank: self.rank, slot: key.data().as_ffi() };
                slot.timer = Some(self.core.arm(slot.deadline, due));
            }
        };
        for key in self.near.borrow_mut().drain(..) {
            if let Some(slot) = slots.get_mut(key) {
                arm((key, slot));
            }
        }
        let now = self.core.now();
        if now >= self.sweep_at.get() {
            let horizon = now.after(NEAR);
            let mut left = false;
            for (key, slot) in slots.iter_mut() {
                if slot.deadline <= horizon {
                    arm((key, slot));
                } else {
                    left |= slot.reply.is_none();
                }
            }
            self.sweep_at.set(if left { now.after(SWEEP_EVERY) } else { Time::NEVER });
        }
        self.sweep_at.get()
    }

    /// Fills a slot, wakes or answers whoever awaits it. A slot that is gone or filled already
    /// was left by its caller: the outcome is counted as late and dropped.
    pub(super) fn settle(&self, key: SlotKey, reply: Reply<S>) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key).filter(|slot| slot.reply.is_none()) else {
            drop(slots);
            self.metrics.late.add(1);
            contain(|| drop(reply));
            return;
        };
        let timer = slot.timer.take();
        if std::mem::take(&mut slot.conditioned) {
            self.tell_conditioner(slot.admitted, slot.priority, &reply);
        }
        self.metrics.count_reply(&reply);
        let waker = match &mut slot.waiter {
            Waiter::Local(waker) => {
                slot.reply = Some(reply);
                self.metrics.settled.add(1);
                waker.take()
            }
            &mut Waiter::Remote { origin, token } => {
                slots.remove(key);
                self.metrics.replied.add(1);
                if !self.core.half().planted(Plant::ShedReply) {
                    self.crossing.reply(origin, token, reply);
                }
                None
            }
        };
        drop(slots);
        if let Some(timer) = timer {
            self.core.disarm(timer);
        }
        if let Some(waker) = waker {
            self.core.ready().wake_caller(waker);
        }
    }

    /// Tells the conditioner what became of a call that was let in. One that was refused after all
    /// says nothing of how long an answer takes.
    fn tell_conditioner(&self, admitted: Time, priority: Priority, reply: &Reply<S>) {
        let now = self.core.now();
        let mut controls = self.controls.borrow_mut();
        match reply {
            Err(CallError::Shed(_) | CallError::Closed(_) | CallError::PeerGone(_)) => {
                controls.withdrawn(priority);
            }
            _ => controls.answered(now, priority, admitted),
        }
    }

    /// Nobody awaits this slot any more, which has no reply.
    pub(super) fn forget_conditioned(&self, slot: &Slot<S>) {
        if slot.conditioned {
            self.controls.borrow_mut().withdrawn(slot.priority);
        }
    }

    /// Whether somebody still awaits one of these.
    pub(super) fn is_awaited(&self, waiters: &Waiters) -> bool {
        let slots = self.slots.borrow();
        let waits = |slot: &SlotKey| slots.get(*slot).is_some_and(|slot| slot.reply.is_none());
        waiters.first.iter().chain(&waiters.more).any(waits)
    }

    /// The deadline of a call has come: it leaves the queue at its time and is never sent.
    pub(super) fn expire(&self, key: SlotKey) {
        let outcome = self.withdraw(key);
        self.settle(key, Err(CallError::Expired(outcome)));
    }

    /// The caller has gone: nobody awaits the slot any more.
    pub(super) fn cancel(&self, key: SlotKey) {
        let filled = match self.slots.borrow().get(key) {
            None => return,
            Some(slot) => slot.reply.is_some(),
        };
        if !filled {
            self.withdraw(key);
        }
        let Some(slot) = self.slots.borrow_mut().remove(key) else { return };
        if let Some(timer) = slot.timer {
            self.core.disarm(timer);
        }
        if slot.reply.is_none() {
            self.metrics.cancelled.add(1);
            self.forget_conditioned(&slot);
            if let Standing::Away(owner) = slot.standing {
                self.crossing.cancel(owner, key.data().as_ffi());
            }
        }
        contain(|| drop(slot));
    }

    /// Takes a slot's claim out of the queue, and the item with it when nobody else awaits it.
    pub(super) fn withdraw(&self, key: SlotKey) -> Outcome {
        let standing = self.slots.borrow().get(key).map(|slot| slot.standing);
        let item = match standing {
            Some(Standing::Here(item)) => item,
            Some(Standing::Outgoing(owner)) => {
                self.slots.borrow_mut()[key].standing = Standing::Here(ItemKey::null());
                self.drop_outgoing(owner);
                return Outcome::NotSent;
            }
            Some(Standing::Away(_)) | None => return Outcome::Unknown,
        };
        let removed = {
            let mut queue = self.queue.borrow_mut();
            match queue.get_mut(item) {
                None => return Outcome::Unknown,
                Some(queued) => {
                    let unwanted = queued.waiters.remove(key);
                    unwanted.then(|| queue.remove(item)).flatten()
                }
            }
        };
        if let Some((queued, last)) = removed {
            self.forget(queued.hash, Place::Queued(item));
            let class = match last {
                Last::NotYet => None,
                Last::OfItsLane(lane) => self.queue.borrow_mut().close_lane(lane),
            };
            contain(|| drop((queued, class)));
        }
        Outcome::NotSent
    }

    /// Takes an item's entry out of the index.
    pub(super) fn forget(&self, hash: Option<u64>, place: Place) {
        if let Some(hash) = hash {
            self.index.borrow_mut().remove(hash, place);
        }
    }

    pub(super) fn hash(&self, key: &S::Key) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn hasher(&self) -> foldhash::fast::FixedState {
        self.hasher.clone()
    }

    /// Items that wait here or to leave from here.
    pub(super) fn depth(&self) -> usize {
        self.queue.borrow().len() + self.crossing.outgoing()
    }

    /// The deadline of a call made now: its own, its scope's and the stage's, whichever is first.
    pub(super) fn deadline(&self, scope: Time, within: Option<Duration>) -> Time {
        let now = self.core.now();
        let own = within.map_or(Time::NEVER, |within| now.after(within));
        scope.min(own).min(now.after(self.options.call_max))
    }
}
