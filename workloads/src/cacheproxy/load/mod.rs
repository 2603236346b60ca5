//! What the clients of the cache ask, as a workload file says it.
//!
//! This is the value of `load` in `{"workload": {"cacheproxy": …}}`. How fast they ask is a matter of
//! the file's phases. Every value that is written tells its key and which write of it it is, so that
//! whoever reads it can tell a foreign, a torn and an outdated one: hence its least length.

mod sizes;
mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::KEY_BYTES_MAX;
use super::wire::Dialect;

pub use sizes::{Sizes, Weighted};

/// Most connections that the clients may open: what an ordinary descriptor limit allows.
pub const CONNECTIONS_MAX: u32 = 16_384;
/// Most keys: their names and their books take some 100 MB of the clients' memory.
pub const KEYS_MAX: u32 = 1_000_000;
/// Shortest value: it holds the number of its key and of the write, four bytes each.
pub const VALUE_BYTES_MIN: u32 = 8;
/// Longest value: an item of memcached has 1 MiB at most, in which key and head have their place.
pub const VALUE_BYTES_MAX: u32 = 1_000_000;
/// Most keys of one multi-get.
pub const MULTI_GET_KEYS_MAX: u32 = 100;
/// Most requests in flight on one connection.
pub const PIPELINED_MAX: u32 = 1_024;
/// Bytes under way on one connection, there and back, where several requests are: fewer than either
/// side queues, so that a client that writes never waits for a server that waits for the client to
/// read.
pub const UNDER_WAY_BYTES_MAX: u64 = 48 << 10;
/// What a request or a reply has at most beside key and value, for each key: words, numbers, line ends.
const ASIDE_BYTES_MAX: u64 = 64;

/// The clients, and what they ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Connections that are open throughout.
    pub connections: u32,
    /// Most requests in flight on each of them.
    #[serde(default = "one")]
    pub pipelined_max: u32,
    /// What they speak.
    #[serde(default)]
    pub protocol: Dialect,
    /// Keys that there are.
    pub keys: u32,
    /// Length of a key, the same whenever it is asked.
    #[serde(default = "key_bytes")]
    pub key_bytes: Sizes,
    /// Length of a value, drawn for each write.
    #[serde(default = "value_bytes")]
    pub value_bytes: Sizes,
    /// Which keys are asked how often.
    #[serde(default)]
    pub popularity: Popularity,
    /// What is asked how often.
    #[serde(default)]
    pub mix: Mix,
    /// What is written before the first warm-up.
    #[serde(default)]
    pub preload: Preload,
    /// What it means that a get finds nothing.
    #[serde(default)]
    pub misses: Misses,
}

const fn one() -> u32 {
    1
}

/// Those of the reference runs.
const fn key_bytes() -> Sizes {
    Sizes::Fixed(11)
}

/// Those of the reference runs.
const fn value_bytes() -> Sizes {
    Sizes::Fixed(100)
}

/// Which keys are asked how often. The keys of a multi-get differ from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Popularity {
    /// All alike.
    #[default]
    Uniform,
    /// By a Zipf law with this exponent, in percent: 100 asks the second key half as often as the
    /// first.
    ZipfPercent(u32),
    /// This share of all gets is of one key; everything else asks all alike.
    HotPercent(u32),
}

/// Shares of what is asked, in percent; they add up to 100. One that is left out is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Gets of one key.
    #[serde(default)]
    pub get_percent: u32,
    /// Gets of several keys.
    #[serde(default)]
    pub multi_get_percent: u32,
    /// How many keys these have.
    #[serde(default = "multi_get_keys")]
    pub multi_get_keys: u32,
    /// Sets.
    #[serde(default)]
    pub set_percent: u32,
    /// Deletes.
    #[serde(default)]
    pub delete_percent: u32,
}

const fn multi_get_keys() -> u32 {
    10
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            get_percent: 90,
            multi_get_percent: 0,
            multi_get_keys: multi_get_keys(),
            set_percent: 10,
            delete_percent: 0,
        }
    }
}

/// What is written before the first warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preload {
    /// Every key once.
    #[default]
    Every,
    /// Nothing.
    Nothing,
}

/// What it means that a get finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misses {
    /// The service has lost what was written: the reply is wrong.
    #[default]
    Wrong,
    /// Nothing: the service may evict, or keys are deleted or were never written. They are counted.
    Expected,
}
