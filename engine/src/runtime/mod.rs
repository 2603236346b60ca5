//! The one door to the outside: clock, rings, lanes, threads, other shards.
//!
//! Two halves stand behind it. The pinned half hosts a shard in a glommio executor on its own
//! core; the simulated half runs several shards on one thread in virtual time. Everything above
//! this folder is the same code over either.

pub mod affinity;
pub(crate) mod bridge;
pub(crate) mod clock;
pub(crate) mod core;
pub(crate) mod guard;
pub(crate) mod half;
pub(crate) mod hosted;
pub(crate) mod lane;
pub(crate) mod pinned;
pub mod preflight;
pub(crate) mod priority;
pub(crate) mod ready;
pub(crate) mod ring;
pub(crate) mod shared;
pub mod signal;
pub(crate) mod simulated;
pub(crate) mod sleep;
pub(crate) mod wheel;

use std::fmt;

pub use clock::Time;
pub(crate) use clock::nanos;
pub use hosted::TurnRecord;

/// One shard of an engine: one pinned executor thread and all state it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard at `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// If `index` is 65,536 or more.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self(u16::try_from(index).expect("fewer than 65,536 shards"))
    }

    /// Its place among the shards, counted from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
