//! Forming batches and running them: the part of a stage that only the turn calls.
//!
//! A batch is formed late: first the permit, then the items that are alive at that moment. So
//! items go on joining while the downstream is busy, and cancelled or expired ones never leave.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use slotmap::{Key, KeyData, new_key_type};

use super::any::TurnView;
use super::batch::{Batch, Cut, Entry, Flight};
use super::index::Place;
use super::queue::{ClassView, Last, Queued};
use super::slots::StageCore;
use super::window::{QueueView, SealReason, Verdict};
use super::{Dedup, Stage};
use crate::error::{CallError, Outcome};
use crate::metrics::StageMetrics;
use crate::runtime::Time;
use crate::runtime::core::{Context, Due};
use crate::runtime::guard::{Guarded, Panicked, contain};

new_key_type! { pub(super) struct FlightKey; }

/// How a run came to its end.
enum Ended<E> {
    Returned(Result<(), E>),
    Panicked,
    Cut(Cut),
}

impl<S: Stage> StageCore<S> {
    /// Forms every batch whose window seals and that has a permit; tells when to ask again.
    pub(super) fn seal_due(self: &Rc<Self>, turn: &TurnView) -> Time {
        let mut ask_again = Time::NEVER;
        // As many steps as there are classes now: serving one sends it to the end of the round.
        let mut place = 0;
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
        self.queue.borrow_mut().rotate();
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
                Verdict::Seal(reason) => self.dispatch(&class, reason),
            }
        }
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
        class.n_items >= self.options.items_max || class.weight >= self.options.weight_max
    }

    fn may_open(&self, class: &ClassView) -> bool {
        let waited = self.core.now().since(class.oldest_admitted);
        self.permits.borrow().may_open(class.n_items, waited, self.is_full(class))
    }

    fn dispatch(self: &Rc<Self>, class: &ClassView, reason: SealReason) {
        let (sealed, expired) = self.take_items(class);
        for (place, queued) in expired {
            self.forget(queued.hash, place);
            self.settle_unsent(queued);
        }
        if sealed.is_empty() {
            contain(|| drop(sealed));
            return;
        }
        let flight = self.fly(sealed);
        self.metrics.count_seal(reason, flight.entries.len());
        self.metrics.book_permits(self.core.now(), self.permits.borrow().out());
        self.permits.borrow_mut().open(flight.entries.len());
        self.core.spawn_first(std::panic::Location::caller(), run(flight)).detach();
    }

    /// Takes the oldest items of a class, as many as one batch holds, apart from those whose last
    /// waiter's deadline has passed.
    fn take_items(&self, class: &ClassView) -> (Sealed<S>, Vec<(Place, Queued<S>)>) {
        let now = self.core.now();
        let mut queue = self.queue.borrow_mut();
        let shared = queue.class(class.lane).expect("a lane with items has its class");
        let mut sealed = Sealed::new(shared, class.n_items.min(self.options.items_max));
        let mut waits = Waits { now, since: now, n_items: 0 };
        let (mut expired, mut weight) = (Vec::new(), 0_u64);
        while let Some((key, item_weight)) = queue.head(class.lane) {
            let heavier = weight.saturating_add(item_weight);
            let fits = sealed.is_empty() || heavier <= self.options.weight_max;
            if sealed.entries.len() == self.options.items_max || !fits {
                break;
            }
            let (queued, last) = queue.remove(key).expect("the head of a lane stands");
            if queued.deadline <= now {
                expired.push((Place::Queued(key), queued));
            } else {
                weight = heavier;
                waits.note(queued.admitted, &self.metrics);
                sealed.add(Place::Queued(key), queued);
            }
            if let Last::OfItsLane(lane) = last {
                // `sealed` holds the class too, so nothing of the user's is dropped here.
                drop(queue.close_lane(lane));
                break;
            }
        }
        waits.flush(&self.metrics);
        (sealed, expired)
    }

    fn settle_unsent(&self, queued: Queued<S>) {
        let Queued { waiters, item, key, .. } = queued;
        for slot in waiters.first.into_iter().chain(waiters.more) {
            self.settle(slot, Err(CallError::Expired(Outcome::NotSent)));
        }
        contain(|| drop((item, key)));
    }

    /// Makes a flight of what was sealed.
    fn fly(self: &Rc<Self>, sealed: Sealed<S>) -> Rc<Flight<S>> {
        let now = self.core.now();
        let Sealed { class, entries, deadline, places, keys } = sealed;
        if !keys.is_empty() {
            // Only a queued item needs its key at hand; its drop is user code.
            contain(|| drop(keys));
        }
        let unsettled = entries.len().into();
        let mut flights = self.flights.borrow_mut();
        let key = flights.insert_with_key(|key| {
            let batch = key.data().as_ffi();
            let due = Due::Batch { rank: self.rank, batch };
            Rc::new(Flight {
                stage: Rc::clone(self),
                key,
                entries,
                class,
                deadline,
                sent: now,
                sealed_at: self.core.half().now(),
                unsettled,
                cut: None.into(),
                task: None.into(),
                timer: Some(self.core.arm(now.after(self.options.run_max), due)).into(),
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

    /// A batch has run for as long as it may.
    pub(super) fn overrun_flight(&self, batch: u64) {
        let key = FlightKey::from(KeyData::from_ffi(batch));
        let flight = self.flights.borrow().get(key).cloned();
        if let Some(flight) = flight {
            flight.timer.set(None);
            flight.cut(Cut::Overrun);
        }
    }

    /// The run has ended: the permit returns, what it left unsettled settles.
    fn land(&self, flight: &Flight<S>, ended: Ended<S::Error>) {
        let now = self.core.now();
        self.flights.borrow_mut().remove(flight.key);
        if let Some(timer) = flight.timer.take() {
            self.core.disarm(timer);
        }
        // Permits learn in the turn's time, which a replay has too. The metric is read anew: a
        // bridge's thread that takes this core can answer within the very poll that asked.
        let ran = now.since(flight.sent);
        self.metrics.book_permits(now, self.permits.borrow().out());
        self.permits.borrow_mut().give_back(now, ran);
        self.metrics.run_ns.record(self.core.half().now().since(flight.sealed_at));
        let error = match ended {
            Ended::Returned(Ok(())) => CallError::Missing,
            Ended::Returned(Err(error)) => CallError::Batch(Arc::new(error)),
            Ended::Panicked => CallError::Panicked,
            Ended::Cut(Cut::Overrun) => CallError::Expired(Outcome::Unknown),
            Ended::Cut(Cut::Closed) => CallError::Closed(Outcome::Unknown),
        };
        let cut = flight.cut.get().is_some();
        if flight.unsettled.get() > 0 {
            flight.settle_rest(&error);
        }
        if cut {
            self.metrics.abandoned.add(1);
            contain(|| self.instance.on_abandon());
        }
    }
}

/// Records waits in runs: items admitted at the same reading of the clock have waited alike.
struct Waits {
    now: Time,
    since: Time,
    n_items: u64,
}

impl Waits {
    fn note(&mut self, admitted: Time, metrics: &StageMetrics) {
        if admitted != self.since {
            self.flush(metrics);
            self.since = admitted;
        }
        self.n_items += 1;
    }

    fn flush(&mut self, metrics: &StageMetrics) {
        let n_items = std::mem::take(&mut self.n_items);
        if n_items > 0 {
            metrics.wait_ns.record_n(self.now.since(self.since), n_items);
        }
    }
}

/// What leaves in one batch.
struct Sealed<S: Stage> {
    class: Rc<S::Class>,
    entries: Vec<Entry<S>>,
    /// The latest deadline among them.
    deadline: Time,
    /// Where the index still names them.
    places: Vec<(u64, Place, usize)>,
    keys: Vec<S::Key>,
}

impl<S: Stage> Sealed<S> {
    fn new(class: Rc<S::Class>, n_items: usize) -> Self {
        Self {
            class,
            entries: Vec::with_capacity(n_items),
            deadline: Time::ZERO,
            places: Vec::new(),
            keys: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn add(&mut self, place: Place, queued: Queued<S>) {
        self.deadline = self.deadline.max(queued.deadline);
        if let Some(hash) = queued.hash {
            self.places.push((hash, place, self.entries.len()));
        }
        self.keys.extend(queued.key);
        self.entries.push(Entry {
            item: queued.item,
            waiters: queued.waiters.into(),
            hash: queued.hash,
            settled: false.into(),
        });
    }
}

/// The task of one batch.
async fn run<S: Stage>(flight: Rc<Flight<S>>) {
    let stage = Rc::clone(&flight.stage);
    let context = Context { floor: stage.rank + 1, deadline: flight.deadline, ..Context::NONE };
    let (instance, batch) = (Rc::clone(&stage.instance), Batch::new(Rc::clone(&flight)));
    let mut body = pin!(Guarded::new(context, async move { instance.run(batch).await }));
    let ended = std::future::poll_fn(|cx| {
        if flight.task.borrow().is_none() {
            flight.task.replace(Some(cx.waker().clone()));
        }
        if let Some(cut) = flight.cut.get() {
            body.as_mut().end();
            return Poll::Ready(Ended::Cut(cut));
        }
        body.as_mut().poll(cx).map(|outcome| match outcome {
            Ok(result) => Ended::Returned(result),
            Err(Panicked) => Ended::Panicked,
        })
    })
    .await;
    stage.land(&flight, ended);
    // The items go last and contained: their drop is user code.
    flight.task.take();
    contain(|| drop(flight));
}
