//! The record of a comparison: what every rendering is made from, and what a CI job keeps.

use serde::{Deserialize, Serialize};

use super::gates::Difference;
use super::verdict::Verdict;
use crate::dump::{Better, Finite, MetricKind, record};

/// The schema of the record.
pub const SCHEMA: &str = "bench-harness.comparison/1";

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// The old dump.
    pub base: Side,
    /// The new dump.
    pub new: Side,
    /// Whether the two took turns.
    pub order: Order,
    /// How far the comparison came.
    pub outcome: Outcome,
    /// Why a dump must not be believed.
    pub invalid_reasons: Vec<String>,
    /// In what the dumps differ, so that their timings do not compare.
    pub differences: Vec<Difference>,
    /// One entry per cell on both sides; empty unless `outcome` is `compared`.
    pub cells: Vec<CellComparison>,
    /// Cells that only the base has.
    pub removed: Vec<String>,
    /// Cells that only the new dump has.
    pub added: Vec<String>,
    /// Geometric mean of the shifts in throughput over the engine's own cells.
    pub geomean: Option<Geomean>,
    /// What a reader should know.
    pub warnings: Vec<String>,
    /// How many metrics got each verdict, peers left out.
    pub counts: Counts,
    /// The exit code by the contract.
    pub exit_code: u8,
}

/// Which dump stood on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The run's id.
    pub run_id: String,
    /// The run's label.
    pub label: Option<String>,
    /// The run's start.
    pub started_at: String,
    /// The source's revision; empty when unknown.
    pub git_commit: String,
    /// The workload's digest.
    pub workload_digest: String,
}

/// Whether the repetitions of the two sides took turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// They did: the host's drift falls on both alike.
    Interleaved,
    /// One ran after the other.
    Sequential,
}

/// How far a comparison came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Verdicts were given.
    Compared,
    /// The dumps measure different things, or in different places.
    Incomparable,
    /// One of the dumps must not be believed.
    Invalid,
}

/// One cell that stands on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellComparison {
    /// The cell's id.
    pub id: String,
    /// Whether its verdicts decide the exit code: those of peers, or across hosts, do not.
    pub gates: bool,
    /// One entry per metric.
    pub metrics: Vec<MetricComparison>,
}

record! {
    /// One metric of one cell.
    pub struct MetricComparison {
        /// The metric's name in `summary`.
        pub metric: String,
        /// Whether equal code must give the equal value.
        pub kind: MetricKind,
        /// Which direction is good.
        pub better: Better,
        /// Repetitions of the base that gave a value.
        pub n_base: u32,
        /// Repetitions of the new dump that gave a value.
        pub n_new: u32,
        /// The least relative change worth a verdict.
        pub floor_percent: Finite,
        /// Which rule set the floor.
        pub floor_source: String,
        /// The verdict.
        pub verdict: Verdict,
        /// The floor, or what stands in the way of a verdict.
        pub reason: String,
    } measured {
        /// Median of the base.
        pub base: Finite,
        /// Median of the new dump.
        pub new: Finite,
        /// Hodges-Lehmann estimate of the relative change.
        pub shift_percent: Finite,
        /// Lower end of its interval.
        pub ci_low_percent: Finite,
        /// Upper end of its interval.
        pub ci_high_percent: Finite,
        /// The level of the interval: its confidence is one minus this. After Holm, but the plain one
        /// for `no_difference`.
        pub level: Finite,
        /// Two-sided Mann-Whitney of "not equal".
        pub p_value: Finite,
        /// The same of "beyond the floor", on which Holm's correction stands.
        pub p_beyond_floor: Finite,
        /// Change of the canary between the two sides.
        pub canary_drift_percent: Finite,
    }
}

/// Geometric mean over cells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Geomean {
    /// Cells that it covers.
    pub n_cells: u32,
    /// The mean shift.
    pub shift_percent: Finite,
}

/// How many metrics got each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Worse by more than the floor.
    pub regressed: u32,
    /// Better by more than the floor.
    pub improved: u32,
    /// The same within the floor.
    pub no_difference: u32,
    /// Not to be told.
    pub inconclusive: u32,
}
