//! The order in which items of one class have come, as links between their records.
//!
//! An item leaves from anywhere (it is deleted, or has expired), and nothing of it may stay behind in
//! a queue; so this is a doubly linked list, in which no memory is taken beside the records.

use super::item::{Item, Place};
use super::pages::{Moved, Pages};

/// See the file's head.
#[derive(Debug)]
pub(super) struct List {
    newest: Place,
    oldest: Place,
    n_items: u64,
    /// What the bytes of its items take on the heap.
    bytes: usize,
}

impl List {
    pub(super) const EMPTY: Self =
        Self { newest: Place::NONE, oldest: Place::NONE, n_items: 0, bytes: 0 };

    pub(super) fn n_items(&self) -> u64 {
        self.n_items
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Place> {
        self.oldest.known()
    }

    /// Puts an item that is in no list before all others.
    pub(super) fn push_newest(&mut self, items: &mut Pages, place: Place) {
        let second = self.newest;
        let item = items.at_mut(place);
        debug_assert_eq!((item.newer, item.older), (Place::NONE, Place::NONE), "in a list already");
        item.older = second;
        self.n_items += 1;
        self.bytes += item.heap_bytes();
        match second.known() {
            Some(second) => items.at_mut(second).newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }

    /// Takes an item out, which stands in this list.
    pub(super) fn unlink(&mut self, items: &mut Pages, place: Place) {
        let item = items.at_mut(place);
        let (newer, older) = (item.newer, item.older);
        (item.newer, item.older) = (Place::NONE, Place::NONE);
        self.n_items -= 1;
        self.bytes -= item.heap_bytes();
        self.join(items, newer, older);
    }

    /// Tells the neighbours of an item of this list that its record has moved.
    pub(super) fn follow(&mut self, items: &mut Pages, moved: Moved) {
        let &Item { newer, older, .. } = items.at(moved.to);
        match newer.known() {
            Some(newer) => items.at_mut(newer).older = moved.to,
            None => self.newest = moved.to,
        }
        match older.known() {
            Some(older) => items.at_mut(older).newer = moved.to,
            None => self.oldest = moved.to,
        }
    }

    /// The bytes of one of its items have changed from so many to so many.
    pub(super) fn resized(&mut self, from_bytes: usize, to_bytes: usize) {
        self.bytes = self.bytes - from_bytes + to_bytes;
    }

    fn join(&mut self, items: &mut Pages, newer: Place, older: Place) {
        match newer.known() {
            Some(newer) => items.at_mut(newer).older = older,
            None => self.newest = older,
        }
        match older.known() {
            Some(older) => items.at_mut(older).newer = newer,
            None => self.oldest = newer,
        }
    }
}
