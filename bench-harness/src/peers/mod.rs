//! Other implementations of the same work, to run beside ours (cargo feature `peers`).
//!
//! They are what a good engineer would write on tokio today: the same requests, on the same data,
//! checked by the same code, under the same schedule and counted by the same rules, on the same
//! cores. They differ in how calls reach the downstream: one by one from a pool, or through one of
//! two batching crates.
//!
//! ```text
//! drive ─► requests ─► calls (direct │ dataloader │ batch_aint_one) ─► downstream
//!   └────► tally (each thread its own) ─► Repetition
//! ```

mod alarm;
mod runtime;
mod tally;
mod drive;
mod calls;
mod dataloader;
mod batch_aint_one;
mod downstream;
#[cfg(feature = "postgres")]
mod postgres_pool;
mod requests;
mod units;

use crate::dump::Repetition;
use crate::subject::{CellError, CellSpec};
use crate::workload_file::{Peer, Workload};

/// Runs one repetition on a peer, on threads of its own.
///
/// # Errors
/// When the repetition could not be run at all.
pub fn run(peer: Peer, spec: &CellSpec) -> Result<Repetition, CellError> {
    let Workload::Units(config) = &spec.workload;
    // A runtime of one worker pins the thread that builds it, so that is not the caller's.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| units::run(peer, config, spec));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
