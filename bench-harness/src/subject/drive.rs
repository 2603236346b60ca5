//! Makes load on one shard: every request its own task, closed or on a schedule.
//!
//! Everything here lives on the shard that it loads, in plain cells. In a closed loop a request
//! that has ended starts the next one, as a task of its own, from the moment it ended; on a
//! schedule a source of the shard's turn starts what is due. The driver itself is no request: the
//! shard sees those that the workload file asks for and no other.
//!
//! ```text
//! begin ─► loops (closed) or source (open) ─► request tasks ─► Recorder
//!                  each holds a Live                └─ the last Live to go sends the Tally
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use forebay::{RequestOptions, Time};
use forebay_workloads::units::keys::Keys;
use forebay_workloads::units::{Fault, Service};

use super::probe::ProbeLog;
use crate::dump::LoopKind;
use crate::load::{Arrivals, Outcome, Part, Recorder, Ticket};
use crate::workload_file::{Arrival, Phase, Until};

/// Requests that may be alive at once under a schedule, all shards together; what is due beyond
/// is dropped and counted.
pub(super) const LIVE_MAX: u64 = 100_000;
/// Requests that one poll of a source starts: what is left waits for the next turn.
const STARTS_PER_TURN: usize = 1_024;

/// Nanoseconds since the start of a phase, the same on all shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one clock of the harness on our side")]
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    #[inline]
    pub(super) fn now_ns(self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One shard's part of a phase, as it travels there.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) phase: Phase,
    pub(super) seed: u64,
    pub(super) part: Part,
    pub(super) clock: Clock,
    /// Pause of the shard's probe between two measurements; `None` runs none.
    pub(super) probe_pause: Option<Duration>,
    pub(super) tallies: Sender<Tally>,
}

/// What one shard has seen of one phase.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) shard: usize,
    pub(super) recorder: Recorder,
    /// Failures and refusals by kind.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// The first wrong reply, in words.
    pub(super) first_wrong: Option<String>,
    pub(super) views_counted: u64,
    pub(super) probe: ProbeLog,
}

/// One phase under way on one shard.
struct Drive<S> {
    service: S,
    clock: Clock,
    /// When the window closes; never for a phase that ends after a number of requests.
    end_ns: u64,
    think_time: Duration,
    seed: u64,
    part: Part,
    live: Cell<u64>,
    last_end_ns: Cell<u64>,
    recorder: RefCell<Recorder>,
    errors: RefCell<BTreeMap<&'static str, u64>>,
    first_wrong: RefCell<Option<String>>,
    probe: RefCell<ProbeLog>,
    tallies: Sender<Tally>,
}

/// Begins a phase on the current shard and returns. Its tally is sent when all that began has ended.
pub(super) fn begin<S: Service>(service: S, order: &Order) {
    let phase = &order.phase;
    let think_time_ns = match phase.arrival {
        Arrival::Closed { think_time_ns, .. } => think_time_ns,
        Arrival::Constant { .. } | Arrival::Poisson { .. } | Arrival::None => 0,
    };
    let deadline_ns = phase.deadline_ms.map(|ms| ms.saturating_mul(1_000_000));
    let drive = Rc::new(Drive {
        service,
        clock: order.clock,
        end_ns: end_ns(phase.until),
        think_time: Duration::from_nanos(think_time_ns),
        seed: order.seed,
        part: order.part,
        live: Cell::new(0),
        last_end_ns: Cell::new(0),
        recorder: RefCell::new(Recorder::new(phase.arrival.loop_kind(), deadline_ns, 0)),
        errors: RefCell::default(),
        first_wrong: RefCell::default(),
        probe: RefCell::new(ProbeLog::new()),
        tallies: order.tallies.clone(),
    });
    // Held until everything has begun, so that an empty part of a phase ends here and not before.
    let _beginning = Live::new(&drive);
    match phase.arrival {
        Arrival::Closed { in_flight, .. } => start_loops(&drive, in_flight, phase.until),
        Arrival::Constant { .. } | Arrival::Poisson { .. } => start_schedule(&drive, phase),
        Arrival::None => {}
    }
    if let Some(pause) = order.probe_pause {
        start_probe(&drive, pause);
    }
}

/// When the window of a phase closes.
pub(super) const fn end_ns(until: Until) -> u64 {
    match until {
        Until::DurationMs(ms) => ms.saturating_mul(1_000_000),
        Until::Requests(_) => u64::MAX,
    }
}

impl<S> Drive<S> {
    /// Counts a request that has ended, whether the window has closed or not.
    fn end(&self, ticket: Ticket, ended_ns: u64, reply: Result<(), Fault>) {
        if ended_ns > self.end_ns {
            // It stays counted as in flight at the end.
            return;
        }
        self.last_end_ns.set(self.last_end_ns.get().max(ended_ns));
        let mut recorder = self.recorder.borrow_mut();
        let outcome = match reply {
            Ok(()) => {
                recorder.note_checked(true);
                Outcome::Completed
            }
            Err(fault) => {
                if let Fault::Wrong(_) = fault {
                    recorder.note_checked(false);
                }
                self.count_fault(fault)
            }
        };
        recorder.finish(ticket, ended_ns, outcome);
    }

    #[cold]
    fn count_fault(&self, fault: Fault) -> Outcome {
        let (kind, outcome) = match fault {
            Fault::Wrong(what) => {
                self.first_wrong.borrow_mut().get_or_insert(what);
                ("wrong", Outcome::Failed)
            }
            Fault::Failed(kind) => (kind, Outcome::Failed),
            Fault::TimedOut => ("timed_out", Outcome::TimedOut),
            Fault::Shed => ("shed", Outcome::Shed),
            _ => ("other", Outcome::Failed),
        };
        *self.errors.borrow_mut().entry(kind).or_insert(0) += 1;
        outcome
    }
}

/// Something of a phase that has not ended: a request, a loop, the source, the probe. The last one
/// to go closes the phase on its shard.
struct Live<S: Service> {
    drive: Rc<Drive<S>>,
}

impl<S: Service> Live<S> {
    fn new(drive: &Rc<Drive<S>>) -> Self {
        drive.live.set(drive.live.get() + 1);
        Self { drive: Rc::clone(drive) }
    }
}

impl<S: Service> Drop for Live<S> {
    fn drop(&mut self) {
        let drive = &self.drive;
        drive.live.set(drive.live.get() - 1);
        if drive.live.get() == 0 {
            drive.close();
        }
    }
}

impl<S: Service> Drive<S> {
    fn close(&self) {
        let placeholder = Recorder::new(LoopKind::Closed, None, 0);
        let mut recorder = self.recorder.replace(placeholder);
        recorder.close(if self.end_ns == u64::MAX { self.last_end_ns.get() } else { self.end_ns });
        let tally = Tally {
            shard: forebay::this_shard().index(),
            recorder,
            errors: self.errors.take(),
            first_wrong: self.first_wrong.take(),
            views_counted: self.service.views_counted(),
            probe: self.probe.replace(ProbeLog::new()),
        };
        // Nobody listens only where the run has failed already.
        drop(self.tallies.send(tally));
    }
}

/// A request in flight. Dropped before it has ended (a panic, a refusal), it counts as failed.
struct InFlight<S: Service> {
    live: Live<S>,
    ticket: Option<Ticket>,
}

impl<S: Service> InFlight<S> {
    fn new(live: Live<S>, intended_ns: u64, now_ns: u64) -> Self {
        let ticket = live.drive.recorder.borrow_mut().start(intended_ns, now_ns);
        Self { live, ticket: Some(ticket) }
    }

    /// Counts the request as ended now; gives the time.
    fn end(&mut self, reply: Result<(), Fault>) -> u64 {
        let drive = &self.live.drive;
        let ended_ns = drive.clock.now_ns();
        let ticket = self.ticket.take().expect("a request ends once");
        drive.end(ticket, ended_ns, reply);
        ended_ns
    }
}

impl<S: Service> Drop for InFlight<S> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.end(Err(Fault::Failed("dropped")));
        }
    }
}

/// A closed loop: one request in flight at a time, for a fixed number of requests or for ever.
struct Loop {
    keys: Keys,
    requests_left: u64,
}

/// Starts this shard's loops of the phase: of all loops, those whose number falls on its part.
fn start_loops<S: Service>(drive: &Rc<Drive<S>>, in_flight: u64, until: Until) {
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
fn start_schedule<S: Service>(drive: &Rc<Drive<S>>, phase: &Phase) {
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
                drive.recorder.borrow_mut().drop_due();
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
fn start_probe<S: Service>(drive: &Rc<Drive<S>>, pause: Duration) {
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
