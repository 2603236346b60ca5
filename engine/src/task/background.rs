//! Work beside the requests, which nobody waits for.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use super::records::Tasks;
use crate::runtime::core::Context;
use crate::runtime::guard::Guarded;
use crate::runtime::ready::Task;

/// The handle of background work: ends it when dropped.
#[derive(Debug)]
#[must_use = "dropping the handle ends the work; call `detach` to let it run as long as its shard"]
pub struct Background {
    task: Task<()>,
    tasks: Rc<Tasks>,
}

impl Background {
    /// Lets the work go on for as long as its shard.
    pub fn detach(self) {
        let Self { task, tasks } = self;
        let mut detached = tasks.detached.tasks.borrow_mut();
        if detached.len() == detached.capacity() {
            detached.retain(|task| !task.is_finished());
        }
        // As many as the user has let go, and at most as many again that have ended.
        detached.push(task);
    }
}

/// Background work of one shard that nobody holds.
#[derive(Debug, Default)]
pub(super) struct Detached {
    tasks: RefCell<Vec<Task<()>>>,
}

/// Runs `future` on this shard beside its requests: what drives a client's connection, what keeps a
/// copy fresh. It is first polled in a later pass, never inside this call.
///
/// It is no request: it has no deadline, is neither counted nor listed nor limited, and a stop that
/// drains does not wait for it. It ends with its future, with its handle or with its shard, and is
/// dropped on its shard. A panic ends it alone.
///
/// # Panics
///
/// Outside of a shard.
#[track_caller]
pub fn spawn_background(future: impl Future<Output = ()> + 'static) -> Background {
    let tasks = Tasks::current();
    let guarded = Guarded::new(Context::NONE, future);
    let task = tasks.core.spawn(Location::caller(), async move {
        // Whether it ended or panicked, nobody asked for a result.
        let _ended = guarded.await;
    });
    Background { task, tasks }
}

impl Tasks {
    /// Cancels the work that nobody holds: each task is dropped when it is next ready.
    pub(crate) fn end_detached(&self) {
        let tasks = self.detached.tasks.take();
        drop(tasks);
    }
}
