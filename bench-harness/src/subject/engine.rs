//! Runs a cell on Forebay itself: builds the engine, drives its phases, adds up the figures.
//!
//! The calling thread only waits. Load is made on the shards ([`super::drive`]), so that a
//! generator is never a thread that competes with the shards for a core. The order around the
//! measured phase keeps its counters clean: the shards' snapshots first, since they allocate there,
//! then the cost meter; afterwards the other way round.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use forebay::preflight::{ShardCpus, Wanted, gather, judge};
use forebay::{Engine, RequestOptions, ShardSnapshot};
use forebay_workloads::units::config::{Config, Request};
use forebay_workloads::units::{Ready, Service, Units};

use super::build::{self, Built};
use super::drive::{self, Order, Tally};
use super::probe::ProbeLog;
use super::{CellError, CellSpec, figures};
use crate::alloc_count;
use crate::clock::Clock;
use crate::cost::CostMeter;
use crate::dump::Repetition;
use crate::environment::EngineFinding;
use crate::extras;
use crate::load::{Part, Recorder, end_ns};
use crate::workload_file::{Arrival, Phase, Until, Workload};

/// How long a phase may take beyond its window: the longest call, and then some.
const DRAIN_MAX: Duration = Duration::from_secs(40);
/// Longest phase that ends after a number of requests.
const COUNTED_PHASE_MAX: Duration = Duration::from_secs(600);
/// How long the engine may take to stop: nothing is live any more.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Asks the engine's pre-flight.
pub(super) fn preflight() -> EngineFinding {
    match judge(&gather(), &Wanted::new(ShardCpus::Count(NonZeroUsize::MIN))) {
        Ok(host) => {
            EngineFinding::Usable { sockets: host.sockets.to_string(), no_ring: host.no_ring }
        }
        // The engine's own line ends in the remedy.
        Err(error) => {
            let remedy =
                "the line above names it; `bench-harness doctor` checks the rest".to_owned();
            EngineFinding::Refused { error: error.to_string(), remedy }
        }
    }
}

/// Runs one repetition of the units workload on the engine.
pub(super) fn run(spec: &CellSpec, config: &Config) -> Result<Repetition, CellError> {
    let Built { engine, ready, units } = build::build(spec, config)?;
    let bench = Bench { spec, engine, ready, probe_pause: probe_pause(config) };
    match units {
        Units::Cards(cards) => bench.measure(&cards),
        Units::Lookups(lookups) => bench.measure(&lookups),
        Units::Burners(burners) => bench.measure(&burners),
        Units::Trees(trees) => bench.measure(&trees),
        Units::Idle(nothing) => bench.measure(&nothing),
    }
}

fn probe_pause(config: &Config) -> Option<Duration> {
    match &config.request {
        Request::Burner(burner) => Some(Duration::from_micros(burner.probe_interval_us)),
        _ => None,
    }
}

/// A running engine, and the phases to drive on it.
struct Bench<'a> {
    spec: &'a CellSpec,
    engine: Engine,
    ready: Ready,
    probe_pause: Option<Duration>,
}

/// What one phase gave.
struct Driven {
    /// Of all shards that had a part, in their order.
    tallies: Vec<Tally>,
    costs: (CostMeter, CostMeter),
}

impl Bench<'_> {
    /// Drives all warm-ups, then the measured phase; stops the engine; checks and adds up.
    fn measure<S: Service>(self, service: &S) -> Result<Repetition, CellError> {
        let mut views_counted = 0;
        for warmup in &self.spec.warmups {
            let driven = self.drive(service, warmup, None)?;
            views_counted += driven.views_counted();
        }
        let before = self.snapshots()?;
        let driven = self.drive(service, &self.spec.phase, self.probe_pause)?;
        let after = self.snapshots()?;
        views_counted += driven.views_counted();
        let Self { spec, engine, ready, .. } = self;
        let stopped = engine.stop(STOP_MAX);
        let mut repetition = add_up(spec, &driven, &before, &after);
        if !stopped.drained || !stopped.stuck_shards.is_empty() {
            repetition
                .invalid_reasons
                .push(format!("the engine did not stop cleanly: {stopped:?}"));
        }
        check_views(&ready, views_counted, &mut repetition)?;
        Ok(repetition)
    }

    /// Drives one phase to its end on all shards.
    fn drive<S: Service>(
        &self,
        service: &S,
        phase: &Phase,
        probe_pause: Option<Duration>,
    ) -> Result<Driven, CellError> {
        let n_shards = self.engine.handle().n_shards();
        self.on_all_shards(|_| alloc_count::publish)?;
        let before = CostMeter::start();
        if phase.arrival == Arrival::None {
            pause(Duration::from_nanos(end_ns(phase.until)));
            return Ok(Driven { tallies: Vec::new(), costs: (before, CostMeter::start()) });
        }
        let (sender, receiver) = mpsc::channel();
        let clock = Clock::start();
        let of = u32::try_from(n_shards).expect("there are fewer than 65,536 shards");
        self.on_all_shards(|shard_idx| {
            let order = Order {
                phase: phase.clone(),
                seed: self.spec.seed,
                part: Part::new(shard_idx, of).expect("a shard's number is below their number"),
                clock,
                probe_pause,
                tallies: sender.clone(),
            };
            let service = service.clone();
            move || drive::begin(service, &order)
        })?;
        drop(sender);
        let mut tallies = Vec::with_capacity(n_shards);
        let longest = match phase.until {
            Until::DurationMs(ms) => Duration::from_millis(ms) + DRAIN_MAX,
            Until::Requests(_) => COUNTED_PHASE_MAX,
        };
        while tallies.len() < n_shards {
            match receiver.recv_timeout(longest) {
                Ok(tally) => tallies.push(tally),
                Err(RecvTimeoutError::Timeout) => return Err(self.hung(phase, longest)),
                Err(RecvTimeoutError::Disconnected) => {
                    let why = format!("a shard lost its part of phase {}", phase.name);
                    return Err(CellError::Failed(why));
                }
            }
        }
        // Also a shard that had no loop of its own has worked for the others.
        self.on_all_shards(|_| alloc_count::publish)?;
        let costs = (before, CostMeter::start());
        tallies.sort_by_key(|tally: &Tally| tally.shard);
        Ok(Driven { tallies, costs })
    }

    /// Runs something on every shard and waits until it has been done.
    fn on_all_shards<C>(&self, code: impl Fn(u32) -> C) -> Result<(), CellError>
    where
        C: FnOnce() + Send + 'static,
    {
        let handle = self.engine.handle();
        let broken = |error: String| CellError::Failed(format!("a shard does not answer: {error}"));
        let mut replies = Vec::with_capacity(handle.n_shards());
        for shard_idx in 0..handle.n_shards() {
            let number = u32::try_from(shard_idx).expect("there are fewer than 65,536 shards");
            let code = code(number);
            let reply = handle.submit(shard_idx, RequestOptions::default(), || async { code() });
            replies.push(reply.map_err(|error| broken(error.to_string()))?);
        }
        for reply in replies {
            reply.wait().map_err(|error| broken(error.to_string()))?;
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<ShardSnapshot>, CellError> {
        let handle = self.engine.handle();
        let one = |shard_idx: usize| {
            let snapshot = handle.snapshot(shard_idx).map(|snapshot| (*snapshot.shard).clone());
            snapshot.ok_or_else(|| CellError::Failed(format!("shard {shard_idx} counts nothing")))
        };
        (0..handle.n_shards()).map(one).collect()
    }

    fn hung(&self, phase: &Phase, longest: Duration) -> CellError {
        let handle = self.engine.handle();
        let live: Vec<_> =
            (0..handle.n_shards()).flat_map(|shard| handle.requests(shard)).collect();
        let n_live = live.len();
        let oldest = live.first().map_or_else(String::new, |oldest| format!("; one is {oldest:?}"));
        let name = &phase.name;
        CellError::Failed(format!("{n_live} requests of {name} live after {longest:?}{oldest}"))
    }
}

impl Driven {
    fn views_counted(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.views_counted).sum()
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for (kind, n) in self.tallies.iter().flat_map(|tally| &tally.counted.errors) {
            *errors.entry((*kind).to_owned()).or_insert(0) += n;
        }
        errors
    }
}

/// Makes the repetition of what the shards have counted.
fn add_up(
    spec: &CellSpec,
    driven: &Driven,
    before: &[ShardSnapshot],
    after: &[ShardSnapshot],
) -> Repetition {
    let phase = &spec.phase;
    let recorder = merged(phase, &driven.tallies);
    let mut repetition = recorder.repetition();
    let completed = repetition.ops.completed;
    let (meter, end) = &driven.costs;
    repetition.errors_by_kind = driven.errors();
    repetition.stages = figures::stages(before, after);
    repetition.shards = figures::shards(before, after, &driven.tallies);
    repetition.per_op = meter.per_op_until(end, completed, phase.until);
    let messages = figures::messages_per_op(before, after, completed);
    repetition.per_op.insert("cross_shard_messages", messages);
    let wrong = driven.tallies.iter().find_map(|tally| tally.counted.first_wrong.as_ref());
    let wrong = wrong.map(|wrong| format!("first wrong reply: {wrong}"));
    repetition.invalid_reasons.extend(wrong);
    let waits_capped = figures::waits_capped(before, after);
    extras::insert_waits_capped(&mut repetition.extra, waits_capped);
    if matches!(&spec.workload, Workload::Units(config) if probe_pause(config).is_some()) {
        let mut probe = ProbeLog::new();
        driven.tallies.iter().for_each(|tally| probe.merge(&tally.probe));
        extras::insert_runnable_to_running(&mut repetition.extra, &probe);
    }
    if phase.arrival == Arrival::None {
        let cpu_ns = meter.cpu_ns_until(end);
        extras::insert_core_percent(&mut repetition.extra, cpu_ns, repetition.measured_ns);
    }
    repetition
}

/// One recorder for all shards. A phase without requests lasts as long as it was asked to.
fn merged(phase: &Phase, tallies: &[Tally]) -> Recorder {
    let mut recorders = tallies.iter().map(|tally| &tally.counted.recorder);
    let Some(first) = recorders.next() else {
        let deadline_ns = phase.deadline_ms.map(|ms| ms.saturating_mul(1_000_000));
        let mut recorder = Recorder::new(phase.arrival.loop_kind(), deadline_ns, 0);
        recorder.close(end_ns(phase.until));
        return recorder;
    };
    let mut whole = first.clone();
    recorders.for_each(|recorder| whole.merge(recorder));
    whole
}

/// Compares the views that requests were told of with those that the database holds.
fn check_views(ready: &Ready, counted: u64, repetition: &mut Repetition) -> Result<(), CellError> {
    let stored = ready.views_added();
    let stored = stored.map_err(|error| CellError::Failed(format!("reading views: {error}")))?;
    // A request that failed or outlived its window may have been counted by the database alone; a
    // view that was acknowledged must be there.
    let n_unsure = repetition.ops.failed + repetition.ops.timed_out;
    if let Some(stored) = stored
        && (stored < counted || stored > counted + n_unsure)
    {
        repetition
            .invalid_reasons
            .push(format!("verification failed: {stored} views stored, {counted} acknowledged"));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the child's main thread is no shard; it waits")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
