//! How long runnable tasks wait for their turn, host stalls left out and counted.
//!
//! A guest whose CPU the hypervisor takes away sees a wait that no scheduler of its own could
//! avoid. The kernel books stolen time in ticks of 10 ms. So a wait long enough to be suspect is
//! left out when such a tick was booked since the last look, and looks are at most
//! [`LOOK_EVERY`] samples apart: an old tick excuses nothing.

use crate::environment::HostFiles;
use crate::load::LatencyHistogram;

/// A wait that could be a host stall: beyond what a slice of the scheduler explains.
const SUSPECT_NS: u64 = 500_000;
/// Samples between two looks at the host's books: 20 ms at a pause of 200 us. A look costs some
/// 30 us.
const LOOK_EVERY: u32 = 100;

/// What one probe has seen.
#[derive(Debug, Clone)]
pub struct ProbeLog {
    waits: LatencyHistogram,
    host_stalls: u64,
    /// Stolen ticks at the last look; `None` where the host does not tell.
    stolen: Option<u64>,
    until_look: u32,
}

impl ProbeLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self { waits: LatencyHistogram::new(), host_stalls: 0, stolen: None, until_look: 0 }
    }

    /// Notes one wait.
    pub fn note(&mut self, waited_ns: u64) {
        self.note_with(waited_ns, stolen_ticks);
    }

    fn note_with(&mut self, waited_ns: u64, look: impl Fn() -> Option<u64>) {
        let suspect = waited_ns >= SUSPECT_NS;
        let mut stalled = false;
        if suspect || self.until_look == 0 {
            let stolen = look();
            stalled =
                suspect && matches!((self.stolen, stolen), (Some(old), Some(new)) if new > old);
            self.stolen = stolen;
            self.until_look = LOOK_EVERY;
        }
        self.until_look -= 1;
        if stalled {
            self.host_stalls += 1;
        } else {
            self.waits.record(waited_ns);
        }
    }

    /// Adds what another probe has seen.
    pub fn merge(&mut self, other: &Self) {
        self.waits.merge(&other.waits);
        self.host_stalls += other.host_stalls;
    }

    /// The waits that count.
    #[must_use]
    pub const fn waits(&self) -> &LatencyHistogram {
        &self.waits
    }

    /// Waits left out because the host had taken the CPU away.
    #[must_use]
    pub const fn host_stalls(&self) -> u64 {
        self.host_stalls
    }
}

impl Default for ProbeLog {
    fn default() -> Self {
        Self::new()
    }
}

fn stolen_ticks() -> Option<u64> {
    HostFiles::real().cpu_times().ok().map(|times| times.stolen_ticks())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_counts_unless_time_was_stolen_since_the_last_look() {
        let mut log = ProbeLog::new();
        log.note_with(1_000, || Some(5));
        log.note_with(2_000_000, || Some(5));
        assert_eq!((log.waits().values().len(), log.host_stalls()), (2, 0));
        log.note_with(2_000_000, || Some(6));
        assert_eq!((log.waits().values().len(), log.host_stalls()), (2, 1));
        // The same tick excuses nothing a second time.
        log.note_with(2_000_000, || Some(6));
        assert_eq!((log.waits().values().len(), log.host_stalls()), (3, 1));
    }

    #[test]
    fn an_old_tick_excuses_nothing() {
        let mut log = ProbeLog::new();
        log.note_with(1_000, || Some(5));
        for _ in 0..2 * LOOK_EVERY {
            log.note_with(1_000, || Some(6));
        }
        log.note_with(2_000_000, || Some(6));
        assert_eq!(log.host_stalls(), 0);
    }

    #[test]
    fn a_host_that_does_not_tell_excuses_nothing() {
        let mut log = ProbeLog::new();
        for _ in 0..5 {
            log.note_with(2_000_000, || None);
        }
        assert_eq!((log.waits().values().len(), log.host_stalls()), (5, 0));
    }
}
