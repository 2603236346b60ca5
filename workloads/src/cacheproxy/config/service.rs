//! The service itself in a workload file: its tiers, and what its clients may do.

use std::time::Duration;

use forebay::net::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cacheproxy::chunks::ChunksConfig;
use crate::cacheproxy::downstream::{self, UnansweredReads};
use crate::cacheproxy::protocol;
use crate::cacheproxy::store::BYTES_MIN;
use crate::closing::HEARD_OUT_MAX;

/// What a stop may take beyond what its clients may: shards that are busy, answers that leave.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// The service itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Which tiers there are, and what goes to which.
    pub orchestration: Orchestration,
    /// The upper tier, or the only one.
    pub l1: TierConfig,
    /// The lower tier, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<TierConfig>,
    /// What a client may do.
    pub limits: Limits,
}

/// Which tiers there are, and what goes to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orchestration {
    /// One tier.
    #[default]
    L1Only,
    /// Writes to the lower tier and then to the upper; reads fill the upper. That one holds copies and
    /// nothing else: after an outage in which too much has changed, its servers are flushed, whatever
    /// their `flush_all` says to clients. A read that fills it takes the right to fill a stale item
    /// again, as a client's own `mg` would.
    L1L2,
    /// The same for those who write much that nobody reads soon: only what the upper tier has already
    /// is kept right there, and nothing new comes into it.
    L1L2Batch,
}

/// Where the items of a tier are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierConfig {
    /// In the memory of the shard that owns the key.
    Embedded(Embedded),
    /// With memcached. Without servers, those that whoever runs this file starts (`backends`).
    Memcached(downstream::Config),
    /// With memcached, large values in pieces.
    Chunked(ChunkedTier),
}

/// A tier with memcached that keeps large values in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChunkedTier {
    /// The servers, as of a tier without pieces.
    pub memcached: downstream::Config,
    /// The pieces. What clients may send at most is bounded by `limits.value_bytes_max` before.
    #[serde(default)]
    pub chunks: ChunksConfig,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self::Embedded(Embedded::default())
    }
}

/// A tier in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// Memory of all shards together, each of which has its part, for everything that items take.
    pub bytes_max: u64,
    /// Bytes of an item: key, value and some 60. It must find room in the part of one shard.
    pub item_bytes_max: u32,
}

impl Default for Embedded {
    fn default() -> Self {
        // memcached's own.
        Self { bytes_max: 64 << 20, item_bytes_max: 1 << 20 }
    }
}

/// What a client may do; beyond it is refused, held back or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that each shard keeps open; further ones wait in the kernel.
    pub connections_max: u32,
    /// Time without a byte of a client that we wait for, between commands or within one, after which
    /// its connection is closed; 0 for never, as memcached has it. Time in which the client waits for us
    /// does not count. Silence counts from when its last answer was handed to the kernel, in whose
    /// buffers it may still be unread.
    pub idle_ms: u32,
    /// Time that 64 KiB of answers may take to leave: a client that does not read is cut off then.
    pub write_ms: u32,
    /// Bytes of a value that is read from a client.
    pub value_bytes_max: u32,
    /// Bytes of a line that asks for several keys.
    pub line_bytes_max: u32,
    /// Time for which a connection is kept when the service stops and its client says nothing, since the
    /// stop began or the last answer was given: a command may be on its way. A command that has begun
    /// is heard to its end.
    pub last_word_ms: u32,
    /// Time for which a stop hears its clients; whoever still speaks then is cut off.
    pub drain_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let protocol::Limits { value_bytes_max, line_bytes_max } = protocol::Limits::DEFAULT;
        Self {
            connections_max: 32_768,
            idle_ms: 0,
            write_ms: 30_000,
            value_bytes_max,
            line_bytes_max,
            last_word_ms: 100,
            drain_ms: 5_000,
        }
    }
}

impl Limits {
    pub(in crate::cacheproxy) fn protocol(&self) -> protocol::Limits {
        let (value_bytes_max, line_bytes_max) = (self.value_bytes_max, self.line_bytes_max);
        protocol::Limits { value_bytes_max, line_bytes_max }
    }

    /// How long a stop may wait for clients that keep to these limits: until the last of them is heard
    /// out. One that reads its answers more slowly than that is cut off.
    #[must_use]
    pub fn drain_within(&self) -> Duration {
        Duration::from_millis(self.drain_ms.into()) + HEARD_OUT_MAX + STOP_SLACK
    }
}

impl Service {
    /// The tiers with their fields in a file.
    pub(super) fn tiers(&self) -> impl Iterator<Item = (&'static str, &TierConfig)> {
        std::iter::once(("l1", &self.l1)).chain(self.l2.as_ref().map(|l2| ("l2", l2)))
    }

    /// Gives the servers that were started to the tier that names none.
    pub(in crate::cacheproxy) fn with_backends(mut self, backends: &[Address]) -> Self {
        for tier in std::iter::once(&mut self.l1).chain(self.l2.as_mut()) {
            if let TierConfig::Memcached(config)
            | TierConfig::Chunked(ChunkedTier { memcached: config, .. }) = tier
                && config.servers.is_empty()
            {
                config.servers = downstream::Config::of(backends).servers;
            }
        }
        self
    }

    /// What a client is told of a read that the tier which has the say does not answer.
    pub(in crate::cacheproxy) fn unanswered_reads(&self) -> UnansweredReads {
        let servers = self.l2.as_ref().unwrap_or(&self.l1).memcached();
        servers.map_or(UnansweredReads::Fail, |config| config.unanswered_reads)
    }

    pub(super) fn check(&self, backends: u32) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault =
            |pointer: &str, what: &str| faults.push((pointer.to_owned(), what.to_owned()));
        match (self.orchestration, &self.l2) {
            (Orchestration::L1Only, Some(_)) => {
                fault("/l2", "is not asked: `orchestration` is `l1_only`");
            }
            (Orchestration::L1L2 | Orchestration::L1L2Batch, None) => {
                fault("/orchestration", "needs a lower tier: give `l2`");
            }
            _ => {}
        }
        let nameless =
            |tier: &TierConfig| tier.memcached().is_some_and(|config| config.servers.is_empty());
        if self.tiers().filter(|(_, tier)| nameless(tier)).count() > 1 {
            fault(
                "/l2/memcached/servers",
                "only one tier can be the `backends` of the file: name these",
            );
        }
        let limits = &self.limits;
        for (name, value) in [
            ("connections_max", limits.connections_max),
            ("write_ms", limits.write_ms),
            ("value_bytes_max", limits.value_bytes_max),
            ("line_bytes_max", limits.line_bytes_max),
            ("drain_ms", limits.drain_ms),
        ] {
            if value == 0 {
                fault(&format!("/limits/{name}"), "must be at least 1");
            }
        }
        for (name, tier) in self.tiers() {
            let of_tier = tier.check(backends).into_iter();
            faults.extend(of_tier.map(|(at, what)| (format!("/{name}{at}"), what)));
        }
        faults
    }
}

impl TierConfig {
    /// Its servers, if it has some.
    pub(super) fn memcached(&self) -> Option<&downstream::Config> {
        match self {
            Self::Embedded(_) => None,
            Self::Memcached(config) | Self::Chunked(ChunkedTier { memcached: config, .. }) => {
                Some(config)
            }
        }
    }

    fn check(&self, backends: u32) -> Vec<(String, String)> {
        let at = |place: &str, faults: Vec<(String, String)>| {
            let place = place.to_owned();
            faults.into_iter().map(move |(pointer, what)| (format!("{place}{pointer}"), what))
        };
        match self {
            Self::Embedded(embedded) => at("/embedded", embedded.check()).collect(),
            Self::Memcached(config) => at("/memcached", check_servers(config, backends)).collect(),
            Self::Chunked(ChunkedTier { memcached, chunks }) => {
                let of_servers = at("/chunked/memcached", check_servers(memcached, backends));
                of_servers.chain(at("/chunked/chunks", chunks.check(&memcached.limits))).collect()
            }
        }
    }
}

/// What is wrong with servers; those that a run starts are known when they have been started.
fn check_servers(config: &downstream::Config, backends: u32) -> Vec<(String, String)> {
    if !config.servers.is_empty() || backends == 0 {
        return config.check();
    }
    let servers = downstream::Config::of(&[Address::Unix("started".into())]).servers;
    downstream::Config { servers, ..config.clone() }.check()
}

impl Embedded {
    /// Whether each of as many shards as a machine may have gets enough is known at the start only.
    fn check(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let least = BYTES_MIN as u64;
        if self.bytes_max < least {
            let what = format!("must be at least {least} for each shard, is {}", self.bytes_max);
            faults.push(("/bytes_max".to_owned(), what));
        }
        if self.item_bytes_max == 0 || u64::from(self.item_bytes_max) > self.bytes_max {
            let what = format!("must be between 1 and `bytes_max`, is {}", self.item_bytes_max);
            faults.push(("/item_bytes_max".to_owned(), what));
        }
        faults
    }
}
