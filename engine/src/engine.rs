//! Building an engine, talking to it from any thread, and stopping it.

mod builder;
mod handle;
mod stop;

pub use builder::{Builder, CpuChoice};
pub use handle::{AwaitReply, Handle, Reply, Snapshot};
pub use stop::{Engine, StopReport};
