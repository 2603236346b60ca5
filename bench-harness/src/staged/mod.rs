//! Runs a repetition of the staged workload: a server in a process of its own, clients in this one.
//!
//! The clients are a shard of our own engine on another core, whoever serves, and compare every byte
//! of every page. They ask in closed loops, in steps, or on a schedule that does not wait, which may
//! be a share of what the service has just shown that it can do; so a service is driven into an
//! overload of known depth on any host.
//!
//! ```text
//! bare server ─► closed warm-ups ─► stop it           only where a relative rate is asked for
//!                      └ goodput = 100 %
//! start server ─► warm-ups ─► measured phase ─► last look at all connections ─► stop both
//!                                   └ usage of the server before, at 10 s, at the end, after
//! ```
//!
//! What the service can do must not depend on what is compared: a controller that refuses in the
//! warm-up would be offered a share of the less that it let through, and look good under it. So
//! capacity is found on a server of its own, the same in all but what refuses.

mod asks;
mod reply;
mod client;
mod fleet;
mod phase;
mod closed;
mod open;
mod book;
mod settling;
mod fairness;
mod drive;
mod figures;

use std::collections::BTreeMap;

use forebay_workloads::staged::Config;

use crate::client_shard::{ClientShard, DESCRIPTORS_ASIDE};
use crate::dump::Repetition;
use crate::server::{ServerProcess, ServerSpec, Service};
use crate::subject::{CellError, CellSpec};
use crate::workload_file::{Conditioner, Stage};
use crate::{cpus, process};

use drive::Order;

/// Runs one repetition.
pub(crate) fn run(spec: &CellSpec, config: &Config) -> Result<Repetition, CellError> {
    if spec.peer.is_some_and(|peer| !spec.workload.peers().contains(&peer)) {
        let why = format!("{}: no such peer of this workload", spec.cell_id);
        return Err(CellError::NotBuilt(why));
    }
    // Fewer connections may well do: it is this cell that cannot be set up.
    process::allow_open_files(u64::from(config.clients.connections) + DESCRIPTORS_ASIDE)
        .map_err(CellError::Setup)?;
    let server_cpus = cpus::of_shards(&spec.engine)?;
    let server = ServerSpec {
        peer: spec.peer,
        engine: spec.engine.clone(),
        service: Service::Staged(config.clone()),
        stages: spec.stages.clone(),
        seed: spec.seed,
        cpus: server_cpus.clone(),
    };
    let shard = ClientShard::start(&server_cpus, spec.seed)?;
    let mut order = Order::new(spec, config);
    if order.asks_for_a_share() {
        order.capacity_per_s = Some(capacity_per_s(&server, &order, &shard)?);
    }
    let server = ServerProcess::start(&server)?;
    let (ordered, clients) = (order.clone(), shard.handle().clone());
    let (driven, server) =
        shard.run(move || async move { drive::run(&ordered, server, &clients).await })?;
    let mut repetition = figures::repetition(spec, config, &order, driven, server.sockets());
    repetition.invalid_reasons.extend(shard.stop());
    server.stop()?;
    Ok(repetition)
}

/// What the service can do when it refuses nothing: 100 percent of a relative rate.
fn capacity_per_s(
    server: &ServerSpec,
    order: &Order,
    shard: &ClientShard,
) -> Result<f64, CellError> {
    let server =
        ServerProcess::start(&ServerSpec { stages: bare(&server.stages), ..server.clone() })?;
    let order = order.clone();
    let (capacity_per_s, server) =
        shard.run(move || async move { drive::capacity(&order, server).await })?;
    server.stop()?;
    Ok(capacity_per_s)
}

/// The same stages without what refuses by the state of the service.
fn bare(stages: &BTreeMap<String, Stage>) -> BTreeMap<String, Stage> {
    let mut stages = stages.clone();
    for stage in stages.values_mut() {
        stage.conditioner = stage.conditioner.map(|_| Conditioner::None);
        stage.admission = None;
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_service_is_the_same_in_all_but_what_refuses() {
        let stages = |dynamic: &str| -> BTreeMap<String, Stage> {
            serde_json::from_str(&format!(r#"{{"dynamic": {{{dynamic}}}}}"#)).unwrap()
        };
        let kept = r#""items_max": 3, "queue_max": 9, "rate_per_s": 70"#;
        let refusing =
            r#""conditioner": {"usits03": {"target_us": 5}}, "admission": {"in_flight_max": 1}"#;
        let whole = stages(&format!("{kept}, {refusing}"));
        assert_eq!(bare(&whole), stages(&format!(r#"{kept}, "conditioner": "none""#)));
    }
}
