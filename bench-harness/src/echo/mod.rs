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
mod troubles;
mod line;
mod fleet;
mod talk;
mod drive;
mod figures;

use std::time::Duration;

use forebay::{Builder, Engine, IdlePolicy, RequestOptions};
use forebay_workloads::echo::Config;

use crate::dump::Repetition;
use crate::server::{ServerProcess, ServerSpec};
use crate::subject::{CellError, CellSpec};
use crate::{cpus, process};

use drive::Order;

/// Descriptors of the clients beside those of their connections.
const DESCRIPTORS_ASIDE: u64 = 256;
/// How long the clients' shard looks again before it sleeps: longer than any round trip that is
/// measured one by one, so that waking the clients is no part of it.
const CLIENT_SPIN_US: u64 = 1_000;
/// How long the clients' engine may take to stop: nothing is live any more.
const STOP_MAX: Duration = Duration::from_secs(5);

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
    let (client_cpu, place) = client_cpu(&server_cpus)?;
    let server = ServerProcess::start(&ServerSpec {
        peer: spec.peer,
        engine: spec.engine.clone(),
        service: config.clone(),
        seed: spec.seed,
        cpus: server_cpus,
    })?;
    let engine = clients(client_cpu, place, spec.seed)?;
    let order = Order::new(spec, config);
    let clients = engine.handle().clone();
    let driving = move || async move { drive::run(&order, server, &clients).await };
    let broken = |error: String| CellError::Failed(format!("the clients' shard: {error}"));
    let reply = engine.handle().submit(0, RequestOptions::default(), driving);
    let reply = reply.map_err(|error| broken(error.to_string()))?;
    let (driven, server) = reply.wait().map_err(|error| broken(error.to_string()))??;
    let mut repetition = figures::repetition(spec, config, &driven, server.sockets());
    let stopped = engine.stop(STOP_MAX);
    if !stopped.drained || !stopped.stuck_shards.is_empty() {
        let why = format!("the clients' engine did not stop cleanly: {stopped:?}");
        repetition.invalid_reasons.push(why);
    }
    if place == ClientPlace::Shared {
        let why = format!("the clients share CPU {client_cpu} with the server: no other is left");
        repetition.invalid_reasons.push(why);
    }
    server.stop()?;
    Ok(repetition)
}

/// Whether the clients' CPU is theirs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientPlace {
    Own,
    /// The server runs there, too.
    Shared,
}

/// The last CPU that the server does not have; the last of all on a host that has no other.
fn client_cpu(server_cpus: &[usize]) -> Result<(usize, ClientPlace), CellError> {
    let allowed = cpus::allowed()?;
    if let Some(free) = allowed.iter().rev().find(|cpu| !server_cpus.contains(cpu)) {
        return Ok((*free, ClientPlace::Own));
    }
    let last = allowed.last().map(|cpu| (*cpu, ClientPlace::Shared));
    last.ok_or_else(|| CellError::Setup("this process may use no CPU".to_owned()))
}

/// An engine of one shard for the clients. Where the server runs too, spinning would take its time.
fn clients(cpu: usize, place: ClientPlace, seed: u64) -> Result<Engine, CellError> {
    let idle = match place {
        ClientPlace::Own => IdlePolicy::SpinUs(CLIENT_SPIN_US),
        ClientPlace::Shared => IdlePolicy::Park,
    };
    let mut builder = Builder::new();
    builder.quiet().seed(seed).cpus(&[cpu]).idle(idle);
    Ok(builder.start()?)
}
