//! Calls that another shard owns: the way out, the far side, the way back.
//!
//! ```text
//!   origin: slot ─▶ outgoing ─(credit)─▶ lane ─▶ owner: slot{Remote} ─▶ queue ─▶ batch
//!   origin: slot ◀─────── lane ◀── replies ◀──────────── settle ◀───────────────┘
//! ```
//!
//! Only the origin may refuse, before an item leaves. What has left is bounded by credits, so the
//! owner takes it whatever its queue holds, and answers every item once, cancelled ones included.

use std::any::Any;

use slotmap::{Key, KeyData};

use super::admit::{Admission, Admitted, Room};
use super::controls::Controls;
use super::core::StageCore;
use super::crossing::{Lane, RemoteCall, RemoteReply};
use super::slots::{Slot, SlotKey, Standing, Waiter};
use super::{Placement, Stage};
use crate::error::{CallError, Outcome, ShedReason};
use crate::runtime::ShardId;
use crate::runtime::guard::contain;
use crate::runtime::lane::Envelope;
use crate::runtime::shared::buffers::Buffer;

impl<S: Stage> StageCore<S> {
    /// The shard that owns the item's key; `None` when it is this one.
    pub(super) fn route(&self, item: &S::Item) -> Option<ShardId> {
        let owner = match self.options.placement {
            Placement::Local => return None,
            Placement::Gather(shard) => shard,
            Placement::Owner => self.owner(&S::key(item)),
        };
        (owner != self.core.id()).then_some(owner)
    }

    pub(super) fn owner(&self, key: &S::Key) -> ShardId {
        match self.options.placement {
            Placement::Local => self.core.id(),
            Placement::Gather(shard) => shard,
            Placement::Owner => {
                // The high bits: the low ones choose the bucket in the index.
                let hash = self.hash(key) >> 32;
                ShardId::new((hash as usize * self.core.n_shards()) >> 32)
            }
        }
    }

    /// Admits a call that will leave for `owner` when there is credit.
    pub(super) fn send_away(
        &self,
        owner: ShardId,
        admission: Admission<S>,
        room: Room,
    ) -> Admitted<S> {
        let Admission { item, waiter, deadline, joins, priority } = admission;
        if let Room::Full { depth } = room {
            contain(|| drop(item));
            return Err(self.shed(ShedReason::QueueFull { depth }));
        }
        let slot = self.new_slot(waiter, Standing::Outgoing(owner), deadline, priority);
        let token = slot.data().as_ffi();
        let call = RemoteCall { token, item, deadline, joins, priority };
        self.crossing.lanes.borrow_mut()[owner.index()].calls.push(call);
        self.crossing.outgoing.set(self.crossing.outgoing.get() + 1);
        Ok(slot)
    }

    /// A call that waited to leave will not: its entry goes when entries like it are half of all.
    pub(super) fn drop_outgoing(&self, owner: ShardId) {
        self.crossing.outgoing.set(self.crossing.outgoing.get() - 1);
        let gone = {
            let mut lanes = self.crossing.lanes.borrow_mut();
            let lane = &mut lanes[owner.index()];
            lane.stale += 1;
            if lane.stale * 2 <= lane.calls.len() {
                return;
            }
            lane.stale = 0;
            let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut lane.calls)
                .into_iter()
                .partition(|call| self.waits_to_leave(call.token));
            lane.calls = keep;
            gone
        };
        contain(|| drop(gone));
    }

    fn waits_to_leave(&self, token: u64) -> bool {
        let key = SlotKey::from(KeyData::from_ffi(token));
        let slots = self.slots.borrow();
        slots.get(key).is_some_and(|slot| {
            slot.reply.is_none() && matches!(slot.standing, Standing::Outgoing(_))
        })
    }

    /// Packs what may leave for `owner`: at most `credits` calls.
    pub(super) fn pack_calls(&self, owner: ShardId, credits: usize) -> Option<Envelope> {
        let ship = self.crossing.ship.as_ref()?;
        if credits == 0 || self.crossing.lanes.borrow()[owner.index()].calls.is_empty() {
            return None;
        }
        let mut buffer = ship.pools().calls.take();
        let leaving = buffer.contents();
        let gone = {
            let mut lanes = self.crossing.lanes.borrow_mut();
            let lane = &mut lanes[owner.index()];
            // What is left behind by a lack of credit goes on waiting in the emptied buffer.
            std::mem::swap(leaving, &mut lane.calls);
            let mut gone = Vec::new();
            if lane.stale > 0 {
                gone.extend(leaving.extract_if(.., |call| !self.waits_to_leave(call.token)));
                lane.stale = 0;
            }
            if leaving.len() > credits {
                lane.calls.extend(leaving.drain(credits..));
            }
            lane.away += leaving.len();
            gone
        };
        contain(|| drop(gone));
        if leaving.is_empty() {
            return None;
        }
        self.crossing.outgoing.set(self.crossing.outgoing.get() - leaving.len());
        let mut slots = self.slots.borrow_mut();
        for call in leaving.iter() {
            let key = SlotKey::from(KeyData::from_ffi(call.token));
            slots[key].standing = Standing::Away(owner);
        }
        let n_items = leaving.len();
        self.metrics.sent_away.add(n_items as u64);
        Some(Envelope::Calls { rank: self.rank, n_items, calls: (ship.calls)(buffer) })
    }

    /// Packs the outcomes for `origin`: all of them, always.
    pub(super) fn pack_replies(&self, origin: ShardId) -> Option<Envelope> {
        let ship = self.crossing.ship.as_ref()?;
        let mut lanes = self.crossing.lanes.borrow_mut();
        let replies = &mut lanes[origin.index()].replies;
        let n_items = replies.len();
        if n_items == 0 {
            return None;
        }
        let mut buffer = ship.pools().replies.take();
        std::mem::swap(replies, buffer.contents());
        let level = self.level();
        lanes[origin.index()].told = level;
        let replies = (ship.replies)(buffer);
        Some(Envelope::Replies { rank: self.rank, n_items, replies, level })
    }

    /// How many items each other shard may have here: nothing while the queue is full, else its
    /// part of what the conditioner lets be in flight.
    fn level(&self) -> usize {
        if self.queue.borrow().len() >= self.options.queue_max {
            return 0;
        }
        let share = self.controls.borrow().in_flight_max() / self.core.n_shards() as f64;
        // A cast saturates; nobody is told less than one.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let share = share.ceil() as usize;
        share.max(1)
    }

    pub(super) fn pack_cancels(&self, owner: ShardId) -> Option<Envelope> {
        let slots = std::mem::take(&mut self.crossing.lanes.borrow_mut()[owner.index()].cancels);
        (!slots.is_empty()).then_some(Envelope::Cancels { rank: self.rank, slots })
    }

    /// The owner's side: queues what another shard sent.
    pub(super) fn unpack_calls(&self, origin: ShardId, calls: Box<dyn Any + Send>) {
        let calls = calls.downcast::<Buffer<RemoteCall<S>>>();
        let mut calls = calls.expect("the rank names the stage");
        for RemoteCall { token, item, deadline, joins, priority } in calls.contents().drain(..) {
            if self.closed.get() {
                self.refuse_guest(origin, token, CallError::Closed(Outcome::NotSent));
                contain(|| drop(item));
                continue;
            }
            let waiter = Waiter::Remote { origin, token };
            let mut slot = None;
            let let_in = self.take_in(priority);
            let sound = contain(|| {
                let mut item = item;
                if let_in.level > 0 {
                    S::degrade(&mut item, let_in.level);
                }
                // Its origin has a credit for it: there is room whatever the queue holds.
                let admission = Admission { item, waiter, deadline, joins, priority };
                slot = self.enqueue(admission, Room::Left).ok();
            });
            match slot {
                Some(slot) if sound => {
                    let_in.keep();
                    self.crossing.take_guest(origin, token, slot);
                }
                // The item's own code (its key, its class) panicked.
                _ => self.refuse_guest(origin, token, CallError::Panicked),
            }
        }
        let lanes = self.crossing.lanes.borrow();
        if lanes[origin.index()].guests >= lanes[origin.index()].told {
            self.consult(Controls::pressed);
        }
    }

    fn refuse_guest(&self, origin: ShardId, token: u64, error: CallError<S::Error>) {
        self.metrics.received.add(1);
        self.metrics.replied.add(1);
        self.crossing.reply(origin, token, Err(error));
    }

    /// The origin's side: hands outcomes to the callers that still wait.
    pub(super) fn unpack_replies(
        &self,
        owner: ShardId,
        replies: Box<dyn Any + Send>,
        level: usize,
    ) {
        let replies = replies.downcast::<Buffer<RemoteReply<S>>>();
        let mut replies = replies.expect("the rank names the stage");
        let replies = replies.contents();
        {
            let mut lanes = self.crossing.lanes.borrow_mut();
            let lane = &mut lanes[owner.index()];
            lane.away = lane.away.saturating_sub(replies.len());
            (lane.level, lane.level_at) = (level, self.core.now());
        }
        for RemoteReply { token, reply } in replies.drain(..) {
            self.settle(SlotKey::from(KeyData::from_ffi(token)), reply);
        }
    }

    /// The owner's side: callers at `origin` have gone. Queued items leave and are answered at
    /// once, so that the credit returns.
    pub(super) fn unpack_cancels(&self, origin: ShardId, tokens: &[u64]) {
        for token in tokens {
            let slot = self.crossing.guests.borrow().get(&(origin, *token)).copied();
            if let Some(slot) = slot
                && self.withdraw(slot) == Outcome::NotSent
            {
                // Nobody waits for it: that says nothing of how long an answer takes.
                if let Some(slot) = self.slots.borrow_mut().get_mut(slot) {
                    self.forget_conditioned(slot);
                }
                self.settle(slot, Err(CallError::Expired(Outcome::NotSent)));
            }
        }
    }

    /// A shard has ended: what was with it or for it settles, what came from it is let go.
    pub(super) fn lose(&self, peer: ShardId) {
        let (mut lost, mut guests) = (Vec::new(), Vec::new());
        for (key, slot) in self.slots.borrow().iter().filter(|(_, slot)| slot.reply.is_none()) {
            match (&slot.waiter, slot.standing) {
                (Waiter::Remote { origin, .. }, _) if *origin == peer => guests.push(key),
                (_, Standing::Outgoing(owner)) if owner == peer => {
                    lost.push((key, Outcome::NotSent));
                }
                (_, Standing::Away(owner)) if owner == peer => lost.push((key, Outcome::Unknown)),
                _ => {}
            }
        }
        for (key, outcome) in lost {
            if outcome == Outcome::NotSent {
                self.crossing.outgoing.set(self.crossing.outgoing.get() - 1);
            }
            self.settle(key, Err(CallError::PeerGone(outcome)));
        }
        for key in guests {
            self.release_guest(peer, key);
        }
        let mut lane = Lane::default();
        std::mem::swap(&mut lane, &mut self.crossing.lanes.borrow_mut()[peer.index()]);
        contain(|| drop(lane));
    }

    fn release_guest(&self, peer: ShardId, key: SlotKey) {
        self.withdraw(key);
        let Some(mut slot) = self.slots.borrow_mut().remove(key) else { return };
        self.metrics.orphaned.add(1);
        self.forget_conditioned(&mut slot);
        if let Slot { waiter: Waiter::Remote { token, .. }, timer, .. } = &slot {
            self.crossing.guests.borrow_mut().remove(&(peer, *token));
            if let Some(timer) = timer {
                self.core.disarm(*timer);
            }
        }
        contain(|| drop(slot));
    }
}
