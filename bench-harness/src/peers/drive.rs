//! Makes load on tokio: every request its own task, closed or on a schedule.
//!
//! The same schedule and the same rules of counting as on our side. In a closed loop a task makes
//! its request and, when that has ended, spawns the next one; nothing is shared between the loops.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_workloads::units::keys::Keys;
use tokio::sync::Notify;

use super::alarm::Alarm;
use super::tally::{self, Reply, Times, Window};
use crate::clock::Clock;
use crate::load::{Arrivals, Part};
use crate::subject::CellError;
use crate::workload_file::{Arrival, Phase, Until};

/// Requests that may be alive at once under a schedule; what is due beyond is dropped and counted.
const LIVE_MAX: u64 = 100_000;
/// How long a phase waits for what is in flight when its window has closed.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Longest phase that ends after a number of requests: a peer that hangs must not hang the run.
const COUNTED_PHASE_MAX: Duration = Duration::from_secs(600);

/// What a request does.
pub(super) trait Service: Send + Sync + 'static {
    /// Makes one request and checks its reply.
    fn request(&self, keys: &mut Keys) -> impl Future<Output = Reply> + Send;
}

/// One phase under way.
struct Drive<S> {
    service: Arc<S>,
    clock: Clock,
    window: Window,
    think_time: Duration,
    seed: u64,
    live: AtomicU64,
    drained: Notify,
}

/// How a phase ended.
#[derive(Debug)]
pub(super) struct PhaseEnd {
    pub(super) window: Window,
    /// Requests that had not ended when the drain was given up.
    pub(super) unsettled: u64,
}

/// Counts a request, or a loop of them, as live for as long as it exists: also when it panics.
struct Live<S> {
    drive: Arc<Drive<S>>,
}

impl<S> Live<S> {
    fn new(drive: &Arc<Drive<S>>) -> Self {
        drive.live.fetch_add(1, Ordering::Relaxed);
        Self { drive: Arc::clone(drive) }
    }
}

impl<S> Drop for Live<S> {
    fn drop(&mut self) {
        if self.drive.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drive.drained.notify_waiters();
        }
    }
}

/// Runs one phase to its end on the current runtime and waits until its requests have ended.
pub(super) async fn run<S: Service>(
    service: &Arc<S>,
    phase: &Phase,
    phase_idx: usize,
    seed: u64,
    workers: usize,
) -> Result<PhaseEnd, CellError> {
    let end_ns = match phase.until {
        Until::DurationMs(ms) => ms.saturating_mul(1_000_000),
        Until::Requests(_) => u64::MAX,
    };
    let window = Window {
        phase_idx,
        kind: phase.arrival.loop_kind(),
        deadline_ns: phase.deadline_ms.map(|ms| ms.saturating_mul(1_000_000)),
        end_ns,
    };
    let think_time_ns = match phase.arrival {
        Arrival::Closed { think_time_ns, .. } => think_time_ns,
        Arrival::EachConnection { .. }
        | Arrival::Constant { .. }
        | Arrival::Poisson { .. }
        | Arrival::Steps { .. }
        | Arrival::Relative { .. }
        | Arrival::None => 0,
    };
    let drive = Arc::new(Drive {
        service: Arc::clone(service),
        clock: Clock::start(),
        window,
        think_time: Duration::from_nanos(think_time_ns),
        seed,
        live: AtomicU64::new(0),
        drained: Notify::new(),
    });
    match phase.arrival {
        Arrival::Closed { in_flight, .. } => start_loops(&drive, in_flight, phase.until)?,
        Arrival::Constant { .. } | Arrival::Poisson { .. } => {
            start_schedule(&drive, phase, workers)?;
        }
        // The file's check has refused connections: there are none here.
        Arrival::EachConnection { .. }
        | Arrival::Steps { .. }
        | Arrival::Relative { .. }
        | Arrival::None => match phase.until {
            Until::DurationMs(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Until::Requests(_) => {
                let why = "a phase without requests cannot end after a number of them";
                return Err(CellError::Setup(why.to_owned()));
            }
        },
    }
    let unsettled = drive.drain(phase.until).await;
    Ok(PhaseEnd { window, unsettled })
}

impl<S> Drive<S> {
    /// Waits until nothing is live, or for as long as the phase may take; returns what still lives.
    async fn drain(&self, until: Until) -> u64 {
        let longest = match until {
            Until::DurationMs(ms) => Duration::from_millis(ms) + DRAIN_MAX,
            Until::Requests(_) => COUNTED_PHASE_MAX,
        };
        let empty = async {
            loop {
                let drained = self.drained.notified();
                if self.live.load(Ordering::Acquire) == 0 {
                    return;
                }
                drained.await;
            }
        };
        match tokio::time::timeout(longest, empty).await {
            Ok(()) => 0,
            Err(_elapsed) => self.live.load(Ordering::Acquire),
        }
    }
}

/// A closed loop: one request in flight at a time, for a fixed number of requests or for ever.
struct Loop<S> {
    live: Live<S>,
    keys: Keys,
    requests_left: u64,
}

fn start_loops<S: Service>(
    drive: &Arc<Drive<S>>,
    in_flight: u64,
    until: Until,
) -> Result<(), CellError> {
    let too_many = |_| CellError::Setup(format!("{in_flight} requests in flight are too many"));
    let loops = u32::try_from(in_flight).map_err(too_many)?;
    for loop_idx in 0..loops {
        let part = Part::new(loop_idx, loops).expect("the index is below the number of loops");
        let requests_left = match until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => part.share(total),
        };
        if requests_left > 0 {
            let keys = Keys::new(drive.seed, loop_idx.into());
            let start_ns = drive.clock.now_ns();
            spawn_next(Loop { live: Live::new(drive), keys, requests_left }, start_ns);
        }
    }
    Ok(())
}

/// Spawns the loop's next request as a task of its own, which spawns the one after it.
fn spawn_next<S: Service>(mut this: Loop<S>, started_ns: u64) {
    tokio::spawn(async move {
        let drive = &this.live.drive;
        let reply = drive.service.request(&mut this.keys).await;
        let ended_ns = drive.clock.now_ns();
        tally::note(&drive.window, Times { intended_ns: started_ns, started_ns, ended_ns }, reply);
        this.requests_left -= 1;
        if this.requests_left == 0 || ended_ns >= drive.window.end_ns {
            return;
        }
        if drive.think_time.is_zero() {
            spawn_next(this, ended_ns);
        } else {
            tokio::time::sleep(drive.think_time).await;
            let now_ns = drive.clock.now_ns();
            if now_ns < drive.window.end_ns {
                spawn_next(this, now_ns);
            }
        }
    });
}

/// Starts one generator for each worker; each takes its part of the schedule.
fn start_schedule<S: Service>(
    drive: &Arc<Drive<S>>,
    phase: &Phase,
    workers: usize,
) -> Result<(), CellError> {
    let arrival = phase.arrival.open().expect("the caller has seen that it is a schedule");
    let of = u32::try_from(workers).expect("there are not 2^32 CPUs");
    for index in 0..of {
        let part = Part::new(index, of).expect("the index is below the number of parts");
        let n_max = match phase.until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => part.share(total),
        };
        let alarm = Alarm::new().map_err(|error| CellError::Setup(format!("timer: {error}")))?;
        let arrivals = Arrivals::new(arrival, drive.seed, part);
        tokio::spawn(generate(Live::new(drive), alarm, arrivals, part, n_max));
    }
    Ok(())
}

async fn generate<S: Service>(
    live: Live<S>,
    alarm: Alarm,
    mut arrivals: Arrivals,
    part: Part,
    n_max: u64,
) {
    let drive = &live.drive;
    let mut n_due = 0;
    while n_due < n_max && arrivals.next_ns() < drive.window.end_ns {
        let now_ns = drive.clock.now_ns();
        let Some(intended_ns) = arrivals.take_due(now_ns) else {
            let delay = Duration::from_nanos(arrivals.next_ns() - now_ns);
            alarm.wait(delay).await.expect("a timer of ours can be armed and read");
            continue;
        };
        if drive.live.load(Ordering::Relaxed) >= LIVE_MAX {
            tally::note_dropped(&drive.window);
        } else {
            // Each part has its own rows, and no part reaches 2^40 requests.
            let row = (u64::from(part.index()) << 40) | n_due;
            spawn_due(Live::new(drive), Keys::new(drive.seed, row), intended_ns);
        }
        n_due += 1;
    }
}

fn spawn_due<S: Service>(live: Live<S>, mut keys: Keys, intended_ns: u64) {
    let started_ns = live.drive.clock.now_ns();
    tokio::spawn(async move {
        let drive = &live.drive;
        let reply = drive.service.request(&mut keys).await;
        let ended_ns = drive.clock.now_ns();
        tally::note(&drive.window, Times { intended_ns, started_ns, ended_ns }, reply);
    });
}
