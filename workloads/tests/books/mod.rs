//! The books of an engine that has stopped: what came in has gone out, been dropped for a reason that
//! is counted, or never was admitted.

use forebay::{Handle, ShardSnapshot};

/// Checks the books of every shard, and gives the last counts.
#[track_caller]
pub(crate) fn check_books(handle: &Handle) -> Vec<ShardSnapshot> {
    let last = handle.snapshots().into_iter().map(|snapshot| (*snapshot.unwrap().shard).clone());
    let shards: Vec<ShardSnapshot> = last.collect();
    for shard in &shards {
        assert_eq!(shard.requests_started, shard.requests_ended, "{shard:?}");
        for ledger in &shard.ledgers {
            assert_eq!(ledger.imbalance(), None, "{ledger:?}");
            assert_eq!((ledger.live, ledger.queued, ledger.flights), (0, 0, 0), "{ledger:?}");
        }
        for (stage, ledger) in shard.stages.iter().zip(&shard.ledgers) {
            assert_eq!(stage.imbalance(ledger.live), None, "{stage:?}");
        }
    }
    shards
}
