//! From a key's hash to the place of its item.
//!
//! A hash table that grows moves all of its entries at once, which at a million items takes longer
//! than a client should ever wait. So this is many small tables, each with its part of the hashes:
//! none of them is ever long in growing, nor does the store's size change by much when one does.
//! Equal hashes are told apart by the key, which stands with the item; entries hold 32 bits of the
//! hash, so that growing reads nothing else.

use hashbrown::HashTable;

use super::ghosts::{Evictions, Ghosts, Memory};
use super::item::Place;
use super::pages::Moved;

/// Parts that the hashes fall into. At a million items each has four thousand to move when it
/// grows, and each grows in an operation of its own.
const PARTS: usize = 256;
/// The part of a hash is told by its upper bits, all else by the lower ones.
const PART_SHIFT: u32 = u32::BITS - PARTS.ilog2();
/// A table gives memory back when less than one in so many of its entries is in use.
const SPARSE: usize = 8;
/// A table with room for so few is left as it is, unless it is empty.
const SMALL: usize = 28;

/// The hash that a table goes by: the 32 bits that are kept, spread over 64, since tables look at the
/// lowest bits and the highest.
pub(super) fn spread(hash: u32) -> u64 {
    /// An odd number near 2^64 divided by the golden ratio, as in Knuth's multiplicative hashing.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    u64::from(hash).wrapping_mul(GOLDEN)
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    place: Place,
}

#[derive(Debug, Default)]
struct Part {
    entries: HashTable<Entry>,
    ghosts: Ghosts,
}

impl Part {
    fn bytes(&self) -> usize {
        self.entries.allocation_size() + self.ghosts.bytes()
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Index {
    parts: Vec<Part>,
    /// The part that is tidied next.
    tidied_next: usize,
    /// What all tables take.
    bytes: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        let parts: Vec<_> = (0..PARTS).map(|_| Part::default()).collect();
        let bytes = parts.capacity() * size_of::<Part>();
        Self { parts, tidied_next: 0, bytes }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of the item with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let part = &self.parts[part_of(hash)];
        let found = |entry: &Entry| entry.hash == hash && is_it(entry.place);
        part.entries.find(spread(hash), found).map(|entry| entry.place)
    }

    pub(super) fn insert(&mut self, hash: u32, place: Place) {
        self.change(hash, |part| {
            let entry = Entry { hash, place };
            part.entries.insert_unique(spread(hash), entry, |entry| spread(entry.hash));
        });
    }

    pub(super) fn remove(&mut self, hash: u32, place: Place) {
        self.change(hash, |part| {
            let found = part.entries.find_entry(spread(hash), |entry| entry.place == place);
            found.expect("every item has its entry").remove();
            let (n_entries, n_room) = (part.entries.len(), part.entries.capacity());
            if n_entries == 0 || (n_room > SMALL && n_entries * SPARSE < n_room) {
                part.entries.shrink_to(n_entries * 2, |entry| spread(entry.hash));
            }
        });
    }

    /// An item's record has moved.
    pub(super) fn follow(&mut self, hash: u32, moved: Moved) {
        let part = &mut self.parts[part_of(hash)];
        let found = part.entries.find_mut(spread(hash), |entry| entry.place == moved.from);
        found.expect("every item has its entry").place = moved.to;
    }

    /// Whether a key with this hash was evicted lately, which is then forgotten.
    pub(super) fn take_ghost(&mut self, hash: u32, memory: Memory) -> Option<Evictions> {
        self.parts[part_of(hash)].ghosts.take(hash, memory)
    }

    pub(super) fn remember_ghost(&mut self, hash: u32, memory: Memory) {
        self.change(hash, |part| part.ghosts.remember(hash, memory));
    }

    pub(super) fn forget_ghosts(&mut self) {
        for part in &mut self.parts {
            self.bytes -= part.ghosts.bytes();
            part.ghosts.forget_all();
        }
    }

    /// Returns what one part takes for ghosts that are no longer remembered, if that is most of it.
    /// Called now and then: a store that has emptied evicts nothing, and would keep them.
    pub(super) fn tidy_one(&mut self, memory: Memory) {
        let n_expected = memory.n_items as usize / PARTS;
        let part_idx = self.tidied_next;
        self.tidied_next = (part_idx + 1) % PARTS;
        self.change_part(part_idx, |part| {
            if part.ghosts.n_room() > SMALL.max(n_expected * SPARSE) {
                part.ghosts.clear_up(memory);
            }
        });
    }

    fn change(&mut self, hash: u32, act: impl FnOnce(&mut Part)) {
        self.change_part(part_of(hash), act);
    }

    fn change_part(&mut self, part_idx: usize, act: impl FnOnce(&mut Part)) {
        let part = &mut self.parts[part_idx];
        let before = part.bytes();
        act(part);
        self.bytes = self.bytes - before + part.bytes();
    }
}

fn part_of(hash: u32) -> usize {
    (hash >> PART_SHIFT) as usize
}
