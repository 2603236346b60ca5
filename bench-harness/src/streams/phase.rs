//! One phase under way: a talk on each line, in closed loops or as a schedule hands requests over.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use forebay::{RequestOptions, Time};
use futures_lite::future::or;

use super::Dialogue;
use super::due::Due;
use super::fleet::Fleet;
use super::talk::{Talk, Talks};
use crate::clock::Clock;
use crate::dump::to_f64;
use crate::load::{Arrivals, Part, PhaseTally, end_ns};
use crate::server::ServerProcess;
use crate::subject::{CellError, CellSpec};
use crate::workload_file::{Arrival, Connections, Phase, Until};

/// How long a phase may take beyond its window: 10,000 replies on a host that is busy.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Longest phase that ends after a number of requests.
const COUNTED_PHASE_MAX: Duration = Duration::from_secs(600);
/// How long no reply at all may come, even from a host that is busy: a schedule has at least one
/// request a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Length of the stretch in which system calls are counted.
const COUNTED_MS: u64 = 200;
/// The same where requests are counted.
const COUNTED_REQUESTS: u64 = 10_000;
/// Due requests that may wait for their connections; what is due beyond is dropped and counted.
const WAITING_MAX: usize = 100_000;
/// Requests that one poll of the schedule hands over: what is left waits for the next turn.
const STARTS_PER_TURN: usize = 1_024;

/// What is to be driven.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(super) connections: Connections,
    seed: u64,
    pub(crate) warmups: Vec<Phase>,
    pub(crate) phase: Phase,
}

impl Order {
    /// What a cell asks of clients that hold these connections.
    pub(crate) fn new(spec: &CellSpec, connections: Connections) -> Self {
        let (warmups, phase) = (spec.warmups.clone(), spec.phase.clone());
        Self { connections, seed: spec.seed, warmups, phase }
    }
}

/// Runs a phase until all that began in it has ended.
pub(crate) async fn run_phase<D: Dialogue + 'static>(
    order: &Order,
    phase: &Phase,
    fleet: &Fleet<D>,
) -> Result<PhaseTally, CellError> {
    let talks = Rc::new(Talks {
        clock: Clock::start(),
        end_ns: end_ns(phase.until),
        tally: RefCell::new(PhaseTally::new(phase)),
    });
    let talking: Vec<_> = match phase.arrival {
        Arrival::Closed { in_flight, .. } => start_loops(phase, fleet, &talks, in_flight),
        Arrival::EachConnection { in_flight } => {
            let in_all = in_flight.saturating_mul(order.connections.n_open);
            start_loops(phase, fleet, &talks, in_all)
        }
        Arrival::Constant { .. } | Arrival::Poisson { .. } => {
            start_schedule(order, phase, fleet, &talks)
        }
        // The file's check has refused what these clients cannot do.
        Arrival::Steps { .. } | Arrival::Relative { .. } | Arrival::None => Vec::new(),
    };
    let n_talking = talking.len();
    let ended = async {
        for talk in talking {
            talk.await.map_err(|error| CellError::Failed(format!("a client: {error}")))?;
        }
        Ok(())
    };
    let hung = async {
        let how = hung(phase, &talks).await;
        let why = format!("some of {n_talking} clients still wait in {}: {how}", phase.name);
        Err(CellError::Failed(why))
    };
    or(ended, hung).await?;
    let mut tally = talks.tally.borrow().clone();
    tally.close();
    Ok(tally)
}

/// Waits until a phase takes longer than it may, or until nothing comes any more, and tells which.
async fn hung(phase: &Phase, talks: &Talks) -> String {
    let longest = match phase.until {
        Until::DurationMs(ms) => Duration::from_millis(ms) + DRAIN_MAX,
        Until::Requests(_) => COUNTED_PHASE_MAX,
    };
    let settled = || talks.tally.borrow().recorder.counts().settled();
    let mut waited = Duration::ZERO;
    while waited < longest {
        let n_before = settled();
        forebay::sleep(SILENCE_MAX).await;
        waited += SILENCE_MAX;
        // What comes behind the window is not counted as settled: there only the end tells.
        if settled() == n_before && talks.clock.now_ns() < talks.end_ns {
            return format!("no reply came within {SILENCE_MAX:?}");
        }
    }
    format!("the phase has taken {waited:?}")
}

/// Counts the server's system calls in a short repetition of the measured phase: counting costs
/// each of them, and most those servers that make many.
pub(crate) async fn count_calls<D: Dialogue + 'static>(
    order: &Order,
    fleet: &Fleet<D>,
    server: &ServerProcess,
) -> Result<Result<f64, String>, CellError> {
    let mut counter = match server.count_calls() {
        Ok(counter) => counter,
        Err(reason) => return Ok(Err(reason)),
    };
    let until = match order.phase.until {
        Until::DurationMs(ms) => Until::DurationMs(ms.min(COUNTED_MS)),
        Until::Requests(requests) => Until::Requests(requests.min(COUNTED_REQUESTS)),
    };
    let phase = Phase { until, ..order.phase.clone() };
    let tally = run_phase(order, &phase, fleet).await?;
    // Those that ended after the window have cost calls, too.
    let n_requests = tally.recorder.counts().started.max(1);
    Ok(counter.total().map(|calls| to_f64(calls) / to_f64(n_requests)))
}

/// Starts a loop on every connection that has a share of what is in flight.
fn start_loops<D: Dialogue + 'static>(
    phase: &Phase,
    fleet: &Fleet<D>,
    talks: &Rc<Talks>,
    in_flight: u64,
) -> Vec<forebay::Request<()>> {
    let of = u32::try_from(fleet.lines.len()).expect("the file's check bounds connections");
    let n_loops = u32::try_from(in_flight).map_or(of, |in_flight| in_flight.min(of));
    (0..n_loops)
        .zip(&fleet.lines)
        .map(|(idx, line)| {
            let part = |of: u32| Part::new(idx, of).expect("a loop's number is below their number");
            let n_requests = match phase.until {
                Until::DurationMs(_) => u64::MAX,
                Until::Requests(total) => part(n_loops).share(total),
            };
            let talk = Talk::new(line, talks).in_a_loop(part(of).share(in_flight), n_requests);
            forebay::spawn(RequestOptions::default(), talk)
        })
        .collect()
}

/// Starts every client, and the source that hands them in turn what is due.
fn start_schedule<D: Dialogue + 'static>(
    order: &Order,
    phase: &Phase,
    fleet: &Fleet<D>,
    talks: &Rc<Talks>,
) -> Vec<forebay::Request<()>> {
    let arrival = phase.arrival.open().expect("the caller has seen that it is a schedule");
    let clients: Vec<Rc<Due>> = fleet.lines.iter().map(|_| Rc::default()).collect();
    let in_flight_max = usize::try_from(order.connections.pipelined_max).unwrap_or(usize::MAX);
    let talking = fleet.lines.iter().zip(&clients).map(|(line, due)| {
        let talk = Talk::new(line, talks).on_schedule(Rc::clone(due), in_flight_max);
        forebay::spawn(RequestOptions::default(), talk)
    });
    let talking = talking.collect();
    let mut schedule = Schedule {
        talks: Rc::clone(talks),
        arrivals: Arrivals::new(arrival, order.seed, Part::WHOLE),
        waiting_max: (WAITING_MAX / clients.len()).max(1),
        clients,
        n_due: 0,
        n_max: match phase.until {
            Until::DurationMs(_) => usize::MAX,
            Until::Requests(total) => usize::try_from(total).unwrap_or(usize::MAX),
        },
    };
    forebay::add_source(move |now| schedule.hand_over(now));
    talking
}

/// A schedule under way.
struct Schedule {
    talks: Rc<Talks>,
    arrivals: Arrivals,
    clients: Vec<Rc<Due>>,
    waiting_max: usize,
    n_due: usize,
    n_max: usize,
}

impl Schedule {
    /// Hands over what is due and tells when the next request will be; `None` after the last.
    fn hand_over(&mut self, now: Time) -> Option<Time> {
        let now_ns = self.talks.clock.now_ns();
        for _ in 0..STARTS_PER_TURN {
            if self.n_due >= self.n_max || self.arrivals.next_ns() >= self.talks.end_ns {
                self.clients.iter().for_each(|client| client.end());
                return None;
            }
            let Some(intended_ns) = self.arrivals.take_due(now_ns) else {
                let wait = Duration::from_nanos(self.arrivals.next_ns() - now_ns);
                return Some(now.after(wait));
            };
            let client = &self.clients[self.n_due % self.clients.len()];
            if client.len() >= self.waiting_max {
                self.talks.tally.borrow_mut().recorder.drop_due();
            } else {
                client.put(intended_ns);
            }
            self.n_due += 1;
        }
        Some(now)
    }
}
