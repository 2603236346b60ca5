//! A cell (one phase at one parameter setting) and its repetitions.
//!
//! A repetition is the unit of replication: one fresh child process, one number per metric. Everything
//! that statistics look at is therefore here, and the summary is derived from it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::latency::LatencySet;
use super::measured::{Finite, Measured, MeasuredMap, record};
use super::summary::{Better, Summary};

/// One phase of the workload at one parameter setting, for ours or for one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// `<phase>`, `<phase>/<path=value>,…`, or `<phase>@<peer>/<path=value>,…`; unique in the dump.
    pub id: String,
    /// Name of the phase.
    pub phase: String,
    /// Name of the peer; `None` for the engine itself.
    pub peer: Option<String>,
    /// The phase's arrival as the workload file says it.
    pub arrival: Value,
    /// The cell's own values of the matrix, by full dotted path.
    pub parameters: BTreeMap<String, Value>,
    /// Whether arrivals wait for replies.
    #[serde(rename = "loop")]
    pub loop_kind: LoopKind,
    /// False when the numbers must not be used; the reasons stand beside it.
    pub valid: bool,
    /// Why the cell is invalid; empty when it is valid.
    pub invalid_reasons: Vec<String>,
    /// What each execution gave, in the order they ran.
    pub repetitions: Vec<Repetition>,
    /// Median and interval per metric, built from `repetitions`.
    pub summary: BTreeMap<String, Summary>,
}

/// Whether a new request waits for an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoopKind {
    /// Arrivals follow a schedule; latency counts from the intended start.
    Open,
    /// A reply brings the next request; service time only, not a response-time measurement.
    Closed,
}

record! {
    /// One execution of a cell in a fresh process.
    pub struct Repetition {
        /// Position in the cell, from 0.
        pub index: u32,
        /// When it began, counted from `run.started_at`.
        pub started_offset_ns: u64,
        /// Length of the measured interval, on the subject's clock.
        pub measured_ns: u64,
        /// What became of the requests.
        pub ops: Ops,
        /// Failures and refusals by kind; for reading, not summed.
        pub errors_by_kind: BTreeMap<String, u64>,
        /// How the host itself changed meanwhile.
        pub canary: Canary,
        /// The three latencies.
        pub latency: LatencySet,
        /// Counters per stage; a peer may leave it empty.
        pub stages: BTreeMap<String, StageStats>,
        /// Cost per request: `allocs`, `cpu_ns`, `cross_shard_messages`, ….
        pub per_op: MeasuredMap<PerOp>,
        /// Counters per shard; a peer may leave it empty.
        pub shards: Vec<ShardStats>,
        /// Memory of the subject's process.
        pub memory: Memory,
        /// True where the load generator ran in the subject's process, so that `cpu_ns` and
        /// `max_rss_bytes` hold its share too.
        pub generator_in_subject: bool,
        /// What the workload adds under its own documented names.
        pub extra: BTreeMap<String, ExtraMetric>,
        /// Why this repetition makes its cell invalid; empty when it does not.
        pub invalid_reasons: Vec<String>,
    } measured {
        /// Completed requests per second of the measured interval.
        pub throughput_per_s: Finite,
        /// Requests completed within the deadline, per second; absent where there is none.
        pub goodput_per_s: Finite,
        /// How the subject reaches its sockets: `ring`, `readiness`, or what a peer uses; absent
        /// where it serves none.
        pub sockets: String,
    }
}

/// What became of the offered requests. `offered = started + dropped`, and
/// `started = completed + failed + timed_out + shed + in_flight_at_end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ops {
    /// Asked for by the schedule (open) or by a reply (closed).
    pub offered: u64,
    /// Handed to the subject.
    pub started: u64,
    /// Answered as asked, degraded answers included.
    pub completed: u64,
    /// Answered with an error, or with a wrong reply.
    pub failed: u64,
    /// Past their deadline.
    pub timed_out: u64,
    /// Refused, at the door or because a stage shed one of their calls.
    pub shed: u64,
    /// The part of `completed` that got a lesser answer on purpose.
    pub degraded: u64,
    /// Never handed to the subject: the generator's own bound.
    pub dropped: u64,
    /// Still running when the measured interval ended.
    pub in_flight_at_end: u64,
    /// The part of `completed` whose reply was checked.
    pub verified: u64,
}

record! {
    /// A fixed piece of work timed just before and just after the repetition.
    pub struct Canary {
    } measured {
        /// Time it took before.
        pub before_ns: u64,
        /// Time it took after.
        pub after_ns: u64,
        /// `after` against `before`; positive when the host got slower.
        pub drift_percent: Finite,
        /// Share of CPU time that the hypervisor gave to others meanwhile, as far as it says so.
        pub steal_percent: Finite,
        /// Share of the time just before and just after in which nothing ran on the canary's CPU.
        pub paused_percent: Finite,
        /// The longest such pause.
        pub longest_pause_ns: u64,
    }
}

/// When nothing ran on a CPU that had work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pauses {
    /// How long it was watched.
    pub watched: Duration,
    /// All pauses together.
    pub paused: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Pauses {
    /// Adds one.
    pub fn add(&mut self, pause: Duration) {
        self.paused += pause;
        self.longest = self.longest.max(pause);
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            watched: self.watched + other.watched,
            paused: self.paused + other.paused,
            longest: self.longest.max(other.longest),
        }
    }
}

record! {
    /// Counters of one stage. `items = calls - deduplicated`.
    pub struct StageStats {
        /// Calls made by requests.
        pub calls: u64,
        /// Items that the calls became.
        pub items: u64,
        /// Batches sealed.
        pub batches: u64,
        /// Batches by the reason that sealed them; sums to `batches`.
        pub sealed: Sealed,
        /// Calls that shared an item with an equal key.
        pub deduplicated: u64,
        /// Items whose deadline passed in the queue.
        pub expired: u64,
        /// Items refused at the queue's bound.
        pub shed: u64,
    } measured {
        /// Mean size of a batch.
        pub items_per_batch_mean: Finite,
        /// Median time in the queue.
        pub wait_p50_ns: u64,
        /// 99th percentile of the time in the queue.
        pub wait_p99_ns: u64,
        /// Median time in the batch function.
        pub run_p50_ns: u64,
        /// Permits at the end of the interval.
        pub permits: u64,
    }
}

/// Batches of one stage by the reason that sealed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// `items_max` was reached.
    pub full: u64,
    /// Nothing else was ready to run.
    pub idle: u64,
    /// The first item had waited for `linger_us`.
    pub lingered: u64,
    /// The stage closed.
    pub closing: u64,
}

/// A cost per request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerOp {
    /// The cost.
    pub value: Finite,
    /// Whether equal code must give the equal value.
    pub kind: MetricKind,
}

/// Whether a value repeats exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// A count that equal code repeats to the digit; any change is a change.
    Exact,
    /// A measurement with noise.
    Sampled,
}

record! {
    /// Counters of one shard.
    pub struct ShardStats {
        /// The shard's id.
        pub shard: u32,
        /// Requests completed on it; the shards sum to `ops.completed`.
        pub ops: u64,
    } measured {
        /// The CPU it is pinned to.
        pub cpu: u32,
        /// Share of the interval in which it ran tasks.
        pub busy_percent: Finite,
        /// 99th percentile of the response time of its requests.
        pub p99_ns: u64,
        /// Longest time it did not look at its ring.
        pub longest_stall_ns: u64,
    }
}

record! {
    /// Memory of the subject's process.
    pub struct Memory {
    } measured {
        /// The high-water mark of its resident set.
        pub max_rss_bytes: u64,
    }
}

record! {
    /// One metric that the workload adds under its own name.
    pub struct ExtraMetric {
        /// Unit in words, as in the name's ending: `ns`, `bytes`, `per_s`, `percent`, `ratio`.
        pub unit: String,
        /// Which direction is good.
        pub better: Better,
    } measured {
        /// The number.
        pub value: Finite,
    }
}

impl Canary {
    /// Returns the canary of a repetition from its two timings.
    pub fn from_timings(before_ns: u64, after_ns: u64, steal_percent: Measured<Finite>) -> Self {
        let (before, after) = (super::to_f64(before_ns), super::to_f64(after_ns));
        Self {
            before_ns: before_ns.into(),
            after_ns: after_ns.into(),
            steal_percent,
            drift_percent: Measured::ratio(
                (after - before) * 100.0,
                before,
                "the canary took no time",
            ),
            paused_percent: Measured::absent("not watched"),
            longest_pause_ns: Measured::absent("not watched"),
        }
    }

    /// Adds what was seen while nothing else was done.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Pauses) -> Self {
        let (paused, watched) = (pauses.paused.as_secs_f64(), pauses.watched.as_secs_f64());
        self.paused_percent = Measured::ratio(paused * 100.0, watched, "not watched");
        self.longest_pause_ns = u64::try_from(pauses.longest.as_nanos()).unwrap_or(u64::MAX).into();
        self
    }

    /// Returns the canary of a repetition that ran without one.
    pub fn absent(reason: &str) -> Self {
        Self {
            before_ns: Measured::absent(reason),
            after_ns: Measured::absent(reason),
            drift_percent: Measured::absent(reason),
            steal_percent: Measured::absent(reason),
            paused_percent: Measured::absent(reason),
            longest_pause_ns: Measured::absent(reason),
        }
    }
}
