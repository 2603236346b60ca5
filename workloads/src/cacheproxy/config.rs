//! What a workload file says about the cache.
//!
//! This is the value of `{"workload": {"cacheproxy": …}}`: the service, and what is asked of it.
//! Serde checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

use std::time::Duration;

use forebay::net::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deploy::STAGE;
use super::downstream;
use super::load::Load;
use super::protocol;
use super::store::BYTES_MIN;
use crate::planted::{CARRIED_MAX, Planted};

/// Most servers behind the service that a run may start.
pub const BACKENDS_MAX: u32 = 16;

/// The cache: the service, what stands behind it, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service itself.
    #[serde(default)]
    pub service: Service,
    /// Servers behind the service: whoever runs this file starts as many `memcached`, on the CPUs of
    /// the service, and stops them afterwards.
    #[serde(default)]
    pub backends: u32,
    /// What clients ask.
    pub load: Load,
    /// Planted fault: what stands between the service and its clients does once, and wrong, to each
    /// connection. Shows that the check of replies can fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
}

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
    /// Writes to the lower tier and then to the upper; reads fill the upper.
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
    /// Bytes of an item: key, value and some 60.
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
    /// Time without a byte in either direction after which a connection is closed; 0 for never, as
    /// memcached has it.
    pub idle_ms: u32,
    /// Time that 64 KiB of answers may take to leave: a client that does not read is cut off then.
    pub write_ms: u32,
    /// Bytes of a value that is read from a client.
    pub value_bytes_max: u32,
    /// Bytes of a line that asks for several keys.
    pub line_bytes_max: u32,
    /// Time for which a connection that says nothing is kept when the service stops: a command may be
    /// on its way.
    pub last_word_ms: u32,
    /// Time for which a stop waits for its clients.
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
    pub(super) fn last_word(&self) -> Duration {
        Duration::from_millis(self.last_word_ms.into())
    }

    pub(super) fn protocol(&self) -> protocol::Limits {
        let (value_bytes_max, line_bytes_max) = (self.value_bytes_max, self.line_bytes_max);
        protocol::Limits { value_bytes_max, line_bytes_max }
    }

    /// How long a stop waits for clients before it cuts them off.
    #[must_use]
    pub fn drain_within(&self) -> Duration {
        Duration::from_millis(self.drain_ms.into())
    }
}

impl Service {
    /// The tiers with their fields in a file.
    fn tiers(&self) -> impl Iterator<Item = (&'static str, &TierConfig)> {
        std::iter::once(("l1", &self.l1)).chain(self.l2.as_ref().map(|l2| ("l2", l2)))
    }

    /// Gives the servers that were started to the tier that names none.
    pub(super) fn with_backends(mut self, backends: &[Address]) -> Self {
        for tier in std::iter::once(&mut self.l1).chain(self.l2.as_mut()) {
            if let TierConfig::Memcached(config) = tier
                && config.servers.is_empty()
            {
                config.servers = downstream::Config::of(backends).servers;
            }
        }
        self
    }

    fn check(&self, backends: u32) -> Vec<(String, String)> {
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
        let nameless = |tier: &TierConfig| matches!(tier, TierConfig::Memcached(config) if config.servers.is_empty());
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
            let of_tier = match tier {
                TierConfig::Embedded(embedded) => embedded.check(),
                // They are known when they have been started.
                TierConfig::Memcached(config) if config.servers.is_empty() && backends > 0 => {
                    let any = Address::Unix("any".into());
                    let servers = downstream::Config::of(&[any]).servers;
                    downstream::Config { servers, ..config.clone() }.check()
                }
                TierConfig::Memcached(config) => config.check(),
            };
            let word = match tier {
                TierConfig::Embedded(_) => "embedded",
                TierConfig::Memcached(_) => "memcached",
            };
            faults.extend(
                of_tier.into_iter().map(|(at, what)| (format!("/{name}/{word}{at}"), what)),
            );
        }
        faults
    }
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

impl Config {
    /// Names of the stages whose settings a file may change. Those of servers downstream are set by
    /// the limits of their tier, for all servers alike.
    #[must_use]
    pub fn stages() -> Vec<&'static str> {
        vec![STAGE]
    }

    /// Finds everything that has the right shape and cannot be run, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let of_load = self.load.check().into_iter();
        let mut faults: Vec<_> =
            of_load.map(|(pointer, what)| (format!("/load{pointer}"), what)).collect();
        let mut in_range = |pointer: &str, value: u32, least: u32, most: u32| {
            if value < least || value > most {
                let message = format!("must be between {least} and {most}, is {value}");
                faults.push((pointer.to_owned(), message));
            }
        };
        in_range("/backends", self.backends, 0, BACKENDS_MAX);
        let of_service = self.service.check(self.backends).into_iter();
        if let Some(planted) = self.planted {
            let (word, chunk) = planted.parts();
            in_range(&format!("/planted/{word}"), chunk, 1, u32::MAX);
            in_range("/load/connections", self.load.connections, 1, CARRIED_MAX);
        }
        faults.extend(of_service.map(|(pointer, what)| (format!("/service{pointer}"), what)));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_impossible_value_is_pointed_at() {
        let text = r#"{"backends": 17, "planted": {"old_chunk": 0},
            "load": {"connections": 65, "keys": 0}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let pointers: Vec<String> =
            config.check().into_iter().map(|(pointer, _)| pointer).collect();
        let expected = ["/load/keys", "/backends", "/planted/old_chunk", "/load/connections"];
        assert_eq!(pointers, expected);
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for text in [
            r#"{"load": {"connections": 1, "keys": 1}, "backend": 1}"#,
            r#"{"load": {"connections": 1, "keys": 1, "size": 1}}"#,
            r#"{"load": {"connections": 1, "keys": 1, "mix": {"get_percent": 100, "put": 0}}}"#,
            r#"{"load": {"connections": 1, "keys": 1}, "service": {"l3": 1}}"#,
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{text}: {error}");
        }
    }
}
