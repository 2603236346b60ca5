//! One metric over the repetitions of a cell.

use serde::{Deserialize, Serialize};

use super::cell::MetricKind;
use super::measured::{Finite, record};

/// Which direction of a metric is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// For information; never judged.
    None,
}

record! {
    /// Median and 95 % confidence interval of one metric over the repetitions.
    pub struct Summary {
        /// Repetitions that gave a value.
        pub n: u32,
        /// Which direction is good.
        pub better: Better,
        /// Whether equal code must give the equal value.
        pub kind: MetricKind,
        /// How the interval was made.
        pub ci95_source: String,
    } measured {
        /// Median over the repetitions.
        pub median: Finite,
        /// Lower end of the interval of the median.
        pub ci95_low: Finite,
        /// Upper end of the interval of the median.
        pub ci95_high: Finite,
    }
}
