//! Work beside the requests: it lives as long as its shard and nobody waits for it.

use std::cell::RefCell;
use std::panic::Location;

use super::records::Tasks;
use crate::runtime::core::Context;
use crate::runtime::guard::Guarded;
use crate::runtime::ready::Task;

/// The background tasks of one shard that have not ended.
#[derive(Debug, Default)]
pub(super) struct Background {
    tasks: RefCell<Vec<Task<()>>>,
}

/// Runs `future` on this shard beside its requests: what drives a client's connection, what keeps a
/// copy fresh. It is first polled in a later pass, never inside this call.
///
/// It is no request: it has no deadline, is neither counted nor listed, and a stop that drains does
/// not wait for it. It goes on until the shard ends and is dropped then, on its shard. A panic ends
/// it alone.
///
/// # Panics
///
/// Outside of a shard.
#[track_caller]
pub fn spawn_background(future: impl Future<Output = ()> + 'static) {
    let tasks = Tasks::current();
    let guarded = Guarded::new(Context::NONE, future);
    let task = tasks.core.spawn(Location::caller(), async move {
        // Whether it ended or panicked, nobody asked for a result.
        let _ended = guarded.await;
    });
    let mut background = tasks.background.tasks.borrow_mut();
    // Bounded by those that live and as many again.
    if background.len() == background.capacity() {
        background.retain(|task| !task.is_finished());
    }
    background.push(task);
}

impl Tasks {
    /// Cancels what runs in the background: each task is dropped when it is next ready.
    pub(crate) fn end_background(&self) {
        let tasks = self.background.tasks.take();
        drop(tasks);
    }
}
