//! The workload file as Rust types: what a user may write, with the defaults filled in.
//!
//! Plain structs and externally tagged enums only. Serde loses the place of an error inside
//! internally tagged, untagged and flattened types, and `flatten` accepts unknown fields without a
//! word; here every mistake has a path. The two values that may be a number or something else
//! stand in [`super::values`]. Shapes are checked here, possible values in [`super::check`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::{AdmissionLimits, BatchSize, Breaker, Conditioner, Rate, Retry, Scaling};
use super::phases::Phase;
use super::service::{Peer, Workload};
use super::values::{Permits, ShardCount};

/// What `schema` must say.
pub const SCHEMA: &str = "bench-harness.workload/1";

/// Repetitions when the file does not say.
pub const REPETITIONS_DEFAULT: u32 = 10;

/// A workload file: an experiment on one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadFile {
    /// Where the schema of this file is, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<String>,
    /// `bench-harness.workload/1`.
    pub schema: String,
    /// The file's name without `.json`.
    pub name: String,
    /// What the experiment shows; not part of the digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Free text; not part of the digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// Drives arrivals, keys and faults.
    pub seed: u64,
    /// The engine under the service.
    pub engine: Engine,
    /// The service and what is asked of it.
    pub workload: Workload,
    /// Settings of stages by name; what is not named here keeps the service's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Stage>,
    /// What happens, in order.
    pub phases: Vec<Phase>,
    /// Dotted path of a field to the values it takes in turn; each combination is a cell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, Vec<Value>>,
    /// Other implementations of the same work, run interleaved with ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// How often each cell runs, each time in a fresh process.
    #[serde(default = "repetitions_default")]
    pub repetitions: u32,
    /// Limits that decide exit code 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Slo>,
    /// How dumps of this file are compared.
    #[serde(default)]
    pub compare: Compare,
}

fn repetitions_default() -> u32 {
    REPETITIONS_DEFAULT
}

/// The engine under the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// How many shards, or one for each CPU this process may run on.
    pub shards: ShardCount,
    /// The CPU of each shard, in order; by default the allowed CPUs from the first on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_cpus: Option<Vec<u32>>,
    /// What a shard does when it has nothing to do.
    #[serde(default)]
    pub idle: Idle,
    /// How shards reach their sockets.
    #[serde(default, skip_serializing_if = "Sockets::is_auto")]
    pub sockets: Sockets,
}

/// How shards reach their sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sockets {
    /// By a ring of their own where the kernel can, else by readiness.
    #[default]
    Auto,
    /// By a ring of their own, or not at all.
    Ring,
    /// By readiness, whatever the kernel can.
    Readiness,
}

impl Sockets {
    /// Whether the host decides. What a file does not say is left out of its digest, which so
    /// stays what it was before there was a choice.
    const fn is_auto(&self) -> bool {
        matches!(self, Self::Auto)
    }
}

/// What a shard does when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Sleeps in the kernel at once.
    #[default]
    Park,
    /// Looks again for this long before it sleeps.
    SpinUs(u32),
}

/// Settings of one stage; what is not said keeps the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stage {
    /// Most items of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_max: Option<u32>,
    /// When a batch seals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Batches in flight, each shard for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permits: Option<Permits>,
    /// Most items that wait; a call beyond is shed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_max: Option<u32>,
    /// Where calls are batched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Which calls of equal keys share one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// Longest run of a batch before it is abandoned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_max_ms: Option<u64>,
    /// Deadline of a call that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_max_ms: Option<u64>,
    /// What refuses calls so that those admitted keep their response time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditioner: Option<Conditioner>,
    /// Fixed limits of what is admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionLimits>,
    /// Once the queue stands and its oldest item has waited for this long, the newest go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_first_us: Option<u64>,
    /// Most that is sent downstream in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The same in short: batches in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u64>,
    /// How permits move between their bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How large a batch may become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchSize>,
    /// Share of each priority, from 0 on, while several wait; those not named weigh as the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<u32>>,
    /// Whether a failed batch is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When calls to a downstream that fails are cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

/// When a batch seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// As soon as nothing else could join for free.
    Idle,
    /// At the latest this long after its first item.
    LingerUs(u64),
}

/// Where calls are batched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Each shard for itself.
    Local,
    /// On the shard that owns the key.
    Owner,
    /// All on this shard.
    Gather(u32),
}

/// Which calls of equal keys share one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// None.
    Off,
    /// Those that wait in the queue.
    Queued,
    /// Those that wait, and those that a running batch will answer.
    InFlight,
}

/// A limit on one metric of one phase, judged on the median over repetitions of each of our cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// The measured phase.
    pub phase: String,
    /// A metric of `cells[].summary`.
    pub metric: String,
    /// Fails above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Fails below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

/// How dumps of this file are compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// Smallest change of a metric that counts, in percent; others keep the default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub floors_percent: BTreeMap<String, f64>,
}
