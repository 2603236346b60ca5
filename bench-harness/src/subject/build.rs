//! Builds what a cell runs on: the data, the engine with its limits and policies, the service.

use std::num::NonZeroUsize;

use forebay::preflight::{ShardCpus, Wanted, gather, judge};
use forebay::{Builder, CpuChoice, Engine, IdlePolicy, Limits, StartError};
use forebay_workloads::units::config::{Config, Request};
use forebay_workloads::units::{Ready, SetupError, Units};

use super::generate::LIVE_MAX;
use super::{CellError, CellSpec, policy};
use crate::alloc_count;
use crate::workload_file::{self, Arrival, Idle, Phase, ShardCount, Sockets};

/// Live requests that are not of the load: probes, the harness's own questions.
const REQUESTS_ASIDE: u64 = 1_024;

/// A running engine with the service on it.
pub(super) struct Built {
    pub(super) engine: Engine,
    pub(super) ready: Ready,
    pub(super) units: Units,
}

/// Makes the data ready, declares the stages, applies the file's policies, and starts the engine.
pub(super) fn build(spec: &CellSpec, config: &Config) -> Result<Built, CellError> {
    let ready = Ready::new(config, &spec.base_dir, spec.seed, alloc_count::publish)?;
    let mut builder = Builder::new();
    builder.quiet();
    let n_shards = configure(&mut builder, &spec.engine)?;
    builder.limits(limits(spec, config, n_shards)?).seed(spec.seed);
    let units = ready.declare(&mut builder, n_shards)?;
    policy::apply(&mut builder, &spec.stages)?;
    let engine = builder.start()?;
    Ok(Built { engine, ready, units })
}

impl From<SetupError> for CellError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::LeftOut(_) => Self::NotBuilt(error.to_string()),
            _ => Self::Setup(error.to_string()),
        }
    }
}

impl From<StartError> for CellError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Host(error) => Self::HostUnfit(error.to_string()),
            error => Self::Setup(error.to_string()),
        }
    }
}

/// Sets what a file says of its engine, and tells how many shards that makes.
pub(crate) fn configure(
    builder: &mut Builder,
    engine: &workload_file::Engine,
) -> Result<usize, CellError> {
    builder.sockets(match engine.sockets {
        Sockets::Auto => forebay::net::Sockets::Auto,
        Sockets::Ring => forebay::net::Sockets::Ring,
        Sockets::Readiness => forebay::net::Sockets::Readiness,
    });
    builder.idle(match engine.idle {
        Idle::Park => IdlePolicy::Park,
        Idle::SpinUs(us) => IdlePolicy::SpinUs(us.into()),
    });
    let choice = match (&engine.pin_cpus, engine.shards) {
        (Some(cpus), _) => CpuChoice::Listed(cpus.iter().map(|cpu| *cpu as usize).collect()),
        (None, ShardCount::Fixed(shards)) => {
            let none = || CellError::Setup("engine.shards is 0".to_owned());
            CpuChoice::Count(NonZeroUsize::new(shards as usize).ok_or_else(none)?)
        }
        (None, ShardCount::PerCore) => CpuChoice::PerCore,
    };
    let n_shards = match &choice {
        CpuChoice::Listed(cpus) => cpus.len(),
        CpuChoice::Count(shards) => shards.get(),
        CpuChoice::PerCore => {
            let host = judge(&gather(), &Wanted::new(ShardCpus::All)).map_err(StartError::Host)?;
            host.shards.len()
        }
    };
    builder.cpu_choice(choice);
    Ok(n_shards)
}

/// The engine's own limits, with room for all that the file asks to have alive at once.
fn limits(spec: &CellSpec, config: &Config, n_shards: usize) -> Result<Limits, CellError> {
    let phases = spec.warmups.iter().chain([&spec.phase]);
    let in_flight = |phase: &Phase| match phase.arrival {
        Arrival::Closed { in_flight, .. } => in_flight,
        Arrival::Constant { .. } | Arrival::Poisson { .. } => LIVE_MAX,
        Arrival::EachConnection { .. }
        | Arrival::Steps { .. }
        | Arrival::Relative { .. }
        | Arrival::None => 0,
    };
    let per_request = match &config.request {
        Request::Tree(tree) => tree.requests().unwrap_or(u64::MAX),
        _ => 1,
    };
    let in_flight = phases.map(in_flight).max().unwrap_or(0);
    let shards = u64::try_from(n_shards).unwrap_or(u64::MAX).max(1);
    let live = in_flight.div_ceil(shards).saturating_mul(per_request);
    let live = live.saturating_add(REQUESTS_ASIDE);
    let mut limits = Limits::default();
    let too_many = |_| CellError::Setup(format!("{live} live requests on a shard are too many"));
    limits.requests_max = limits.requests_max.max(usize::try_from(live).map_err(too_many)?);
    Ok(limits)
}
