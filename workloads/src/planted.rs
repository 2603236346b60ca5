//! A wrong that is done on purpose to what a service sends, so that its clients can be seen to find it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most connections that a fault is planted on: two threads stand between the ends of each.
pub(crate) const CARRIED_MAX: u32 = 64;

/// What is done to the n-th chunk that a connection carries towards its client, the first being 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Planted {
    /// Its last byte is spoiled.
    SpoilChunk(u32),
    /// It comes twice.
    RepeatChunk(u32),
    /// It never comes.
    WithholdChunk(u32),
    /// The connection closes in its place.
    CloseAtChunk(u32),
    /// It, or the first after it for which this can be done, comes as an earlier chunk was that had
    /// as many bytes and was another one.
    OldChunk(u32),
}

impl Planted {
    /// The word in a file, and the number of the chunk.
    pub(crate) const fn parts(self) -> (&'static str, u32) {
        match self {
            Self::SpoilChunk(chunk) => ("spoil_chunk", chunk),
            Self::RepeatChunk(chunk) => ("repeat_chunk", chunk),
            Self::WithholdChunk(chunk) => ("withhold_chunk", chunk),
            Self::CloseAtChunk(chunk) => ("close_at_chunk", chunk),
            Self::OldChunk(chunk) => ("old_chunk", chunk),
        }
    }
}
