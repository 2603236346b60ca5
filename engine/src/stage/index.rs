//! Where equal keys are found again: hash → the one item that stands for it.
//!
//! At most one entry per hash. Whether the keys are really equal is asked by the caller, outside
//! of any borrow; two different keys of one hash simply do not share (the second is not entered),
//! so that a flood of colliding keys costs dedup and nothing else.

use hashbrown::HashTable;

use super::flight::FlightKey;
use super::queue::ItemKey;

/// Where the item for a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Queued(ItemKey),
    InFlight(FlightKey, usize),
}

#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<(u64, Place)>,
}

impl Index {
    pub(super) fn get(&self, hash: u64) -> Option<Place> {
        self.table.find(hash, |(other, _)| *other == hash).map(|(_, place)| *place)
    }

    /// Enters `place` unless the hash is taken.
    pub(super) fn enter(&mut self, hash: u64, place: Place) {
        if self.get(hash).is_none() {
            self.table.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        }
    }

    /// Moves an entry, if it is still the one for this hash.
    pub(super) fn relocate(&mut self, hash: u64, from: Place, to: Place) {
        let entry = self.table.find_mut(hash, |(other, place)| *other == hash && *place == from);
        if let Some((_, place)) = entry {
            *place = to;
        }
    }

    /// Removes an entry, if it is still the one for this hash.
    pub(super) fn remove(&mut self, hash: u64, place: Place) {
        let found = |(other, at): &(u64, Place)| *other == hash && *at == place;
        if let Ok(entry) = self.table.find_entry(hash, found) {
            entry.remove();
        }
    }

    /// Removes all that have left the queue.
    pub(super) fn remove_dispatched(&mut self) {
        self.table.retain(|(_, place)| matches!(place, Place::Queued(_)));
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
