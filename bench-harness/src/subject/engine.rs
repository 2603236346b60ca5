//! Runs a cell on Forebay itself.

use super::{CellError, CellSpec};
use crate::dump::Repetition;
use crate::environment::EngineFinding;

/// Asks the engine's pre-flight.
pub(super) fn preflight() -> EngineFinding {
    EngineFinding::NotProbed
}

/// Runs one repetition on the engine.
pub(super) fn run(spec: &CellSpec) -> Result<Repetition, CellError> {
    Err(CellError::NotBuilt(format!("workload {} on the engine", spec.workload.tag())))
}
