//! What a workload file says about servers downstream.
//!
//! Serde checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use forebay::net::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cacheproxy::route::{RouteKind, Weighted};

/// The port that ketama leaves out of a server's name.
const KETAMA_PORT: u16 = 11_211;
/// Most servers: each has two stages, and a stage its queue and its place in every table.
const SERVERS_MAX: usize = 256;
/// Longest time of anything here; a client has given up long before.
const TIME_MS_MAX: u32 = 60_000;

/// The servers of one tier, and how they are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The servers; each key has one.
    #[serde(default)]
    pub servers: Vec<Server>,
    /// How keys are spread over them.
    #[serde(default)]
    pub route: RouteKind,
    /// What a client is told of a read when its server does not answer. Of two tiers the lower one's
    /// word counts.
    #[serde(default)]
    pub unanswered_reads: UnansweredReads,
    /// What becomes of a client's `flush_all`.
    #[serde(default)]
    pub flush_all: FlushAll,
    /// Bounds of each server.
    #[serde(default)]
    pub limits: ServerLimits,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it listens: `127.0.0.1:11211`, `[::1]:11211`, `unix:/run/memcached.sock`.
    pub address: String,
    /// Its part of the keys, relative to the others.
    #[serde(default = "one")]
    pub weight: NonZeroU32,
    /// What its keys are found by, so that it may move. Default: its address, without the port 11211,
    /// as ketama has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// What a client is told of a read when its server does not answer. A read that changes something, an
/// expiry say, is told as what it is: it was perhaps done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnansweredReads {
    /// That it failed.
    #[default]
    Fail,
    /// A miss: the client asks whoever has the data, as for any other miss.
    Miss,
}

/// What becomes of a client's `flush_all`, which makes all items of all servers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlushAll {
    /// It is not allowed, as in front of `memcached -F`: servers may have other clients.
    #[default]
    Refuse,
    /// Each server is told.
    Forward,
}

/// Bounds of one server; those of a shard are for each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Connections of a shard for reads, each with one batch under way. One is right for a server that
    /// is near: while a batch is under way the next one gathers. Writes have one beside them.
    pub read_connections: u32,
    /// Operations of a batch.
    pub batch_operations_max: u32,
    /// Bytes that a batch of writes sends; one write with more goes alone.
    pub batch_bytes_max: u32,
    /// Bytes of a value that is read: the server's own limit (`memcached -I`), which refuses what is
    /// larger to be stored.
    pub value_bytes_max: u32,
    /// Operations of a shard that wait for their batch, of reads and of writes each.
    pub queue_max: u32,
    /// Time for a connection to be made.
    pub connect_ms: u32,
    /// Time for the first answer of a batch to come whole, and for each after the one before it. In all
    /// a batch has twice this and `connect_ms`.
    pub answer_ms: u32,
    /// Pause after the first failure to connect or to be answered, before another connection is made;
    /// it doubles with each further failure.
    pub pause_ms: u32,
    /// The longest such pause.
    pub pause_max_ms: u32,
    /// How long a server of whose batches half have failed is left alone, before one tries it.
    pub open_ms: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            read_connections: 1,
            batch_operations_max: 256,
            batch_bytes_max: 1 << 20,
            value_bytes_max: 1 << 20,
            queue_max: 16_384,
            connect_ms: 250,
            answer_ms: 1_000,
            pause_ms: 20,
            pause_max_ms: 1_000,
            open_ms: 250,
        }
    }
}

impl ServerLimits {
    /// For one operation: its batch may be made twice.
    pub(in crate::cacheproxy) fn operation_within(&self) -> Duration {
        self.batch_within() * 2
    }

    /// For one batch, its connection included.
    pub(super) fn batch_within(&self) -> Duration {
        self.connect_within() + self.answer_within()
    }

    pub(super) fn connect_within(&self) -> Duration {
        Duration::from_millis(self.connect_ms.into())
    }

    pub(super) fn answer_within(&self) -> Duration {
        Duration::from_millis(self.answer_ms.into())
    }
}

impl Server {
    pub(super) fn weighted(&self) -> Weighted {
        let without_port = || match self.address.rsplit_once(':') {
            Some((host, port)) if port.parse() == Ok(KETAMA_PORT) => host.to_owned(),
            _ => self.address.clone(),
        };
        let name = self.name.clone().unwrap_or_else(without_port);
        Weighted { name, weight: self.weight }
    }
}

impl Config {
    /// Servers at these addresses, everything else by default.
    #[must_use]
    pub fn of(addresses: &[Address]) -> Self {
        let server =
            |address: &Address| Server { address: address.to_string(), weight: one(), name: None };
        Self {
            servers: addresses.iter().map(server).collect(),
            route: RouteKind::default(),
            unanswered_reads: UnansweredReads::default(),
            flush_all: FlushAll::default(),
            limits: ServerLimits::default(),
        }
    }

    /// Finds everything that has the right shape and cannot be run, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if !(1..=SERVERS_MAX).contains(&self.servers.len()) {
            let what = format!("must be 1 to {SERVERS_MAX}, but there are {}", self.servers.len());
            faults.push(("/servers".to_owned(), what));
        }
        let mut names = BTreeSet::new();
        for (idx, server) in self.servers.iter().enumerate() {
            let mut fault = |field: &str, what: String| {
                faults.push((format!("/servers/{idx}/{field}"), what));
            };
            match Address::from_str(&server.address) {
                Ok(Address::Tcp(_) | Address::Unix(_)) => {}
                Ok(Address::Passed(_)) => fault("address", "is no place to connect to".to_owned()),
                Err(error) => fault("address", error.to_string()),
            }
            let name = server.weighted().name;
            if !names.insert(name.clone()) {
                fault("name", format!("another server has the name {name} too"));
            }
        }
        faults.extend(self.limits.check());
        faults
    }
}

impl ServerLimits {
    fn check(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut limit = |name: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                let what = format!("must be {least} to {most}, but is {value}");
                faults.push((format!("/limits/{name}"), what));
            }
        };
        limit("read_connections", self.read_connections, 1, 64);
        limit("batch_operations_max", self.batch_operations_max, 1, 1 << 16);
        limit("batch_bytes_max", self.batch_bytes_max, 1, 1 << 30);
        limit("value_bytes_max", self.value_bytes_max, 1, 1 << 30);
        limit("queue_max", self.queue_max, 1, 1 << 24);
        limit("connect_ms", self.connect_ms, 1, TIME_MS_MAX);
        limit("answer_ms", self.answer_ms, 1, TIME_MS_MAX);
        limit("pause_ms", self.pause_ms, 1, TIME_MS_MAX);
        limit("pause_max_ms", self.pause_max_ms, self.pause_ms, TIME_MS_MAX);
        limit("open_ms", self.open_ms, 1, TIME_MS_MAX);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_server_is_named_as_ketama_names_it() {
        let config = config(
            r#"{"servers": [{"address": "10.0.0.1:11211"}, {"address": "10.0.0.1:11212"},
                            {"address": "unix:/a", "name": "b", "weight": 3}]}"#,
        );
        assert_eq!(config.check(), []);
        let names: Vec<_> = config.servers.iter().map(|server| server.weighted().name).collect();
        assert_eq!(names, ["10.0.0.1", "10.0.0.1:11212", "b"]);
    }

    #[test]
    fn what_cannot_be_run_is_found_where_it_stands() {
        let faults = |json: &str| -> Vec<String> {
            config(json).check().into_iter().map(|(pointer, _what)| pointer).collect()
        };
        assert_eq!(faults(r#"{"servers": []}"#), ["/servers"]);
        let twice = r#"{"servers": [{"address": "localhost:1"}, {"address": "passed:0"},
            {"address": "1.1.1.1:1"}, {"address": "1.1.1.1:1"}], "limits": {"pause_max_ms": 1}}"#;
        assert_eq!(
            faults(twice),
            ["/servers/0/address", "/servers/1/address", "/servers/3/name", "/limits/pause_max_ms"]
        );
        assert!(serde_json::from_str::<Config>(r#"{"servers": [], "timeout": 1}"#).is_err());
    }
}
