//! The wall clock, as far as a cache needs it: which second of the Unix epoch it is.
//!
//! Read once, when a shard starts, and carried on by the shard's own clock: a shard asks no
//! clock of its own for every command, and time never falls when the host's clock is set back.

use std::time::{Duration, SystemTime};

use super::store::Now;

/// Knows the second, on any shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// The time of the epoch at the zero of the engine's clock.
    zero: Duration,
}

impl Clock {
    /// A clock that is set on this shard, now.
    pub(super) fn set() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A host whose clock stands before 1970 has items that never expire.
        let wall = since_epoch.unwrap_or_default();
        Self { zero: wall.saturating_sub(Duration::from_nanos(forebay::now().as_nanos())) }
    }

    /// The second that it is on this shard.
    pub(super) fn now(self) -> Now {
        let at = self.zero + Duration::from_nanos(forebay::now().as_nanos());
        Now(u32::try_from(at.as_secs()).unwrap_or(u32::MAX))
    }
}
