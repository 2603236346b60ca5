//! What a workload file says about the controllers of a stage.
//!
//! Every controller is a property of one stage and is off, or fixed, where the file does not name
//! it. Only shapes and defaults stand here; what the words do is documented by the engine's options
//! of the same names, and `check_stages` bounds the numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What keeps the response time of a stage near its target, by refusing what would not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conditioner {
    /// Nothing does: the queue's own bound is all there is.
    None,
    /// An adaptive limit on what is in flight.
    Inflight(Target),
    /// The published multiclass controller with its constants.
    Usits03(Target),
    /// The published direct controller: a rate that rises by steps and is halved.
    Direct(Target),
    /// The published controller with a proportional, an integral and a derivative part.
    Pid(Target),
    /// Drops what has stood too long while a delay persists.
    Codel(Target),
}

impl Conditioner {
    /// The target, where there is one.
    #[must_use]
    pub const fn target_us(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Inflight(target)
            | Self::Usits03(target)
            | Self::Direct(target)
            | Self::Pid(target)
            | Self::Codel(target) => Some(target.target_us),
        }
    }
}

/// What a conditioner aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Response time of the stage, 90th percentile.
    pub target_us: u64,
}

/// Fixed limits of what a stage admits; each shard for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionLimits {
    /// Calls that are admitted and not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// Calls that are admitted in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u64>,
}

/// A limit on what is sent downstream, all shards together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many in a second.
    pub per_s: u64,
    /// How many of what.
    #[serde(default)]
    pub counts: Counts,
}

/// What a downstream counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Batches: each is one call.
    #[default]
    Calls,
    /// Items.
    Items,
    /// The weight of items.
    Weight,
}

/// How the number of permits moves between its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scaling {
    /// One more while the queue is longer than a threshold, fewer while permits are idle.
    QueueThreshold {
        /// Items that wait.
        threshold: u32,
        /// How often it is looked.
        #[serde(default = "sample_ms_default")]
        sample_ms: u64,
    },
    /// By the run time of batches now against the long run.
    Gradient {
        /// How often it is looked.
        #[serde(default = "sample_ms_default")]
        sample_ms: u64,
    },
}

fn sample_ms_default() -> u64 {
    20
}

/// How large a batch may become, within `items_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchSize {
    /// As large as `items_max`.
    Fixed,
    /// The smallest at which throughput stays the same.
    Smallest,
    /// The largest whose run time fits, 99th percentile.
    BudgetUs(u64),
}

/// Whether a failed batch is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries of one batch, the first among them.
    pub attempts_max: u32,
    /// Second and later tries, in percent of first ones.
    pub budget_percent: u32,
}

/// When calls to a downstream that fails are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Share of failed batches at which it opens.
    pub failures_percent: u32,
    /// Batches below which that share says nothing.
    pub calls_min: u32,
    /// The time over which they are counted.
    pub window_ms: u64,
    /// How long it stays open before it lets one batch try.
    pub open_ms: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures_percent: 50, calls_min: 20, window_ms: 10_000, open_ms: 5_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_conditioner_reads_as_it_was_written() {
        for word in ["inflight", "usits03", "direct", "pid", "codel"] {
            let text = format!(r#"{{"{word}":{{"target_us":50000}}}}"#);
            let conditioner: Conditioner = serde_json::from_str(&text).unwrap();
            assert_eq!(conditioner.target_us(), Some(50_000));
            assert_eq!(serde_json::to_string(&conditioner).unwrap(), text);
        }
        let none: Conditioner = serde_json::from_str("\"none\"").unwrap();
        assert_eq!(none.target_us(), None);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let rate: Rate = serde_json::from_str(r#"{"per_s": 100}"#).unwrap();
        assert_eq!(rate.counts, Counts::Calls);
        let breaker: Breaker = serde_json::from_str("{}").unwrap();
        assert_eq!(breaker, Breaker::default());
        let scaling: Scaling = serde_json::from_str(r#"{"gradient": {}}"#).unwrap();
        assert_eq!(scaling, Scaling::Gradient { sample_ms: 20 });
    }
}
