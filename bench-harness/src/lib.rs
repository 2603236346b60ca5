//! The library behind the `bench-harness` binary: workload files in, dumps and verdicts out.

pub mod dump;
pub mod stats;
