//! Runs the units workload on a peer: sets the service up, drives its phases, adds up the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_workloads::units::Config;
use forebay_workloads::units::config::{self, Request, stage};
use forebay_workloads::units::data::Tables;
use futures_lite::future::yield_now;
use tokio::task::JoinHandle;

use super::alarm::Alarm;
use super::batch_aint_one::BatchAintOne;
use super::calls::{AddViews, Airports, Departures, Direct, Flights, Lookups, Method};
use super::dataloader::Dataloader;
use super::downstream::Downstream;
use super::drive::{self, PhaseEnd, Service};
use super::requests::{BurnerRequests, Cards, LookupRequests, NoRequests, TreeRequests};
use super::runtime::{self, PinnedRuntime};
use super::tally::{self, Tally};
use crate::clock::Clock;
use crate::cost::CostMeter;
use crate::dump::Repetition;
use crate::subject::{CellError, CellSpec, ProbeLog};
use crate::workload_file::{Arrival, Peer, Stage};
use crate::{cpus, extras};

/// How long idle workers are given to park, which is when they publish what they allocated.
const SETTLE: Duration = Duration::from_millis(5);
/// How long threads may take to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Runs one repetition on the calling thread, which becomes a worker where there is only one.
pub(super) fn run(peer: Peer, config: &Config, spec: &CellSpec) -> Result<Repetition, CellError> {
    match (&config.request, peer) {
        (Request::Tree(tree), Peer::Tokio) => {
            Bench::new(spec)?.measure(TreeRequests::new(tree), None)
        }
        (Request::Idle, Peer::Tokio) => Bench::new(spec)?.measure(NoRequests, None),
        (Request::Lookup(_) | Request::Burner(_), Peer::Tokio | Peer::TokioDirect)
        | (Request::FlightCard(_), Peer::TokioDirect) => with_calls::<Direct>(config, spec),
        (
            Request::Lookup(_) | Request::Burner(_) | Request::FlightCard(_),
            Peer::TokioDataloader,
        ) => with_calls::<Dataloader>(config, spec),
        (
            Request::Lookup(_) | Request::Burner(_) | Request::FlightCard(_),
            Peer::TokioBatchAintOne,
        ) => with_calls::<BatchAintOne>(config, spec),
        _ => {
            let why = format!("peer {} for this request", peer.name());
            Err(CellError::NotBuilt(why))
        }
    }
}

/// Runs a request that makes calls, by the given method.
fn with_calls<M: Method>(config: &Config, spec: &CellSpec) -> Result<Repetition, CellError> {
    let bench = Bench::new(spec)?;
    let tables = match &config.request {
        Request::FlightCard(card) => {
            let tables = Tables::load(&spec.base_dir.join(&card.data_dir));
            Some(Arc::new(tables.map_err(|error| CellError::Setup(error.to_string()))?))
        }
        _ => None,
    };
    let opening = Downstream::open(config, tables.as_ref(), &spec.base_dir, spec.seed);
    let downstream = bench.threads.runtime.block_on(opening)?;
    let settings = |name: &str| spec.stages.get(name).cloned().unwrap_or_default();
    // Batchers spawn their tasks when they are made.
    let entered = bench.threads.runtime.enter();
    let lookups = |n_keys: u64| LookupRequests::<M> {
        lookups: M::caller(Lookups(downstream.clone()), &settings(stage::LOOKUP)),
        n_keys,
    };
    match (&config.request, tables) {
        (Request::Lookup(lookup), _) => {
            let service = lookups(lookup.keys);
            drop(entered);
            bench.measure(service, None)
        }
        (Request::Burner(burner), _) => {
            let service = BurnerRequests { lookups: lookups(burner.keys), config: burner.clone() };
            drop(entered);
            bench.measure(service, Some(burner))
        }
        (Request::FlightCard(card), Some(tables)) => {
            let service = cards::<M>(card, tables, &downstream, settings);
            drop(entered);
            measure_cards(bench, service, &downstream)
        }
        _ => unreachable!("the caller has sent every other request elsewhere"),
    }
}

fn cards<M: Method>(
    card: &config::FlightCard,
    tables: Arc<Tables>,
    downstream: &Downstream,
    settings: impl Fn(&str) -> Stage,
) -> Cards<M> {
    let departures = (card.departures > 0).then(|| {
        let op = Departures(downstream.clone(), card.departures);
        (M::caller(op, &settings(stage::DEPARTURES)), card.departures)
    });
    let views =
        card.count_views.then(|| M::caller(AddViews(downstream.clone()), &settings(stage::VIEWS)));
    Cards {
        tables,
        flights: M::caller(Flights(downstream.clone()), &settings(stage::FLIGHTS)),
        airports: M::caller(Airports(downstream.clone()), &settings(stage::AIRPORTS)),
        departures,
        views,
        views_asked: AtomicU64::new(0),
        views_counted: AtomicU64::new(0),
    }
}

/// Measures flight cards, and checks in the end that the database holds every view.
fn measure_cards<M: Method>(
    bench: Bench<'_>,
    service: Cards<M>,
    downstream: &Downstream,
) -> Result<Repetition, CellError> {
    let total = |bench: &Bench<'_>, when: &str| {
        // The runtime's own, since a handle would not drive the sockets of a lone worker.
        let total = bench.threads.runtime.block_on(downstream.views_total());
        total.map_err(|error| CellError::Failed(format!("views {when}: {error}")))
    };
    let before = total(&bench, "before")?;
    let service = Arc::new(service);
    let driven = bench.drive(&service, None)?;
    let after = total(&bench, "after")?;
    let mut repetition = bench.finish(driven);
    let counted = service.views_counted.load(Ordering::Relaxed);
    if let (Some(before), Some(after)) = (before, after) {
        // A request that was given up may still have been counted; none may be lost.
        let n_unsure = repetition.ops.failed + repetition.ops.in_flight_at_end;
        let n_added = after - before;
        if n_added < counted || n_added > counted + n_unsure {
            let why = format!("verification failed: {n_added} views stored, {counted} counted");
            repetition.invalid_reasons.push(why);
        }
    }
    Ok(repetition)
}

/// A runtime, and the phases to drive on it.
struct Bench<'a> {
    spec: &'a CellSpec,
    threads: PinnedRuntime,
}

/// What the measured phase gave, apart from what its threads still hold.
struct Driven {
    end: PhaseEnd,
    costs: (CostMeter, CostMeter),
    probes: Option<ProbeLog>,
}

impl<'a> Bench<'a> {
    fn new(spec: &'a CellSpec) -> Result<Self, CellError> {
        let cpus = cpus::of_shards(&spec.engine)?;
        Ok(Self { spec, threads: runtime::build(&cpus)? })
    }

    fn measure<S: Service>(
        self,
        service: S,
        probed: Option<&config::Burner>,
    ) -> Result<Repetition, CellError> {
        let driven = self.drive(&Arc::new(service), probed)?;
        Ok(self.finish(driven))
    }

    /// Drives all warm-ups, then the measured phase.
    fn drive<S: Service>(
        &self,
        service: &Arc<S>,
        probed: Option<&config::Burner>,
    ) -> Result<Driven, CellError> {
        let (spec, workers) = (self.spec, self.threads.workers);
        self.threads.runtime.block_on(async {
            for (phase_idx, phase) in spec.warmups.iter().enumerate() {
                drive::run(service, phase, phase_idx, spec.seed, workers).await?;
            }
            tokio::time::sleep(SETTLE).await;
            let probes = probed.map(|burner| Probes::start(burner, workers));
            let before = CostMeter::start();
            let measured_idx = spec.warmups.len();
            let end = drive::run(service, &spec.phase, measured_idx, spec.seed, workers).await?;
            let probes = match probes {
                Some(probes) => Some(probes.stop().await?),
                None => None,
            };
            tokio::time::sleep(SETTLE).await;
            Ok(Driven { end, costs: (before, CostMeter::start()), probes })
        })
    }

    /// Stops the threads, merges what they counted, and writes the repetition.
    fn finish(self, driven: Driven) -> Repetition {
        let Driven { end: PhaseEnd { window, unsettled }, costs: (before, after), probes } = driven;
        self.threads.runtime.shutdown_timeout(STOP_MAX);
        let mut whole = Tally::new(&window);
        // The calling thread is a worker when there is only one.
        for tally in tally::take().into_iter().chain(self.threads.tallies.try_iter()) {
            whole.merge(&tally);
        }
        let ends_by_count = window.end_ns == u64::MAX;
        let end_ns = if ends_by_count { whole.last_end_ns } else { window.end_ns };
        whole.recorder.close(end_ns);
        let mut repetition = whole.recorder.repetition();
        repetition.ops.offered += unsettled;
        repetition.ops.started += unsettled;
        repetition.ops.in_flight_at_end += unsettled;
        let phase = &self.spec.phase;
        let completed = repetition.ops.completed;
        repetition.per_op = before.per_op_until(&after, completed, phase.until);
        let errors = whole.errors.into_iter().map(|(kind, n)| (kind.to_owned(), n));
        repetition.errors_by_kind.extend(errors);
        let wrong = whole.first_wrong.map(|wrong| format!("first wrong reply: {wrong}"));
        repetition.invalid_reasons.extend(wrong);
        if let Some(probes) = probes {
            extras::insert_runnable_to_running(&mut repetition.extra, &probes);
        }
        if phase.arrival == Arrival::None {
            let cpu_ns = before.cpu_ns_until(&after);
            extras::insert_core_percent(&mut repetition.extra, cpu_ns, end_ns);
        }
        repetition
    }
}

/// Tasks that measure how long a runnable task waits for its turn, one for each worker.
struct Probes {
    tasks: Vec<JoinHandle<std::io::Result<ProbeLog>>>,
    stop: Arc<AtomicBool>,
}

impl Probes {
    fn start(burner: &config::Burner, workers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_micros(burner.probe_interval_us);
        let probe = |_| tokio::spawn(probe(pause, Arc::clone(&stop)));
        Self { tasks: (0..workers).map(probe).collect(), stop }
    }

    async fn stop(self) -> Result<ProbeLog, CellError> {
        let failed = |error: String| CellError::Failed(format!("probe: {error}"));
        self.stop.store(true, Ordering::Relaxed);
        let mut all = ProbeLog::new();
        for task in self.tasks {
            let seen = task.await.map_err(|error| failed(error.to_string()))?;
            all.merge(&seen.map_err(|error| failed(error.to_string()))?);
        }
        Ok(all)
    }
}

async fn probe(pause: Duration, stop: Arc<AtomicBool>) -> std::io::Result<ProbeLog> {
    let mut seen = ProbeLog::new();
    // The runtime's own sleep rounds up to milliseconds: too few samples for a tail.
    let alarm = Alarm::new()?;
    while !stop.load(Ordering::Relaxed) {
        alarm.wait(pause).await?;
        let runnable = Clock::start();
        // Wakes itself before it yields, so it queues like any other task. (tokio's own yield would
        // also wait for the runtime's next look at its driver.)
        yield_now().await;
        seen.note(runnable.now_ns());
    }
    Ok(seen)
}
