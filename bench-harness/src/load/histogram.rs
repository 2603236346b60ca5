//! The one histogram that all latencies go into: same range, same precision, no value lost.

use hdrhistogram::Histogram;

/// Longest latency a histogram tells apart; longer ones are counted as overflow.
///
/// 60 s at 3 digits from 1 ns costs 216 KiB a histogram; no call in a workload may last longer.
const HIGHEST_NS: u64 = 60_000_000_000;

/// A latency histogram that says how many values were beyond its range.
#[derive(Debug, Clone)]
pub struct LatencyHistogram {
    values: Histogram<u64>,
    overflow: u64,
}

impl LatencyHistogram {
    /// Significant digits: 0.1 % of the value.
    pub const DIGITS: u8 = 3;

    /// Makes an empty histogram of 1 ns to 60 s at 3 significant digits.
    ///
    /// # Panics
    /// Never: the bounds are constants that `hdrhistogram` accepts.
    #[must_use]
    pub fn new() -> Self {
        let values = Histogram::new_with_bounds(1, HIGHEST_NS, Self::DIGITS)
            .expect("1 <= low, 2 * low <= high, digits <= 5");
        Self { values, overflow: 0 }
    }

    /// Counts one value; one beyond the range counts at its top and in `overflow_count`.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if self.values.record(ns).is_err() {
            self.overflow += 1;
            self.values.saturating_record(ns);
        }
    }

    /// Adds all values of another histogram.
    ///
    /// # Panics
    /// Never: all latency histograms have the same range.
    pub fn merge(&mut self, other: &Self) {
        self.values.add(&other.values).expect("both histograms have the same range");
        self.overflow += other.overflow;
    }

    /// How many values were beyond the range; above 0, `max` is only a lower bound.
    #[must_use]
    pub const fn overflow_count(&self) -> u64 {
        self.overflow
    }

    /// The values, for quantiles and export.
    #[must_use]
    pub const fn values(&self) -> &Histogram<u64> {
        &self.values
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_beyond_the_range_is_counted_and_not_lost() {
        let mut histogram = LatencyHistogram::new();
        histogram.record(u64::MAX);
        assert_eq!((histogram.values().len(), histogram.overflow_count()), (1, 1));
    }
}
