//! Latencies: from a histogram to the quantiles that its samples can support.
//!
//! A quantile is given only when at least ten samples lie beyond it. A p99.9 of 900 requests is the
//! largest or second largest of them, and says nothing about the next run.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measured::{Finite, Measured, record};

/// Samples that must lie beyond a quantile.
pub const SAMPLES_BEYOND: u64 = 10;

/// The three latencies of a repetition. In closed loops `response` equals `service`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencySet {
    /// From the intended start to the reply.
    pub response: Latency,
    /// From the actual start to the reply.
    pub service: Latency,
    /// From the intended to the actual start.
    pub schedule_lag: Latency,
}

record! {
    /// Quantiles of one latency.
    pub struct Latency {
        /// Samples recorded.
        pub count: u64,
        /// Samples above the highest trackable value; when not 0, `max_ns` is only a lower bound.
        pub overflow_count: u64,
    } measured {
        /// Smallest sample.
        pub min_ns: u64,
        /// Median.
        pub p50_ns: u64,
        /// 90th percentile.
        pub p90_ns: u64,
        /// 99th percentile.
        pub p99_ns: u64,
        /// 99.9th percentile.
        pub p999_ns: u64,
        /// 99.99th percentile.
        pub p9999_ns: u64,
        /// Largest sample.
        pub max_ns: u64,
        /// Mean.
        pub mean_ns: Finite,
    }
}

/// A quantile as a fraction of whole numbers, so that the samples it needs are exact: `beyond` of
/// `one_in` samples lie above it.
#[derive(Debug, Clone, Copy)]
pub struct Quantile {
    beyond: u64,
    one_in: u64,
}

impl Quantile {
    /// The median.
    pub const P50: Self = Self { beyond: 1, one_in: 2 };
    /// The 90th percentile.
    pub const P90: Self = Self { beyond: 1, one_in: 10 };
    /// The 99th percentile.
    pub const P99: Self = Self { beyond: 1, one_in: 100 };
    /// The 99.9th percentile.
    pub const P999: Self = Self { beyond: 1, one_in: 1_000 };
    /// The 99.99th percentile.
    pub const P9999: Self = Self { beyond: 1, one_in: 10_000 };

    /// Returns how many samples the quantile needs.
    pub fn samples_needed(self) -> u64 {
        SAMPLES_BEYOND * self.one_in / self.beyond
    }

    /// Returns this quantile of the histogram, or why it has none.
    pub fn of(self, histogram: &Histogram<u64>) -> Measured<u64> {
        let (needed, have) = (self.samples_needed(), histogram.len());
        if have < needed {
            let (needed, have) = (grouped(needed), grouped(have));
            return Measured::absent(format!("n/a (needs {needed}; have {have})"));
        }
        let fraction = 1.0 - super::to_f64(self.beyond) / super::to_f64(self.one_in);
        // The histogram answers with the top of the bucket, which may lie above the largest sample.
        histogram.value_at_quantile(fraction).min(histogram.max()).into()
    }
}

impl Latency {
    /// Returns the quantiles of a histogram of nanoseconds.
    pub fn from_histogram(histogram: &Histogram<u64>, overflow_count: u64) -> Self {
        const NO_SAMPLES: &str = "n/a (no samples)";
        let some = !histogram.is_empty();
        Self {
            count: histogram.len(),
            overflow_count,
            min_ns: Measured::from_option(some.then(|| histogram.min()), NO_SAMPLES),
            p50_ns: Quantile::P50.of(histogram),
            p90_ns: Quantile::P90.of(histogram),
            p99_ns: Quantile::P99.of(histogram),
            p999_ns: Quantile::P999.of(histogram),
            p9999_ns: Quantile::P9999.of(histogram),
            max_ns: Measured::from_option(some.then(|| histogram.max()), NO_SAMPLES),
            mean_ns: Measured::from_option(
                some.then(|| histogram.mean()).and_then(Finite::new),
                NO_SAMPLES,
            ),
        }
    }

    /// Returns a latency that was not measured, with the reason in every field.
    pub fn absent(reason: &str) -> Self {
        Self {
            count: 0,
            overflow_count: 0,
            min_ns: Measured::absent(reason),
            p50_ns: Measured::absent(reason),
            p90_ns: Measured::absent(reason),
            p99_ns: Measured::absent(reason),
            p999_ns: Measured::absent(reason),
            p9999_ns: Measured::absent(reason),
            max_ns: Measured::absent(reason),
            mean_ns: Measured::absent(reason),
        }
    }
}

/// Writes a whole number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (digit_idx, digit) in digits.chars().enumerate() {
        if digit_idx > 0 && (digits.len() - digit_idx).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(samples: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for sample in 1..=samples {
            histogram.record(sample).unwrap();
        }
        histogram
    }

    #[test]
    fn a_quantile_needs_ten_samples_beyond_it() {
        let latency = Latency::from_histogram(&histogram(900), 0);
        assert_eq!(latency.p90_ns, Measured::Value(810));
        assert_eq!(latency.p99_ns.reason(), Some("n/a (needs 1,000; have 900)"));
        assert_eq!(latency.p999_ns.reason(), Some("n/a (needs 10,000; have 900)"));
        assert_eq!(latency.max_ns, Measured::Value(900));
        assert_eq!(Latency::from_histogram(&histogram(1_000), 0).p99_ns, Measured::Value(990));
        assert!(Latency::from_histogram(&histogram(19), 0).p50_ns.reason().is_some());
        assert!(Latency::from_histogram(&histogram(20), 0).p50_ns.reason().is_none());
    }

    #[test]
    fn an_empty_histogram_gives_reasons_and_no_zeroes() {
        let latency = Latency::from_histogram(&histogram(0), 0);
        assert_eq!(latency.min_ns.reason(), Some("n/a (no samples)"));
        assert!(latency.mean_ns.reason().is_some());
    }

    #[test]
    fn no_quantile_exceeds_the_largest_sample() {
        let mut histogram = histogram(0);
        for _ in 0..100_000 {
            histogram.record(1_234_567).unwrap();
        }
        let latency = Latency::from_histogram(&histogram, 0);
        assert!(latency.p9999_ns.value() <= latency.max_ns.value());
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
