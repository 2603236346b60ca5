//! From a workload file's words to a service on an engine: stages declared, then listeners.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use forebay::net::Address;
use forebay::{Builder, Engine, ShardId, StageOptions, StageRef, n_shards, spawn_background};

use super::bounds::{owned_options, run_within};
use super::cache::{Cache, Owned};
use super::chunks::{Chunked, ChunksConfig};
use super::clock::Clock;
use super::config::{ChunkedTier, Config, Embedded, Limits, Orchestration, TierConfig};
use super::connection::{self, Site};
use super::downstream::{self, Downstream};
use super::held::Held;
use super::metrics;
use super::store::{BYTES_MIN, Options, Store, bytes_min_for};
use super::tier::Tier;
use super::tiers::{Policy, Tiers};
use crate::listening::{self, ServeError};

/// The stage of the keys that a shard owns; those of servers downstream are called after their tier.
pub(super) const STAGE: &str = "cache";

/// Why the service cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The servers of this tier cannot be reached as they are described.
    Downstream(&'static str, downstream::ConfigError),
    /// This tier names no servers, and none were started for it.
    NoServers(&'static str),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Downstream(tier, error) => write!(f, "service.{tier}.memcached: {error}"),
            Self::NoServers(tier) => write!(
                f,
                "service.{tier} names no servers: `run` starts the `backends` of a file itself; \
                 otherwise give the tier's `servers`"
            ),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Downstream(_, error) => Some(error),
            Self::NoServers(_) => None,
        }
    }
}

/// The service with its stages declared.
#[derive(Debug)]
pub struct Cacheproxy {
    cache: Cache,
    limits: Limits,
}

/// How each shard makes its tiers.
#[derive(Debug)]
struct Plan {
    upper: TierPlan,
    lower: Option<(TierPlan, Policy)>,
}

#[derive(Debug)]
enum TierPlan {
    Embedded(Embedded),
    Memcached(Downstream),
    Chunked(Downstream, ChunksConfig, u64),
}

impl Cacheproxy {
    /// Declares the stages, in order of rank. `backends` are the servers of a tier that names none.
    /// Options of the stages may be changed until the engine starts.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    ///
    /// # Panics
    ///
    /// If the builder has a stage of these names, or metrics of a `cache`.
    pub fn declare(
        builder: &mut Builder,
        config: &Config,
        backends: &[Address],
    ) -> Result<Self, SetupError> {
        let service = config.service.clone().with_backends(backends);
        // A stage calls only those that are declared after it, so its plan is known after its name.
        let plan = Arc::new(OnceLock::new());
        let options = owned_options(run_within(&service));
        let owned = declare_owned(builder, options, Arc::clone(&plan));
        // Each process its own: others before the same servers must not come back from a pause at the
        // same moments, nor give their writes the same tokens.
        let random = RandomState::new();
        let mut servers = |name, config: &downstream::Config| {
            if config.servers.is_empty() {
                return Err(SetupError::NoServers(name));
            }
            let declared = Downstream::declare(builder, name, config, random.hash_one(name));
            declared.map_err(|error| SetupError::Downstream(name, error))
        };
        let mut tier = |name, config: &TierConfig| {
            Ok(match config {
                TierConfig::Embedded(embedded) => TierPlan::Embedded(*embedded),
                TierConfig::Memcached(config) => TierPlan::Memcached(servers(name, config)?),
                TierConfig::Chunked(ChunkedTier { memcached, chunks }) => {
                    let seed = random.hash_one((name, "salts"));
                    TierPlan::Chunked(servers(name, memcached)?, *chunks, seed)
                }
            })
        };
        let upper = tier("l1", &service.l1)?;
        let policy = match service.orchestration {
            Orchestration::L1Only => None,
            Orchestration::L1L2 => Some(Policy::Fill),
            Orchestration::L1L2Batch => Some(Policy::Bulk),
        };
        let lower = service.l2.as_ref().zip(policy);
        let lower = lower.map(|(config, policy)| Ok((tier("l2", config)?, policy))).transpose()?;
        let downstream = match (&upper, &lower) {
            (TierPlan::Memcached(downstream), None) => Some(downstream.clone()),
            _ => None,
        };
        metrics::of_clients(builder, owned);
        let in_memory = |tier: &TierPlan| matches!(tier, TierPlan::Embedded(_));
        if in_memory(&upper) || lower.as_ref().is_some_and(|(tier, _)| in_memory(tier)) {
            metrics::of_memory(builder, owned);
        }
        plan.set(Plan { upper, lower }).expect("set once, here");
        let cache = Cache::new(owned, downstream, service.unanswered_reads());
        Ok(Self { cache, limits: service.limits })
    }

    /// Serves on every shard of the engine (a Unix address on the first alone) and tells the
    /// address, with the port that the system chose where `address` has none. Returns when all
    /// shards accept.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing is undone, since the caller ends the engine.
    pub fn serve(&self, engine: &Engine, address: &Address) -> Result<Address, ServeError> {
        let (cache, limits) = (self.cache.clone(), self.limits);
        let options = connection::listen_options(&limits);
        listening::on_every_shard(engine, address, options, move |listener| {
            let site = Rc::new(Site::new(cache.clone(), limits));
            spawn_background(connection::accept(listener, site)).detach();
        })
    }
}

fn declare_owned(
    builder: &mut Builder,
    options: StageOptions,
    plan: Arc<OnceLock<Plan>>,
) -> StageRef<Owned> {
    // Neither a file's seed nor a shard's number: whoever knows it can choose keys that collide.
    let hash_seed = RandomState::new().hash_one(STAGE);
    builder.shared_stage(STAGE, options, move |shard| {
        let plan = Arc::clone(&plan);
        async move {
            let clock = Clock::set();
            let Plan { upper, lower } = plan.get().expect("declared before any shard starts");
            let upper = upper.tier(shard, clock, hash_seed)?;
            Ok(Owned::new(match lower {
                None => Held::One(upper),
                Some((lower, policy)) => {
                    let lower = lower.tier(shard, clock, hash_seed)?;
                    Held::Two(Box::new(Tiers::new(upper, lower, *policy, clock)))
                }
            }))
        }
    })
}

impl TierPlan {
    /// The tier of one shard, which gets its part of the memory.
    fn tier(
        &self,
        shard: ShardId,
        clock: Clock,
        hash_seed: u64,
    ) -> Result<Tier, Box<dyn Error + Send + Sync>> {
        let embedded = match self {
            Self::Memcached(downstream) => return Ok(Tier::Memcached(downstream.clone())),
            Self::Chunked(downstream, chunks, seed) => {
                let chunked = Chunked::new(downstream.clone(), *chunks, *seed, shard);
                return Ok(Tier::Chunked(Box::new(chunked)));
            }
            Self::Embedded(embedded) => embedded,
        };
        let bytes_max = usize::try_from(embedded.bytes_max)? / n_shards();
        if bytes_max < BYTES_MIN {
            let least = BYTES_MIN * n_shards();
            let what = format!("`bytes_max` must be at least {least} for {} shards", n_shards());
            return Err(what.into());
        }
        let item_bytes_max = usize::try_from(embedded.item_bytes_max)?;
        let least = bytes_min_for(item_bytes_max);
        if bytes_max < least {
            let least = least * n_shards();
            let what = format!(
                "an item of `item_bytes_max` ({item_bytes_max}) finds no room in a shard's part of \
                 `bytes_max`: lower it, or give `bytes_max` at least {least} for {} shards",
                n_shards()
            );
            return Err(what.into());
        }
        let options = Options { bytes_max, item_bytes_max, hash_seed };
        Ok(Tier::embedded(Store::new(options), clock))
    }
}
