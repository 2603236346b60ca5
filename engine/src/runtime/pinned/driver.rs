//! The driver: turn, look, wait, for as long as the shard lives.
//!
//! glommio looks at its reactor only when its run queue is empty or its preempt timer fires, and
//! that timer is the cause of a wrong sleep (facts behind design rule 2), so it is set to a second
//! and the driver lets the reactor look by itself: awaiting a timer that expires in 400 ns empties
//! the run queue, and one more yield lets the receive tasks that the look woke run first.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use crate::limits::{IDLE_CAP, WAIT_CAP};
use crate::runtime::hosted::{Hosted, Next, Seen};
use crate::runtime::shared::inbox::Watch;
use crate::runtime::{Time, nanos};

/// Long enough not to have expired when the reactor first sees it.
const LOOK_TIMER: Duration = Duration::from_nanos(400);

/// A wake served later than this, by the cap, was lost by the executor.
const LATE_WAKE: Duration = Duration::from_millis(2);

/// Wakes the driver from a receive task of the same executor.
#[derive(Debug, Default)]
pub(super) struct Bell {
    sleeper: RefCell<Option<Waker>>,
    rung: Cell<Option<Instant>>,
}

impl Bell {
    pub(super) fn ring(&self) {
        if let Some(waker) = self.sleeper.take() {
            self.rung.set(Some(instant()));
            waker.wake();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "measures the executor; decides nothing")]
fn instant() -> Instant {
    Instant::now()
}

/// Drives the shard until it has ended.
pub(super) async fn drive(shard: Rc<dyn Hosted>, bell: &Bell) {
    let look_every = Duration::from_micros(shard.core().limits().look_us);
    let mut timer = Timer::new(LOOK_TIMER);
    let mut looked = Time::ZERO;
    loop {
        match turn(&*shard) {
            Next::Ended => return,
            Next::Again => {
                let now = shard.core().now();
                if now.since(looked) >= look_every {
                    look(&mut timer).await;
                    shard.note(Seen::Look);
                    looked = shard.core().read_clock();
                }
            }
            Next::Wait { until, pending } => {
                wait(&*shard, bell, &mut timer, until, pending).await;
                looked = shard.core().read_clock();
            }
        }
    }
}

/// A panic in a turn is a fault of the engine itself: what it holds can no longer be trusted.
fn turn(shard: &dyn Hosted) -> Next {
    catch_unwind(AssertUnwindSafe(|| shard.turn())).unwrap_or_else(|payload| {
        let reason = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no reason given".to_owned());
        eprintln!("forebay: shard {} broke its own rules: {reason}", shard.core().id());
        std::process::abort()
    })
}

async fn look(timer: &mut Timer) {
    timer.reset(LOOK_TIMER);
    Pin::new(timer).await;
    glommio::executor().yield_now().await;
}

/// Sleeps until a message, a parcel or `until`, and never longer than the cap.
async fn wait(shard: &dyn Hosted, bell: &Bell, timer: &mut Timer, until: Time, pending: bool) {
    let cap = if pending { WAIT_CAP } else { IDLE_CAP };
    let left = until.since(shard.core().half().now());
    let capped = left > cap;
    timer.reset(left.min(cap).max(LOOK_TIMER));
    shard.note(Seen::Park);
    let inbox = shard.core().outside().inbox();
    let timed_out = std::future::poll_fn(|cx| {
        bell.sleeper.replace(Some(cx.waker().clone()));
        if shard.has_incoming() || inbox.watch(cx.waker()) == Watch::Work {
            // Even so the timer may be what woke us: it tells a lost wake from a served one.
            return Poll::Ready(Pin::new(&mut *timer).poll(cx).is_ready());
        }
        Pin::new(&mut *timer).poll(cx).map(|_| true)
    })
    .await;
    bell.sleeper.take();
    let rung = [bell.rung.take(), inbox.take_rung()].into_iter().flatten().min();
    if timed_out && capped && rung.is_some_and(|rung| rung.elapsed() > LATE_WAKE) {
        shard.note(Seen::CappedWait);
    }
    debug_assert!(nanos(cap) > 0, "a wait has an end");
}
