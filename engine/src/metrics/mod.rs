//! What a shard counts: plain cells and histograms, written where the event happens, read in
//! snapshots.

mod net;
mod stage;
mod service;
mod shard;

pub(crate) use net::NetMetrics;
pub use net::NetSnapshot;
pub(crate) use service::ServiceMetrics;
pub use service::{Labels, Metric, MetricRow, MetricSnapshot, MetricValue};
pub(crate) use shard::ShardMetrics;
pub use shard::{LongPoll, ShardSnapshot};
pub(crate) use stage::StageMetrics;
pub use stage::{Distribution, SealCounts, StageLedger, StageSnapshot};

use std::cell::Cell;

/// A count that only grows, written by one shard.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}
