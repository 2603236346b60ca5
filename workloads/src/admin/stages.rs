//! The stages of every shard as JSON: what waits, how fast it goes, what its controllers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay::{Distribution, ShardSnapshot, ShedReason, StageSnapshot};
use serde::Serialize;

use super::rates::Rates;

/// Milliseconds of a second.
const MS_PER_S: f64 = 1_000.0;

/// The whole page.
#[derive(Debug, Serialize)]
pub(super) struct Stages {
    stages: Vec<Stage>,
}

/// One stage on all shards.
#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    shards: Vec<OnShard>,
}

/// One stage on one shard.
#[derive(Debug, Serialize)]
struct OnShard {
    shard: usize,
    /// Items that wait, and how long the oldest has.
    depth: usize,
    oldest_ms: f64,
    /// Batches in flight, and how many may be.
    permits_out: usize,
    permits: usize,
    /// Items sent in batches, over about the last second.
    rate_per_s: f64,
    /// Items of a batch on average, since the start.
    items_per_batch: Option<f64>,
    calls: u64,
    deduplicated: u64,
    degraded: u64,
    /// By reason.
    shed: BTreeMap<&'static str, u64>,
    expired: u64,
    failed: u64,
    wait_us: Quantiles,
    run_us: Quantiles,
    /// What its controllers have come to.
    controls: BTreeMap<&'static str, f64>,
}

/// Of times since the start.
#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<u128>,
    p99: Option<u128>,
}

impl Quantiles {
    fn of(times: &Distribution) -> Self {
        let at = |quantile| times.at(quantile).map(|time| time.as_micros());
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

impl Stages {
    pub(super) fn new(shards: &[Arc<ShardSnapshot>], rates: &mut Rates) -> Self {
        let mut stages: Vec<Stage> = Vec::new();
        for shard in shards {
            let rates = rates.of(shard);
            for (stage_idx, (snapshot, rate_per_s)) in shard.stages.iter().zip(rates).enumerate() {
                if stages.len() == stage_idx {
                    stages.push(Stage { name: snapshot.name.clone(), shards: Vec::new() });
                }
                let line = OnShard::new(shard.shard.index(), snapshot, rate_per_s);
                stages[stage_idx].shards.push(line);
            }
        }
        Self { stages }
    }
}

impl OnShard {
    fn new(shard: usize, stage: &StageSnapshot, rate_per_s: f64) -> Self {
        Self {
            shard,
            depth: stage.depth,
            oldest_ms: stage.oldest_wait.as_secs_f64() * MS_PER_S,
            permits_out: stage.permits_out,
            permits: stage.permits,
            rate_per_s,
            items_per_batch: stage.items_per_batch(),
            calls: stage.calls,
            deduplicated: stage.deduplicated,
            degraded: stage.degraded,
            shed: ShedReason::NAMES.into_iter().zip(stage.shed_by).collect(),
            expired: stage.expired,
            failed: stage.failed,
            wait_us: Quantiles::of(&stage.wait),
            run_us: Quantiles::of(&stage.run),
            controls: stage.controls.iter().map(|read| (read.name, read.value)).collect(),
        }
    }
}
