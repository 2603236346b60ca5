//! The policy of one stage: what a user or a workload file may choose.

use std::time::Duration;

use super::Window;
use crate::runtime::ShardId;

/// What a stage's calls are: what the engine may do with equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Changes something: equal keys are never merged.
    Write,
    /// Only reads: equal keys that are queued may share one item.
    Read,
    /// Only reads, and every write to the same keys calls [`StageRef::touch`](super::StageRef::touch):
    /// equal keys may also join what is in flight.
    TouchedRead,
}

/// Which equal keys share one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dedup {
    /// None: every call is an item.
    Off,
    /// Those that are queued. Needs [`Kind::Read`].
    Queued,
    /// Those that are queued or in flight. Needs [`Kind::TouchedRead`].
    InFlight,
}

/// Which shard queues a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The shard that makes it.
    Local,
    /// The shard that owns its key: one flight per key in the whole engine.
    Owner,
    /// One shard for all.
    Gather(ShardId),
}

/// The policy of one stage. Every field may be changed before the engine starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageOptions {
    /// Items in a batch at most. Default 128: where the cost per item of a SQL read is flat.
    pub items_max: usize,
    /// Weight of a batch at most, where the stage weighs its items; an item heavier than this
    /// goes alone. Default: no bound.
    pub weight_max: u64,
    /// When a batch seals. Default [`Window::Idle`].
    pub window: Window,
    /// Batches in flight at most, per shard. Default 1: right for one serial connection.
    pub permits: usize,
    /// Items that may wait, per shard; a further call is `Shed`, unless it shares one of them.
    /// Default 65,536.
    pub queue_max: usize,
    /// Which shard queues a call. Default [`Placement::Local`].
    pub placement: Placement,
    /// Which equal keys share one item. Default [`Dedup::Off`].
    pub dedup: Dedup,
    /// How long a batch function may run before it is dropped. Default 5 s.
    pub run_max: Duration,
    /// The deadline of a call that has none. Default 30 s.
    pub call_max: Duration,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            items_max: 128,
            weight_max: u64::MAX,
            window: Window::Idle,
            permits: 1,
            queue_max: 65_536,
            placement: Placement::Local,
            dedup: Dedup::Off,
            run_max: Duration::from_secs(5),
            call_max: Duration::from_secs(30),
        }
    }
}

impl StageOptions {
    /// Tells what is wrong with this policy for a stage of `kind`, in one line with the remedy.
    pub(crate) fn problem(&self, kind: Kind, shareable: bool, n_shards: usize) -> Option<String> {
        let zero = [
            ("items_max", self.items_max),
            ("permits", self.permits),
            ("queue_max", self.queue_max),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, value)| *value == 0) {
            return Some(format!("{name} is 0; at least 1 is needed"));
        }
        if self.weight_max == 0 || self.run_max.is_zero() || self.call_max.is_zero() {
            return Some("weight_max, run_max and call_max must not be zero".to_owned());
        }
        let allowed = match kind {
            Kind::Write => Dedup::Off,
            Kind::Read => Dedup::Queued,
            Kind::TouchedRead => Dedup::InFlight,
        };
        if self.dedup > allowed {
            return Some(format!(
                "dedup {:?} is not allowed for a stage of kind {kind:?}; at most {allowed:?}",
                self.dedup
            ));
        }
        if self.placement != Placement::Local && !shareable {
            return Some("placement other than Local needs a stage declared as shared".to_owned());
        }
        match self.placement {
            Placement::Gather(shard) if shard.index() >= n_shards => {
                Some(format!("gathers on shard {shard}, but there are {n_shards} shards"))
            }
            _ => None,
        }
    }
}
