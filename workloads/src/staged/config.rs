//! What a workload file says about the staged workload.
//!
//! This is the value of `{"workload": {"staged": …}}`: the server, and what its clients ask of it.
//! Serde checks shapes; [`Config::check`] finds what has the right shape and still cannot be run.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::closing::HEARD_OUT_MAX;
use crate::planted::Planted;

/// Most connections that the clients may open: what an ordinary descriptor limit allows.
pub const CONNECTIONS_MAX: u32 = 16_384;
/// The highest priority of a class.
pub const PRIORITY_MAX: u8 = 9;
/// Most directories of the file set, about 5 MB each.
pub const DIRECTORIES_MAX: u32 = 1_000;

/// What a stop may take beyond what its clients may: shards that are busy, replies that leave.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// Most connections that a shard may keep open: a listener's own bound.
pub const CONNECTIONS_OPEN_MAX: u32 = 65_536;

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
    /// Planted fault: what stands between the service and its clients does once, and wrong, to each
    /// connection. Shows that the check of replies can fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
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
///
/// Not bounded are the connections of one address, since a proxy or a load generator has but one, and
/// the rate of a body beside its bytes and its time. A line of a head may end with a bare LF, which the
/// parser takes for CR LF.
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
    /// Requests of one connection: the reply to the last one closes it.
    pub requests_per_connection_max: u32,
    /// Time for a request's head, from the connection's start or the end of the last reply: also how
    /// long a connection is kept on which nothing is asked.
    pub head_ms: u32,
    /// Time without a byte in either direction while a request is under way.
    pub idle_ms: u32,
    /// Time that the first 64 KiB of what was written may take to leave, for a client that does not
    /// read or hardly does.
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
            requests_per_connection_max: 1_000,
            head_ms: 10_000,
            idle_ms: 30_000,
            write_ms: 30_000,
            request_ms: 10_000,
            last_word_ms: 100,
        }
    }
}

impl HttpLimits {
    /// How long a stop may wait for clients that keep to these limits: for the head or the reply that
    /// is under way, for the last word, and until they are heard out. A client that reads its reply
    /// more slowly than that is cut off.
    #[must_use]
    pub fn drain_within(&self) -> Duration {
        let under_way_ms = self.head_ms.max(self.request_ms);
        let asked_ms = u64::from(under_way_ms) + u64::from(self.last_word_ms);
        Duration::from_millis(asked_ms) + HEARD_OUT_MAX + STOP_SLACK
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
}
