//! A memcached server and proxy that batches what thousands of connections ask.
//!
//! ```text
//!   client ─ bytes ─▶ connection ─▶ protocol ─ Operation ─▶ cache ─┬─▶ [cache]  memory of the key's shard
//!      ▲                  │                                        │       └─ two tiers: copies above
//!      └───── bytes ◀─────┴──── protocol ◀─ Outcome ◀──────────────┴─▶ [tier-reads-N], [tier-writes-N]
//!                                                                            └─ wire ─▶ memcached
//! ```
//!
//! What a client says in any of memcached's protocols becomes operations on keys
//! ([`operation`]); the rest of the service knows nothing of protocols, and the protocols nothing of
//! where items are kept.

pub mod operation;
pub mod protocol;
pub mod wire;
pub mod route;
pub mod downstream;
pub mod chunks;
pub mod store;
mod clock;
mod tier;
mod tiers;
mod bounds;
mod held;
mod counts;
mod census;
mod cache;
mod run;
mod connection;
mod stats;
mod metrics;
mod config;
mod deploy;
pub mod load;
#[cfg(test)]
#[allow(dead_code, reason = "the tests of the service on an engine use the rest")]
mod memcached;
#[cfg(test)]
mod scripted;

pub use config::{
    BACKENDS_MAX, ChunkedTier, Config, Embedded, Limits, Orchestration, Service, TierConfig,
};
pub use deploy::{Cacheproxy, SetupError};
