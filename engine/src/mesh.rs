//! The shard's ends of all lanes: credits, parcels, and who is still there.
//!
//! What an item costs on its way is one credit of its origin towards its owner, taken when its
//! parcel leaves and given back by the reply. So the owner's memory for other shards' items, and
//! the room for their replies, is bounded by `credits` for each origin, and nothing that comes
//! back ever has to be refused. A shard that ends gives errors to those that wait for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits::PARCELS_PER_TURN;
use crate::runtime::ShardId;
use crate::runtime::core::Core;
use crate::runtime::guard::contain;
use crate::runtime::lane::{Envelope, Parcel};

/// One other shard, as seen from this one.
#[derive(Debug, Default)]
struct Peer {
    outstanding: Cell<usize>,
    /// Parcels that have arrived and wait for their turn.
    incoming: RefCell<VecDeque<Parcel>>,
    /// A parcel the lane had no room for.
    held: RefCell<Option<Parcel>>,
    sent: Cell<u64>,
    received: Cell<u64>,
    ended: Cell<bool>,
    gone: Cell<bool>,
}

/// The lanes of one shard.
#[derive(Debug)]
pub(crate) struct Mesh {
    core: Rc<Core>,
    peers: Vec<Peer>,
}

/// The books of one lane pair, seen from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneLedger {
    /// The other end.
    pub peer: ShardId,
    /// Parcels sent to it.
    pub sent: u64,
    /// Parcels received from it.
    pub received: u64,
    /// Parcels that have arrived and wait for their turn.
    pub waiting: usize,
    /// Items that are with it.
    pub outstanding: usize,
}

impl Mesh {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        let peers = (0..core.n_shards()).map(|_| Peer::default()).collect();
        Self { core, peers }
    }

    /// The other shards that have not ended.
    pub(crate) fn peers(&self) -> impl Iterator<Item = ShardId> + '_ {
        let this = self.core.id();
        (0..self.peers.len())
            .map(ShardId::new)
            .filter(move |peer| *peer != this && !self.peers[peer.index()].gone.get())
    }

    /// A lane delivers a parcel; the next turn looks at it.
    pub(crate) fn deliver(&self, parcel: Parcel) {
        let peer = &self.peers[parcel.from.index()];
        if peer.gone.get() {
            return;
        }
        // Bounded by the sender's credits: each parcel carries at least one envelope of an item
        // that is outstanding, its reply or its cancellation.
        peer.incoming.borrow_mut().push_back(parcel);
    }

    pub(crate) fn has_incoming(&self) -> bool {
        self.peers.iter().any(|peer| !peer.incoming.borrow().is_empty())
    }

    /// Whether something waits for room in a lane.
    pub(crate) fn has_held(&self) -> bool {
        self.peers.iter().any(|peer| peer.held.borrow().is_some())
    }

    /// Takes a bounded number of parcels from each lane, one from each in turn.
    pub(crate) fn take_incoming(&self) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        for _ in 0..PARCELS_PER_TURN {
            let before = parcels.len();
            for peer in &self.peers {
                if let Some(parcel) = peer.incoming.borrow_mut().pop_front() {
                    peer.received.set(peer.received.get() + 1);
                    parcels.push(parcel);
                }
            }
            if parcels.len() == before {
                break;
            }
        }
        parcels
    }

    /// Items that may leave for `peer` now.
    pub(crate) fn credits(&self, peer: ShardId) -> usize {
        let outstanding = self.peers[peer.index()].outstanding.get();
        self.core.limits().credits.saturating_sub(outstanding)
    }

    /// An envelope has arrived: what it gives back may be used again.
    pub(crate) fn book_arrival(&self, peer: ShardId, envelope: &Envelope) {
        let peer = &self.peers[peer.index()];
        let outstanding = peer.outstanding.get();
        debug_assert!(outstanding >= envelope.returns(), "{envelope:?} of {outstanding}");
        peer.outstanding.set(outstanding.saturating_sub(envelope.returns()));
        if matches!(envelope, Envelope::End) {
            peer.ended.set(true);
        }
    }

    /// Sends what a turn has collected for `peer`, as one parcel; what the lane has no room for
    /// is held and goes first the next time.
    pub(crate) fn send(&self, to: ShardId, envelopes: Vec<Envelope>) -> bool {
        let peer = &self.peers[to.index()];
        let leaving: usize = envelopes.iter().map(Envelope::credits).sum();
        peer.outstanding.set(peer.outstanding.get() + leaving);
        let mut parcel = peer.held.borrow_mut().take();
        match &mut parcel {
            Some(held) => held.envelopes.extend(envelopes),
            None if envelopes.is_empty() => return false,
            None => parcel = Some(Parcel { from: self.core.id(), envelopes }),
        }
        let Some(parcel) = parcel else { return false };
        match self.core.half().send(to, parcel) {
            Ok(()) => {
                peer.sent.set(peer.sent.get() + 1);
                true
            }
            Err(parcel) => {
                *peer.held.borrow_mut() = Some(parcel);
                false
            }
        }
    }

    /// The other shards that have ended since this was last asked.
    pub(crate) fn newly_gone(&self) -> Vec<ShardId> {
        let gone: Vec<ShardId> =
            self.peers().filter(|peer| !self.core.half().is_alive(*peer)).collect();
        for peer in &gone {
            let peer = &self.peers[peer.index()];
            peer.gone.set(true);
            peer.outstanding.set(0);
            let lost = (peer.incoming.take(), peer.held.take());
            // Values of the user's travelled in them.
            contain(|| drop(lost));
        }
        gone
    }

    /// The other shards that have ended.
    pub(crate) fn gone(&self) -> impl Iterator<Item = ShardId> + '_ {
        let ended = |(idx, peer): (usize, &Peer)| peer.gone.get().then(|| ShardId::new(idx));
        self.peers.iter().enumerate().filter_map(ended)
    }

    /// Whether every lane has said its last word, from the other side.
    pub(crate) fn all_ended(&self) -> bool {
        self.peers().all(|peer| self.peers[peer.index()].ended.get())
    }

    pub(crate) fn ledgers(&self) -> Vec<LaneLedger> {
        let this = self.core.id();
        (0..self.peers.len())
            .map(ShardId::new)
            .filter(|peer| *peer != this)
            .map(|id| {
                let peer = &self.peers[id.index()];
                LaneLedger {
                    peer: id,
                    sent: peer.sent.get(),
                    received: peer.received.get(),
                    waiting: peer.incoming.borrow().len(),
                    outstanding: peer.outstanding.get(),
                }
            })
            .collect()
    }
}
