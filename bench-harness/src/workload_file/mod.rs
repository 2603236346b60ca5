//! Workload files: their types, their reading and what is wrong with them.

mod types;
mod values;

pub use types::{
    Arrival, Compare, Dedup, Engine, Idle, Peer, Phase, Placement, REPETITIONS_DEFAULT, Role,
    SCHEMA, Slo, Stage, Until, Window, Workload, WorkloadFile,
};
pub use values::{Permits, ShardCount};
