//! What a workload file says about large values: from which size they are cut, and up to which they
//! are taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metadata::HEADER_BYTES;
use super::pieces::AT_ONCE_MAX;
use crate::cacheproxy::downstream::ServerLimits;

/// Fewest bytes of a value in a piece: below, a piece's own item costs as much as what is in it.
const PIECE_BYTES_MIN: u32 = 512;
/// Most pieces of a value: what one client's operation may ask of the servers, all in all.
pub(super) const PIECES_MAX: u32 = 8_192;
/// Room in an item for what memcached itself puts there, beside a piece: its own fields and the key.
const ITEM_BYTES: u32 = 256;

/// How large values are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChunksConfig {
    /// Bytes of a value in a piece; what has no more is stored whole. Items of one size fill one of
    /// memcached's slab classes, so the last piece of a value is all that large values waste. May be
    /// changed at any time: each value says how it was cut.
    pub piece_bytes: u32,
    /// Most bytes of a value; one with more is refused, and is taken for lost if a proxy that allows
    /// more has written it. While a value is read its bytes stand in memory twice.
    pub value_bytes_max: u32,
}

impl Default for ChunksConfig {
    fn default() -> Self {
        Self { piece_bytes: 16 << 10, value_bytes_max: 8 << 20 }
    }
}

impl ChunksConfig {
    /// Finds everything that has the right shape and cannot be run before servers with these limits,
    /// as pairs of a JSON pointer (relative to this value) and what is wrong there.
    #[must_use]
    pub fn check(&self, servers: &ServerLimits) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut limit = |name: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                let what = format!("must be {least} to {most}, but is {value}");
                faults.push((format!("/{name}"), what));
            }
        };
        let item_bytes_max = servers.value_bytes_max.saturating_sub(ITEM_BYTES + HEADER_BYTES);
        limit("piece_bytes", self.piece_bytes, PIECE_BYTES_MIN, item_bytes_max);
        let most = self.piece_bytes.saturating_mul(PIECES_MAX).min(1 << 30);
        limit("value_bytes_max", self.value_bytes_max, self.piece_bytes, most);
        faults
    }

    /// How often servers are asked by one operation, one after the other, unless another process
    /// comes between: an append looks at the metadata, reads the pieces, and so on with writing them
    /// anew and with removing the old ones.
    pub(in crate::cacheproxy) fn calls_in_a_row(&self) -> u32 {
        let n_waves = self.n_pieces_max().div_ceil(AT_ONCE_MAX);
        3 * (1 + n_waves)
    }

    fn n_pieces_max(&self) -> u32 {
        self.value_bytes_max.div_ceil(self.piece_bytes.max(1))
    }

    /// What [`check`](Self::check) finds before any servers, as an assertion.
    pub(super) fn assert_possible(&self) {
        assert!(self.piece_bytes >= PIECE_BYTES_MIN, "pieces of {} bytes", self.piece_bytes);
        let n_pieces = self.n_pieces_max();
        assert!((1..=PIECES_MAX).contains(&n_pieces), "{n_pieces} pieces");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_found_where_it_stands() {
        let faults = |json: &str| -> Vec<String> {
            let config: ChunksConfig = serde_json::from_str(json).unwrap();
            let faults = config.check(&ServerLimits::default());
            faults.into_iter().map(|(pointer, _what)| pointer).collect()
        };
        assert!(faults("{}").is_empty());
        let small = r#"{"piece_bytes": 511, "value_bytes_max": 9999}"#;
        assert_eq!(faults(small), ["/piece_bytes"]);
        assert_eq!(faults(r#"{"piece_bytes": 1048576}"#), ["/piece_bytes"]);
        assert_eq!(faults(r#"{"value_bytes_max": 16383}"#), ["/value_bytes_max"]);
        let many = r#"{"piece_bytes": 512, "value_bytes_max": 4194305}"#;
        assert_eq!(faults(many), ["/value_bytes_max"]);
        assert!(serde_json::from_str::<ChunksConfig>(r#"{"pieces": 1}"#).is_err());
    }
}
