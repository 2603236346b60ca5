//! What a connection has received and its reader has not taken, pure; and when to receive more.
//!
//! ```text
//!   off ──▶ on ──▶ off   after its last completion: an end, no buffer, taken back, or for no reason
//!    ▲ wanted: not ended, not paused, not starved
//! ```

use super::fault::Fault;
use super::pieces::Pieces;
use crate::runtime::Time;
use crate::runtime::ring::Chunk;

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read {
    Bytes(Chunk),
    End,
    Failed(Fault),
    Nothing,
}

/// What the receiving side asks for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Arm,
    TakeBack,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Receiving {
    /// A receive is under way.
    armed: bool,
    unread: Pieces<Chunk>,
    n_bytes: usize,
    n_bytes_max: usize,
    /// The reader is behind: nothing is received until it has caught up.
    paused: bool,
    /// There was no buffer: the table arms it again when there is.
    starved: bool,
    ended: Option<Result<(), Fault>>,
    read_by: Time,
}

impl Receiving {
    pub(super) fn new(n_bytes_max: usize) -> Self {
        Self {
            armed: false,
            unread: Pieces::default(),
            n_bytes: 0,
            n_bytes_max,
            paused: false,
            starved: false,
            ended: None,
            read_by: Time::NEVER,
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Takes the oldest bytes that were received.
    pub(super) fn read(&mut self, now: Time) -> Read {
        if let Some(chunk) = self.unread.pop_front() {
            self.n_bytes -= chunk.len();
            return Read::Bytes(chunk);
        }
        match self.ended {
            Some(Ok(())) => Read::End,
            Some(Err(fault)) => Read::Failed(fault),
            None if self.read_by <= now => Read::Failed(Fault::TimedOut),
            None => Read::Nothing,
        }
    }

    /// Puts back what a reader has left over.
    pub(super) fn unread(&mut self, chunk: Chunk) {
        self.n_bytes += chunk.len();
        self.unread.push_front(chunk);
    }

    /// When reads fail if nothing has come.
    pub(super) fn read_by(&self) -> Time {
        self.read_by
    }

    pub(super) fn set_read_by(&mut self, deadline: Time) {
        self.read_by = deadline;
    }

    /// Whether as many bytes as may be are unread.
    pub(super) fn is_behind(&self) -> bool {
        self.n_bytes >= self.n_bytes_max
    }

    /// Whether nothing is received because the reader was behind.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// There are buffers again.
    pub(super) fn feed(&mut self) {
        self.starved = false;
    }

    pub(super) fn on_received(&mut self, result: Result<Chunk, Fault>, more: bool) {
        self.armed = more;
        match result {
            Ok(chunk) if chunk.is_empty() => self.end(Ok(())),
            Ok(chunk) => self.keep(chunk),
            Err(fault) if fault.is_starved() => self.starved = true,
            Err(fault) if fault.is_harmless() => {}
            Err(fault) => self.end(Err(fault)),
        }
    }

    /// The first end is the one that readers hear of.
    pub(super) fn end(&mut self, how: Result<(), Fault>) {
        self.ended.get_or_insert(how);
    }

    fn keep(&mut self, chunk: Chunk) {
        self.n_bytes += chunk.len();
        // A slow reader of small pieces holds few buffers that way.
        if self.unread.back_mut().is_some_and(|last| last.absorb(&chunk)) {
            return;
        }
        self.unread.push_back(chunk);
    }

    /// Nobody will read any more.
    pub(super) fn forget(&mut self) {
        self.unread = Pieces::default();
        self.n_bytes = 0;
    }

    /// What is to be done, unless something of it is being taken back already.
    pub(super) fn next(&mut self) -> Wants {
        let resume_at = if self.paused { self.n_bytes_max / 2 } else { self.n_bytes_max };
        self.paused = self.n_bytes > 0 && self.n_bytes >= resume_at;
        let wanted = self.ended.is_none() && !self.paused && !self.starved;
        match self.armed {
            false if wanted => Wants::Arm,
            true if self.paused => Wants::TakeBack,
            _ => Wants::Nothing,
        }
    }

    /// The receive has been pushed.
    pub(super) fn arm(&mut self) {
        self.armed = true;
    }
}
