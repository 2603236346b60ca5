//! Runs a cell on Forebay itself.

use super::{CellError, CellSpec};
use crate::dump::Repetition;

/// Runs one repetition on the engine.
pub(super) fn run(spec: &CellSpec) -> Result<Repetition, CellError> {
    Err(CellError::NotBuilt(format!("workload {} on the engine", spec.workload.tag())))
}
