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
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

use super::IdlePolicy;
use super::signal::Signal;
use crate::limits::{EXPECT, FEW_SOCKETS, IDLE_AFTER, IDLE_CAP, LOOK_RARELY, WAIT_CAP, WAKE};
use crate::runtime::hosted::{Hosted, Next, Seen};
use crate::runtime::shared::inbox::Watch;
use crate::runtime::{Time, nanos};

/// Long enough not to have expired when the reactor first sees it.
const LOOK_TIMER: Duration = Duration::from_nanos(400);

/// A wake served later than this, by the cap, was lost by the executor.
const LATE_WAKE: Duration = Duration::from_millis(2);

/// How old the last reading of [`RunDelay`] may become before a wait takes another.
const RUN_DELAY_AGE: Duration = Duration::from_millis(100);

/// How long this thread was runnable and not run: a wake served late for want of a CPU was not
/// lost. Read rarely, so what it excuses may have happened up to 100 ms before the wait.
#[derive(Debug)]
struct RunDelay {
    read: Instant,
    delay: Duration,
}

impl RunDelay {
    fn now() -> Self {
        let delay = std::fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|text| text.split_whitespace().nth(1)?.parse().ok())
            // A kernel that does not say excuses nothing.
            .map_or(Duration::ZERO, Duration::from_nanos);
        Self { read: instant(), delay }
    }

    fn refresh(&mut self) {
        if self.read.elapsed() > RUN_DELAY_AGE {
            *self = Self::now();
        }
    }

    /// Takes what was added since the last reading.
    fn take(&mut self) -> Duration {
        let before = std::mem::replace(self, Self::now());
        self.delay.saturating_sub(before.delay)
    }
}

/// The timer behind the timer. What sends the executor to sleep wrongly may come just after the
/// timer that the driver awaits has fired, in a look or at the end of a wait: the driver is ready
/// and not run, and nothing is left to end that sleep. This one is then still to come.
#[derive(Debug)]
struct Fence {
    timer: Timer,
    due: Time,
    /// How long it must outlast whatever is awaited.
    margin: Duration,
}

impl Fence {
    fn new(margin: Duration) -> Self {
        Self { timer: Timer::new(margin), due: Time::ZERO, margin }
    }

    /// Sees to it that the timer is live and fires no sooner than half a margin after a wait that
    /// begins now. Renewed in big steps: arming costs half a microsecond.
    fn outlast(&mut self, now: Time, wait: Duration, cx: &mut Context<'_>) {
        if self.due < now.after(wait + self.margin / 2) {
            self.due = now.after(wait + self.margin);
            self.timer.reset(wait + self.margin);
            // Only a poll makes a timer live.
            let _pending = Pin::new(&mut self.timer).poll(cx);
        }
    }
}

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

/// Drives the shard until it has ended. `wait_cap` stands in for both caps of a wait.
pub(super) async fn drive(
    shard: Rc<dyn Hosted>,
    bell: &Bell,
    mut signal: Signal,
    idle: IdlePolicy,
    wait_cap: Option<Duration>,
) {
    let mut rhythm = Rhythm::default();
    let look_every = Duration::from_micros(shard.core().limits().look_us);
    let mut timer = Timer::new(LOOK_TIMER);
    let mut fence = Fence::new(wait_cap.unwrap_or(WAIT_CAP));
    let mut run_delay = RunDelay::now();
    let mut looked = Time::ZERO;
    let mut worked = Time::ZERO;
    loop {
        let mut next = turn(&*shard);
        let silent_since = shard.core().now();
        if let Next::Wait { until, .. } = next
            && let Some(patience) = patience(&*shard, idle, until, &rhythm)
        {
            if comes_within(&*shard, patience, until) {
                next = Next::Again;
            } else {
                rhythm.missed();
            }
        }
        match next {
            Next::Ended => return,
            Next::Again => {
                let now = shard.core().now();
                worked = now;
                let expects = shard.core().expects_executor();
                if now.since(looked) >= if expects { look_every } else { LOOK_RARELY } {
                    run_delay.refresh();
                    // Batches may have run since the turn last read the clock.
                    let begun = shard.core().read_clock();
                    look(&mut timer, &mut fence, begun).await;
                    shard.note(Seen::Look);
                    looked = shard.core().read_clock();
                    // Nothing but the fence can have ended a look that took so long.
                    if looked >= fence.due && looked.since(begun) > run_delay.take() + LATE_WAKE {
                        shard.note(Seen::CappedWait);
                    }
                }
            }
            Next::Wait { until, pending } => {
                run_delay.refresh();
                let idle = !pending && shard.core().now().since(worked) > IDLE_AFTER;
                let cap = wait_cap.unwrap_or(if idle { IDLE_CAP } else { WAIT_CAP });
                let woken =
                    wait(&*shard, (bell, &mut signal), (&mut timer, &mut fence), until, cap).await;
                let is_late = |late: Duration| late.saturating_sub(run_delay.take()) > LATE_WAKE;
                if woken.late.is_some_and(is_late) {
                    shard.note(Seen::CappedWait);
                }
                looked = shard.core().read_clock();
                rhythm.parked(looked.since(silent_since), &*shard);
                if !woken.timed_out {
                    worked = looked;
                }
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

/// What the last silence of the shard's sockets was like. A few clients that answer at once are worth
/// asking for again: a park would cost more than the silence lasts. Of many clients the words gather
/// while the shard sleeps, and cost less each.
#[derive(Debug, Default)]
struct Rhythm {
    quick: bool,
}

impl Rhythm {
    /// A park has ended that began with this silence.
    fn parked(&mut self, silence: Duration, shard: &dyn Hosted) {
        let is_short = silence <= EXPECT + WAKE;
        self.quick = is_short && shard.is_ring_ready() && shard.open_sockets() <= FEW_SOCKETS;
    }

    /// Asking again has been in vain.
    fn missed(&mut self) {
        self.quick = false;
    }
}

/// How long the shard asks again before it parks, if at all: under `Park` for as long as a park
/// would cost, when something is expected by then (a timer, an answer that another thread owes, a
/// quick client's next word).
fn patience(
    shard: &dyn Hosted,
    idle: IdlePolicy,
    until: Time,
    rhythm: &Rhythm,
) -> Option<Duration> {
    let core = shard.core();
    match idle {
        // Where parcels and files may come the executor spins itself, and sees them while it does.
        IdlePolicy::SpinUs(_) if core.expects_executor() => None,
        IdlePolicy::SpinUs(us) => Some(Duration::from_micros(us)),
        IdlePolicy::Park => {
            let is_near = until <= core.half().now().after(EXPECT);
            let is_quick = rhythm.quick && shard.open_sockets() <= FEW_SOCKETS;
            (is_near || core.owed() > 0 || is_quick).then_some(EXPECT)
        }
    }
}

/// Asks again for so long; tells whether something has come.
///
/// In between the core belongs to the thread that owes an answer, where bridges share the shards'
/// cores. Parcels and files are not seen meanwhile: a look may come so much later.
fn comes_within(shard: &dyn Hosted, patience: Duration, until: Time) -> bool {
    let core = shard.core();
    let give_up = core.half().now().after(patience);
    let owed = core.owed() > 0;
    loop {
        // The shard's own reading, so that the time spent here brings the next look nearer.
        let now = core.read_clock();
        if now >= until || core.outside().inbox().is_pending() || shard.is_ring_ready() {
            return true;
        }
        if now >= give_up {
            return false;
        }
        if owed {
            rustix::thread::sched_yield();
        } else {
            // To a neighbour that never sleeps a yield would give more than the timer can wait.
            std::hint::spin_loop();
        }
    }
}

async fn look(timer: &mut Timer, fence: &mut Fence, now: Time) {
    timer.reset(LOOK_TIMER);
    std::future::poll_fn(|cx| {
        fence.outlast(now, LOOK_TIMER, cx);
        Pin::new(&mut *timer).poll(cx)
    })
    .await;
    glommio::executor().yield_now().await;
}

/// How a wait ended.
struct Woken {
    timed_out: bool,
    /// How late a wake was served that the cap and nothing else may have brought.
    late: Option<Duration>,
}

/// Sleeps until a message, a parcel or `until`, and never longer than the cap.
async fn wait(
    shard: &dyn Hosted,
    (bell, signal): (&Bell, &mut Signal),
    (timer, fence): (&mut Timer, &mut Fence),
    until: Time,
    cap: Duration,
) -> Woken {
    let now = shard.core().half().now();
    let left = until.since(now);
    let capped = left > cap;
    let wait = left.min(cap).max(LOOK_TIMER);
    timer.reset(wait);
    shard.note(Seen::Park);
    let inbox = shard.core().outside().inbox();
    let timed_out = std::future::poll_fn(|cx| {
        fence.outlast(now, wait, cx);
        bell.sleeper.replace(Some(cx.waker().clone()));
        if shard.has_incoming() || inbox.watch(cx.waker()) == Watch::Work {
            // Even so the timer may be what woke us: it tells a lost wake from a served one.
            return Poll::Ready(Pin::new(&mut *timer).poll(cx).is_ready());
        }
        // The signal is watched first, then asked for, then the ring is looked at once more: a
        // completion that comes in between is seen by one of the two.
        if signal.poll(cx).is_ready() | shard.arm_ring() {
            return Poll::Ready(false);
        }
        Pin::new(&mut *timer).poll(cx).map(|_| true)
    })
    .await;
    shard.disarm_ring();
    bell.sleeper.take();
    let rung = [bell.rung.take(), inbox.take_rung()].into_iter().flatten().min();
    debug_assert!(nanos(cap) > 0, "a wait has an end");
    let late = rung.filter(|_| timed_out && capped).map(|rung| rung.elapsed());
    Woken { timed_out, late: late.filter(|late| *late > LATE_WAKE) }
}
