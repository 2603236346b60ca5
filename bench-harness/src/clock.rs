//! The clock by which requests are timed, ours and the peers' alike.
//!
//! Read once or twice for every request, so it is the cheapest there is: the processor's time stamp
//! counter where that is sound, else the system's monotonic clock.

use std::sync::LazyLock;

static SOURCE: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

/// Nanoseconds since the start of a phase, the same on all shards and threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
}

impl Clock {
    /// A clock whose zero is now. The first in a process takes some milliseconds to calibrate.
    pub(crate) fn start() -> Self {
        Self { start: SOURCE.raw() }
    }

    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        SOURCE.delta_as_nanos(self.start, SOURCE.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an ordinary thread, and real time")]
    fn a_clock_goes_with_the_systems() {
        let clock = Clock::start();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let ns = clock.now_ns();
        assert!((20_000_000..10_000_000_000).contains(&ns), "{ns} ns");
        assert!(clock.now_ns() >= ns);
    }
}
