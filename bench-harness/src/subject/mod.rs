//! Runs one repetition of one cell inside the child process, on the engine or on a peer.
//!
//! The parent hands a [`CellSpec`] to a fresh child and gets the repetition back: what the child
//! needs to know stands here and nowhere else, so that a repetition can be run again from its spec.

mod engine;
mod build;
mod policy;
mod controllers;
mod drive;
mod generate;
mod probe;
mod figures;
mod error;

pub(crate) use build::configure;
pub use error::CellError;
pub(crate) use figures::stages as stage_stats_between;
pub(crate) use policy::apply;
pub use probe::ProbeLog;

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_workloads::units::Config;
use serde::{Deserialize, Serialize};

use crate::dump::Repetition;
use crate::environment::EngineFinding;
use crate::workload_file::{Engine, Peer, Phase, Stage, Workload};
use crate::{cacheproxy, echo, staged};

/// Everything one repetition of one cell depends on, the matrix already applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellSpec {
    /// Which cell it is.
    pub cell_id: String,
    /// Directory of the workload file: paths in the workload are relative to it.
    pub base_dir: PathBuf,
    /// Drives arrivals, keys and faults; the same in every repetition, so that they differ by
    /// chance of the host alone.
    pub seed: u64,
    /// Which repetition it is, from 0.
    pub repetition: u32,
    /// The other implementation to run; `None` runs ours.
    pub peer: Option<Peer>,
    /// The engine under the service; a peer takes its number of threads from it.
    pub engine: Engine,
    /// The service and what is asked of it.
    pub workload: Workload,
    /// Settings of stages by name.
    pub stages: BTreeMap<String, Stage>,
    /// Run first, in order, in the same process; their figures are thrown away.
    pub warmups: Vec<Phase>,
    /// The phase to measure.
    pub phase: Phase,
}

/// Asks the engine whether it can run on this host, before any child is started.
#[must_use]
pub fn preflight() -> EngineFinding {
    engine::preflight()
}

/// Runs one repetition in the calling process and returns what it measured.
///
/// Index, start and canary of the repetition belong to the parent, which sets them.
///
/// # Errors
/// When the repetition could not be run at all. A run whose requests failed is a repetition that
/// says so in `invalid_reasons`.
pub fn run(spec: &CellSpec) -> Result<Repetition, CellError> {
    match (&spec.workload, spec.peer) {
        (Workload::Units(config), None) => engine::run(spec, config),
        (Workload::Units(config), Some(peer)) => run_peer(peer, config, spec),
        // Whoever serves, the client is the same.
        (Workload::Echo(config), _) => echo::run(spec, config),
        (Workload::Staged(config), _) => staged::run(spec, config),
        (Workload::Cacheproxy(config), _) => cacheproxy::run(spec, config),
    }
}

#[cfg(feature = "peers")]
fn run_peer(peer: Peer, config: &Config, spec: &CellSpec) -> Result<Repetition, CellError> {
    crate::peers::run(peer, config, spec)
}

#[cfg(not(feature = "peers"))]
fn run_peer(peer: Peer, _: &Config, _: &CellSpec) -> Result<Repetition, CellError> {
    Err(CellError::peer_left_out(peer))
}
