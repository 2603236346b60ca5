//! Other implementations of the same work, to run beside ours (cargo feature `peers`).
//!
//! They are what a good engineer would write on tokio today: the same requests, on the same data,
//! checked by the same code, under the same schedule and counted by the same rules, on the same
//! cores. They differ in how calls reach the downstream: one by one from a pool, or through one of
//! two batching crates. Beside our own servers they are other servers (`echo`), and the clients are the
//! same.
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
mod serving;
mod tokio_accept;
mod echo;
mod staged;

pub use echo::serve as serve_echo;
pub use staged::serve as serve_staged;

use forebay_workloads::units::Config;

use crate::dump::Repetition;
use crate::subject::{CellError, CellSpec};
use crate::workload_file::Peer;

/// Runs one repetition on a peer, on threads of its own.
///
/// # Errors
/// When the repetition could not be run at all.
pub fn run(peer: Peer, config: &Config, spec: &CellSpec) -> Result<Repetition, CellError> {
    // A runtime of one worker pins the thread that builds it, so that is not the caller's.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| units::run(peer, config, spec));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
