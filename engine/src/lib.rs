//! Forebay: a thread-per-core io_uring execution engine for services with massive request
//! concurrency.
//!
//! A request is written as straight-line async code. When many concurrent requests make the same
//! downstream call, the engine merges those calls into one batch, makes the call once, and hands
//! every request its own answer. One executor is pinned to each core; nothing is shared on the hot
//! path and nothing is stolen.
//!
//! Start with [`Builder`] (declare stages, start shards), [`Stage`] (a downstream call made in
//! batches) and [`spawn`] (a request). `ARCHITECTURE.md` beside this crate gives the decisions and
//! their reasons.

mod error;
mod limits;
mod runtime;
mod control;
mod metrics;
mod task;
mod stage;
mod mesh;
mod fs;
pub mod net;
mod shard;
mod engine;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(not(feature = "sim"))]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "always compiled, shown on request")]
mod sim;

pub use control::Reading;
pub use control::batch::{BatchRule, SmallestBatch};
pub use control::breaker::BreakerOptions;
pub use control::conditioner::{Conditioning, Preset};
pub use control::rate::{Counts, RateLimit};
pub use control::retry::Retry;
pub use control::scaling::ScalingRule;
pub use engine::{AwaitReply, Builder, CpuChoice, Engine, Handle, Reply, Snapshot, StopReport};
pub use error::{
    AdjustError, BridgeError, CallError, Outcome, RequestError, Shed, ShedReason, StartError,
    SubmitError, UnitError,
};
pub use fs::File;
pub use limits::Limits;
pub use mesh::LaneLedger;
pub use metrics::{
    Distribution, Labels, LongPoll, Metric, MetricRow, MetricSnapshot, MetricValue, NetSnapshot,
    SealCounts, ShardSnapshot, StageLedger, StageSnapshot,
};
pub use runtime::affinity::{self, CpuId, CpuList};
pub use runtime::bridge::Bridge;
pub use runtime::pinned::IdlePolicy;
pub use runtime::preflight;
pub use runtime::priority::Priority;
pub use runtime::ring::{SocketBack, Sockets};
pub use runtime::shared::board::Phase;
pub use runtime::shared::{Adjustment, RequestInfo};
pub use runtime::signal;
pub use runtime::sleep::{Sleep, YieldNow, now, sleep, yield_now};
pub use runtime::{ShardId, Time, TurnRecord};
pub use stage::{
    Batch, BatchItem, ByKey, Call, Dedup, Kind, Placement, SealReason, Stage, StageOptions,
    StageRef, Window,
};
pub use task::{
    Background, Draining, Remote, Request, RequestOptions, Scope, Unit, UnitKey, add_source,
    draining, draining_since, is_draining, n_shards, on_shard, scope, spawn, spawn_background,
    this_shard,
};

pub use futures_lite::future::{try_zip as try_join, zip as join};
