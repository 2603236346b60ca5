//! Every error a user of the engine can see, one small type per failure.
//!
//! They live in one file because callers choose between them: what failed, and whether the work
//! may already have been done. None of them boxes, none of them loses its number.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::ShardId;
use crate::runtime::affinity::{CpuId, CpuList};
use crate::runtime::preflight::HostError;
use crate::task::UnitKey;

/// Whether the downstream may have seen the work of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The item never left its queue: trying again is safe.
    NotSent,
    /// The item left in a batch: the downstream may or may not have acted on it.
    Unknown,
}

/// Why a call to a stage gave no value.
///
/// `Send + Sync + 'static` when `E` is. Errors of the user's are shared, because one item may have
/// many waiters and a batch has many items.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The batch function settled this item with an error.
    Item(Arc<E>),
    /// The batch function returned an error before it settled this item.
    Batch(Arc<E>),
    /// The batch function returned without settling this item.
    Missing,
    /// The deadline passed; [`Outcome`] tells whether the item had left its queue.
    Expired(Outcome),
    /// It was refused before it entered a queue: there is too much to do.
    Shed(Shed),
    /// The batch function panicked before it settled this item.
    Panicked,
    /// The owner shard of the key ended; [`Outcome`] tells whether the item had left for it.
    PeerGone(Outcome),
    /// The call would close a circle of stages: only later ones may be called from a batch function.
    Cycle {
        /// The stage whose batch function made the call.
        from: &'static str,
        /// The stage it called.
        to: &'static str,
    },
    /// The engine is stopping; [`Outcome`] tells whether the item had left its queue.
    Closed(Outcome),
}

impl<E> CallError<E> {
    /// Tells whether the downstream may have seen the item.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Expired(outcome) | Self::PeerGone(outcome) | Self::Closed(outcome) => *outcome,
            Self::Shed(_) | Self::Cycle { .. } => Outcome::NotSent,
            Self::Item(_) | Self::Batch(_) | Self::Missing | Self::Panicked => Outcome::Unknown,
        }
    }
}

// Not derived: sharing the error must not ask `E: Clone`.
impl<E> Clone for CallError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Item(error) => Self::Item(Arc::clone(error)),
            Self::Batch(error) => Self::Batch(Arc::clone(error)),
            Self::Missing => Self::Missing,
            Self::Expired(outcome) => Self::Expired(*outcome),
            Self::Shed(shed) => Self::Shed(*shed),
            Self::Panicked => Self::Panicked,
            Self::PeerGone(outcome) => Self::PeerGone(*outcome),
            Self::Cycle { from, to } => Self::Cycle { from, to },
            Self::Closed(outcome) => Self::Closed(*outcome),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(error) => write!(f, "item failed: {error}"),
            Self::Batch(error) => write!(f, "batch failed: {error}"),
            Self::Missing => f.write_str("the batch function did not settle this item"),
            Self::Expired(outcome) => write!(f, "deadline passed ({outcome})"),
            Self::Shed(shed) => shed.fmt(f),
            Self::Panicked => f.write_str("the batch function panicked"),
            Self::PeerGone(outcome) => write!(f, "owner shard is gone ({outcome})"),
            Self::Cycle { from, to } => write!(f, "stage {from} called earlier stage {to}"),
            Self::Closed(outcome) => write!(f, "engine is stopping ({outcome})"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for CallError<E> {}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::Unknown => "outcome unknown",
        })
    }
}

/// Why a call was refused before it entered a queue, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// What refused it.
    pub reason: ShedReason,
    /// From when on another try has a chance, as far as is known; zero where nothing is.
    pub retry_after: Duration,
}

/// What refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShedReason {
    /// The queue held as many items as it may.
    QueueFull {
        /// Items in the queue.
        depth: usize,
    },
    /// As many calls had been taken in and not answered as the stage's options allow.
    InFlight {
        /// Such calls.
        in_flight: usize,
    },
    /// More calls came than the stage's options allow in this time.
    Rate,
    /// The conditioner's limit was reached.
    Conditioner,
    /// The conditioner keeps what room there is for calls of a higher priority.
    Preempted,
    /// The downstream fails: its circuit breaker is open.
    CircuitOpen,
    /// The shard that owns the key takes no more from here for now.
    Owner {
        /// Calls of this shard that are with it.
        outstanding: usize,
    },
}

impl ShedReason {
    /// The names of all reasons, in the order of [`ShedReason::idx`].
    pub const NAMES: [&'static str; 7] =
        ["queue_full", "in_flight", "rate", "conditioner", "preempted", "circuit_open", "owner"];

    /// The reason's place in [`ShedReason::NAMES`], and in what is counted by reason.
    #[must_use]
    pub const fn idx(self) -> usize {
        match self {
            Self::QueueFull { .. } => 0,
            Self::InFlight { .. } => 1,
            Self::Rate => 2,
            Self::Conditioner => 3,
            Self::Preempted => 4,
            Self::CircuitOpen => 5,
            Self::Owner { .. } => 6,
        }
    }

    /// The reason in one word, for metrics and replies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.idx()]
    }
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            ShedReason::QueueFull { depth } => write!(f, "queue full (depth {depth})")?,
            ShedReason::InFlight { in_flight } => write!(f, "{in_flight} calls in flight")?,
            ShedReason::Rate => f.write_str("over the admitted rate")?,
            ShedReason::Conditioner => f.write_str("overloaded")?,
            ShedReason::Preempted => f.write_str("overloaded by calls of higher priority")?,
            ShedReason::CircuitOpen => f.write_str("the downstream fails, its circuit is open")?,
            ShedReason::Owner { outstanding } => {
                write!(f, "the owner shard is pressed ({outstanding} calls are with it)")?;
            }
        }
        if self.retry_after.is_zero() {
            Ok(())
        } else {
            write!(f, ", retry after {:?}", self.retry_after)
        }
    }
}

/// Why a request ended without a reply of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// Its future panicked; the panic went no further.
    Panicked,
    /// It was cancelled: its handle was dropped, or somebody asked for it.
    Cancelled,
    /// It was still running when its deadline and the grace after it had passed.
    Expired,
    /// The shard it was meant for has too many live requests.
    Shed,
    /// The engine is stopping.
    Closed,
    /// The shard it ran on ended.
    PeerGone,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the request panicked",
            Self::Cancelled => "the request was cancelled",
            Self::Expired => "the request outlived its deadline and grace",
            Self::Shed => "the shard has too many live requests",
            Self::Closed => "engine is stopping",
            Self::PeerGone => "the request's shard is gone",
        })
    }
}

impl std::error::Error for RequestError {}

/// Why an ordinary thread could not hand a request to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// The shard's inbox holds `depth` submissions, its limit.
    Full {
        /// Submissions that wait in the inbox.
        depth: usize,
    },
    /// The engine is stopping or the shard has ended.
    Closed,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { depth } => write!(f, "inbox full (depth {depth})"),
            Self::Closed => f.write_str("engine is stopping"),
        }
    }
}

impl std::error::Error for SubmitError {}

/// Why a controller was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdjustError {
    /// The engine has no stage of that name.
    NoStage,
    /// The stage has no controller of that kind.
    NoController,
    /// A target or rate of zero: nothing could be let through.
    Zero,
    /// A shard has not answered in time, or has ended.
    NoAnswer,
}

impl fmt::Display for AdjustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStage => "there is no such stage",
            Self::NoController => "the stage has no such controller",
            Self::Zero => "a target or rate of zero lets nothing through",
            Self::NoAnswer => "a shard does not answer",
        })
    }
}

impl std::error::Error for AdjustError {}

/// Why a unit of work has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum UnitError<E> {
    /// Its future returned an error.
    Failed(Arc<E>),
    /// Its future panicked.
    Panicked,
    /// It was cancelled, or the unit it belongs to failed.
    Cancelled,
    /// Awaiting it would close a circle; the path begins and ends at the same unit.
    Cycle(Vec<UnitKey>),
    /// The request already has a unit of that key with another type of value.
    Mismatch(UnitKey),
}

impl<E> Clone for UnitError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::Cancelled => Self::Cancelled,
            Self::Cycle(path) => Self::Cycle(path.clone()),
            Self::Mismatch(key) => Self::Mismatch(*key),
        }
    }
}

impl<E: fmt::Display> fmt::Display for UnitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "unit failed: {error}"),
            Self::Panicked => f.write_str("unit panicked"),
            Self::Cancelled => f.write_str("unit cancelled"),
            Self::Mismatch(key) => write!(f, "unit {key} exists with another type"),
            Self::Cycle(path) => {
                f.write_str("units wait in a circle: ")?;
                for (idx, key) in path.iter().enumerate() {
                    write!(f, "{}{key}", if idx == 0 { "" } else { " -> " })?;
                }
                Ok(())
            }
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for UnitError<E> {}

/// Why a bridge gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeError {
    /// As many jobs wait as the bridge may hold.
    Full {
        /// Jobs that wait.
        depth: usize,
    },
    /// The job panicked; the bridge's thread goes on with a client built anew.
    Panicked,
    /// The bridge is closed, or its client could not be built.
    Closed,
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { depth } => write!(f, "bridge full (depth {depth})"),
            Self::Panicked => f.write_str("the bridged job panicked"),
            Self::Closed => f.write_str("the bridge is closed"),
        }
    }
}

impl std::error::Error for BridgeError {}

/// Why an engine did not start. Every line names the remedy or the place to look.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The host cannot run it.
    Host(HostError),
    /// A shard's thread could not be started.
    Thread {
        /// The shard.
        shard: ShardId,
        /// The system's error.
        source: std::io::Error,
    },
    /// A shard's executor could not be made.
    Executor {
        /// The shard.
        shard: ShardId,
        /// What the executor said.
        reason: String,
    },
    /// A shard's thread does not run where it was pinned.
    NotPinned {
        /// The shard.
        shard: ShardId,
        /// The CPU it was pinned to.
        cpu: CpuId,
        /// Where it may run instead.
        found: CpuList,
    },
    /// A shard's ring for sockets could not be made.
    Sockets {
        /// The shard.
        shard: ShardId,
        /// The system's error.
        source: std::io::Error,
    },
    /// The other shards did not connect in time.
    LanesTimeout {
        /// The shard that waited.
        shard: ShardId,
        /// How long it did.
        after: Duration,
    },
    /// A limit is not possible.
    Limit {
        /// The limit, as it is called in [`Limits`](crate::Limits).
        limit: &'static str,
        /// What would be right.
        problem: String,
    },
    /// A stage's policy is not possible.
    Stage {
        /// The stage.
        stage: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A stage's factory failed on a shard.
    Factory {
        /// The stage.
        stage: &'static str,
        /// The shard.
        shard: ShardId,
        /// What the factory said; a panic says so.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not all shards came to the start barrier in time.
    BarrierTimeout {
        /// Those that did not.
        shards: Vec<ShardId>,
        /// How long the others waited.
        after: Duration,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::Thread { shard, source } => write!(
                f,
                "shard {shard}: no thread: {source}; raise the limit on processes (`ulimit -u`)"
            ),
            Self::Executor { shard, reason } => write!(
                f,
                "shard {shard}: no executor: {reason}; `bench-harness doctor` checks this host"
            ),
            Self::NotPinned { shard, cpu, found } => write!(
                f,
                "shard {shard} was pinned to cpu {cpu} and may run on {found}: something else sets \
                 affinities in this process; stop that, or list other cpus"
            ),
            Self::Sockets { shard, source } => write!(
                f,
                "shard {shard}: no ring for sockets: {source}; `bench-harness doctor` checks this host"
            ),
            Self::LanesTimeout { shard, after } => write!(
                f,
                "shard {shard}: lanes not connected after {after:?}; raise `start_timeout` on a \
                 host this busy"
            ),
            Self::Limit { limit, problem } => write!(f, "limits: {limit}: {problem}"),
            Self::Stage { stage, problem } => write!(f, "stage {stage}: {problem}"),
            Self::Factory { stage, shard, source } => {
                write!(f, "stage {stage} on shard {shard}: its factory failed: {source}")
            }
            Self::BarrierTimeout { shards, after } => {
                let names: Vec<String> = shards.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "shards {} not ready after {after:?}: a factory waits for something, or \
                     `start_timeout` is too short",
                    names.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Host(error) => Some(error),
            Self::Thread { source, .. } | Self::Sockets { source, .. } => Some(source),
            Self::Factory { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<HostError> for StartError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
