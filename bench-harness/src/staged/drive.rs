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
use crate::server::ServerProcess;
use crate::subject::{CellError, CellSpec};
use crate::workload_file::{Arrival, Phase, Until};

/// When a server's memory is first looked at: by then it holds what a load needs.
const WARM: Duration = Duration::from_secs(10);

/// What is to be driven.
#[derive(Debug, Clone)]
pub(super) struct Order {
    config: Config,
    seed: u64,
    warmups: Vec<Phase>,
    phase: Phase,
    /// 100 percent of a relative rate, where one is asked for.
    pub(super) capacity_per_s: Option<f64>,
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
    /// Growth of the server's resident memory from ten seconds into the window to its end.
    pub(super) memory_growth_percent: Measured<Finite>,
    pub(super) farewell: Farewell,
}

impl Order {
    pub(super) fn new(spec: &CellSpec, config: &Config) -> Self {
        Self {
            config: config.clone(),
            seed: spec.seed,
            warmups: spec.warmups.clone(),
            phase: spec.phase.clone(),
            capacity_per_s: None,
        }
    }

    /// Whether anything in it is a share of what the service can do.
    pub(super) fn asks_for_a_share(&self) -> bool {
        let is_share = |phase: &Phase| matches!(phase.arrival, Arrival::Relative { .. });
        self.warmups.iter().chain([&self.phase]).any(is_share)
    }

    fn fleet(&self, server: &ServerProcess) -> Rc<Fleet> {
        Rc::new(Fleet::new(server.address(), &self.config, self.seed))
    }
}

/// Finds what a service can do, from the closed warm-ups alone, and gives it back.
pub(super) async fn capacity(
    order: &Order,
    server: ServerProcess,
) -> Result<(f64, ServerProcess), CellError> {
    let fleet = order.fleet(&server);
    let mut capacity_per_s = 0.0;
    for warmup in &order.warmups {
        if matches!(warmup.arrival, Arrival::Closed { .. }) {
            capacity_per_s = phase::run(warmup, None, order.seed, &fleet).await?.goodput_per_s();
        }
    }
    fleet.close().await;
    Ok((capacity_per_s, server))
}

/// Runs a cell on the current shard, and gives the server back.
pub(super) async fn run(
    order: &Order,
    mut server: ServerProcess,
    clients: &Handle,
) -> Result<(Driven, ServerProcess), CellError> {
    let fleet = order.fleet(&server);
    for warmup in &order.warmups {
        let schedule = phase::schedule(&warmup.arrival, order.capacity_per_s)?;
        phase::run(warmup, schedule, order.seed, &fleet).await?;
    }
    let schedule = phase::schedule(&order.phase.arrival, order.capacity_per_s)?;
    let before = Look::before(&mut server, clients).await?;
    let driven = phase::run(&order.phase, schedule, order.seed, &fleet);
    let (book, growth) = forebay::join(driven, memory_growth(order.phase.until, &server)).await;
    let (book, memory_growth_percent) = (book?, growth?);
    let after = Look::after(&mut server, clients).await?;
    let farewell = fleet.close().await;
    Ok((Driven { before, after, book, schedule, memory_growth_percent, farewell }, server))
}

/// How the server's memory grows from ten seconds into the window to its end. Not to the last reply:
/// while what is left drains, memory is given back.
async fn memory_growth(
    until: Until,
    server: &ServerProcess,
) -> Result<Measured<Finite>, CellError> {
    let [first, second] = match memory_pauses(until) {
        Ok(pauses) => pauses,
        Err(reason) => return Ok(Measured::absent(reason)),
    };
    forebay::sleep(first).await;
    let warm = to_f64(server.usage()?.resident_bytes);
    forebay::sleep(second).await;
    let end = to_f64(server.usage()?.resident_bytes);
    Ok(Measured::ratio((end - warm) * 100.0, warm, "the server held no memory"))
}

/// How long to wait for each of two looks at the memory, else why there are none.
fn memory_pauses(until: Until) -> Result<[Duration; 2], String> {
    match until {
        Until::DurationMs(ms) if Duration::from_millis(ms) > WARM => {
            Ok([WARM, Duration::from_millis(ms) - WARM])
        }
        _ => Err(format!("only a phase of more than {WARM:?} tells it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_looked_at_warm_and_at_the_end_of_the_window() {
        let [first, second] = memory_pauses(Until::DurationMs(60_000)).unwrap();
        assert_eq!((first, first + second), (WARM, Duration::from_secs(60)));
        for until in [Until::DurationMs(10_000), Until::Requests(1_000_000)] {
            assert!(memory_pauses(until).unwrap_err().contains("more than 10s"));
        }
    }
}
