//! Forming batches: the part of a stage that only the turn calls.
//!
//! A batch is formed late: first the permit, then the items that are alive at that moment. So
//! items go on joining while the downstream is busy, and cancelled or expired ones never leave.

use std::rc::Rc;

use super::any::TurnView;
use super::attempt::run;
use super::core::StageCore;
use super::flight::Flight;
use super::index::Place;
use super::lanes::ClassView;
use super::leaving::{Bounds, Leave};
use super::queue::{Last, Queued};
use super::sealed::{Sealed, Taken, Unsent, Waits};
use super::window::{QueueView, SealReason, Verdict};
use super::{Dedup, Stage};
use crate::control::breaker::Sending;
use crate::error::{CallError, Outcome, Shed, ShedReason};
use crate::runtime::Time;
use crate::runtime::guard::contain;

impl<S: Stage> StageCore<S> {
    /// Forms every batch whose window seals and that has a permit; tells when to ask again.
    pub(super) fn seal_due(self: &Rc<Self>, turn: &TurnView) -> Time {
        self.permits.borrow_mut().observe(self.core.now(), self.queue.borrow().len());
        let mut ask_again = self.permits.borrow().next_sample();
        // As many steps as there are classes now: each is asked once in a round.
        let mut place = 0;
        self.queue.borrow_mut().begin_round();
        let n_active = self.queue.borrow().n_active();
        for _ in 0..n_active {
            let active = self.queue.borrow().active(place);
            let Some(lane) = active else { break };
            // A class that was emptied is gone from the round: the next one stands in its place.
            if let Some(until) = self.seal_class(lane, turn) {
                ask_again = ask_again.min(until);
                place += 1;
            }
        }
        ask_again
    }

    /// Forms what batches of one class are due; `None` when it is empty then, else the time at
    /// which to ask again.
    fn seal_class(self: &Rc<Self>, lane: u32, turn: &TurnView) -> Option<Time> {
        loop {
            let class = self.queue.borrow().view(lane);
            let class = class?;
            match self.options.window.decide(&self.view(&class, turn)) {
                Verdict::Hold(until) => return Some(until),
                Verdict::Seal(_) if !self.may_open(&class) => {
                    let opens = self.permits.borrow().opens_at(class.oldest_admitted);
                    return Some(opens.unwrap_or(Time::NEVER));
                }
                Verdict::Seal(reason) => match self.may_leave(&class) {
                    Leave::Now(bounds) => self.dispatch(&class, reason, bounds),
                    Leave::At(at) => return Some(at),
                    Leave::Refused { until } => self.refuse_queued(&class, until),
                },
            }
        }
    }

    fn may_leave(&self, class: &ClassView) -> Leave {
        let weight_max = self.options.weight_max;
        self.controls.borrow_mut().may_leave(self.core.now(), class, weight_max)
    }

    /// Sheds all that waits of a class: the downstream fails, and whoever waits for it can as well
    /// be told now.
    fn refuse_queued(&self, class: &ClassView, until: Time) {
        let bounds = Bounds { items: usize::MAX, weight: u64::MAX };
        let Taken { sealed, unsent } =
            self.take_items(class, bounds, |_, _| Some(Unsent::Refused { until }));
        debug_assert!(sealed.is_empty(), "{} items were kept", sealed.entries.len());
        self.settle_unsent(unsent);
        contain(|| drop(sealed));
    }

    fn view(&self, class: &ClassView, turn: &TurnView) -> QueueView {
        QueueView {
            now: self.core.now(),
            oldest_admitted: class.oldest_admitted,
            oldest_saw_pass: class.oldest_pass < turn.completed_pass,
            ready_empty: turn.ready_empty,
            joinable: turn.live_requests > self.slots.borrow().len(),
            full: self.is_full(class),
            closing: self.closed.get(),
        }
    }

    fn is_full(&self, class: &ClassView) -> bool {
        class.n_items >= self.controls.borrow().items_max()
            || class.weight >= self.options.weight_max
    }

    fn may_open(&self, class: &ClassView) -> bool {
        let waited = self.core.now().since(class.oldest_admitted);
        self.permits.borrow().may_open(class.n_items, waited, self.is_full(class))
    }

    fn dispatch(self: &Rc<Self>, class: &ClassView, reason: SealReason, bounds: Bounds) {
        let now = self.core.now();
        let drops = self.controls.borrow().drops_from_the_queue();
        let Taken { sealed, unsent } = self.take_items(class, bounds, |queued, n_left| {
            if queued.deadline <= now {
                return Some(Unsent::Expired);
            }
            if !drops {
                return None;
            }
            let waited = now.since(queued.admitted);
            let keeps = self.controls.borrow_mut().keeps(now, waited, n_left);
            (!keeps).then_some(Unsent::Dropped)
        });
        self.settle_unsent(unsent);
        if sealed.is_empty() {
            contain(|| drop(sealed));
            return;
        }
        let n_items = sealed.entries.len();
        let sending =
            self.consult(|controls, now| controls.sent_first(now, n_items, sealed.weight));
        let flight = self.fly(sealed, sending);
        self.metrics.count_seal(reason, flight.entries.len());
        self.metrics.book_permits(self.core.now(), self.permits.borrow().out());
        self.permits.borrow_mut().open(flight.entries.len());
        self.core.spawn_first(std::panic::Location::caller(), run(flight)).detach();
    }

    /// Takes items of a class within `bounds`, and parts them by what `refused` says of each and of
    /// how many are left.
    fn take_items(
        &self,
        class: &ClassView,
        bounds: Bounds,
        refused: impl Fn(&Queued<S>, usize) -> Option<Unsent>,
    ) -> Taken<S> {
        let now = self.core.now();
        let mut queue = self.queue.borrow_mut();
        let oldest_wait = now.since(class.oldest_admitted);
        let end = self.controls.borrow_mut().end(now, class.n_items, oldest_wait);
        let shared = queue.class(class.lane).expect("a lane with items has its class");
        let mut sealed = Sealed::new(shared, class.n_items.min(bounds.items));
        let mut waits = Waits::new(now);
        let mut unsent = Vec::new();
        while let Some((key, item_weight)) = queue.next(class.lane, end) {
            let heavier = sealed.weight.saturating_add(item_weight);
            let fits = sealed.is_empty() || heavier <= bounds.weight;
            if sealed.entries.len() == bounds.items || !fits {
                break;
            }
            let (queued, last) = queue.serve(key).expect("the next of a lane stands");
            if let Some(why) = refused(&queued, queue.len()) {
                unsent.push((why, Place::Queued(key), queued));
            } else {
                waits.note(queued.admitted, &self.metrics);
                sealed.add(Place::Queued(key), queued);
            }
            if let Last::OfItsLane(lane) = last {
                // `sealed` holds the class too, so nothing of the user's is dropped here.
                drop(queue.close_lane(lane));
                break;
            }
        }
        queue.charge(class.lane, sealed.entries.len());
        if queue.is_empty() {
            self.controls.borrow_mut().emptied(now);
        }
        waits.flush(&self.metrics);
        Taken { sealed, unsent }
    }

    fn settle_unsent(&self, unsent: Vec<(Unsent, Place, Queued<S>)>) {
        for (why, place, queued) in unsent {
            self.forget(queued.hash, place);
            let Queued { waiters, item, key, .. } = queued;
            for slot in waiters.first.into_iter().chain(waiters.more) {
                let error = match why {
                    Unsent::Expired => CallError::Expired(Outcome::NotSent),
                    Unsent::Dropped => self.shed(ShedReason::Conditioner),
                    Unsent::Refused { until } => {
                        let retry_after = until.since(self.core.now());
                        CallError::Shed(Shed { reason: ShedReason::CircuitOpen, retry_after })
                    }
                };
                self.settle(slot, Err(error));
            }
            contain(|| drop((item, key)));
        }
    }

    /// Makes a flight of what was sealed.
    fn fly(self: &Rc<Self>, sealed: Sealed<S>, sending: Sending) -> Rc<Flight<S>> {
        let now = self.core.now();
        let Sealed { class, entries, deadline, priority, places, keys, .. } = sealed;
        if !keys.is_empty() {
            // Only a queued item needs its key at hand; its drop is user code.
            contain(|| drop(keys));
        }
        let unsettled = entries.len().into();
        let mut flights = self.flights.borrow_mut();
        let key = flights.insert_with_key(|key| {
            Rc::new(Flight {
                stage: Rc::clone(self),
                key,
                entries,
                class,
                deadline,
                priority,
                sent: now.into(),
                sealed_at: self.core.half().now().into(),
                unsettled,
                cut: None.into(),
                task: None.into(),
                timer: Some(self.arm_run(key)).into(),
                sending: sending.into(),
                is_not_sent: false.into(),
            })
        });
        let mut index = self.index.borrow_mut();
        for (hash, place, idx) in places {
            if self.options.dedup == Dedup::InFlight {
                index.relocate(hash, place, Place::InFlight(key, idx));
            } else {
                index.remove(hash, place);
            }
        }
        Rc::clone(&flights[key])
    }
}
