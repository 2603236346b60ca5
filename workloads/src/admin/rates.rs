//! Rates from counts: what a stage has sent in batches per second, between two looks. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::{ShardSnapshot, Time};

/// The shortest stretch that a rate is taken over. Who looks more often sees it over a longer one,
/// not the noise of a few batches.
const STRETCH_MIN: Duration = Duration::from_secs(1);

/// What was counted at an earlier look, shard by shard. A rate of the first look is over the time
/// since the engine started.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: BTreeMap<usize, Look>,
}

/// The counts of one shard at one moment, in the order of its stages.
#[derive(Debug, Default)]
struct Look {
    at: Time,
    items: Vec<u64>,
}

impl Rates {
    /// Items per second of each stage of a shard.
    pub(super) fn of(&mut self, shard: &ShardSnapshot) -> Vec<f64> {
        let items = shard.stages.iter().map(|stage| stage.items).collect();
        self.next(shard.shard.index(), Look { at: shard.at, items })
    }

    fn next(&mut self, shard_idx: usize, now: Look) -> Vec<f64> {
        let before = self.before.entry(shard_idx).or_default();
        let stretch = now.at.since(before.at);
        let counted = now.items.iter().enumerate().map(|(stage_idx, items)| {
            items.saturating_sub(before.items.get(stage_idx).copied().unwrap_or(0))
        });
        let seconds = stretch.as_secs_f64();
        let rates = counted.map(|n| if seconds > 0.0 { n as f64 / seconds } else { 0.0 }).collect();
        if stretch >= STRETCH_MIN {
            *before = now;
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_time_since_the_last_look_that_is_long_enough_ago() {
        let mut rates = Rates::default();
        for (ms, items, expected, why) in [
            (0, 0, 0.0, "no time has passed"),
            (2_000, 200, 100.0, "since the start"),
            (2_500, 300, 200.0, "since 2 s"),
            (3_000, 350, 150.0, "still since 2 s"),
            (4_000, 350, 0.0, "since 3 s"),
        ] {
            let at = Time::ZERO.after(Duration::from_millis(ms));
            let rate = rates.next(0, Look { at, items: vec![items] })[0];
            assert!((rate - expected).abs() < 1e-6, "{rate} at {ms} ms: {why}");
        }
    }

    #[test]
    fn shards_are_told_apart() {
        let mut rates = Rates::default();
        let at = Time::ZERO.after(Duration::from_secs(1));
        let first = rates.next(0, Look { at, items: vec![10] });
        let second = rates.next(1, Look { at, items: vec![20, 30] });
        assert!((first[0] - 10.0).abs() < 1e-6 && (second[1] - 30.0).abs() < 1e-6);
    }
}
