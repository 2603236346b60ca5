//! The dump: the one JSON file that a run leaves behind.
//!
//! Tables, reports and comparisons are all made from it, so nothing can stand in one and not in the
//! other. The shape is the contract `bench-harness.dump/1`: additions are free, and readers pass over
//! what they do not know; renaming or dropping a field needs a new major version, which readers refuse.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod measured;

mod cell;
mod check;
mod file;
mod host;
mod latency;
mod summary;
#[cfg(test)]
pub(crate) mod sample;

pub use cell::{
    Canary, Cell, ExtraMetric, LoopKind, Memory, MetricKind, Ops, Pauses, PerOp, Repetition,
    Sealed, ShardStats, StageStats,
};
pub use check::{Problem, check};
pub use file::{
    DUMP_BYTES_MAX, RESULTS_DIR_DEFAULT, RESULTS_DIR_VARIABLE, ReadError, new_path, parse, read,
    results_dir, without_paths, write, write_atomically,
};
pub use host::{Build, Cgroup, Cpu, Environment, IoUring, Limits, Measurement, Preflight, System};
pub use latency::{Latency, LatencySet, Quantile, SAMPLES_BEYOND, grouped};
pub use measured::{Finite, Measured, MeasuredMap};
pub use summary::{
    Better, EXTRA_PREFIX, METRICS, Metric, REJECTED_PREFIX, Series, Summary, metric, series,
    summarise,
};

pub(crate) use measured::{join, record, record_schema, skip_value};

/// The schema that this version writes and reads.
pub const SCHEMA: &str = "bench-harness.dump/1";

/// Everything one run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dump {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// The run.
    pub run: Run,
    /// The workload file, as it was understood.
    pub workload: WorkloadRecord,
    /// The host and the build.
    pub environment: Environment,
    /// What measuring itself costs.
    pub measurement: Measurement,
    /// One entry per phase, parameter setting and peer.
    pub cells: Vec<Cell>,
    /// What became of the limits in the workload file.
    pub slo: Vec<SloResult>,
    /// What a reader should know.
    pub warnings: Vec<Warning>,
}

/// The program that wrote a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `bench-harness`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One run of one workload file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Unique among runs.
    pub id: String,
    /// Start, in UTC, RFC 3339.
    pub started_at: String,
    /// End, in UTC; of a dump still being written, when it was last written.
    pub finished_at: String,
    /// Command line, with paths reduced to file names.
    pub argv: Vec<String>,
    /// The caller's word for the run.
    pub label: Option<String>,
    /// How the run ended.
    pub status: RunStatus,
    /// True for `--quick`: too short to be compared.
    pub quick: bool,
    /// Run id of the other arm, where two builds were run in turns.
    pub interleaved_with: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Every repetition of every cell ran.
    Complete,
    /// A signal came; what had finished is here. Also the status of a run still going on.
    Interrupted,
    /// A repetition could not be run; what had finished is here.
    Failed,
}

/// The workload file, as it was understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadRecord {
    /// The file's `name`.
    pub name: String,
    /// SHA-256 of the canonical form of all that changes what is measured.
    pub digest: String,
    /// The file with its defaults filled in and `--set` applied.
    pub resolved: Value,
}

/// Which side of the limit is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Passes when the median is not above the limit.
    AtMost,
    /// Passes when the median is not below the limit.
    AtLeast,
}

record! {
    /// One limit of the workload file, judged for one cell.
    pub struct SloResult {
        /// The cell's id.
        pub cell: String,
        /// The metric's name in `summary`.
        pub metric: String,
        /// Which side of the limit is good.
        pub limit_kind: LimitKind,
        /// The limit.
        pub limit: Finite,
        /// True when the limit was kept. A metric that could not be measured does not pass.
        pub pass: bool,
        /// True when the confidence interval lies on both sides of the limit.
        pub marginal: bool,
    } measured {
        /// The cell's median.
        pub observed: Finite,
    }
}

/// Something a reader should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Stable code, `N` and three digits.
    pub code: String,
    /// The sentence.
    pub message: String,
}

/// Turns a count into a float. Counts beyond 2^53 lose their last digits, which no ratio shows.
#[allow(clippy::cast_precision_loss, reason = "a ratio of counts needs no more than 53 bits")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}
