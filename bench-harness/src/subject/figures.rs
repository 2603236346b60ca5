//! What the engine has counted between two snapshots, in the words of a dump.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::{ShardSnapshot, StageSnapshot};

use super::drive::Tally;
use crate::dump::{
    Finite, Latency, Measured, MetricKind, PerOp, Sealed, ShardStats, StageStats, to_f64,
};

/// The counters of every stage, all shards together.
pub(crate) fn stages(
    before: &[ShardSnapshot],
    after: &[ShardSnapshot],
) -> BTreeMap<String, StageStats> {
    let mut whole: BTreeMap<String, StageSnapshot> = BTreeMap::new();
    for (before, after) in before.iter().zip(after) {
        for (earlier, stage) in before.stages.iter().zip(&after.stages) {
            let mut stage = stage.clone();
            stage.since(earlier);
            match whole.get_mut(&stage.name) {
                Some(whole) => whole.merge(&stage),
                None => {
                    whole.insert(stage.name.clone(), stage);
                }
            }
        }
    }
    whole.into_iter().map(|(name, stage)| (name, stage_stats(&stage))).collect()
}

fn stage_stats(stage: &StageSnapshot) -> StageStats {
    const NO_BATCH: &str = "no batch was sealed";
    let time = |time: Option<Duration>| Measured::from_option(time.map(nanos), NO_BATCH);
    StageStats {
        calls: stage.calls,
        // What became an item, also one that expired in the queue and was never sent.
        items: stage.calls - stage.deduplicated.min(stage.calls),
        batches: stage.batches,
        sealed: Sealed {
            full: stage.sealed.full,
            idle: stage.sealed.idle,
            lingered: stage.sealed.lingered,
            closing: stage.sealed.closing,
        },
        deduplicated: stage.deduplicated,
        expired: stage.expired,
        shed: stage.shed,
        items_per_batch_mean: match stage.items_per_batch() {
            Some(mean) => Measured::number(mean),
            None => Measured::absent(NO_BATCH),
        },
        wait_p50_ns: time(stage.wait.at(0.5)),
        wait_p99_ns: time(stage.wait.at(0.99)),
        run_p50_ns: time(stage.run.at(0.5)),
        permits: u64::try_from(stage.permits).unwrap_or(u64::MAX).into(),
    }
}

/// The counters of every shard.
pub(super) fn shards(
    before: &[ShardSnapshot],
    after: &[ShardSnapshot],
    tallies: &[Tally],
) -> Vec<ShardStats> {
    let one = |(before, after): (&ShardSnapshot, &ShardSnapshot)| {
        let shard = after.shard.index();
        let recorder =
            tallies.iter().find(|tally| tally.shard == shard).map(|tally| &tally.counted.recorder);
        let busy = after.busy.saturating_sub(before.busy);
        let elapsed = after.at.since(before.at);
        ShardStats {
            shard: u32::try_from(shard).unwrap_or(u32::MAX),
            ops: recorder.map_or(0, |recorder| recorder.counts().completed),
            cpu: Measured::from_option(
                after.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
                "the shard is not pinned",
            ),
            busy_percent: Measured::ratio(
                to_f64(nanos(busy)) * 100.0,
                to_f64(nanos(elapsed)),
                "no time passed",
            ),
            p99_ns: match recorder {
                Some(recorder) => {
                    let response = recorder.response();
                    Latency::from_histogram(response.values(), response.overflow_count()).p99_ns
                }
                None => Measured::absent("no requests"),
            },
            longest_stall_ns: longest_stall(before, after),
        }
    };
    before.iter().zip(after).map(one).collect()
}

/// The longest poll of a task since `before`. The engine keeps the longest since its start only.
fn longest_stall(before: &ShardSnapshot, after: &ShardSnapshot) -> Measured<u64> {
    let longest = |snapshot: &ShardSnapshot| {
        snapshot.longest_poll.as_ref().map_or(0, |poll| nanos(poll.took))
    };
    let (earlier, now) = (longest(before), longest(after));
    if now > earlier {
        Measured::Value(now)
    } else {
        Measured::absent(format!("none exceeded the longest of the warm-up, {earlier} ns"))
    }
}

/// Parcels sent between shards for each completed request.
pub(super) fn messages_per_op(
    before: &[ShardSnapshot],
    after: &[ShardSnapshot],
    completed: u64,
) -> Measured<PerOp> {
    let sent = |all: &[ShardSnapshot]| all.iter().map(|shard| shard.parcels_sent).sum::<u64>();
    if completed == 0 {
        return Measured::absent("no request completed");
    }
    let parcels = sent(after).saturating_sub(sent(before));
    // How many messages share a parcel depends on timing, also for a fixed number of requests.
    let per_op = Finite::new(to_f64(parcels) / to_f64(completed))
        .map(|value| PerOp { value, kind: MetricKind::Sampled });
    Measured::from_option(per_op, "the quotient is not finite")
}

/// Waits that ended by their cap although work was present: a wake that was lost, or a host so busy
/// that the thread ran only after its timer too.
pub(super) fn waits_capped(before: &[ShardSnapshot], after: &[ShardSnapshot]) -> u64 {
    let capped = |all: &[ShardSnapshot]| all.iter().map(|shard| shard.waits_capped).sum::<u64>();
    capped(after).saturating_sub(capped(before))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
