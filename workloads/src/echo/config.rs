//! What a workload file says about the echo workload.
//!
//! This is the value of `{"workload": {"echo": …}}`. Serde checks shapes; [`Config::check`] finds
//! what has the right shape and still cannot be run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most connections: a listener's own bound, with room for probes and admin tools.
pub const CONNECTIONS_MAX: u32 = 60_000;
/// Shortest message: it holds the number of its connection and its own, eight bytes each.
pub const MESSAGE_BYTES_MIN: u32 = 16;
/// Longest message: a quarter of what a connection queues, so that some always fit.
pub const MESSAGE_BYTES_MAX: u32 = 16 * 1024;
/// Bytes under way on one connection, there and back: fewer than either side queues, so that a
/// client that writes never waits for a server that waits for the client to read.
pub const UNDER_WAY_BYTES_MAX: u32 = 3 * MESSAGE_BYTES_MAX;
/// Most requests in flight on one connection: more than a server ever sees pipelined.
pub const PIPELINED_MAX: u32 = 1_024;
/// The same of pages: a server gathers their replies, whose heads differ in length.
pub const PAGES_PIPELINED_MAX: u32 = 64;
/// Longest burn of a turn: beyond a second it is surely a slip.
pub const BUSY_US_MAX: u32 = 1_000_000;

/// The echo workload: how many connections, what they carry, and what runs beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Connections that are open throughout.
    pub connections: u32,
    /// What they carry.
    #[serde(default)]
    pub protocol: Protocol,
    /// How long a task beside the connections burns each time it runs; by default there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_us: Option<u32>,
}

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Bytes that come back as they are.
    Bytes(Bytes),
    /// Requests for a page of 13 bytes, HTTP/1.1 kept alive (cargo feature `http`).
    Http,
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Bytes(Bytes::default())
    }
}

/// Settings of the byte echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bytes {
    /// Length of a message.
    pub message_bytes: u32,
    /// Planted fault: each connection spoils one byte of every n-th chunk that it sends back.
    /// Shows that the check of replies can fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoil_one_in: Option<u32>,
    /// Planted fault: what each connection does once, and wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
}

/// What a connection does wrong when it has read its n-th chunk, the first being 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Planted {
    /// It spoils one byte.
    SpoilChunk(u32),
    /// It sends the chunk back twice.
    RepeatChunk(u32),
    /// It closes.
    CloseAtChunk(u32),
}

impl Planted {
    /// The word in a file, and the number of the chunk.
    fn parts(self) -> (&'static str, u32) {
        match self {
            Self::SpoilChunk(chunk) => ("spoil_chunk", chunk),
            Self::RepeatChunk(chunk) => ("repeat_chunk", chunk),
            Self::CloseAtChunk(chunk) => ("close_at_chunk", chunk),
        }
    }
}

impl Bytes {
    /// Whether replies are to be wrong: then no figure is worth anything.
    #[must_use]
    pub const fn is_faulty(&self) -> bool {
        self.spoil_one_in.is_some() || self.planted.is_some()
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self { message_bytes: 64, spoil_one_in: None, planted: None }
    }
}

impl Config {
    /// Names the cargo feature that this workload needs and this build was made without.
    #[must_use]
    pub fn left_out(&self) -> Option<&'static str> {
        let needs_http = matches!(self.protocol, Protocol::Http);
        (needs_http && !cfg!(feature = "http")).then_some("http")
    }

    /// Most requests that one connection may have in flight.
    #[must_use]
    pub fn pipelined_max(&self) -> u32 {
        match self.protocol {
            Protocol::Bytes(bytes) => {
                (UNDER_WAY_BYTES_MAX / bytes.message_bytes.max(1)).clamp(1, PIPELINED_MAX)
            }
            Protocol::Http => PAGES_PIPELINED_MAX,
        }
    }

    /// Finds everything that has the right shape and cannot be run, as pairs of a JSON pointer
    /// (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut in_range = |pointer: &str, value: u32, least: u32, most: u32| {
            if value < least || value > most {
                let message = format!("must be between {least} and {most}, is {value}");
                faults.push((pointer.to_owned(), message));
            }
        };
        in_range("/connections", self.connections, 1, CONNECTIONS_MAX);
        if let Protocol::Bytes(bytes) = self.protocol {
            let (least, most) = (MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX);
            in_range("/protocol/bytes/message_bytes", bytes.message_bytes, least, most);
            let spoil_one_in = bytes.spoil_one_in.unwrap_or(1);
            in_range("/protocol/bytes/spoil_one_in", spoil_one_in, 1, u32::MAX);
            if let Some(planted) = bytes.planted {
                let (word, chunk) = planted.parts();
                in_range(&format!("/protocol/bytes/planted/{word}"), chunk, 1, u32::MAX);
            }
        }
        in_range("/busy_us", self.busy_us.unwrap_or(1), 1, BUSY_US_MAX);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn accepts_every_shape_that_the_shipped_files_use() {
        for text in [
            r#"{"connections": 10000}"#,
            r#"{"connections": 50, "busy_us": 200}"#,
            r#"{"connections": 64, "protocol": "http"}"#,
            r#"{"connections": 1, "protocol": {"bytes": {"message_bytes": 16384}}}"#,
        ] {
            let config = parse(text);
            assert_eq!(config.check(), Vec::new(), "{text}");
            let again = serde_json::to_string(&config).unwrap();
            assert_eq!(parse(&again), config, "{again}");
        }
    }

    #[test]
    fn refuses_unknown_fields_at_every_level() {
        for text in [
            r#"{"connections": 1, "conections": 2}"#,
            r#"{"connections": 1, "protocol": {"bytes": {"message": 64}}}"#,
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{text}: {error}");
        }
    }

    #[test]
    fn points_at_every_impossible_value() {
        let text = r#"{"connections": 0, "busy_us": 0,
            "protocol": {"bytes": {"message_bytes": 15, "spoil_one_in": 0,
                "planted": {"close_at_chunk": 0}}}}"#;
        let pointers: Vec<String> =
            parse(text).check().into_iter().map(|(pointer, _)| pointer).collect();
        let expected = [
            "/connections",
            "/protocol/bytes/message_bytes",
            "/protocol/bytes/spoil_one_in",
            "/protocol/bytes/planted/close_at_chunk",
            "/busy_us",
        ];
        assert_eq!(pointers, expected);
    }
}
