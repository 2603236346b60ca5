//! The service on an engine of this process.

use std::time::Duration;

use forebay::net::Address;
use forebay::{Builder, Engine};
use forebay_workloads::echo::{self, Config, ServeError};

use super::ShardCounts;
use crate::subject::{CellError, configure};
use crate::{cpus, workload_file};

/// How long a server may take to drain: requests that clients still wait for.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A service that accepts connections.
#[derive(Debug)]
pub struct Serving {
    engine: Engine,
    address: Address,
}

/// Starts the service on an engine of its own. Given CPUs, the whole process keeps to them.
///
/// # Errors
/// When the host, the engine or the address refuses.
pub fn serve(
    engine: &workload_file::Engine,
    service: &Config,
    seed: u64,
    address: &Address,
    cpus: &[usize],
) -> Result<Serving, CellError> {
    let mut builder = Builder::new();
    builder.quiet().seed(seed);
    configure(&mut builder, engine)?;
    if !cpus.is_empty() {
        // What the engine starts beside its shards inherits them.
        cpus::pin(cpus).map_err(CellError::Setup)?;
        builder.cpus(cpus);
    }
    let engine = builder.start()?;
    let address = echo::serve(&engine, service, address)?;
    Ok(Serving { engine, address })
}

impl From<ServeError> for CellError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::LeftOut(_) => Self::NotBuilt(error.to_string()),
            error => Self::Setup(error.to_string()),
        }
    }
}

impl Serving {
    /// Where it accepts, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// How its shards reach their sockets.
    #[must_use]
    pub fn sockets(&self) -> String {
        self.engine.sockets().to_string()
    }

    /// What its shards have counted since their start.
    #[must_use]
    pub fn counts(&self) -> Vec<ShardCounts> {
        let handle = self.engine.handle();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let snapshots = (0..handle.n_shards()).filter_map(|shard_idx| handle.snapshot(shard_idx));
        let counts = snapshots.map(|snapshot| ShardCounts {
            cpu: snapshot.shard.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
            at_ns: snapshot.shard.at.as_nanos(),
            busy_ns: nanos(snapshot.shard.busy),
            waits_capped: snapshot.shard.waits_capped,
            longest_poll_ns: snapshot.shard.longest_poll.as_ref().map_or(0, |p| nanos(p.took)),
        });
        counts.collect()
    }

    /// Serves until SIGINT or SIGTERM, then drains and stops.
    ///
    /// # Errors
    /// When the signals cannot be had.
    pub fn until_signal(self) -> std::io::Result<()> {
        self.engine.run_until_signal(DRAIN_MAX).map(drop)
    }

    /// Drains and stops.
    pub fn stop(self) {
        self.engine.stop(DRAIN_MAX);
    }
}
