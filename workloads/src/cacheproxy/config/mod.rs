//! What a workload file says about the cache.
//!
//! This is the value of `{"workload": {"cacheproxy": …}}`: the service, and what is asked of it.
//! Serde checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

mod service;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deploy::STAGE;
use super::downstream;
use super::load::Load;
use crate::planted::{CARRIED_MAX, Planted};

pub use service::{ChunkedTier, Embedded, Limits, Orchestration, Service, TierConfig};

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

impl Config {
    /// Names of the stages that the service declares, in order of rank: that of the keys that a shard
    /// owns, then two for each server of each tier. The limits of a tier set those of all its servers
    /// alike; what a file sets for one by name stands instead, but for what is [fixed](Self::fixed_options).
    #[must_use]
    pub fn stages(&self) -> Vec<String> {
        let of_tiers = self.service.tiers().filter_map(|(name, tier)| {
            let n_named = tier.memcached()?.servers.len();
            let n_servers = if n_named > 0 { n_named } else { self.backends as usize };
            Some(downstream::stage_names(name, n_servers))
        });
        std::iter::once(STAGE.to_owned()).chain(of_tiers.flatten()).collect()
    }

    /// The options of a stage that are no file's to set, and why.
    #[must_use]
    pub fn fixed_options(stage: &str) -> &'static [(&'static str, &'static str)] {
        const OF_KEYS: &[(&str, &str)] =
            &[("placement", "each key has one owner, whose memory it is in")];
        const IN_ORDER: &[(&str, &str)] = &[
            ("permits", "operations of a server keep their order, a batch at a time"),
            ("newest_first_us", "operations of a server keep their order"),
        ];
        match stage {
            STAGE => OF_KEYS,
            _ if downstream::keeps_order(stage) => IN_ORDER,
            _ => &[],
        }
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
    fn stages_are_named_as_they_are_declared() {
        use crate::cacheproxy::Cacheproxy;
        use forebay::Builder;
        use forebay::net::Address;

        let text = r#"{"backends": 2, "load": {"connections": 1, "keys": 1},
            "service": {"orchestration": "l1_l2",
                "l1": {"memcached": {"servers": [{"address": "127.0.0.1:1"}]}},
                "l2": {"chunked": {"memcached": {"servers": []}}}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let names = config.stages();
        let expected = "cache l1-reads-0 l1-writes-0 l2-reads-0 l2-writes-0 l2-reads-1 l2-writes-1";
        assert_eq!(names.join(" "), expected);
        let started = ["127.0.0.1:2", "127.0.0.1:3"].map(|text| text.parse::<Address>().unwrap());
        let mut builder = Builder::new();
        Cacheproxy::declare(&mut builder, &config, &started).unwrap();
        for name in &names {
            assert!(builder.options_mut(name).is_some(), "{name}");
        }
        assert!(builder.options_mut("l2-reads-2").is_none());
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
