//! Which keys were evicted lately: their hashes, with when.
//!
//! One that is stored again so soon would have been a hit in a larger store, so it is no newcomer
//! (`eviction.rs`). A hash may stand for another key too; that costs a wrong guess and nothing else.
//! "When" counts evictions, and a ghost is forgotten when as many items as the store holds have been
//! evicted after it. Those are not removed one by one but together, when the table is full of them.

use hashbrown::HashTable;

use super::index::spread;

/// A cleared table has room for one in so many more, so that clearings stay rare.
const SPARE: usize = 3;

/// The evictions of a store so far; wraps around.
pub(super) type Evictions = u32;

#[derive(Debug, Clone, Copy)]
struct Ghost {
    hash: u32,
    evicted_at: Evictions,
}

/// How far back evictions are remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// The evictions so far.
    pub(super) evictions: Evictions,
    /// How many of them are remembered.
    pub(super) n_items: u32,
}

impl Memory {
    fn has(self, ghost: Ghost) -> bool {
        self.evictions.wrapping_sub(ghost.evicted_at) <= self.n_items
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    ghosts: HashTable<Ghost>,
}

impl Ghosts {
    pub(super) fn bytes(&self) -> usize {
        self.ghosts.allocation_size()
    }

    /// How many it has room for before it grows or is cleared.
    pub(super) fn n_room(&self) -> usize {
        self.ghosts.capacity()
    }

    /// Forgets a ghost, and says whether it was remembered.
    pub(super) fn take(&mut self, hash: u32, memory: Memory) -> Option<Evictions> {
        let found = self.ghosts.find_entry(spread(hash), |ghost| ghost.hash == hash).ok()?;
        let (ghost, _) = found.remove();
        memory.has(ghost).then_some(ghost.evicted_at)
    }

    pub(super) fn remember(&mut self, hash: u32, memory: Memory) {
        if self.ghosts.len() == self.ghosts.capacity() {
            self.clear_up(memory);
        }
        let ghost = Ghost { hash, evicted_at: memory.evictions };
        self.ghosts.insert_unique(spread(hash), ghost, |ghost| spread(ghost.hash));
    }

    pub(super) fn forget_all(&mut self) {
        self.ghosts = HashTable::new();
    }

    /// Moves what is remembered into a table of its size. In place, what is removed would go on
    /// taking up room.
    pub(super) fn clear_up(&mut self, memory: Memory) {
        let remembered = || self.ghosts.iter().filter(|ghost| memory.has(**ghost));
        let n_ghosts = remembered().count();
        let mut cleared = HashTable::with_capacity(n_ghosts + n_ghosts / SPARE + 1);
        for ghost in remembered() {
            cleared.insert_unique(spread(ghost.hash), *ghost, |ghost| spread(ghost.hash));
        }
        self.ghosts = cleared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_as_many_evictions_as_it_is_told_to() {
        let mut ghosts = Ghosts::default();
        let memory = |evictions| Memory { evictions, n_items: 10 };
        ghosts.remember(7, memory(1));
        ghosts.remember(8, memory(2));
        assert!(ghosts.take(7, memory(12)).is_none(), "eleven evictions ago");
        assert!(ghosts.take(8, memory(12)).is_some(), "ten evictions ago");
        assert!(ghosts.take(8, memory(12)).is_none(), "taken");
        assert!(ghosts.take(9, memory(12)).is_none(), "never evicted");
    }

    #[test]
    fn stays_as_small_as_what_it_remembers() {
        let mut ghosts = Ghosts::default();
        for evictions in 0..100_000 {
            ghosts.remember(evictions, Memory { evictions, n_items: 1_000 });
        }
        let (large, room) = (ghosts.bytes(), ghosts.ghosts.capacity());
        assert!(room <= 4_096, "{room}");
        for evictions in 100_000..200_000 {
            ghosts.remember(evictions, Memory { evictions, n_items: 10 });
        }
        assert!(ghosts.bytes() < large / 8, "{} of {large}", ghosts.bytes());
    }
}
