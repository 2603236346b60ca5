//! Who serves in a cell, and what stands behind: our service or a peer, and memcacheds for either.
//!
//! All of them keep to the server's CPUs, so that what one of them does not use another one can; what
//! each costs is told by its own process.

use std::net::SocketAddr;

use forebay_workloads::cacheproxy::Config;

use crate::programs::{Running, Stats, start_memcached, start_nutcracker};
use crate::server::{ServerProcess, ServerSpec, Service};
use crate::subject::{CellError, CellSpec};
use crate::workload_file::Peer;

/// Starts whoever serves, and what stands behind it.
pub(super) fn start(
    spec: &CellSpec,
    config: &Config,
    cpus: &[usize],
) -> Result<(ServerProcess, Backends), CellError> {
    let n_connections = config.load.connections.into();
    match spec.peer {
        None => {
            let backends = Backends::start(config, cpus)?;
            let server = ServerProcess::start(&ServerSpec {
                peer: None,
                engine: spec.engine.clone(),
                service: Service::Cacheproxy {
                    config: config.clone(),
                    backends: backends.addresses(),
                },
                stages: spec.stages.clone(),
                seed: spec.seed,
                cpus: cpus.to_vec(),
            })?;
            Ok((server, backends))
        }
        Some(Peer::Memcached) => {
            let memcached = start_memcached(cpus, n_connections)?;
            let server = ServerProcess::of_program(memcached, config.planted)?;
            Ok((server, Backends::default()))
        }
        Some(Peer::Nutcracker) => {
            let backends = Backends::start(config, cpus)?;
            let nutcracker = start_nutcracker(cpus, &backends.addresses())?;
            Ok((ServerProcess::of_program(nutcracker, config.planted)?, backends))
        }
        Some(peer) => Err(CellError::NotBuilt(format!("peer {} for this workload", peer.name()))),
    }
}

/// The memcacheds behind whoever serves.
#[derive(Debug, Default)]
pub(super) struct Backends(Vec<Running>);

/// All backends together, at one moment.
#[derive(Debug, Clone)]
pub(super) struct BackendsLook {
    /// CPU time, else why it is not known.
    pub(super) cpu_ns: Result<u64, String>,
    /// Keys that were asked of them by gets.
    pub(super) gets: u64,
    /// Values that they were told to store.
    pub(super) sets: u64,
}

impl Backends {
    fn start(config: &Config, cpus: &[usize]) -> Result<Self, CellError> {
        // A proxy may have as many connections to each as it has itself.
        let n_connections = config.load.connections.into();
        let start = |_| start_memcached(cpus, n_connections);
        (0..config.backends).map(start).collect::<Result<_, _>>().map(Self)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(Running::address).collect()
    }

    /// What they have done and used; `None` where there are none.
    pub(super) fn look(&self) -> Result<Option<BackendsLook>, CellError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut look = BackendsLook { cpu_ns: Ok(0), gets: 0, sets: 0 };
        for backend in &self.0 {
            let stats = Stats::of(backend.address())?;
            look.gets += stats.get("cmd_get")?;
            look.sets += stats.get("cmd_set")?;
        }
        // Last: what was asked above costs them something, once before a phase and once behind it.
        for backend in &self.0 {
            let cpu_ns = backend.usage()?.cpu_ns;
            look.cpu_ns = look.cpu_ns.and_then(|sum| Ok(sum + cpu_ns?));
        }
        Ok(Some(look))
    }

    /// Ends all of them. Each must have served until now.
    pub(super) fn stop(self) -> Result<(), CellError> {
        self.0.into_iter().try_for_each(Running::stop)
    }
}
