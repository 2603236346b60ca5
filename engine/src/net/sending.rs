//! What a connection has yet to send, pure: a queue of owned bytes, one piece under way.

use std::collections::VecDeque;
use std::rc::Rc;

use super::fault::Fault;
use crate::runtime::Time;
use crate::runtime::ring::{Chunk, Outgoing, Pool};

/// Small pieces are joined as long as the whole stays below this: a group of replies is one send.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// Two pieces that cannot be joined in place are copied into one as long as it stays below this: a
/// send costs more than the copy.
const COPIED_BYTES_MAX: usize = 4 << 10;

#[derive(Debug, Default)]
pub(super) struct Sending {
    queue: VecDeque<Outgoing>,
    /// Queued and under way.
    n_bytes: usize,
    /// Since when a piece is under way without any progress.
    under_way: Option<Time>,
    finishing: bool,
    failed: Option<Fault>,
    /// Sent, or given up: for whoever may run the drop of what others own.
    spent: Vec<Outgoing>,
}

impl Sending {
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_bytes == 0
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn waits_since(&self) -> Option<Time> {
        self.under_way
    }

    /// Why nothing more can be sent.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Why nothing more can be written.
    pub(super) fn check_open(&self) -> Result<(), Fault> {
        self.check()?;
        if self.finishing { Err(Fault::PIPE) } else { Ok(()) }
    }

    /// Nothing will be written any more: the end follows what is queued.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Queues bytes behind all others.
    pub(super) fn queue(&mut self, bytes: Outgoing) {
        self.n_bytes += bytes.len();
        if bytes.is_empty() || self.joins_last(&bytes) {
            self.spend(bytes);
        } else {
            self.queue.push_back(bytes);
        }
    }

    /// Puts bytes behind those of the last piece if both are small.
    fn joins_last(&mut self, bytes: &[u8]) -> bool {
        let Some(last) = self.queue.back_mut() else { return false };
        if last.absorb(bytes, JOINED_BYTES_MAX) {
            return true;
        }
        // What others own cannot grow, but a copy can.
        let is_small = last.len() + bytes.len() <= COPIED_BYTES_MAX;
        if is_small {
            let joined = Outgoing::Owned([&**last, bytes].concat());
            let before = std::mem::replace(last, joined);
            self.spend(before);
        }
        is_small
    }

    /// Queues a copy of bytes behind all others.
    pub(super) fn queue_copy(&mut self, bytes: &[u8], pool: &Rc<Pool>) {
        if self.joins_last(bytes) {
            self.n_bytes += bytes.len();
            return;
        }
        let copy = Chunk::copy(bytes, pool).map(Outgoing::Chunk);
        self.queue(copy.unwrap_or_else(|| Outgoing::Owned(bytes.to_vec())));
    }

    /// The piece to be sent next, if none is under way.
    pub(super) fn next(&mut self, now: Time) -> Option<Outgoing> {
        if self.under_way.is_some() || self.failed.is_some() {
            return None;
        }
        let bytes = self.queue.pop_front()?;
        self.under_way = Some(now);
        Some(bytes)
    }

    /// What was under way comes back.
    pub(super) fn on_sent(&mut self, bytes: Outgoing, result: Result<usize, Fault>) {
        assert!(self.under_way.take().is_some(), "a send was under way");
        match result {
            _ if self.failed.is_some() => self.spend(bytes),
            Ok(n_sent) if n_sent >= bytes.len() => {
                self.n_bytes -= bytes.len();
                self.spend(bytes);
            }
            Err(fault) if !fault.is_harmless() => {
                self.spend(bytes);
                self.fail(fault);
            }
            // Short, or interrupted: the rest goes first.
            short => {
                let n_sent = short.unwrap_or(0);
                self.n_bytes -= n_sent;
                self.queue.push_front(bytes.without(n_sent));
            }
        }
    }

    /// Nothing more will be sent.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.failed.get_or_insert(fault);
        for bytes in std::mem::take(&mut self.queue) {
            self.spend(bytes);
        }
        self.n_bytes = 0;
    }

    fn spend(&mut self, bytes: Outgoing) {
        if let Outgoing::Shared(_) = bytes {
            self.spent.push(bytes);
        }
    }

    /// Takes what was spent.
    pub(super) fn take_spent(&mut self, into: &mut Vec<Outgoing>) {
        into.append(&mut self.spent);
    }

    /// Whether anything is left to be sent that is not under way.
    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }
}
