//! Workload files: their types, their reading and what is wrong with them.
//!
//! [`load`] is the way in. A file that is wrong gives a [`Report`] of everything that is wrong with
//! it, each mistake with file:line:column, JSON pointer, and a suggestion where one is near.

mod types;
mod service;
mod phases;
mod control;
mod values;

mod load;
mod source;
mod overrides;
mod shape;
mod check;
mod check_stages;
mod check_phases;
mod digest;

mod position;
mod diagnostic;

pub use control::{
    AdmissionLimits, BatchSize, Breaker, Conditioner, Counts, Rate, Retry, Scaling, Target,
};
pub use diagnostic::{Diagnostic, Report, Severity};
pub use digest::digest;
pub use load::{LoadOptions, LoadedWorkload, Variant, load};
pub use overrides::Override;
pub use phases::{Arrival, Phase, Role, Until, warmups_of};
pub use position::{Duplicate, Positions, Span};
pub use service::{Clients, Connections, Peer, Workload};
pub use source::FILE_BYTES_MAX;
pub use types::{
    Compare, Dedup, Engine, Idle, Placement, REPETITIONS_DEFAULT, SCHEMA, Slo, Sockets, Stage,
    Window, WorkloadFile,
};
pub use values::{Permits, ShardCount};
