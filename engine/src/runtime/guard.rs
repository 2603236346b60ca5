//! The wrapper around every future of the user's: context, panics, and the drop of what it holds.
//!
//! A panic while polling, or while dropping what the future holds, ends this future only. Without
//! the second half a panicking `Drop` in a request would abort the process from inside the task's
//! own clean-up.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;

use super::core::{self, Context, Core};

/// The future panicked; its payload has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

pin_project! {
    /// Polls a future on behalf of a context; `None` once it has ended or was ended.
    pub(crate) struct Guarded<F> {
        context: Context,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Guarded<F> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<F: Future> Guarded<F> {
    pub(crate) fn new(context: Context, future: F) -> Self {
        Self { context, future: Some(future) }
    }
}

impl<F> Guarded<F> {
    /// Drops the future now; polling it afterwards is a bug.
    pub(crate) fn end(self: Pin<&mut Self>) {
        let mut future = self.project().future;
        if future.is_some() {
            // `set` writes `None` even when the drop of the old value unwinds.
            contain(|| future.set(None));
        }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.poll_on(&core::current(), cx)
    }
}

impl<F: Future> Guarded<F> {
    /// Polls on the shard `core`, which must be the current one.
    pub(crate) fn poll_on(
        mut self: Pin<&mut Self>,
        core: &Core,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<F::Output, Panicked>> {
        let before = core.begin(*self.as_mut().project().context);
        let polled = {
            let future = self.as_mut().project().future.as_pin_mut();
            let future = future.expect("not polled after it has ended");
            catch_unwind(AssertUnwindSafe(|| future.poll(cx)))
        };
        let outcome = match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => {
                drop_payload(payload);
                Poll::Ready(Err(Panicked))
            }
        };
        if outcome.is_ready() {
            self.end();
        }
        core.leave(before);
        outcome
    }
}

/// Runs code of the user's that must not unwind further; tells whether it did not panic.
pub(crate) fn contain(code: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(()) => true,
        Err(payload) => {
            drop_payload(payload);
            false
        }
    }
}

/// A panic's payload is a value of the user's too.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    // A payload whose drop panics again, without end, is beyond help: its memory is given up.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// A value of the user's whose drop may panic without harm to whoever holds it.
#[derive(Debug)]
pub(crate) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("taken by value only")
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("taken once, by value")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            if std::mem::needs_drop::<T>() {
                contain(|| drop(value));
            }
        }
    }
}
