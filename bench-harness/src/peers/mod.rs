//! Other implementations of the same work, to run beside ours (cargo feature `peers`).

use crate::dump::Repetition;
use crate::subject::{CellError, CellSpec};
use crate::workload_file::Peer;

/// Runs one repetition on a peer.
///
/// # Errors
/// When the repetition could not be run at all.
pub fn run(peer: Peer, spec: &CellSpec) -> Result<Repetition, CellError> {
    let (peer, workload) = (peer.name(), spec.workload.tag());
    Err(CellError::NotBuilt(format!("workload {workload} on peer {peer}")))
}
