//! One phase under way on one shard: what counts its requests, and what tells that all have ended.
//!
//! Everything here lives on the shard that it loads, in plain cells; [`super::generate`] starts the
//! requests. The driver itself is no request: the shard sees those that the workload file asks for
//! and no other.
//!
//! ```text
//! begin ─► loops (closed) or source (open) ─► request tasks ─► Recorder
//!                  each holds a Live                └─ the last Live to go sends the Tally
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use forebay_workloads::units::{Fault, Service};

use super::generate::{start_loops, start_probe, start_schedule};
use super::probe::ProbeLog;
use crate::clock::Clock;
use crate::dump::LoopKind;
use crate::load::{Outcome, Part, Recorder, Ticket};
use crate::workload_file::{Arrival, Phase, Until};

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
pub(super) struct Drive<S> {
    pub(super) service: S,
    pub(super) clock: Clock,
    /// When the window closes; never for a phase that ends after a number of requests.
    pub(super) end_ns: u64,
    pub(super) think_time: Duration,
    pub(super) seed: u64,
    pub(super) part: Part,
    pub(super) live: Cell<u64>,
    last_end_ns: Cell<u64>,
    pub(super) recorder: RefCell<Recorder>,
    errors: RefCell<BTreeMap<&'static str, u64>>,
    first_wrong: RefCell<Option<String>>,
    pub(super) probe: RefCell<ProbeLog>,
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
pub(super) struct Live<S: Service> {
    pub(super) drive: Rc<Drive<S>>,
}

impl<S: Service> Live<S> {
    pub(super) fn new(drive: &Rc<Drive<S>>) -> Self {
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
pub(super) struct InFlight<S: Service> {
    pub(super) live: Live<S>,
    ticket: Option<Ticket>,
}

impl<S: Service> InFlight<S> {
    pub(super) fn new(live: Live<S>, intended_ns: u64, now_ns: u64) -> Self {
        let ticket = live.drive.recorder.borrow_mut().start(intended_ns, now_ns);
        Self { live, ticket: Some(ticket) }
    }

    /// Counts the request as ended now; gives the time.
    pub(super) fn end(&mut self, reply: Result<(), Fault>) -> u64 {
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
