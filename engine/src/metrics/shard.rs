//! What one shard counts of itself.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::{Counter, MetricSnapshot, NetSnapshot, StageLedger, StageSnapshot};
use crate::limits::LONG_POLL;
use crate::runtime::ready::Site;
use crate::runtime::{ShardId, Time, nanos};

/// The cells of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardMetrics {
    pub(crate) turns: Counter,
    pub(crate) polls: Counter,
    pub(crate) looks: Counter,
    pub(crate) parks: Counter,
    /// Waits that ended by the cap although work was present: must stay 0.
    pub(crate) waits_capped: Counter,
    pub(crate) parcels_sent: Counter,
    pub(crate) parcels_received: Counter,
    busy_ns: Counter,
    long_polls: Counter,
    longest_ns: Cell<u64>,
    /// The sites of the longest stretch: it was one of them.
    longest_sites: RefCell<Vec<Site>>,
}

impl ShardMetrics {
    pub(crate) fn count_busy(&self, busy: Duration) {
        self.busy_ns.add(nanos(busy));
    }

    /// Books a stretch of polls between two readings of the clock.
    pub(crate) fn count_stretch(&self, sites: &[Option<Site>], took: Duration) {
        if nanos(took) > self.longest_ns.get() {
            self.longest_ns.set(nanos(took));
            let mut longest = self.longest_sites.borrow_mut();
            longest.clear();
            longest.extend(sites.iter().flatten());
        }
        if took > LONG_POLL {
            self.long_polls.add(1);
        }
    }

    fn longest_poll(&self) -> Option<LongPoll> {
        let mut sites: Vec<String> = self
            .longest_sites
            .borrow()
            .iter()
            .map(|site| format!("{}:{}", site.file(), site.line()))
            .collect();
        sites.sort_unstable();
        sites.dedup();
        let took = Duration::from_nanos(self.longest_ns.get());
        (!sites.is_empty()).then_some(LongPoll { took, sites })
    }

    pub(crate) fn snapshot(&self, shard: ShardId, cpu: Option<usize>, now: Time) -> ShardSnapshot {
        ShardSnapshot {
            shard,
            cpu,
            at: now,
            turns: self.turns.get(),
            polls: self.polls.get(),
            looks: self.looks.get(),
            parks: self.parks.get(),
            waits_capped: self.waits_capped.get(),
            parcels_sent: self.parcels_sent.get(),
            parcels_received: self.parcels_received.get(),
            busy: Duration::from_nanos(self.busy_ns.get()),
            long_polls: self.long_polls.get(),
            longest_poll: self.longest_poll(),
            net: NetSnapshot::default(),
            live_requests: 0,
            requests_started: 0,
            requests_ended: 0,
            requests_closed: 0,
            stages: Vec::new(),
            ledgers: Vec::new(),
            service: Vec::new(),
        }
    }
}

/// The longest poll a shard has seen, or the longest stretch of up to eight that were short each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongPoll {
    /// How long it took.
    pub took: Duration,
    /// Where its task was spawned, as `file:line`; several when it was one of these.
    pub sites: Vec<String>,
}

/// What one shard has counted since it started; published by its turn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// The CPU it is pinned to; `None` in a simulation.
    pub cpu: Option<usize>,
    /// When this was published; older than a moment on a shard that is stalled.
    pub at: Time,
    /// Turns.
    pub turns: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Looks at the executor's reactor under load.
    pub looks: u64,
    /// Waits for something to do.
    pub parks: u64,
    /// Waits that ended by the 10 ms cap with work present: each is a wake that was lost.
    pub waits_capped: u64,
    /// Parcels sent to other shards.
    pub parcels_sent: u64,
    /// Parcels received from other shards.
    pub parcels_received: u64,
    /// Time spent in turns that had something to do.
    pub busy: Duration,
    /// Polls that took longer than 1 ms.
    pub long_polls: u64,
    /// The longest of all polls.
    pub longest_poll: Option<LongPoll>,
    /// Its sockets.
    pub net: NetSnapshot,
    /// Requests alive.
    pub live_requests: usize,
    /// Requests begun.
    pub requests_started: u64,
    /// Requests ended, in whatever way.
    pub requests_ended: u64,
    /// Requests cut off because the engine stopped.
    pub requests_closed: u64,
    /// Its stages, in the order of their ranks.
    pub stages: Vec<StageSnapshot>,
    /// The books of its stages, in the same order.
    pub ledgers: Vec<StageLedger>,
    /// What the service tells of itself, in the order of [`Builder::metrics`](crate::Builder::metrics);
    /// a table whose reading panicked is left out.
    pub service: Vec<MetricSnapshot>,
}
