//! Where each shard has come to in its life, and the wait for all of them: every barrier.
//!
//! Starting and each phase of stopping are barriers over all shards. A shard writes its own line
//! when it gets there; whoever coordinates waits for all lines, with a timeout.

use std::time::Duration;

use super::sync::{Condvar, Mutex, PoisonError, wait_while};

/// The life of a shard, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Not yet at the start barrier.
    Starting,
    /// Serving.
    Running,
    /// Refuses what comes from outside, works off what is live.
    Draining,
    /// Nothing was live any more when it looked.
    Drained,
    /// What was left has been cancelled and settled.
    Cancelled,
    /// Has said its last word on every lane.
    Ended,
    /// Has returned.
    Gone,
}

/// One line per shard.
#[derive(Debug)]
pub(crate) struct Board {
    lines: Mutex<Vec<Phase>>,
    changed: Condvar,
}

impl Board {
    pub(crate) fn new(n_shards: usize) -> Self {
        Self { lines: Mutex::new(vec![Phase::Starting; n_shards]), changed: Condvar::new() }
    }

    /// Records that a shard has come to `phase`; a line may go back from `Drained` to `Draining`.
    pub(crate) fn reach(&self, shard: usize, phase: Phase) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)[shard] = phase;
        self.changed.notify_all();
    }

    /// Waits until every shard has come to `phase` or further; gives those that have not in time.
    pub(crate) fn wait_for(&self, phase: Phase, timeout: Duration) -> Result<(), Vec<usize>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |lines: &Vec<Phase>| lines.iter().any(|line| *line < phase);
        let lines = wait_while(&self.changed, lines, timeout, waits);
        let late: Vec<usize> = (0..lines.len()).filter(|shard| lines[*shard] < phase).collect();
        if late.is_empty() { Ok(()) } else { Err(late) }
    }

    pub(crate) fn line(&self, shard: usize) -> Phase {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)[shard]
    }
}
