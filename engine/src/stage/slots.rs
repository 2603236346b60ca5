//! The life of a reply slot: what becomes of one call.
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

use std::task::Waker;

use slotmap::{Key, new_key_type};

use super::Stage;
use super::core::StageCore;
use super::index::Place;
use super::queue::{ItemKey, Last};
use super::waiters::Waiters;
use crate::control::conditioner::Ended;
use crate::control::door::Told;
use crate::error::{CallError, Outcome};
use crate::runtime::guard::contain;
use crate::runtime::half::Plant;
use crate::runtime::priority::Priority;
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
    pub(super) deadline: Time,
    admitted: Time,
    priority: Priority,
    /// Whether it is counted at the door.
    conditioned: bool,
    pub(super) timer: Option<TimerId>,
    pub(super) reply: Option<Reply<S>>,
}

impl<S: Stage> Slot<S> {
    /// Whether it is counted at the door.
    pub(super) const fn is_conditioned(&self) -> bool {
        self.conditioned
    }
}

impl<S: Stage> StageCore<S> {
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
        self.watch_deadline(key, deadline);
        key
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
            self.count_out(slot.admitted, slot.priority, &reply);
        }
        let waker = match &mut slot.waiter {
            Waiter::Local(waker) => {
                self.metrics.count_reply(&reply);
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

    /// Counts a call out that was let in, and tells the controllers what became of it where that
    /// says something. One that was refused after all, or has failed with its batch, says nothing of
    /// how long an answer takes.
    fn count_out(&self, admitted: Time, priority: Priority, reply: &Reply<S>) {
        let expired = match reply {
            Ok(_) | Err(CallError::Item(_)) => false,
            Err(CallError::Expired(_)) => true,
            Err(_) => return self.withdrawn(priority),
        };
        if self.door.ended(priority, admitted) == Told::Yes {
            let ended = Ended { priority, admitted, expired };
            self.consult(|controls, now| controls.ended(now, ended, &self.door));
        }
    }

    /// Counts a call out that was let in and has left without a reply.
    pub(super) fn withdrawn(&self, priority: Priority) {
        if self.door.withdrawn(priority) == Told::Yes {
            self.consult(|controls, now| controls.withdrawn(now, priority));
        }
    }

    /// Nobody awaits this slot any more, which has no reply.
    pub(super) fn forget_conditioned(&self, slot: &mut Slot<S>) {
        if std::mem::take(&mut slot.conditioned) {
            self.withdrawn(slot.priority);
        }
    }

    /// Whether somebody still awaits one of these.
    pub(super) fn is_awaited(&self, waiters: &Waiters) -> bool {
        let slots = self.slots.borrow();
        let waits = |slot: &SlotKey| slots.get(*slot).is_some_and(|slot| slot.reply.is_none());
        waiters.first.iter().chain(&waiters.more).any(waits)
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
        let Some(mut slot) = self.slots.borrow_mut().remove(key) else { return };
        if let Some(timer) = slot.timer {
            self.core.disarm(timer);
        }
        if slot.reply.is_none() {
            self.metrics.cancelled.add(1);
            self.forget_conditioned(&mut slot);
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
}
