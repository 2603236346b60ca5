//! The call: a future that admits its item when first polled and leaves when dropped.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::Stage;
use super::admit::Admission;
use super::core::StageCore;
use super::slots::{Reply, SlotKey, Waiter};
use crate::error::{CallError, Outcome};
use crate::runtime::core::Context;
use crate::runtime::guard::contain;

/// A call of one stage with one item.
///
/// It captures its scope (deadline, place in the order of stages) when it is made, and is admitted
/// when it is first polled. Dropping it cancels it: before dispatch the item leaves its queue and
/// is never sent; after it the outcome is dropped when it comes.
///
/// Awaiting it gives the value or a [`CallError`]: `Shed` when the queue is full and no queued item is shared, `Expired` when
/// the deadline comes first, or is nearer than the downstream has lately taken, `Cycle` when made
/// from a batch function to a stage that is not a later one, `Closed` once the engine stops.
#[must_use = "a call is made when it is awaited"]
pub struct Call<S: Stage> {
    stage: Rc<StageCore<S>>,
    scope: Context,
    within: Option<Duration>,
    fresh: bool,
    state: State<S>,
}

enum State<S: Stage> {
    New(S::Item),
    Waiting(SlotKey),
    Done,
}

// The item is never pinned: it is moved into the queue at the first poll.
impl<S: Stage> Unpin for Call<S> {}

impl<S: Stage> fmt::Debug for Call<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.stage.name)
    }
}

impl<S: Stage> Call<S> {
    pub(super) fn new(stage: Rc<StageCore<S>>, item: S::Item) -> Self {
        let scope = stage.core.context();
        Self { stage, scope, within: None, fresh: false, state: State::New(item) }
    }

    /// Gives the call a deadline of its own, counted from its first poll; the scope's still holds.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Declines to share an item with an equal key.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Admits the item, or tells why not.
    fn admit(
        &self,
        mut item: S::Item,
        cx: &TaskContext<'_>,
    ) -> Result<SlotKey, CallError<S::Error>> {
        let stage = &*self.stage;
        stage.metrics.offered.add(1);
        let deadline = stage.deadline(self.scope.deadline, self.within);
        let route = stage.route(&item);
        if let Some(error) = stage.refusal(self.scope, deadline, route) {
            contain(|| drop(item));
            return Err(stage.refused(error));
        }
        let let_in = match stage.let_in(self.scope.priority, route) {
            Ok(let_in) => let_in,
            Err(shed) => {
                contain(|| drop(item));
                return Err(stage.refused(CallError::Shed(shed)));
            }
        };
        if let_in.level > 0 {
            S::degrade(&mut item, let_in.level);
        }
        let waiter = Waiter::Local(Some(cx.waker().clone()));
        let (joins, priority) = (!self.fresh, self.scope.priority);
        let admission = Admission { item, waiter, deadline, joins, priority };
        let room = stage.room();
        let admitted = match route {
            None => stage.enqueue(admission, room),
            Some(owner) => stage.send_away(owner, admission, room),
        };
        if admitted.is_ok() {
            let_in.keep();
        }
        admitted.map_err(|error| stage.refused(error))
    }
}

impl<S: Stage> StageCore<S> {
    /// The chain of what may refuse a call, cheapest first.
    fn refusal(
        &self,
        scope: Context,
        deadline: crate::runtime::Time,
        route: Option<crate::runtime::ShardId>,
    ) -> Option<CallError<S::Error>> {
        if scope.floor > self.rank {
            let from = self.names[usize::from(scope.floor) - 1];
            return Some(CallError::Cycle { from, to: self.name });
        }
        if self.closed.get() {
            return Some(CallError::Closed(Outcome::NotSent));
        }
        let now = self.core.now();
        if now.after(self.permits.borrow().expected_run(now)) > deadline || now >= deadline {
            return Some(CallError::Expired(Outcome::NotSent));
        }
        match route {
            Some(owner) => self.crossing.refusal(owner, &self.core),
            None => None,
        }
    }

    fn refused(&self, error: CallError<S::Error>) -> CallError<S::Error> {
        self.metrics.count_refusal(&error);
        error
    }
}

impl<S: Stage> Future for Call<S> {
    type Output = Reply<S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::New(item) => match self.admit(item, cx) {
                Err(error) => Poll::Ready(Err(error)),
                Ok(slot) => {
                    self.state = State::Waiting(slot);
                    Poll::Pending
                }
            },
            State::Waiting(slot) => match self.stage.take_reply(slot, cx) {
                Poll::Ready(reply) => Poll::Ready(reply),
                Poll::Pending => {
                    self.state = State::Waiting(slot);
                    Poll::Pending
                }
            },
            State::Done => panic!("a call is not polled again after it was ready"),
        }
    }
}

impl<S: Stage> StageCore<S> {
    /// The reply of a slot, if it has come and this poll may still take one.
    fn take_reply(&self, key: SlotKey, cx: &TaskContext<'_>) -> Poll<Reply<S>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key).expect("a slot lives as long as its call");
        if slot.reply.is_some() {
            if !self.core.spend() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(slots.remove(key).and_then(|slot| slot.reply).expect("seen above"));
        }
        let Waiter::Local(waker) = &mut slot.waiter else {
            unreachable!("a call awaits a local slot")
        };
        if waker.as_ref().is_none_or(|old| !old.will_wake(cx.waker())) {
            let old = waker.replace(cx.waker().clone());
            drop(slots);
            drop(old);
        }
        Poll::Pending
    }
}

impl<S: Stage> Drop for Call<S> {
    fn drop(&mut self) {
        if let State::Waiting(slot) = self.state {
            self.stage.cancel(slot);
        }
    }
}
