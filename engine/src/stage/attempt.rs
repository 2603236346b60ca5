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

use futures_lite::future::or;
use slotmap::{Key, KeyData};

use super::Stage;
use super::batch::{Batch, Cut, Flight, Part};
use super::dispatch::FlightKey;
use super::slots::StageCore;
use crate::error::{CallError, Outcome};
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
    fn verdict(&self) -> Option<bool> {
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

/// One call of the batch function that is to be made.
struct Attempt<E> {
    part: Part,
    /// The first is 1; halves count on from their whole.
    number: u32,
    pause: Duration,
    /// What its items get if it cannot be made: why the attempt before it has failed.
    failed: CallError<E>,
}

/// The task of one batch.
pub(super) async fn run<S: Stage>(flight: Rc<Flight<S>>) {
    let stage = Rc::clone(&flight.stage);
    let part = Part::all(flight.entries.len());
    let first = Attempt { part, number: 1, pause: Duration::ZERO, failed: CallError::Missing };
    // Bounded: each step back halves the items, and each is paid from the retry budget.
    let mut attempts = vec![first];
    while let Some(attempt) = attempts.pop() {
        if !attempt.pause.is_zero() {
            or(flight.until_cut(), crate::runtime::sleep::sleep(attempt.pause)).await;
        }
        let (error, again) = match make(&flight, &attempt).await {
            Some(ended) => stage.conclude(&flight, &attempt, ended),
            None => (attempt.failed, Vec::new()),
        };
        if again.is_empty() {
            if attempts.is_empty() {
                // Before its last items settle: whoever is woken by that finds the permit returned.
                stage.land(&flight);
            }
            flight.settle_rest(&attempt.part, &error);
        }
        attempts.extend(again);
    }
    // The items go last and contained: their drop is user code.
    flight.task.take();
    contain(|| drop(flight));
}

/// Calls the batch function, until it ends or is cut. `None` where a further attempt may not be made
/// after all.
async fn make<S: Stage>(
    flight: &Rc<Flight<S>>,
    attempt: &Attempt<S::Error>,
) -> Option<Ended<S::Error>> {
    let stage = &flight.stage;
    if attempt.number > 1 && !stage.begin_again(flight, &attempt.part) {
        return None;
    }
    let context = Context { floor: stage.rank + 1, deadline: flight.deadline, ..Context::NONE };
    let batch = Batch::new(Rc::clone(flight), attempt.part.clone());
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
    Some(ended.await)
}

impl<S: Stage> StageCore<S> {
    /// Begins a further attempt, whose time counts anew; tells whether it may be made.
    fn begin_again(&self, flight: &Flight<S>, part: &Part) -> bool {
        let now = self.core.now();
        if flight.cut.get().is_some() || !self.controls.borrow().may_retry(now) {
            return false;
        }
        let mut weight = 0_u64;
        // What an item weighs is user code; one that panics is not sent.
        let weighed = contain(|| weight = flight.weight_of(part));
        if !weighed {
            return false;
        }
        self.metrics.retries.add(1);
        flight.sending.set(self.controls.borrow_mut().sent(now, part.len(), weight));
        flight.sent.set(now);
        flight.sealed_at.set(self.core.half().now());
        flight.timer.set(Some(self.arm_run(flight.key)));
        true
    }

    /// Arms the end of an attempt that runs for too long.
    pub(super) fn arm_run(&self, flight: FlightKey) -> crate::runtime::wheel::TimerId {
        let due = Due::Batch { rank: self.rank, batch: flight.data().as_ffi() };
        self.core.arm(self.core.now().after(self.options.run_max), due)
    }

    /// An attempt has ended: all who learn from it do. Gives what its items get, unless attempts
    /// follow.
    fn conclude(
        &self,
        flight: &Flight<S>,
        attempt: &Attempt<S::Error>,
        ended: Ended<S::Error>,
    ) -> (CallError<S::Error>, Vec<Attempt<S::Error>>) {
        if let Some(timer) = flight.timer.take() {
            self.core.disarm(timer);
        }
        flight.forget_overrun();
        let now = self.core.now();
        // Permits learn in the turn's time, which a replay has too. The metric is read anew: a
        // bridge's thread that takes this core can answer within the very poll that asked.
        let ran = now.since(flight.sent.get());
        self.metrics.run_ns.record(self.core.half().now().since(flight.sealed_at.get()));
        let n_items = attempt.part.len();
        let depth = self.queue.borrow().len();
        let mut permits = self.permits.borrow_mut();
        permits.ran(now, n_items, ran);
        permits.observe(now, depth);
        drop(permits);
        let succeeded = ended.verdict();
        let mut controls = self.controls.borrow_mut();
        controls.ran(now, n_items, ran, depth);
        controls.ended(now, flight.sending.get(), succeeded);
        drop(controls);
        let abandoned = matches!(ended, Ended::Cut(_));
        let error = ended.into_error();
        let again = match succeeded {
            Some(false) => self.again(flight, attempt, &error),
            Some(true) | None => Vec::new(),
        };
        if abandoned {
            self.metrics.abandoned.add(1);
            contain(|| self.instance.on_abandon());
        }
        (error, again)
    }

    /// The attempts that follow one that has failed as a whole; none where it stays failed.
    fn again(
        &self,
        flight: &Flight<S>,
        attempt: &Attempt<S::Error>,
        error: &CallError<S::Error>,
    ) -> Vec<Attempt<S::Error>> {
        if !S::IDEMPOTENT || self.closed.get() {
            return Vec::new();
        }
        let mut controls = self.controls.borrow_mut();
        let Some((retry, budget)) = controls.retry() else { return Vec::new() };
        let number = attempt.number + 1;
        let random = self.hasher().hash_one((flight.key.data().as_ffi(), number));
        let (now, pause) = (self.core.now(), retry.backoff(number, random));
        let left = flight.left_of(&attempt.part);
        let next = |items: &[u32], pause| {
            let (part, failed) = (Part::of(items), error.clone());
            Attempt { part, number, pause, failed }
        };
        if left.is_empty() || now.after(pause) >= flight.deadline {
            return Vec::new();
        }
        if attempt.number < retry.attempts_max {
            return if budget.withdraw(now) { vec![next(&left, pause)] } else { Vec::new() };
        }
        if left.len() == 1 || !(budget.withdraw(now) && budget.withdraw(now)) {
            return Vec::new();
        }
        let (first, second) = left.split_at(left.len() / 2);
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
