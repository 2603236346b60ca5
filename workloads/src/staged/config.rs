//! What a workload file says about the staged workload.
//!
//! This is the value of `{"workload": {"staged": …}}`: the server, and what its clients ask of it.
//! Serde checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

use std::collections::BTreeSet;
use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most connections that the clients may open: what an ordinary descriptor limit allows.
pub const CONNECTIONS_MAX: u32 = 16_384;
/// The highest priority of a class.
pub const PRIORITY_MAX: u8 = 9;
/// Most directories of the file set, about 5 MB each.
pub const DIRECTORIES_MAX: u32 = 1_000;

/// Most connections that a shard may keep open: a listener's own bound.
pub const CONNECTIONS_OPEN_MAX: u32 = 65_536;
/// Least that a head may have: what browsers send.
const HEAD_BYTES_LEAST: u32 = 1_024;
/// Longest time that a client may be given.
const TIME_MS_MAX: u32 = 600_000;
/// Longest name of a class.
const NAME_BYTES_MAX: usize = 64;
/// Longest time that a stop is held up by connections on which nothing is asked.
const LAST_WORD_MS_MAX: u32 = 2_000;

/// The staged workload: an HTTP server made of stages, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The files that are served.
    #[serde(default)]
    pub files: Files,
    /// What is kept of them in memory.
    #[serde(default)]
    pub cache: Cache,
    /// The page that is made anew for each request: the bottleneck.
    #[serde(default)]
    pub dynamic: Dynamic,
    /// What a client may do.
    #[serde(default)]
    pub limits: HttpLimits,
    /// What clients ask, and for whom.
    pub classes: Vec<Class>,
    /// The clients themselves.
    pub clients: Clients,
}

/// The file set, made from the seed: in each directory nine files of each of four size classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Directories; each is about 5 MB.
    pub directories: u32,
    /// Exponent of the Zipf law by which directories are asked, in percent.
    pub zipf_percent: u32,
}

impl Default for Files {
    fn default() -> Self {
        Self { directories: 4, zipf_percent: 100 }
    }
}

/// What is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Bytes of bodies that each shard keeps.
    pub bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { bytes_max: 32 << 20 }
    }
}

/// The dynamic page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dynamic {
    /// Mean time that making one takes, one after the other on each shard.
    pub service_us: u32,
    /// How these times are spread.
    pub spread: Spread,
    /// What passes in this time.
    pub work: Work,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Bytes of a page at the lowest level of degradation.
    pub degraded_bytes: u32,
    /// Share of the service time that such a page takes.
    pub degraded_percent: u32,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self {
            service_us: 1_000,
            spread: Spread::Exponential,
            work: Work::Waits,
            page_bytes: 8_192,
            degraded_bytes: 1_024,
            degraded_percent: 25,
        }
    }
}

/// How service times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// All alike.
    Fixed,
    /// Exponentially, as in the textbook's queue.
    Exponential,
}

/// What passes while a dynamic page is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A wait, as for a serial downstream.
    Waits,
    /// CPU time of the shard itself.
    Burns,
}

/// What a client may do; beyond it is refused or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Connections that each shard keeps open.
    pub connections_max: u32,
    /// Bytes of a request's head.
    pub head_bytes_max: u32,
    /// Headers of a request.
    pub headers_max: u32,
    /// Bytes of a request's target.
    pub target_bytes_max: u32,
    /// Bytes of a request's body, which is read and thrown away.
    pub body_bytes_max: u32,
    /// Time for a request's head, from the connection's start or the end of the last reply.
    pub head_ms: u32,
    /// Time without a byte in either direction.
    pub idle_ms: u32,
    /// Time that what was written may wait for a client that does not read.
    pub write_ms: u32,
    /// Time for a whole request, from its head to its reply.
    pub request_ms: u32,
    /// When the server stops, how long a connection on which nothing is asked still hears a request
    /// that was on its way, in order to refuse it in words.
    pub last_word_ms: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 12_000,
            head_bytes_max: 16 << 10,
            headers_max: 100,
            target_bytes_max: 8 << 10,
            body_bytes_max: 1 << 20,
            head_ms: 10_000,
            idle_ms: 30_000,
            write_ms: 30_000,
            request_ms: 10_000,
            last_word_ms: 100,
        }
    }
}

/// One class of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What requests of this class say in their header `x-class`.
    pub name: String,
    /// What they ask.
    pub page: Page,
    /// Share of all requests; the shares of all classes add up to 100.
    pub share_percent: u32,
    /// 0 is the least important, 9 the most.
    #[serde(default)]
    pub priority: u8,
}

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// A file of the set, by the size classes' shares and the directories' law.
    File,
    /// Always the same small file.
    Front,
    /// The dynamic page.
    Dynamic,
}

/// The clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Connections that they have open at most, one request in flight on each.
    pub connections: u32,
    /// Requests after which a client closes its connection and opens another; by default it keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_connection: Option<u32>,
    /// Time after which a client gives a request up, and its connection with it.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u32,
}

fn timeout_ms_default() -> u32 {
    10_000
}

impl Config {
    /// Names of the stages that the service declares, in order of rank.
    #[must_use]
    pub fn stages() -> Vec<&'static str> {
        vec!["cache", "file", "dynamic"]
    }

    /// Names the cargo feature that this workload needs and this build was made without.
    #[must_use]
    pub fn left_out(&self) -> Option<&'static str> {
        (!cfg!(feature = "http")).then_some("http")
    }

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
        limit("head_ms", self.head_ms, 1, TIME_MS_MAX);
        limit("request_ms", self.request_ms, 1, TIME_MS_MAX);
        // A client that waits for its reply is silent all the while.
        limit("idle_ms", self.idle_ms, self.request_ms.max(1), TIME_MS_MAX);
        limit("write_ms", self.write_ms, 1, TIME_MS_MAX);
        limit("last_word_ms", self.last_word_ms, 0, LAST_WORD_MS_MAX);
    }
}

fn check_classes(classes: &[Class], faults: &mut Faults) {
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
