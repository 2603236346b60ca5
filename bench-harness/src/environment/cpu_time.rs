//! CPU time of the whole host, and the part of it that the hypervisor gave to others.

use crate::dump::{Finite, Measured, to_f64};

/// The first line of `/proc/stat`, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    steal: u64,
    total: u64,
}

impl CpuTimes {
    /// Reads the text of `/proc/stat`.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let ticks: Vec<u64> = stat
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            // user nice system idle iowait irq softirq steal; guest time is already in user.
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self { steal: *ticks.get(7)?, total: ticks.iter().sum() })
    }

    /// Returns the ticks stolen since the host started.
    #[must_use]
    pub const fn stolen_ticks(self) -> u64 {
        self.steal
    }

    /// Returns the share of stolen time between an earlier reading and this one.
    pub fn steal_since(self, earlier: Self) -> Measured<Finite> {
        let steal = self.steal.saturating_sub(earlier.steal);
        let total = self.total.saturating_sub(earlier.total);
        Measured::ratio(to_f64(steal) * 100.0, to_f64(total), "no tick of CPU time passed")
    }

    /// Returns the share of stolen time since the host started.
    pub fn steal_since_boot(self) -> Measured<Finite> {
        self.steal_since(Self { steal: 0, total: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_field_and_guest_time_is_not_counted_twice() {
        let before = CpuTimes::parse("cpu  100 0 50 800 10 0 5 35 7 7\ncpu0 1").unwrap();
        let after = CpuTimes::parse("cpu  150 0 50 840 10 0 5 45 9 9\n").unwrap();
        assert_eq!(after.steal_since(before).get(), Some(10.0));
        assert_eq!(before.steal_since_boot().get(), Some(3.5));
        assert!(before.steal_since(before).reason().is_some());
    }

    #[test]
    fn what_is_no_stat_is_refused() {
        for stat in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3", "cpu  1 2 3 4 5 6 7 x"] {
            assert_eq!(CpuTimes::parse(stat), None, "{stat}");
        }
    }
}
