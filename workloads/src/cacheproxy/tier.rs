//! One tier of a cache on one shard: memory of its own, or servers downstream.

use std::cell::RefCell;
#[cfg(test)]
use std::rc::Rc;

use super::chunks::Chunked;
use super::clock::Clock;
use super::downstream::{Downstream, FlushAll};
use super::operation::{ExpTime, Failure, Key, Operation, Outcome};
#[cfg(test)]
use super::scripted::Scripted;
use super::store::Store;

/// Where items are kept.
#[derive(Debug)]
pub(super) enum Tier {
    /// In this shard's memory.
    Embedded { store: Box<RefCell<Store>>, clock: Clock },
    /// With memcached.
    Memcached(Downstream),
    /// With memcached, large values in pieces.
    Chunked(Box<Chunked>),
    /// What a test makes of it.
    #[cfg(test)]
    Scripted(Rc<Scripted>),
}

impl Tier {
    pub(super) fn embedded(store: Store, clock: Clock) -> Self {
        Self::Embedded { store: Box::new(RefCell::new(store)), clock }
    }

    /// What comes of an operation where nothing has to be waited for.
    pub(super) fn apply_at_once(&self, operation: &Operation) -> Option<Outcome> {
        match self {
            Self::Embedded { store, clock } => {
                Some(store.borrow_mut().apply(clock.now(), operation))
            }
            Self::Memcached(_) | Self::Chunked(_) => None,
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// Does an operation. Dropped half-way, it may be done or not.
    pub(super) async fn apply(&self, operation: &Operation) -> Outcome {
        match self {
            Self::Embedded { store, clock } => store.borrow_mut().apply(clock.now(), operation),
            Self::Memcached(downstream) => downstream.apply(operation.clone()).await,
            Self::Chunked(chunked) => Box::pin(chunked.apply(operation.clone())).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.apply(operation).await,
        }
    }

    /// Whether it can have an item of this key: one that it cannot be told has none there.
    pub(super) fn can_hold(&self, key: &Key) -> bool {
        match self {
            Self::Embedded { .. } => true,
            Self::Memcached(downstream) => downstream.can_hold(key),
            Self::Chunked(chunked) => chunked.servers().can_hold(key),
            #[cfg(test)]
            Self::Scripted(_) => true,
        }
    }

    /// Whether a client may make all of its items nothing.
    pub(super) fn may_flush_all(&self) -> bool {
        match self {
            Self::Embedded { .. } => true,
            Self::Memcached(downstream) => downstream.flushing() == FlushAll::Forward,
            Self::Chunked(chunked) => chunked.servers().flushing() == FlushAll::Forward,
            #[cfg(test)]
            Self::Scripted(_) => true,
        }
    }

    /// Makes all items that can be reached from this shard nothing, now or when this time comes: those
    /// of this shard's memory, or of all servers. For a client only where [`Self::may_flush_all`].
    pub(super) async fn flush_all(&self, delay: ExpTime) -> Result<(), Failure> {
        match self {
            Self::Embedded { store, clock } => {
                store.borrow_mut().flush_all(clock.now(), delay);
                Ok(())
            }
            Self::Memcached(downstream) => downstream.flush_all(delay).await,
            Self::Chunked(chunked) => chunked.flush_all(delay).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.flush_all(delay).await,
        }
    }

    /// The store of an embedded tier.
    pub(super) fn store(&self) -> Option<(&RefCell<Store>, Clock)> {
        match self {
            Self::Embedded { store, clock } => Some((store, *clock)),
            Self::Memcached(_) | Self::Chunked(_) => None,
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }
}
