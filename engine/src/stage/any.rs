//! A stage as the turn sees it, whatever its types.

use std::any::Any;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use slotmap::KeyData;

use super::Stage;
use super::core::StageCore;
use super::flight::Cut;
use super::slots::{SlotKey, Waiter};
use crate::control::Reading;
use crate::error::{CallError, Outcome};
use crate::metrics::{StageLedger, StageMetrics};
use crate::runtime::lane::Envelope;
use crate::runtime::shared::Adjustment;
use crate::runtime::{ShardId, Time};

/// What a stage must know of the turn to decide about its windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnView {
    pub(crate) ready_empty: bool,
    /// The last pass of which every task has run.
    pub(crate) completed_pass: u64,
    pub(crate) live_requests: usize,
}

/// A stage on one shard, its types erased.
pub(crate) trait AnyStage: fmt::Debug {
    fn name(&self) -> &'static str;
    fn as_any(self: Rc<Self>) -> Rc<dyn Any>;
    /// Forms batches; tells when it wants to be asked again, `NEVER` when something else will.
    fn seal(self: Rc<Self>, turn: &TurnView) -> Time;
    /// The turn ends: deadlines of calls that still wait are armed. Tells when it wants to be asked
    /// again.
    fn arm_deadlines(&self) -> Time;
    fn has_queued(&self) -> bool;
    /// Whether a call has not been answered or not taken its answer.
    fn has_calls(&self) -> bool;
    fn expire(&self, slot: u64);
    fn overrun(&self, batch: u64);
    fn take_calls(&self, owner: ShardId, credits: usize) -> Option<Envelope>;
    fn take_replies(&self, origin: ShardId) -> Option<Envelope>;
    fn take_cancels(&self, owner: ShardId) -> Option<Envelope>;
    fn receive_calls(&self, origin: ShardId, calls: Box<dyn Any + Send>);
    fn receive_replies(&self, owner: ShardId, replies: Box<dyn Any + Send>, level: usize);
    fn receive_cancels(&self, origin: ShardId, slots: &[u64]);
    fn lose_peer(&self, peer: ShardId);
    /// Refuses further calls.
    fn close(&self);
    /// Settles what waits and cuts what runs, all `Closed`.
    fn settle_all(&self);
    fn metrics(&self) -> &StageMetrics;
    fn ledger(&self) -> StageLedger;
    fn permits(&self) -> (usize, usize);
    fn depth(&self) -> usize;
    /// How long the oldest item has waited.
    fn oldest_wait(&self) -> Duration;
    /// What its controllers have come to.
    fn readings(&self) -> Vec<Reading>;
    /// Changes a controller; tells whether the stage has one of that kind.
    fn adjust(&self, adjustment: Adjustment) -> bool;
}

impl<S: Stage> AnyStage for StageCore<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn as_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn seal(self: Rc<Self>, turn: &TurnView) -> Time {
        self.seal_due(turn)
    }

    fn arm_deadlines(&self) -> Time {
        self.arm_waiting()
    }

    fn has_queued(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    fn has_calls(&self) -> bool {
        !self.slots.borrow().is_empty()
    }

    fn expire(&self, slot: u64) {
        let key = SlotKey::from(KeyData::from_ffi(slot));
        if let Some(slot) = self.slots.borrow_mut().get_mut(key) {
            slot.timer = None;
        }
        StageCore::expire(self, key);
    }

    fn overrun(&self, batch: u64) {
        self.overrun_flight(batch);
    }

    fn take_calls(&self, owner: ShardId, credits: usize) -> Option<Envelope> {
        self.pack_calls(owner, credits)
    }

    fn take_replies(&self, origin: ShardId) -> Option<Envelope> {
        self.pack_replies(origin)
    }

    fn take_cancels(&self, owner: ShardId) -> Option<Envelope> {
        self.pack_cancels(owner)
    }

    fn receive_calls(&self, origin: ShardId, calls: Box<dyn Any + Send>) {
        self.unpack_calls(origin, calls);
    }

    fn receive_replies(&self, owner: ShardId, replies: Box<dyn Any + Send>, level: usize) {
        self.unpack_replies(owner, replies, level);
    }

    fn receive_cancels(&self, origin: ShardId, slots: &[u64]) {
        self.unpack_cancels(origin, slots);
    }

    fn lose_peer(&self, peer: ShardId) {
        self.lose(peer);
    }

    fn close(&self) {
        self.closed.set(true);
    }

    fn settle_all(&self) {
        self.close();
        let flights: Vec<_> = self.flights.borrow().values().cloned().collect();
        for flight in flights {
            flight.cut(Cut::Closed);
        }
        let unsent: Vec<SlotKey> = {
            let slots = self.slots.borrow();
            slots.iter().filter(|(_, slot)| slot.reply.is_none()).map(|(key, _)| key).collect()
        };
        for key in unsent {
            if self.withdraw(key) == Outcome::NotSent {
                self.settle(key, Err(CallError::Closed(Outcome::NotSent)));
            }
        }
    }

    fn metrics(&self) -> &StageMetrics {
        &self.metrics
    }

    fn ledger(&self) -> StageLedger {
        let slots = self.slots.borrow();
        let guests = slots.values().filter(|slot| matches!(slot.waiter, Waiter::Remote { .. }));
        let guests = guests.count();
        let callers = slots
            .values()
            .filter(|slot| slot.reply.is_none() && matches!(slot.waiter, Waiter::Local(_)));
        StageLedger {
            stage: self.name,
            admitted: self.metrics.admitted.get(),
            settled: self.metrics.settled.get(),
            cancelled: self.metrics.cancelled.get(),
            live: callers.count() as u64,
            received: self.metrics.received.get(),
            replied: self.metrics.replied.get(),
            orphaned: self.metrics.orphaned.get(),
            guests: guests as u64,
            permits_out: self.permits.borrow().out() as u64,
            flights: self.flights.borrow().len() as u64,
            queued: self.queue.borrow().len() as u64,
            indexed: self.index.borrow().len() as u64,
            conditioned: slots.values().filter(|slot| slot.is_conditioned()).count() as u64,
            in_flight: self.door.in_flight() as u64,
        }
    }

    fn permits(&self) -> (usize, usize) {
        let permits = self.permits.borrow();
        (permits.out(), permits.max())
    }

    fn depth(&self) -> usize {
        StageCore::depth(self)
    }

    fn oldest_wait(&self) -> Duration {
        let oldest = self.queue.borrow().oldest_admitted();
        oldest.map_or(Duration::ZERO, |admitted| self.core.now().since(admitted))
    }

    fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        self.permits.borrow().readings(&mut readings);
        self.controls.borrow().readings(&mut readings);
        readings
    }

    fn adjust(&self, adjustment: Adjustment) -> bool {
        self.consult(|controls, now| controls.adjust(now, adjustment))
    }
}

impl<S: Stage> StageCore<S> {
    pub(super) fn touch(&self, key: &S::Key) {
        use super::index::Place;
        use crate::runtime::half::Plant;
        if self.core.half().planted(Plant::JoinAcrossWrite) {
            return;
        }
        let hash = self.hash(key);
        let place = self.index.borrow().get(hash);
        // Whoever else has this hash only loses the chance to share.
        if let Some(place @ Place::InFlight(..)) = place {
            self.index.borrow_mut().remove(hash, place);
        }
    }

    pub(super) fn touch_all(&self) {
        use crate::runtime::half::Plant;
        if !self.core.half().planted(Plant::JoinAcrossWrite) {
            self.index.borrow_mut().remove_dispatched();
        }
    }
}
