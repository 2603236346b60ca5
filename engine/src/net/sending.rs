//! What a connection has yet to send, pure: a queue of owned bytes, one piece under way.

use std::rc::Rc;

use super::fault::Fault;
use super::pieces::Pieces;
use crate::runtime::Time;
use crate::runtime::ring::{Chunk, Outgoing, Pool};

/// Small pieces are joined as long as the whole stays below this: a group of replies is one send.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// Two pieces that cannot be joined in place are copied into one as long as it stays below this: a
/// send costs more than the copy.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Bytes of a piece that must leave in one go at a time bound. As many as may wait by default: a long
/// piece is bounded as the same bytes in several would be.
const STRETCH_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Of no more use once it has failed.
    queue: Pieces<Outgoing>,
    /// Queued and under way.
    n_bytes: usize,
    is_under_way: bool,
    /// Since when the stretch that stands first has been at its turn to leave.
    since: Option<Time>,
    /// Bytes of it that have left.
    n_left: usize,
    finishing: bool,
    failed: Option<Fault>,
}

/// Sent, joined or given up: for whoever may run the drop of what others own.
pub(super) type Spent = Vec<Outgoing>;

impl Sending {
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_bytes == 0
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Since when what stands first has been leaving, and has not left.
    pub(super) fn waits_since(&self) -> Option<Time> {
        self.since
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
    pub(super) fn queue(&mut self, bytes: Outgoing, spent: &mut Spent) {
        if self.failed.is_some() {
            return spend(bytes, spent);
        }
        self.n_bytes += bytes.len();
        if bytes.is_empty() || self.joins_last(&bytes, spent) {
            spend(bytes, spent);
        } else {
            self.queue.push_back(bytes);
        }
    }

    /// Puts bytes behind those of the last piece if both are small.
    fn joins_last(&mut self, bytes: &[u8], spent: &mut Spent) -> bool {
        let Some(last) = self.queue.back_mut() else { return false };
        if last.absorb(bytes, JOINED_BYTES_MAX) {
            return true;
        }
        // What others own cannot grow, but a copy can.
        let is_small = last.len() + bytes.len() <= COPIED_BYTES_MAX;
        if is_small {
            let joined = Outgoing::Owned([&**last, bytes].concat());
            let before = std::mem::replace(last, joined);
            spend(before, spent);
        }
        is_small
    }

    /// Queues a copy of bytes behind all others.
    pub(super) fn queue_copy(&mut self, bytes: &[u8], pool: &Rc<Pool>, spent: &mut Spent) {
        if self.failed.is_some() {
            return;
        }
        if self.joins_last(bytes, spent) {
            self.n_bytes += bytes.len();
            return;
        }
        let copy = Chunk::copy(bytes, pool).map(Outgoing::Chunk);
        self.queue(copy.unwrap_or_else(|| Outgoing::Owned(bytes.to_vec())), spent);
    }

    /// The piece to be sent next, if none is under way.
    pub(super) fn next(&mut self, now: Time) -> Option<Outgoing> {
        if self.is_under_way || self.failed.is_some() {
            return None;
        }
        let bytes = self.queue.pop_front()?;
        self.is_under_way = true;
        self.since.get_or_insert(now);
        Some(bytes)
    }

    /// What was under way comes back.
    pub(super) fn on_sent(
        &mut self,
        bytes: Outgoing,
        result: Result<usize, Fault>,
        now: Time,
        spent: &mut Spent,
    ) {
        assert!(std::mem::take(&mut self.is_under_way), "a send was under way");
        match result {
            _ if self.failed.is_some() => {
                self.end_stretch(None);
                spend(bytes, spent);
                self.forget(spent);
            }
            Ok(n_sent) if n_sent >= bytes.len() => {
                self.n_bytes -= bytes.len();
                self.end_stretch(None);
                spend(bytes, spent);
            }
            Err(fault) if !fault.is_harmless() => {
                spend(bytes, spent);
                self.fail(fault);
                self.forget(spent);
            }
            // Short, or interrupted: the rest goes first.
            short => {
                let n_sent = short.unwrap_or(0);
                self.n_bytes -= n_sent;
                self.n_left += n_sent;
                if self.n_left >= STRETCH_BYTES {
                    self.end_stretch(Some(now));
                }
                self.queue.push_front(bytes.without(n_sent));
            }
        }
    }

    /// A stretch has left, and the next is at its turn if the piece goes on.
    fn end_stretch(&mut self, next_since: Option<Time>) {
        self.since = next_since;
        self.n_left = 0;
    }

    /// Nothing more will be sent. What was queued stays until [`Sending::forget`]: who breaks a
    /// connection off has no place to put the bytes of others.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.failed.get_or_insert(fault);
        self.n_bytes = 0;
        if !self.is_under_way {
            self.end_stretch(None);
        }
    }

    /// Lets go of what was queued when it failed.
    pub(super) fn forget(&mut self, spent: &mut Spent) {
        assert!(self.failed.is_some() || self.queue.is_empty(), "{} bytes to send", self.n_bytes);
        while let Some(bytes) = self.queue.pop_front() {
            spend(bytes, spent);
        }
    }

    /// Whether anything is left to be sent that is not under way.
    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty() && self.failed.is_none()
    }
}

fn spend(bytes: Outgoing, spent: &mut Spent) {
    if let Outgoing::Shared(_) = bytes {
        spent.push(bytes);
    }
}
