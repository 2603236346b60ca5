//! Waiting on the shard's own clock, and giving way to others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Time;
use super::core::{self, Core, Due};
use super::wheel::TimerId;

/// Completes when `duration` has passed since [`now`], late by at most 33 µs plus one turn.
///
/// # Panics
///
/// Outside of a shard.
pub fn sleep(duration: Duration) -> Sleep {
    let core = core::current();
    Sleep { due: core.now().after(duration), timer: None, core }
}

/// The present, in the shard's clock: it stands still during a pass, and again while the callers
/// run that a turn's batches have answered.
///
/// # Panics
///
/// Outside of a shard.
#[must_use]
pub fn now() -> Time {
    core::current().now()
}

/// Future of [`sleep`]. Dropping it disarms the timer.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Sleep {
    core: Rc<Core>,
    due: Time,
    timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.take() {
            self.core.disarm(timer);
        }
        if self.core.now() >= self.due {
            return Poll::Ready(());
        }
        self.timer = Some(self.core.arm(self.due, Due::Wake(cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.core.disarm(timer);
        }
    }
}

/// Lets every other ready task run once before this one goes on, and what comes in meanwhile: bytes,
/// messages, timers.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// Future of [`yield_now`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        if let Some(core) = core::try_current() {
            core.ready().give_way();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
