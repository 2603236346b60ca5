//! What a request knows of itself while it runs.

use std::time::Duration;

use super::records::Tasks;
use super::unit::{self, Unit, UnitKey};
use crate::runtime::core;
use crate::runtime::{ShardId, Time};

/// The scope of the request this code runs in: its deadline, its units of work.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    request: u64,
    deadline: Time,
}

/// The scope of the request that is being polled.
///
/// # Panics
///
/// Outside of a request: a batch function has its batch's own scope, never a caller's.
#[must_use]
pub fn scope() -> Scope {
    let context = core::current().context();
    assert!(context.request != 0, "scope() belongs inside a request, not in a batch function");
    Scope { request: context.request, deadline: context.deadline }
}

/// The shard on which this code runs.
///
/// # Panics
///
/// Outside of a shard.
#[must_use]
pub fn this_shard() -> ShardId {
    core::current().id()
}

/// How many shards this engine has: their ids are 0 up to this.
///
/// # Panics
///
/// Outside of a shard.
#[must_use]
pub fn n_shards() -> usize {
    core::current().n_shards()
}

impl Scope {
    /// The deadline, or `Time::NEVER`.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Time left before the deadline; `None` where there is none.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        (self.deadline != Time::NEVER).then(|| self.deadline.since(core::current().now()))
    }

    /// The unit of work named `key` of this request: begun with `future` if there is none yet,
    /// else the one there is, and `future` is dropped unpolled.
    ///
    /// Any number of units may await one. The request ends when all its units have ended. A unit
    /// that fails, panics or is cancelled cancels the units begun under it; a request that panics
    /// or is cancelled cancels all.
    #[track_caller]
    pub fn unit<K, F, T, E>(&self, key: K, future: F) -> Unit<T, E>
    where
        K: Into<UnitKey>,
        F: Future<Output = Result<T, E>> + 'static,
        T: Clone + 'static,
        E: 'static,
    {
        unit::begin(&Tasks::current(), self.request, key.into(), future)
    }
}
