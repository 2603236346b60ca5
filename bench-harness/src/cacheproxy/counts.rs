//! What the clients have sent and received, beside how each request has ended.

use super::asks::Ask;

/// Counts of one phase and its drain.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Requests of any kind.
    pub(super) requests: u64,
    /// Gets, of one key or several.
    pub(super) gets: u64,
    /// Their keys.
    pub(super) keys_asked: u64,
    /// Those of their keys whose value came.
    pub(super) keys_found: u64,
    /// Bytes of these values.
    pub(super) value_bytes: usize,
    pub(super) sent_bytes: usize,
    pub(super) received_bytes: usize,
}

impl Counts {
    /// Counts a request of so many bytes.
    pub(super) fn sent(&mut self, ask: &Ask, n_bytes: usize) {
        let n_keys = match ask {
            Ask::Get(_) => 1,
            Ask::MultiGet(keys) => u64::try_from(keys.len()).unwrap_or(u64::MAX),
            Ask::Set(_) | Ask::Delete(_) => 0,
        };
        self.requests += 1;
        self.gets += u64::from(n_keys > 0);
        self.keys_asked += n_keys;
        self.sent_bytes += n_bytes;
    }

    /// Counts a value that was found.
    pub(super) fn found(&mut self, n_bytes: usize) {
        self.keys_found += 1;
        self.value_bytes += n_bytes;
    }
}
