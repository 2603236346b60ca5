//! Time as the engine counts it: nanoseconds since the engine started.
//!
//! One epoch for all shards, so that a deadline can cross a lane as a number. Deciding code gets a
//! [`Time`] and never asks for one; in simulation the number is virtual.

use std::time::Duration;

/// A point in time, in nanoseconds since the engine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The moment the engine started.
    pub const ZERO: Self = Self(0);
    /// Later than every moment that will come: no deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `delay` after this one; `NEVER` stays `NEVER`.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(nanos(delay)))
    }

    /// Time from `earlier` to this moment, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds; what does not fit in 64 bits (584 years) is the largest value.
pub(crate) fn nanos(duration: Duration) -> u64 {
    // Not by `as_nanos`: 128 bits cost three times as much, several times for each call.
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

/// The real clock of one engine. It reads the processor's time stamp counter where that is sound
/// (less than half the cost of the system's clock, and a shard reads it all the time), else the
/// system's monotonic clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    source: quanta::Clock,
    epoch: quanta::Instant,
}

impl Clock {
    /// A clock whose zero is now.
    pub(crate) fn start() -> Self {
        let source = quanta::Clock::new();
        let epoch = source.now();
        Self { source, epoch }
    }

    pub(crate) fn now(&self) -> Time {
        Time(nanos(self.source.now().saturating_duration_since(self.epoch)))
    }
}
