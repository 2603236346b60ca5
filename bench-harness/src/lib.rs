//! The library behind the `bench-harness` binary: workload files in, dumps and verdicts out.

pub mod dump;
pub mod stats;
pub mod compare;
pub mod text;
pub mod environment;
pub mod canary;
pub mod doctor;
