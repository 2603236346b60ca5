//! How long the tiers of a service may take for one operation, from how they are configured.
//!
//! Each server bounds what is asked of it. The stage of a shard's keys stands before that and must not
//! cut what a slow server would still have answered: a write that is cut may be done or not, and its
//! key stays in doubt. So its bounds are longer than all that its tiers may do in a row.
//!
//! Nor must it hold back what needs no server. What waits is bounded where it waits: at the stages of
//! the server that is slow, which shed what they have no room for.

use std::time::Duration;

use forebay::{Placement, StageOptions};

use super::config::{ChunkedTier, Service, TierConfig};

/// Batches of a shard that are under way at once: more than there ever are, since a batch ends with its
/// slowest item, and the next must not wait for that before it reads what is in memory. One item of each
/// waits for a server at least, and all that may be asked of a shard at once are less: 128 keys for each
/// of 32,768 connections (`Limits`), of four shards.
///
/// A batch keeps its other items until then, though they are settled: the operations, not their outcomes.
const BATCHES_MAX: usize = 1 << 24;
/// What the upper tier is asked at most by one operation, one after the other: to read a copy, to store
/// one, and to drop it where it has no room.
const CALLS_ABOVE: u32 = 3;
/// For what a shard does itself in between, and for turns in which others come first.
const ROOM: Duration = Duration::from_secs(5);

/// What the stage of the keys of a shard allows by default, if its tiers answer in less than this.
pub(super) fn owned_options(run_within: Duration) -> StageOptions {
    let mut options = StageOptions::default();
    options.run_max = options.run_max.max(run_within);
    // Its batch gives a call up, not the call itself, whatever it has waited for before: a shard that is
    // busy, not another batch.
    options.call_max = options.call_max.max(run_within * 2);
    options.placement = Placement::Owner;
    options.permits = BATCHES_MAX;
    options
}

/// Longer than any operation takes in the tiers of this service.
///
/// Two things may take longer, and count as not answered then: an append to a large value that other
/// processes change again and again begins anew each time; and operations on one key with large
/// values wait for each other, each of which a server may answer at the last moment.
pub(super) fn run_within(service: &Service) -> Duration {
    let tiers = match &service.l2 {
        None => tier_within(&service.l1),
        Some(lower) => tier_within(&service.l1) * CALLS_ABOVE + tier_within(lower),
    };
    tiers + ROOM
}

/// The longest time in which a tier answers an operation.
fn tier_within(tier: &TierConfig) -> Duration {
    match tier {
        TierConfig::Embedded(_) => Duration::ZERO,
        TierConfig::Memcached(config) => config.limits.operation_within(),
        TierConfig::Chunked(ChunkedTier { memcached, chunks }) => {
            memcached.limits.operation_within() * chunks.calls_in_a_row()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_waits_for_all_that_its_tiers_may_do_in_a_row() {
        let check = |service: &str, tiers_ms: u64| {
            let service: Service = serde_json::from_str(service).unwrap();
            let expected = Duration::from_millis(tiers_ms) + ROOM;
            assert_eq!(run_within(&service), expected, "{service:?}");
        };
        check("{}", 0);
        let slow = r#"{"limits": {"connect_ms": 1000, "answer_ms": 4000}}"#;
        check(&format!(r#"{{"l1": {{"memcached": {slow}}}}}"#), 10_000);
        check(&format!(r#"{{"l2": {{"memcached": {slow}}}}}"#), 10_000);
        check(
            &format!(r#"{{"l1": {{"memcached": {slow}}}, "l2": {{"memcached": {{}}}}}}"#),
            32_500,
        );
        // 129 pieces are three waves: those of a value are read, written anew, and removed, with a
        // look at the metadata before each.
        let chunks = r#"{"piece_bytes": 1000, "value_bytes_max": 129000}"#;
        let chunked = format!(r#"{{"memcached": {{}}, "chunks": {chunks}}}"#);
        check(&format!(r#"{{"l1": {{"chunked": {chunked}}}}}"#), 3 * (3 + 1) * 2_500);
    }
}
