//! Runs a repetition of the echo workload: a server in a process of its own, clients in this one.
//!
//! Whoever serves, ours or a peer, the clients are the same: a shard of our own engine on another
//! core that checks every byte. The server has the first CPUs to itself; on a host with no more CPUs
//! than that the clients have to share the last one, and the run is invalid.
//!
//! ```text
//! start server ─► connect all, greet ─► idle memory ─► warm-ups ─► measured phase ─► stop both
//!                                            usage of the server ─┘              └─ and again
//! ```

mod wire;
mod dialogue;

use std::collections::BTreeMap;

use forebay_workloads::echo::Config;

use crate::client_shard::{ClientShard, DESCRIPTORS_ASIDE};
use crate::dump::Repetition;
use crate::server::{ServerProcess, ServerSpec, Service};
use crate::streams::{Order, drive};
use crate::subject::{CellError, CellSpec};
use crate::{cpus, process};

use dialogue::Echoes;
use wire::Wire;

/// Runs one repetition.
pub(crate) fn run(spec: &CellSpec, config: &Config) -> Result<Repetition, CellError> {
    if spec.peer.is_some_and(|peer| !spec.workload.peers().contains(&peer)) {
        return Err(CellError::NotBuilt(format!(
            "{}: no such peer of this workload",
            spec.cell_id
        )));
    }
    // Fewer connections may well do: it is this cell that cannot be set up.
    process::allow_open_files(u64::from(config.connections) + DESCRIPTORS_ASIDE)
        .map_err(CellError::Setup)?;
    let server_cpus = cpus::of_shards(&spec.engine)?;
    let mut server = ServerProcess::start(&ServerSpec {
        peer: spec.peer,
        engine: spec.engine.clone(),
        service: Service::Echo(config.clone()),
        stages: BTreeMap::new(),
        seed: spec.seed,
        cpus: server_cpus.clone(),
    })?;
    let shard = ClientShard::start(&server_cpus, spec.seed)?;
    let connections = spec.workload.connections().expect("this workload has connections");
    let (order, wire) = (Order::new(spec, connections), Wire::new(config.protocol));
    let clients = shard.handle().clone();
    let (driven, server) = shard.run(move || async move {
        let echoes = move |connection| Echoes::new(wire, connection);
        let driven = drive(&order, echoes, &mut server, &clients, || Ok(())).await?;
        Ok((driven, server))
    })?;
    let mut repetition = driven.repetition(spec, server.sockets());
    repetition.invalid_reasons.extend(shard.stop());
    server.stop()?;
    Ok(repetition)
}
