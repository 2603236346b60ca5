//! One phase under way on one shard: what counts its requests, and what tells that all have ended.
//!
//! Everything here lives on the shard that it loads, in plain cells; [`super::generate`] starts the
//! requests. The driver itself is no request: the shard sees those that the workload file asks for
//! and no other.
//!
//! ```text
//! begin ─► loops (closed) or source (open) ─► request tasks ─► PhaseTally
//!                  each holds a Live                └─ the last Live to go sends the Tally
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use forebay_workloads::units::{Fault, Service};

use super::generate::{start_loops, start_probe, start_schedule};
use super::probe::ProbeLog;
use crate::clock::Clock;
use crate::load::{Ended, Part, PhaseTally, Ticket, end_ns};
use crate::workload_file::{Arrival, Phase};

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
    pub(super) counted: PhaseTally,
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
    pub(super) tally: RefCell<PhaseTally>,
    pub(super) probe: RefCell<ProbeLog>,
    tallies: Sender<Tally>,
}

/// Begins a phase on the current shard and returns. Its tally is sent when all that began has ended.
pub(super) fn begin<S: Service>(service: S, order: &Order) {
    let phase = &order.phase;
    let think_time_ns = match phase.arrival {
        Arrival::Closed { think_time_ns, .. } => think_time_ns,
        Arrival::EachConnection { .. }
        | Arrival::Constant { .. }
        | Arrival::Poisson { .. }
        | Arrival::Steps { .. }
        | Arrival::Relative { .. }
        | Arrival::None => 0,
    };
    let drive = Rc::new(Drive {
        service,
        clock: order.clock,
        end_ns: end_ns(phase.until),
        think_time: Duration::from_nanos(think_time_ns),
        seed: order.seed,
        part: order.part,
        live: Cell::new(0),
        tally: RefCell::new(PhaseTally::new(phase)),
        probe: RefCell::new(ProbeLog::new()),
        tallies: order.tallies.clone(),
    });
    // Held until everything has begun, so that an empty part of a phase ends here and not before.
    let _beginning = Live::new(&drive);
    match phase.arrival {
        Arrival::Closed { in_flight, .. } => start_loops(&drive, in_flight, phase.until),
        Arrival::Constant { .. } | Arrival::Poisson { .. } => start_schedule(&drive, phase),
        // The file's check has refused what needs connections: there are none here.
        Arrival::EachConnection { .. }
        | Arrival::Steps { .. }
        | Arrival::Relative { .. }
        | Arrival::None => {}
    }
    if let Some(pause) = order.probe_pause {
        start_probe(&drive, pause);
    }
}

fn ended(reply: Result<(), Fault>) -> Ended {
    match reply {
        Ok(()) => Ended::Right,
        Err(Fault::Wrong(what)) => Ended::Wrong(what),
        Err(Fault::Failed(kind)) => Ended::Failed(kind),
        Err(Fault::TimedOut) => Ended::TimedOut,
        Err(Fault::Shed) => Ended::Shed,
        Err(_) => Ended::Failed("other"),
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
        let mut counted = self.tally.borrow().clone();
        counted.close();
        let tally = Tally {
            shard: forebay::this_shard().index(),
            counted,
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
        let ticket = live.drive.tally.borrow_mut().recorder.start(intended_ns, now_ns);
        Self { live, ticket: Some(ticket) }
    }

    /// Counts the request as ended now; gives the time.
    pub(super) fn end(&mut self, reply: Result<(), Fault>) -> u64 {
        let drive = &self.live.drive;
        let ended_ns = drive.clock.now_ns();
        let ticket = self.ticket.take().expect("a request ends once");
        drive.tally.borrow_mut().end(ticket, ended_ns, ended(reply));
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
