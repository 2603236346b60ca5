//! Running a batch: one attempt at its downstream call, or several.
//!
//! ```text
//!   sealed ─▶ attempt ─ settled ─────────────────────────────────────▶ landed: the permit returns
//!                └ failed as a whole ─▶ again? ─ no: the rest gets its error ─▶ landed
//!                                         ├ the rest once more, after a pause
//!                                         └ the rest in halves, so that one poisoned item fails alone
//! ```
//!
//! Again only where the stage declares its calls idempotent and the file asks for it, within the
//! retry budget, and never what has been settled or nobody awaits any more. The permit is held
//! throughout: a downstream that fails gets no more batches for it.

use std::hash::BuildHasher;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use slotmap::{Key, KeyData};

use super::Stage;
use super::batch::Batch;
use super::core::StageCore;
use super::flight::{Cut, Flight, FlightKey};
use super::part::Part;
use crate::control::rate::Granted;
use crate::error::{CallError, Outcome};
use crate::runtime::Time;
use crate::runtime::core::{Context, Due};
use crate::runtime::guard::{Guarded, Panicked, contain};

/// How an attempt came to its end.
enum Ended<E> {
    Returned(Result<(), E>),
    Panicked,
    Cut(Cut),
}

impl<E> Ended<E> {
    /// Whether the downstream did what it was asked; `None` where nothing can be said of it.
    fn succeeded(&self) -> Option<bool> {
        match self {
            Self::Returned(result) => Some(result.is_ok()),
            Self::Panicked | Self::Cut(Cut::Overrun) => Some(false),
            Self::Cut(Cut::Closed) => None,
        }
    }

    /// What the items get that were not settled.
    fn into_error(self) -> CallError<E> {
        match self {
            Self::Returned(Ok(())) => CallError::Missing,
            Self::Returned(Err(error)) => CallError::Batch(Arc::new(error)),
            Self::Panicked => CallError::Panicked,
            Self::Cut(Cut::Overrun) => CallError::Expired(Outcome::Unknown),
            Self::Cut(Cut::Closed) => CallError::Closed(Outcome::Unknown),
        }
    }
}

/// One call of the batch function.
struct Attempt<E> {
    /// All that was open when it was decided on.
    part: Part,
    /// The first is 1; halves count on from their whole.
    number: u32,
    pause: Duration,
    /// What its items get unless they are settled: why this attempt has failed, before that why the
    /// one before it has.
    error: CallError<E>,
}

/// Whether a further attempt may begin.
enum Begin {
    Now,
    /// The downstream's rate is used up until then.
    At(Time),
    /// It may not: time is up, nobody waits any more, or the downstream is to be left alone.
    Never,
}

/// The task of one batch.
pub(super) async fn run<S: Stage>(flight: Rc<Flight<S>>) {
    let stage = Rc::clone(&flight.stage);
    let part = Part::all(flight.entries.len());
    let first = Attempt { part, number: 1, pause: Duration::ZERO, error: CallError::Missing };
    // Bounded: each step back halves the items, and each is paid from the retry budget.
    let mut attempts = vec![first];
    while let Some(mut attempt) = attempts.pop() {
        let mut again = Vec::new();
        if begins(&flight, &mut attempt).await {
            let ended = call(&flight, &attempt.part).await;
            stage.book(&flight, attempt.part.len(), &ended);
            let failed = ended.succeeded() == Some(false);
            let error = std::mem::replace(&mut attempt.error, ended.into_error());
            contain(|| drop(error));
            if failed {
                again = stage.again(&flight, &attempt);
            }
        }
        if again.is_empty() {
            if attempts.is_empty() {
                // Before its last items settle: whoever is woken by that finds the permit returned.
                stage.land(&flight);
            }
            flight.settle_rest(&attempt.part, &attempt.error);
        }
        attempts.extend(again);
        contain(|| drop(attempt));
    }
    // The items go last and contained: their drop is user code.
    flight.task.take();
    contain(|| drop(flight));
}

/// Waits until an attempt may begin; tells whether it may at all. What nobody awaits any more by then
/// is settled and not sent.
async fn begins<S: Stage>(flight: &Rc<Flight<S>>, attempt: &mut Attempt<S::Error>) -> bool {
    if attempt.number == 1 {
        return true;
    }
    flight.pause(attempt.pause).await;
    loop {
        match flight.stage.try_begin(flight, attempt) {
            Begin::Now => return true,
            Begin::At(at) => flight.pause(at.since(flight.stage.core.now())).await,
            Begin::Never => return false,
        }
    }
}

/// Calls the batch function, until it ends or is cut.
async fn call<S: Stage>(flight: &Rc<Flight<S>>, part: &Part) -> Ended<S::Error> {
    let stage = &flight.stage;
    let (deadline, priority) = (flight.deadline, flight.priority);
    let context = Context { floor: stage.rank + 1, deadline, priority, ..Context::NONE };
    let batch = Batch::new(Rc::clone(flight), part.clone());
    let instance = Rc::clone(&stage.instance);
    let mut body = pin!(Guarded::new(context, async move { instance.run(batch).await }));
    let ended = std::future::poll_fn(|cx| {
        if let Some(cut) = flight.seen_cut(cx) {
            body.as_mut().end();
            return Poll::Ready(Ended::Cut(cut));
        }
        body.as_mut().poll(cx).map(|outcome| match outcome {
            Ok(result) => Ended::Returned(result),
            Err(Panicked) => Ended::Panicked,
        })
    });
    ended.await
}

impl<S: Stage> StageCore<S> {
    /// Begins a further attempt, whose time counts anew, if it may be made.
    fn try_begin(&self, flight: &Flight<S>, attempt: &mut Attempt<S::Error>) -> Begin {
        let now = self.core.now();
        let is_over = flight.cut.get().is_some() || now >= flight.deadline;
        if is_over || !self.controls.borrow().may_retry(now) {
            return Begin::Never;
        }
        let (awaited, left) = flight.open_items(&attempt.part);
        attempt.part = Part::of(&awaited);
        flight.settle_rest(&Part::of(&left), &attempt.error);
        let mut weight = 0_u64;
        // What an item weighs is user code; one that panics is not sent.
        let weighed = contain(|| weight = flight.weight_of(&attempt.part));
        if awaited.is_empty() || !weighed {
            return Begin::Never;
        }
        let mut controls = self.controls.borrow_mut();
        if let Granted::At(at) = controls.available(now, awaited.len(), weight) {
            return Begin::At(at);
        }
        flight.sending.set(controls.sent(now, awaited.len(), weight));
        self.door.agree(controls.terms());
        drop(controls);
        self.metrics.retries.add(1);
        flight.sent.set(now);
        flight.sealed_at.set(self.core.half().now());
        flight.timer.set(Some(self.arm_run(flight.key)));
        Begin::Now
    }

    /// Arms the end of an attempt that runs for too long.
    pub(super) fn arm_run(&self, flight: FlightKey) -> crate::runtime::wheel::TimerId {
        let due = Due::Batch { rank: self.rank, batch: flight.data().as_ffi() };
        self.core.arm(self.core.now().after(self.options.run_max), due)
    }

    /// An attempt at `n_items` has ended: all who learn from it do.
    fn book(&self, flight: &Flight<S>, n_items: usize, ended: &Ended<S::Error>) {
        if let Some(timer) = flight.timer.take() {
            self.core.disarm(timer);
        }
        flight.forget_overrun();
        let now = self.core.now();
        // Permits learn in the turn's time, which a replay has too. The metric is read anew: a
        // bridge's thread that takes this core can answer within the very poll that asked.
        let ran = now.since(flight.sent.get());
        self.metrics.run_ns.record(self.core.half().now().since(flight.sealed_at.get()));
        let depth = self.queue.borrow().len();
        let mut permits = self.permits.borrow_mut();
        permits.ran(now, n_items, ran);
        permits.observe(now, depth);
        drop(permits);
        let succeeded = if flight.is_not_sent.take() { None } else { ended.succeeded() };
        self.consult(|controls, now| {
            controls.ran(now, n_items, ran, depth);
            controls.attempted(now, flight.sending.get(), succeeded);
        });
        if matches!(ended, Ended::Cut(_)) {
            self.metrics.abandoned.add(1);
            contain(|| self.instance.on_abandon());
        }
    }

    /// The attempts that follow one that has failed as a whole; none where it stays failed.
    fn again(&self, flight: &Flight<S>, attempt: &Attempt<S::Error>) -> Vec<Attempt<S::Error>> {
        let mut controls = self.controls.borrow_mut();
        let Some((retry, budget)) = controls.retry().filter(|_| S::IDEMPOTENT) else {
            return Vec::new();
        };
        let number = attempt.number + 1;
        // Shards whose batches failed together must not come back together.
        let random = (self.core.id().index(), flight.key.data().as_ffi(), number);
        let pause = retry.backoff(number, self.hasher.hash_one(random));
        let now = self.core.now();
        let (awaited, left) = flight.open_items(&attempt.part);
        if self.closed.get() || awaited.is_empty() || now.after(pause) >= flight.deadline {
            return Vec::new();
        }
        // Somebody may yet join what nobody awaits now.
        let open = [awaited, left].concat();
        let next = |items: &[u32], pause| {
            let (part, error) = (Part::of(items), attempt.error.clone());
            Attempt { part, number, pause, error }
        };
        if attempt.number < retry.attempts_max {
            return if budget.withdraw(now) { vec![next(&open, pause)] } else { Vec::new() };
        }
        if open.len() == 1 || !(budget.withdraw(now) && budget.withdraw(now)) {
            return Vec::new();
        }
        let (first, second) = open.split_at(open.len() / 2);
        // The last is made first.
        vec![next(second, Duration::ZERO), next(first, Duration::ZERO)]
    }

    /// The last attempt has ended: the permit returns.
    fn land(&self, flight: &Flight<S>) {
        self.flights.borrow_mut().remove(flight.key);
        self.metrics.book_permits(self.core.now(), self.permits.borrow().out());
        self.permits.borrow_mut().give_back();
    }

    /// An attempt has run for as long as it may.
    pub(super) fn overrun_flight(&self, batch: u64) {
        let key = FlightKey::from(KeyData::from_ffi(batch));
        let flight = self.flights.borrow().get(key).cloned();
        if let Some(flight) = flight {
            flight.timer.set(None);
            flight.cut(Cut::Overrun);
        }
    }
}
