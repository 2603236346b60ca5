//! What has the right shape in a workload file and still cannot be run, by JSON pointer.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::config::{
    CONNECTIONS_MAX, CONNECTIONS_OPEN_MAX, Class, Config, DIRECTORIES_MAX, Dynamic, HttpLimits,
    PRIORITY_MAX,
};
use crate::planted::CARRIED_MAX;

/// Most classes: each has its counts and a line in every table.
const CLASSES_MAX: usize = 10;
/// Least that a head may have: what browsers send.
const HEAD_BYTES_LEAST: u32 = 1_024;
/// Longest time that a client may be given.
const TIME_MS_MAX: u32 = 600_000;
/// Longest time that a stop is held up by connections on which nothing is asked.
const LAST_WORD_MS_MAX: u32 = 2_000;
/// Longest name of a class.
const NAME_BYTES_MAX: usize = 64;

impl Config {
    /// Finds everything that has the right shape and cannot be run, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Faults(Vec::new());
        faults.range("/files/directories", self.files.directories, 1, DIRECTORIES_MAX);
        faults.range("/files/zipf_percent", self.files.zipf_percent, 1, 400);
        faults.range("/cache/bytes_max", self.cache.bytes_max, 1, 1 << 40);
        self.dynamic.check(&mut faults);
        self.limits.check(&mut faults);
        faults.range("/clients/connections", self.clients.connections, 1, CONNECTIONS_MAX);
        faults.range("/clients/timeout_ms", self.clients.timeout_ms, 1, TIME_MS_MAX);
        let per_connection = self.clients.requests_per_connection.unwrap_or(1);
        faults.range("/clients/requests_per_connection", per_connection, 1, 1 << 31);
        check_classes(&self.classes, &mut faults);
        if let Some(planted) = self.planted {
            let (word, chunk) = planted.parts();
            faults.range(&format!("/planted/{word}"), chunk, 1, u32::MAX);
            faults.range("/clients/connections", self.clients.connections, 1, CARRIED_MAX);
        }
        faults.0
    }
}

impl Dynamic {
    fn check(&self, faults: &mut Faults) {
        faults.range("/dynamic/service_us", self.service_us, 1, 10_000_000);
        faults.range("/dynamic/page_bytes", self.page_bytes, 64, 1 << 20);
        faults.range("/dynamic/degraded_bytes", self.degraded_bytes, 64, self.page_bytes);
        faults.range("/dynamic/degraded_percent", self.degraded_percent, 1, 100);
    }
}

impl HttpLimits {
    fn check(&self, faults: &mut Faults) {
        let mut limit = |name: &str, value: u32, least: u32, most: u32| {
            faults.range(&format!("/limits/{name}"), value, least, most);
        };
        limit("connections_max", self.connections_max, 1, CONNECTIONS_OPEN_MAX);
        limit("head_bytes_max", self.head_bytes_max, HEAD_BYTES_LEAST, 1 << 20);
        limit("headers_max", self.headers_max, 1, 1_000);
        limit("target_bytes_max", self.target_bytes_max, 64, self.head_bytes_max.max(64));
        limit("body_bytes_max", self.body_bytes_max, 0, 1 << 30);
        let requests_max = self.requests_per_connection_max;
        limit("requests_per_connection_max", requests_max, 1, u32::MAX);
        limit("head_ms", self.head_ms, 1, TIME_MS_MAX);
        limit("request_ms", self.request_ms, 1, TIME_MS_MAX);
        // A client that waits for its reply is silent all the while.
        limit("idle_ms", self.idle_ms, self.request_ms.max(1), TIME_MS_MAX);
        limit("write_ms", self.write_ms, 1, TIME_MS_MAX);
        limit("last_word_ms", self.last_word_ms, 0, LAST_WORD_MS_MAX);
    }
}

fn check_classes(classes: &[Class], faults: &mut Faults) {
    if classes.len() > CLASSES_MAX {
        faults.0.push(("/classes".to_owned(), format!("must be at most {CLASSES_MAX}")));
    }
    let mut seen = BTreeSet::new();
    for (idx, class) in classes.iter().enumerate() {
        faults.range(&format!("/classes/{idx}/priority"), class.priority, 0, PRIORITY_MAX);
        let pointer = format!("/classes/{idx}/name");
        // It is the value of a header and the label of a metric.
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        let is_word =
            class.name.chars().all(fits) && (1..=NAME_BYTES_MAX).contains(&class.name.len());
        if !is_word {
            let message = format!("must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, `-` and `_`");
            faults.0.push((pointer, message));
        } else if !seen.insert(&class.name) {
            faults.0.push((pointer, "stands twice".to_owned()));
        }
    }
    let shares: u64 = classes.iter().map(|class| u64::from(class.share_percent)).sum();
    if shares != 100 {
        let message = format!("the shares of all classes must add up to 100, are {shares}");
        faults.0.push(("/classes".to_owned(), message));
    }
}

/// What is wrong, by JSON pointer.
struct Faults(Vec<(String, String)>);

impl Faults {
    fn range<T: PartialOrd + Display>(&mut self, pointer: &str, value: T, least: T, most: T) {
        if value < least || value > most {
            let message = format!("must be between {least} and {most}, is {value}");
            self.0.push((pointer.to_owned(), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"classes": [{"name": "all", "page": "file", "share_percent": 100}],
        "clients": {"connections": 1}}"#;

    #[test]
    fn what_a_file_leaves_out_can_be_run() {
        let config: Config = serde_json::from_str(LEAST).unwrap();
        assert_eq!(config.check(), Vec::new());
        let again: Config = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn a_planted_fault_is_for_few_connections() {
        let mut config: Config = serde_json::from_str(LEAST).unwrap();
        config.planted = Some(crate::staged::Planted::SpoilChunk(0));
        config.clients.connections = CARRIED_MAX + 1;
        let pointers: Vec<String> =
            config.check().into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/planted/spoil_chunk", "/clients/connections"]);
    }

    #[test]
    fn every_impossible_value_is_pointed_at() {
        let mut config: Config = serde_json::from_str(LEAST).unwrap();
        config.files.directories = 0;
        config.cache.bytes_max = 0;
        config.dynamic.degraded_bytes = config.dynamic.page_bytes + 1;
        config.limits.idle_ms = config.limits.request_ms - 1;
        config.limits.head_bytes_max = 10;
        config.clients.connections = 0;
        config.classes.push(Class { name: "all".to_owned(), ..config.classes[0].clone() });
        config.classes.push(Class { name: "a b".to_owned(), ..config.classes[0].clone() });
        let pointers: Vec<String> =
            config.check().into_iter().map(|(pointer, _)| pointer).collect();
        let expected = [
            "/files/directories",
            "/cache/bytes_max",
            "/dynamic/degraded_bytes",
            "/limits/head_bytes_max",
            "/limits/target_bytes_max",
            "/limits/idle_ms",
            "/clients/connections",
            "/classes/1/name",
            "/classes/2/name",
            "/classes",
        ];
        assert_eq!(pointers, expected);
    }
}
