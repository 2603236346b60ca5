//! Memcached servers downstream, each behind two stages: one for reads, one for writes.
//!
//! [`Downstream::declare`] declares the stages of every server; on a shard, [`Downstream::apply`]
//! takes an operation to its server and gives its one outcome. Two stages for each server, because a
//! server that fails must hold nobody's permits or places but its own, and because reads may overtake
//! each other and share while writes may not. Each stage has its breaker, each shard its connections.
//!
//! ```text
//!              ┌─ route ─▶ server ┬─ reads:  equal ones share ─▶ get k1 k2 … ─┐
//!   operation ─┘                  └─ writes: in order ─────────▶ set …, set … ─┴─▶ outcome
//! ```
//!
//! # What is promised
//!
//! An operation has exactly one outcome, after at most twice `connect_ms` and `answer_ms` together.
//! Whoever reads after a write was acknowledged, here or to anybody before, gets what was written or
//! what is newer. An operation that is begun when another of its caller's has no outcome yet may be
//! done before it; of two writes of one shard, the later call is done later.

mod config;
mod backoff;
mod pool;
mod exchange;
mod reads;
mod writes;
mod flush;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use forebay::net::Address;
use forebay::{
    BreakerOptions, Builder, CallError, Dedup, Outcome as Sent, ShardId, ShedReason, StageOptions,
    StageRef,
};
use futures_util::future::join_all;

pub use config::{Config, FlushAll, Server, ServerLimits, UnansweredReads};

use self::flush::Flushes;
use self::pool::Pool;
use self::reads::Reads;
use self::writes::{Sharing, Writes};
use super::operation::{ExpTime, Failure, Operation, Outcome, What};
use super::route::Route;

/// Failed batches in a row, or nearly, until a server is left alone: fewer, and one lost connection
/// would do; more, and each costs its callers `answer_ms`.
const BATCHES_UNTIL_OPEN: u32 = 4;

/// The servers of one tier. Declared once, cloned to every shard.
#[derive(Debug, Clone)]
pub struct Downstream {
    route: Route,
    servers: Vec<Stages>,
    flushing: FlushAll,
}

#[derive(Debug, Clone, Copy)]
struct Stages {
    reads: StageRef<Reads>,
    writes: StageRef<Writes>,
}

/// A configuration cannot be run: pairs of a JSON pointer and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<(String, String)>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n_before, (pointer, what)) in self.0.iter().enumerate() {
            let between = if n_before > 0 { "; " } else { "" };
            write!(f, "{between}{pointer} {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Downstream {
    /// Declares the stages of these servers: `TIER-reads-0`, `TIER-writes-0`, and so on. `seed` sets
    /// the pauses before a server that has failed is tried again.
    ///
    /// # Errors
    ///
    /// What [`Config::check`] finds; nothing was declared then.
    ///
    /// # Panics
    ///
    /// If another tier has this name.
    pub fn declare(
        builder: &mut Builder,
        tier: &str,
        config: &Config,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        Self::declare_with(builder, tier, config, seed, Sharing::EndedByWrites)
    }

    fn declare_with(
        builder: &mut Builder,
        tier: &str,
        config: &Config,
        seed: u64,
        sharing: Sharing,
    ) -> Result<Self, ConfigError> {
        let faults = config.check();
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        let servers = config.servers.iter().enumerate().map(|(idx, server)| {
            let address = Address::from_str(&server.address).expect("check has read it");
            let declaring = Declaring { tier, idx, address, limits: config.limits, seed };
            declaring.declare(builder, sharing)
        });
        let servers = servers.collect();
        let weighted: Vec<_> = config.servers.iter().map(Server::weighted).collect();
        let route = Route::new(&weighted, config.route);
        Ok(Self { route, servers, flushing: config.flush_all })
    }

    /// Takes an operation to its server and gives what came of it. Where the server does not answer
    /// that is a failure, also of a read, whatever a client is told of it.
    ///
    /// Dropped while it waits for its batch, it is never sent; later its outcome is unknown.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of an engine that has not declared it.
    pub async fn apply(&self, operation: Operation) -> Outcome {
        let stages = self.servers[self.route.server(operation.key.as_bytes()).0];
        outcome(match operation.what {
            What::Get(get) if get.may_be_shared() => stages.reads.call(operation).await,
            _ => stages.writes.call(operation).await,
        })
    }

    /// What becomes of a `flush_all`.
    #[must_use]
    pub fn flushing(&self) -> FlushAll {
        self.flushing
    }

    /// Makes all items of all servers nothing, now or when this time comes. Whoever reads after that,
    /// wherever it is, has an answer that its server gave after it was flushed. Takes at most
    /// `connect_ms` and `answer_ms` together, and as long again where another is under way; all servers
    /// are told side by side.
    ///
    /// Dropped half-way, it may be done at some servers.
    ///
    /// # Errors
    ///
    /// `Unanswered`: some servers may have done it, others have not. Anything else: no server has. That
    /// is `Refused` where the file does not allow it.
    ///
    /// # Panics
    ///
    /// Outside of a shard, or on a shard of an engine that has not declared it.
    pub async fn flush_all(&self, delay: ExpTime) -> Result<(), Failure> {
        if self.flushing == FlushAll::Refuse {
            return Err(Failure::Refused);
        }
        let flushing = self.servers.iter().map(|stages| flush::flush_all(*stages, delay));
        flush::together(join_all(flushing).await)
    }
}

/// Names of the stages of a tier with so many servers, in order of rank.
#[must_use]
pub fn stage_names(tier: &str, n_servers: usize) -> Vec<String> {
    let both = |idx| [Side::Reads, Side::Writes].map(|side| stage_name(tier, side, idx));
    (0..n_servers).flat_map(both).collect()
}

/// Whether the stage of this name does its operations in the order of their calls, which it does by
/// having one permit.
#[must_use]
pub fn keeps_order(stage: &str) -> bool {
    stage.split('-').any(|word| word == Side::Writes.name())
}

fn stage_name(tier: &str, side: Side, idx: usize) -> String {
    format!("{tier}-{}-{idx}", side.name())
}

/// One of the two stages of a server.
#[derive(Debug, Clone, Copy)]
enum Side {
    Reads,
    Writes,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
        }
    }
}

/// What the two stages of one server are declared from.
struct Declaring<'a> {
    tier: &'a str,
    idx: usize,
    address: Address,
    limits: ServerLimits,
    seed: u64,
}

impl Declaring<'_> {
    fn declare(&self, builder: &mut Builder, sharing: Sharing) -> Stages {
        let pool = self.pool(Side::Reads);
        let mut options = self.options();
        options.dedup = Dedup::InFlight;
        options.permits = count(self.limits.read_connections);
        let reads = builder.stage(self.name(Side::Reads), options, move |shard| {
            let pool = pool(shard);
            async move { Ok(Reads { pool }) }
        });
        let pool = self.pool(Side::Writes);
        let mut options = self.options();
        options.weight_max = self.limits.batch_bytes_max.into();
        let writes = builder.stage(self.name(Side::Writes), options, move |shard| {
            let pool = pool(shard);
            async move { Ok(Writes { pool, reads, sharing, flushes: Flushes::default() }) }
        });
        Stages { reads, writes }
    }

    /// Makes the connections of a shard.
    fn pool(&self, side: Side) -> impl Fn(ShardId) -> Pool + Send + Sync + 'static + use<> {
        let (address, limits) = (self.address.clone(), self.limits);
        let seed = self.seed.wrapping_add(match side {
            Side::Reads => 2 * self.idx as u64,
            Side::Writes => 2 * self.idx as u64 + 1,
        });
        move |shard| Pool::new(address.clone(), limits, seed, shard)
    }

    /// The name of a stage lives as long as the process; there are two for each server.
    fn name(&self, side: Side) -> &'static str {
        stage_name(self.tier, side, self.idx).leak()
    }

    fn options(&self) -> StageOptions {
        let limits = &self.limits;
        // A batch ends by itself before.
        let run_max = limits.operation_within();
        let breaker = BreakerOptions {
            calls_min: BATCHES_UNTIL_OPEN,
            window: run_max * BATCHES_UNTIL_OPEN,
            open_for: Duration::from_millis(limits.open_ms.into()),
            ..BreakerOptions::default()
        };
        let mut options = StageOptions::default();
        options.items_max = count(limits.batch_operations_max);
        options.queue_max = count(limits.queue_max);
        options.breaker = Some(breaker);
        options.run_max = run_max;
        options.call_max = run_max;
        options
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What a call's reply says of the operation.
fn outcome(reply: Result<Outcome, CallError<Failure>>) -> Outcome {
    Outcome::Failed(match reply {
        Ok(outcome) => return outcome,
        Err(CallError::Item(failure) | CallError::Batch(failure)) => *failure,
        Err(CallError::Shed(shed)) if shed.reason == ShedReason::CircuitOpen => {
            Failure::Unavailable
        }
        Err(CallError::Shed(_) | CallError::Expired(Sent::NotSent)) => Failure::Overloaded,
        Err(CallError::Closed(Sent::NotSent)) => Failure::Closing,
        Err(_) => Failure::Unanswered,
    })
}
