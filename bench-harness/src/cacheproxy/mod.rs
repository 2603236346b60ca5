//! Runs a repetition of the cache: a server in a process of its own, clients in this one.
//!
//! Whoever serves, our service, a memcached or a proxy before some, the clients are the same: a shard
//! of our own engine on another core that holds every value against its key and against what was
//! written before. Whoever serves has the first CPUs, together with what stands behind it.
//!
//! ```text
//! start backends, server ─► write every key ─► connect all, greet ─► warm-ups ─► measured phase ─► stop
//!                                memory of the server ─┘└─ and again    usage of all ─┘└─ and again
//! ```

mod contents;
mod ledger;
mod asks;
mod counts;
mod greeting;
mod client;
mod preload;
mod servers;
mod drive;
mod figures;

use forebay_workloads::cacheproxy::Config;

use crate::client_shard::{ClientShard, DESCRIPTORS_ASIDE};
use crate::dump::Repetition;
use crate::streams::Order;
use crate::subject::{CellError, CellSpec};
use crate::{cpus, process};

/// Descriptors of a connection: its own, and four where a planted fault stands in between, both ends
/// of either side. Few connections have one.
const DESCRIPTORS_PLANTED: u64 = 5;

/// Runs one repetition.
pub(crate) fn run(spec: &CellSpec, config: &Config) -> Result<Repetition, CellError> {
    let each = if config.planted.is_some() { DESCRIPTORS_PLANTED } else { 1 };
    // Fewer connections may well do: it is this cell that cannot be set up. A program that is started
    // inherits the bound.
    process::allow_open_files(u64::from(config.load.connections) * each + DESCRIPTORS_ASIDE)
        .map_err(CellError::Setup)?;
    let server_cpus = cpus::of_shards(&spec.engine)?;
    let servers = servers::start(spec, config, &server_cpus)?;
    let shard = ClientShard::start(&server_cpus, spec.seed)?;
    let connections = spec.workload.connections().expect("this workload has connections");
    let (order, load, seed) = (Order::new(spec, connections), config.load.clone(), spec.seed);
    let clients = shard.handle().clone();
    let (driven, server, backends) = shard
        .run(move || async move { drive::run(&order, &load, seed, servers, &clients).await })?;
    let mut repetition = figures::repetition(spec, config, &driven, server.sockets());
    repetition.invalid_reasons.extend(shard.stop());
    server.stop()?;
    backends.stop()?;
    Ok(repetition)
}
