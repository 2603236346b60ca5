//! Runs a repetition of the staged workload: a server in a process of its own, clients in this one.
//!
//! The clients are a shard of our own engine on another core, whoever serves, and compare every byte
//! of every page. They ask in closed loops, in steps, or on a schedule that does not wait, which may
//! be a share of what the service has just shown that it can do; so a service is driven into an
//! overload of known depth on any host.
//!
//! ```text
//! start server ─► warm-ups ─► measured phase ─► last look at all connections ─► stop both
//!                    │ goodput = 100 %   └ usage of the server before, at 10 s, after
//! ```

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

use forebay_workloads::staged::Config;

use crate::client_shard::{ClientShard, DESCRIPTORS_ASIDE};
use crate::dump::Repetition;
use crate::server::{ServerProcess, ServerSpec, Service};
use crate::subject::{CellError, CellSpec};
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
    let server = ServerProcess::start(&ServerSpec {
        peer: spec.peer,
        engine: spec.engine.clone(),
        service: Service::Staged(config.clone()),
        stages: spec.stages.clone(),
        seed: spec.seed,
        cpus: server_cpus.clone(),
    })?;
    let shard = ClientShard::start(&server_cpus, spec.seed)?;
    let order = Order::new(spec, config);
    let (ordered, clients) = (order.clone(), shard.handle().clone());
    let (driven, server) =
        shard.run(move || async move { drive::run(&ordered, server, &clients).await })?;
    let mut repetition = figures::repetition(spec, config, &order, driven, server.sockets());
    repetition.invalid_reasons.extend(shard.stop());
    server.stop()?;
    Ok(repetition)
}
