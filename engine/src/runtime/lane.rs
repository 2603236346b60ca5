//! What travels between shards: parcels of envelopes, and the outbox where a turn collects them.
//!
//! The price of crossing is paid per parcel, so a turn sends at most one to each other shard. What
//! an envelope carries is opaque here: the stage or task that wrote it unpacks it on the far side.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;

use super::ShardId;

/// One cross-shard message.
pub(crate) enum Envelope {
    /// Calls of one stage to the shard that owns their keys; each holds one credit.
    Calls { rank: u16, n_items: usize, calls: Box<dyn Any + Send> },
    /// Their outcomes; each gives its credit back. `level` is the owner's admission level:
    /// how many of the receiver's items it would have with it.
    Replies { rank: u16, n_items: usize, replies: Box<dyn Any + Send>, level: usize },
    /// Callers of these slots have gone; each is still replied to.
    Cancels { rank: u16, slots: Vec<u64> },
    /// A request to start here; it holds one credit until its reply.
    Request { token: u64, start: Box<dyn FnOnce(u64) + Send> },
    /// The outcome of a request started for the other side.
    RequestReply { token: u64, reply: Box<dyn Any + Send> },
    /// The awaiting side of a request has gone.
    RequestCancel { token: u64 },
    /// Nothing follows on this lane.
    End,
}

impl Envelope {
    /// Credits this envelope takes when it leaves.
    pub(crate) fn credits(&self) -> usize {
        match self {
            Self::Calls { n_items, .. } => *n_items,
            Self::Request { .. } => 1,
            _ => 0,
        }
    }

    /// Credits this envelope gives back when it arrives.
    pub(crate) fn returns(&self) -> usize {
        match self {
            Self::Replies { n_items, .. } => *n_items,
            Self::RequestReply { .. } => 1,
            _ => 0,
        }
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls { rank, n_items, .. } => write!(f, "Calls({rank}, {n_items})"),
            Self::Replies { rank, n_items, .. } => write!(f, "Replies({rank}, {n_items})"),
            Self::Cancels { rank, slots } => write!(f, "Cancels({rank}, {})", slots.len()),
            Self::Request { token, .. } => write!(f, "Request({token})"),
            Self::RequestReply { token, .. } => write!(f, "RequestReply({token})"),
            Self::RequestCancel { token } => write!(f, "RequestCancel({token})"),
            Self::End => f.write_str("End"),
        }
    }
}

/// The envelopes one shard sends down a lane at once.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) from: ShardId,
    pub(crate) envelopes: Vec<Envelope>,
}

/// Envelopes that wait for the end of the turn, by destination.
///
/// Bounded by what they stand for: requests by `requests_max`, replies and cancels by credits.
#[derive(Debug)]
pub(crate) struct Outbox {
    by_shard: RefCell<Vec<Vec<Envelope>>>,
}

impl Outbox {
    pub(crate) fn new(n_shards: usize) -> Self {
        Self { by_shard: RefCell::new((0..n_shards).map(|_| Vec::new()).collect()) }
    }

    pub(crate) fn post(&self, to: ShardId, envelope: Envelope) {
        self.by_shard.borrow_mut()[to.index()].push(envelope);
    }

    pub(crate) fn take(&self, to: ShardId) -> Vec<Envelope> {
        std::mem::take(&mut self.by_shard.borrow_mut()[to.index()])
    }

    /// Puts back what could not leave, before whatever was posted meanwhile.
    pub(crate) fn put_back(&self, to: ShardId, mut envelopes: Vec<Envelope>) {
        let mut by_shard = self.by_shard.borrow_mut();
        envelopes.append(&mut by_shard[to.index()]);
        by_shard[to.index()] = envelopes;
    }

    /// Takes back a request that has not left yet.
    pub(crate) fn withdraw_request(&self, to: ShardId, token: u64) -> Option<Envelope> {
        let mut by_shard = self.by_shard.borrow_mut();
        let waiting = &mut by_shard[to.index()];
        let is_it = |envelope: &Envelope| matches!(envelope, Envelope::Request { token: other, .. } if *other == token);
        // What is given up is mostly young.
        let idx = waiting.iter().rposition(is_it)?;
        Some(waiting.remove(idx))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_shard.borrow().iter().all(Vec::is_empty)
    }
}
