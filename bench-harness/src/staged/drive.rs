//! Drives a cell from the clients' shard, from the first connection to the last reply.

use std::rc::Rc;
use std::time::Duration;

use forebay::Handle;
use forebay_workloads::staged::Config;

use super::book::Book;
use super::fleet::{Farewell, Fleet};
use super::phase;
use crate::dump::{Finite, Measured, to_f64};
use crate::load::OpenArrival;
use crate::looks::Look;
use crate::server::{ServerProcess, Usage};
use crate::subject::{CellError, CellSpec};
use crate::workload_file::{Arrival, Conditioner, Phase, Until};

/// When a server's memory is first looked at: by then it holds what a load needs.
const WARM: Duration = Duration::from_secs(10);

/// What is to be driven.
#[derive(Debug, Clone)]
pub(super) struct Order {
    config: Config,
    seed: u64,
    warmups: Vec<Phase>,
    phase: Phase,
    /// The lowest target of a conditioner in the file.
    pub(super) target_ns: Option<u64>,
}

/// What a cell gave.
#[derive(Debug)]
pub(super) struct Driven {
    /// Around the measured phase and its drain.
    pub(super) before: Look,
    pub(super) after: Look,
    pub(super) book: Book,
    /// The schedule of the measured phase, where it has one.
    pub(super) schedule: Option<OpenArrival>,
    /// The goodput of the last closed warm-up.
    pub(super) capacity_per_s: Option<f64>,
    /// Growth of the server's resident memory behind its first ten seconds.
    pub(super) memory_growth_percent: Measured<Finite>,
    pub(super) farewell: Farewell,
}

impl Order {
    pub(super) fn new(spec: &CellSpec, config: &Config) -> Self {
        let targets_us = spec.stages.values().filter_map(|stage| stage.conditioner);
        let targets_us = targets_us.filter_map(Conditioner::target_us);
        Self {
            config: config.clone(),
            seed: spec.seed,
            warmups: spec.warmups.clone(),
            phase: spec.phase.clone(),
            target_ns: targets_us.min().map(|us| us.saturating_mul(1_000)),
        }
    }
}

/// Runs a cell on the current shard, and gives the server back.
pub(super) async fn run(
    order: &Order,
    mut server: ServerProcess,
    clients: &Handle,
) -> Result<(Driven, ServerProcess), CellError> {
    let fleet = Rc::new(Fleet::new(server.address(), &order.config, order.seed));
    let capacity_per_s = warm_up(&order.warmups, order.seed, &fleet).await?;
    let schedule = phase::schedule(&order.phase.arrival, capacity_per_s)?;
    let before = Look::before(&mut server, clients).await?;
    let driven = phase::run(&order.phase, schedule, order.seed, &fleet);
    let (book, warm) = forebay::join(driven, warm_usage(&order.phase, &server)).await;
    let book = book?;
    let after = Look::after(&mut server, clients).await?;
    let memory_growth_percent = growth(warm?, &after.usage);
    let farewell = fleet.close().await;
    let driven =
        Driven { before, after, book, schedule, capacity_per_s, memory_growth_percent, farewell };
    Ok((driven, server))
}

/// Runs all warm-ups; gives the goodput of the last closed one.
pub(super) async fn warm_up(
    warmups: &[Phase],
    seed: u64,
    fleet: &Rc<Fleet>,
) -> Result<Option<f64>, CellError> {
    let mut capacity_per_s = None;
    for warmup in warmups {
        let schedule = phase::schedule(&warmup.arrival, capacity_per_s)?;
        let book = phase::run(warmup, schedule, seed, fleet).await?;
        if matches!(warmup.arrival, Arrival::Closed { .. }) {
            capacity_per_s = Some(book.goodput_per_s());
        }
    }
    Ok(capacity_per_s)
}

/// The server's usage ten seconds into the phase, else why there is none.
async fn warm_usage(
    phase: &Phase,
    server: &ServerProcess,
) -> Result<Result<Usage, String>, CellError> {
    match phase.until {
        Until::DurationMs(ms) if Duration::from_millis(ms) > WARM => {
            forebay::sleep(WARM).await;
            server.usage().map(Ok)
        }
        _ => Ok(Err(format!("only a phase of more than {WARM:?} tells it"))),
    }
}

fn growth(warm: Result<Usage, String>, end: &Usage) -> Measured<Finite> {
    match warm {
        Ok(warm) => {
            let (warm, end) = (to_f64(warm.resident_bytes), to_f64(end.resident_bytes));
            Measured::ratio((end - warm) * 100.0, warm, "the server held no memory")
        }
        Err(reason) => Measured::absent(reason),
    }
}
