//! What one shard counts of its sockets.

use super::Counter;

/// The cells of one shard's sockets.
#[derive(Debug, Default)]
pub(crate) struct NetMetrics {
    pub(crate) accepted: Counter,
    pub(crate) connected: Counter,
    pub(crate) closed: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) completions: Counter,
    pub(crate) enters: Counter,
    pub(crate) starved: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) timed_out: Counter,
}

/// What one shard has counted of its sockets since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetSnapshot {
    /// Connections and listeners open now.
    pub open: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made from here, or tried.
    pub connected: u64,
    /// Connections closed, of both kinds.
    pub closed: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes that the kernel has taken to send.
    pub sent_bytes: u64,
    /// Completions of operations.
    pub completions: u64,
    /// Turns that entered the ring to begin operations.
    pub enters: u64,
    /// Times that a connection found no buffer to receive into.
    pub starved: u64,
    /// Pauses in accepting because descriptors or memory had run out.
    pub accept_pauses: u64,
    /// Connections closed because they were silent or blocked for too long.
    pub timed_out: u64,
}

impl NetMetrics {
    pub(crate) fn snapshot(&self, open: usize) -> NetSnapshot {
        NetSnapshot {
            open,
            accepted: self.accepted.get(),
            connected: self.connected.get(),
            closed: self.closed.get(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            completions: self.completions.get(),
            enters: self.enters.get(),
            starved: self.starved.get(),
            accept_pauses: self.accept_pauses.get(),
            timed_out: self.timed_out.get(),
        }
    }
}
