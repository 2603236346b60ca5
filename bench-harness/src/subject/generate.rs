//! Starts the requests of one shard: every request its own task, closed or on a schedule.
//!
//! In a closed loop a request that has ended starts the next one, as a task of its own, from the
//! moment it ended. On a schedule a source of the shard's turn starts what is due. Keys come in rows
//! that depend on the seed and the request's place alone, so that every side of a comparison asks
//! for the same.

use std::rc::Rc;
use std::time::Duration;

use forebay::{RequestOptions, Time};
use forebay_workloads::units::Service;
use forebay_workloads::units::keys::Keys;

use super::drive::{Drive, InFlight, Live};
use crate::load::{Arrivals, Part};
use crate::workload_file::{Phase, Until};

/// Requests that may be alive at once under a schedule, all shards together; what is due beyond
/// is dropped and counted.
pub(super) const LIVE_MAX: u64 = 100_000;
/// Requests that one poll of a source starts: what is left waits for the next turn.
const STARTS_PER_TURN: usize = 1_024;

/// A closed loop: one request in flight at a time, for a fixed number of requests or for ever.
struct Loop {
    keys: Keys,
    requests_left: u64,
}

/// Starts this shard's loops of the phase: of all loops, those whose number falls on its part.
pub(super) fn start_loops<S: Service>(drive: &Rc<Drive<S>>, in_flight: u64, until: Until) {
    let loops = u32::try_from(in_flight).expect("the file's check bounds requests in flight");
    let (first, step) = (drive.part.index() as usize, drive.part.of() as usize);
    for loop_idx in (0..loops).skip(first).step_by(step) {
        let requests_left = match until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => {
                let part = Part::new(loop_idx, loops).expect("below the number of loops");
                part.share(total)
            }
        };
        if requests_left > 0 {
            // The same row of keys for the same loop, whatever the number of shards.
            let keys = Keys::new(drive.seed, loop_idx.into());
            let now_ns = drive.clock.now_ns();
            start_next(Live::new(drive), Loop { keys, requests_left }, now_ns);
        }
    }
}

/// Starts a loop's next request as a task of its own, which starts the one after it.
fn start_next<S: Service>(live: Live<S>, mut this: Loop, started_ns: u64) {
    let mut request = InFlight::new(live, started_ns, started_ns);
    let task = async move {
        let reply = request.live.drive.service.request(&mut this.keys).await;
        let ended_ns = request.end(reply);
        this.requests_left -= 1;
        let drive = &request.live.drive;
        if this.requests_left == 0 || ended_ns >= drive.end_ns {
            return;
        }
        if drive.think_time.is_zero() {
            start_next(Live::new(drive), this, ended_ns);
        } else {
            forebay::sleep(drive.think_time).await;
            let now_ns = drive.clock.now_ns();
            if now_ns < drive.end_ns {
                start_next(Live::new(drive), this, now_ns);
            }
        }
    };
    forebay::spawn(RequestOptions::default(), task).detach();
}

/// Adds the source that starts what is due of this shard's part of the schedule.
pub(super) fn start_schedule<S: Service>(drive: &Rc<Drive<S>>, phase: &Phase) {
    let arrival = phase.arrival.open().expect("the caller has seen that it is a schedule");
    let mut schedule = Schedule {
        live: Live::new(drive),
        arrivals: Arrivals::new(arrival, drive.seed, drive.part),
        n_due: 0,
        n_max: match phase.until {
            Until::DurationMs(_) => u64::MAX,
            Until::Requests(total) => drive.part.share(total),
        },
        live_max: drive.part.share(LIVE_MAX).max(1),
    };
    forebay::add_source(move |now| schedule.start_due(now));
}

/// This shard's part of a schedule.
struct Schedule<S: Service> {
    live: Live<S>,
    arrivals: Arrivals,
    n_due: u64,
    n_max: u64,
    live_max: u64,
}

impl<S: Service> Schedule<S> {
    /// Starts what is due and tells when the next request will be; `None` after the last.
    fn start_due(&mut self, now: Time) -> Option<Time> {
        let drive = &self.live.drive;
        let now_ns = drive.clock.now_ns();
        for _ in 0..STARTS_PER_TURN {
            if self.n_due >= self.n_max || self.arrivals.next_ns() >= drive.end_ns {
                return None;
            }
            let Some(intended_ns) = self.arrivals.take_due(now_ns) else {
                let wait = Duration::from_nanos(self.arrivals.next_ns() - now_ns);
                return Some(now.after(wait));
            };
            if drive.live.get() > self.live_max {
                drive.tally.borrow_mut().recorder.drop_due();
            } else {
                // Each part has its own rows, and no part reaches 2^40 requests.
                let row = (u64::from(drive.part.index()) << 40) | self.n_due;
                start_due(drive, Keys::new(drive.seed, row), intended_ns);
            }
            self.n_due += 1;
        }
        Some(now)
    }
}

fn start_due<S: Service>(drive: &Rc<Drive<S>>, mut keys: Keys, intended_ns: u64) {
    let mut request = InFlight::new(Live::new(drive), intended_ns, drive.clock.now_ns());
    let task = async move {
        let reply = request.live.drive.service.request(&mut keys).await;
        request.end(reply);
    };
    forebay::spawn(RequestOptions::default(), task).detach();
}

/// Starts the task that measures how long a runnable task waits for its turn.
pub(super) fn start_probe<S: Service>(drive: &Rc<Drive<S>>, pause: Duration) {
    let live = Live::new(drive);
    let task = async move {
        let drive = &live.drive;
        // Ends with the window, or when all that was to be requested has ended.
        while drive.clock.now_ns() < drive.end_ns && drive.live.get() > 1 {
            forebay::sleep(pause).await;
            let runnable_ns = drive.clock.now_ns();
            // Wakes itself before it yields: it queues like any other task.
            forebay::yield_now().await;
            let waited_ns = drive.clock.now_ns() - runnable_ns;
            drive.probe.borrow_mut().note(waited_ns);
        }
    };
    forebay::spawn(RequestOptions::default(), task).detach();
}
